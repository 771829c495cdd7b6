"""An estimator with scikit-learn's manners: fitted to normal images alone, it scores others and shows where.

A VQ-VAE and a PixelSNAIL whose sizes and training follow from the settings and the time allowed. The autoencoder sees
images with pseudo-anomalies in them and learns to give back the images without: so it restores, in one pass, what it
never saw. A third, small network sees what those two say, and is taught to mark pseudo-anomalies. Scores are local and
calibrated (`local`). A tenth of the images is held out. With pseudo-anomalies of other kinds painted in, it
says which signals to add up and how much of a map to average; as it is, where the decision threshold stands. No
abnormal image is asked for.
"""

import hashlib
import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from vqad.local import SHARES, Calibration, image_scores, mixtures_of, signal_maps
from vqad.perceptual import NONE, FeatureCodes
from vqad.prepare import are_paths, fingerprints, normalised, squeezed
from vqad.segmenter import Segmenter, segmentation_loss
from vqad.settings import Settings, settings_for
from vqad_lib.config import TrainingConfig
from vqad_lib.data.decode import survey
from vqad_lib.data.defects import pseudo_defects
from vqad_lib.detectors.local import images_and_signals
from vqad_lib.detectors.scoring import encode_all
from vqad_lib.distributed.process import process
from vqad_lib.errors import VqadError
from vqad_lib.files import read_json, usable_cores, write_json
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.models.quantiser import codebook_usage, collapse_warning
from vqad_lib.progress import progress
from vqad_lib.seeds import seed_from
from vqad_lib.training.checkpoint import load_weights
from vqad_lib.training.loop import Batches, Objective, finished, fit
from vqad_lib.training.objectives import Losses, prior_objectives, vq_terms

FEWEST = 20
_HELD_OUT, _FEWEST_HELD_OUT, _MOST_HELD_OUT = 0.1, 20, 200
_FOR = {"autoencoder": 0.35, "prior": 0.1, "segmenter": 0.45}  # of the time; the rest is calibration and choice
_PASSES = 400  # through the images, at most
_MARKED = 3  # pseudo-anomalies in an image that the segmenter learns from, each with an even chance
_PAINTINGS = 4  # pseudo-anomalies of each held-out image
_TIMED_BATCHES = 3
_SCORE_BATCH = 16
_EXAMPLES = 4


class VQAnomalyDetector(OutlierMixin, BaseEstimator):
    """Anomaly detection in images by a VQ-VAE and a causal prior.

    Args:
        image_size_px: images are squeezed into a square of so many pixels a side.
        channels: width of the autoencoder at each resolution, finest first; n entries mean n - 1 halvings.
        codebook_size: K.
        minutes: time for `fit`, on this machine.
        epochs: passes through the images, of each network; by default as many as the time allows.
        false_alarms: share of normal images that may be called abnormal, in (0, 0.5].
        normalise, flips, defects: see `Settings`.
        perceptual: "none", or the weights of a pretrained VGG16 whose features are a fifth signal: "hed" (from the
            package index, fine-tuned from ImageNet's on edges), "imagenet" (downloaded by torchvision), or the path of
            a torchvision state dict.
        device: where the networks work; by default a GPU where torch can use one.
        folder: where training keeps checkpoints, to go on after an interruption; by default a temporary one.
        seed: of initial weights, batches and pseudo-anomalies.

    Attributes:
        settings_: all numbers of the fitted detector.
        autoencoder_, prior_, segmenter_: the networks, in evaluation mode.
        features_: the pretrained network with its codebook, or None.
        calibration_: what is usual at each position.
        mixture_, share_: the signals that are added up, and how much of a heatmap counts (`local`).
        threshold_: from this score on an image is called abnormal.
        choices_: the mixtures and shares that were tried, with image_auroc and pixel_auroc on pseudo-anomalies.
        held_out_scores_: of the normal images that were held out, each calibrated without it.
        held_out_, trained_on_: fingerprints of these images and of the others (`prepare.fingerprints`).
        notes_: what a person should know of the files that it was fitted to, and of its codebook.
        hot_: parts of a heatmap from this value on are shown as abnormal.
        examples_: a few pseudo-anomalies, (3, size, size) uint8, and their heatmaps.
    """

    def __init__(
        self,
        *,
        image_size_px: int = 128,
        channels: Sequence[int] = (16, 32, 32, 64),
        codebook_size: int = 256,
        minutes: float = 10.0,
        epochs: int | None = None,
        false_alarms: float = 0.01,
        normalise: bool = True,
        flips: bool = False,
        defects: int = 1,
        perceptual: str = NONE,
        device: str | None = None,
        folder: str | Path | None = None,
        seed: int = 0,
    ) -> None:
        self.image_size_px = image_size_px
        self.channels = channels
        self.codebook_size = codebook_size
        self.minutes = minutes
        self.epochs = epochs
        self.false_alarms = false_alarms
        self.normalise = normalise
        self.flips = flips
        self.defects = defects
        self.perceptual = perceptual
        self.device = device
        self.folder = folder
        self.seed = seed

    def fit(self, X: Sequence | NDArray, y: object = None) -> Self:  # noqa: ARG002
        """Train on normal images, calibrate, choose, and set the decision threshold.

        Args:
            X: (n, H, W) or (n, H, W, 3), uint8 or float in [0, 1]; or n paths. Normal images alone.
            y: ignored.

        Raises:
            VqadError: too few images, settings that build no network, an image that cannot be decoded.
            ValueError: X is none of these.
        """
        ends = time.monotonic() + 60 * self.minutes
        settings = settings_for(self)
        self.notes_: list[str] = []
        if are_paths(X):
            whites, self.notes_ = survey([Path(path) for path in X], workers=usable_cores())
            settings = replace(settings, white=min(whites))
        images = squeezed(X, settings.image_size_px, white=settings.white)
        if len(images) < FEWEST:
            raise VqadError(f"{len(images)} images are too few to learn what is normal; add {FEWEST - len(images)}")
        prints = fingerprints(images)
        images = normalised(images) if settings.normalise else images
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(self.seed))
        n = max(min(round(_HELD_OUT * len(images)), _MOST_HELD_OUT), min(_FEWEST_HELD_OUT, len(images) // 4))
        train, held_out = images[order[n:]], images[order[:n]]
        self.held_out_, self.trained_on_ = ([prints[i] for i in part] for part in (order[:n], order[n:]))
        if settings.flips:
            train = torch.cat([train, train.flip(3), train.flip(2)])
        with tempfile.TemporaryDirectory() as temporary:
            self._train(train, held_out, settings, Path(self.folder or temporary), ends)
        self._calibrate(held_out)
        return self

    def scores_and_heatmaps(self, images: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Both at once, of images (n, 3, size, size) uint8 that are squeezed but not normalised; high is abnormal."""
        check_is_fitted(self)
        images = normalised(images) if self.settings_.normalise else images
        heatmaps = torch.cat(list(self._heatmaps(images)))
        return image_scores(heatmaps, SHARES[self.share_]).double().cpu().numpy(), heatmaps.cpu().numpy()

    def signals(self, images: Tensor) -> Tensor:
        """What the heatmaps are made of, before calibration, (n, 4 or 5, size, size); of images as above."""
        check_is_fitted(self)
        images = normalised(images) if self.settings_.normalise else images
        return self._all_signals(images, "images")

    def anomaly_map(self, X: Sequence | NDArray) -> NDArray[np.float32]:
        """Heatmaps in standard deviations from normal, (n, size, size); higher is more abnormal."""
        check_is_fitted(self)
        return self.scores_and_heatmaps(self._squeezed(X))[1]

    def score_samples(self, X: Sequence | NDArray) -> NDArray[np.float64]:
        """(n,) scores; lower is more abnormal, as everywhere in scikit-learn."""
        check_is_fitted(self)
        return -self.scores_and_heatmaps(self._squeezed(X))[0]

    def decision_function(self, X: Sequence | NDArray) -> NDArray[np.float64]:
        """`score_samples`, moved so that it is negative, or 0, where an image is called abnormal."""
        return self.score_samples(X) + self.threshold_

    def predict(self, X: Sequence | NDArray) -> NDArray[np.int64]:
        """1 for normal, -1 for abnormal."""
        return np.where(self.decision_function(X) > 0, 1, -1)

    @property
    def offset_(self) -> float:
        """What scikit-learn calls the threshold: `decision_function` is `score_samples` minus it."""
        return -self.threshold_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array, tags.input_tags.string = False, True, True
        tags.non_deterministic = self.epochs is None  # as many as fit into the time
        return tags

    def _train(self, train: Tensor, held_out: Tensor, settings: Settings, folder: Path, ends: float) -> None:
        device = torch.device(self.device) if self.device else process().device

        def new_autoencoder() -> tuple[VQAutoencoder, list[Objective]]:
            network = VQAutoencoder(settings.autoencoder).to(device, memory_format=torch.channels_last)
            return network, [Objective("vqvae", network, partial(_without_defects, network, settings))]

        def new_prior() -> tuple[PixelSnail, list[Objective]]:
            network = PixelSnail(settings.prior, codebook_size=self.codebook_size, grid=settings.grid).to(device)
            return network, prior_objectives("prior", network)

        def new_segmenter() -> tuple[Segmenter, list[Objective]]:
            network = Segmenter(settings.segmenter_channels).to(device, memory_format=torch.channels_last)
            return network, [Objective("segmenter", network, partial(self._marks, network, settings.window_px))]

        images = [train.to(device), held_out.to(device)]
        self.features_ = None
        if self.perceptual != NONE:
            self.features_ = FeatureCodes.fitted(train, self.perceptual, device=device, seed=self.seed)
        begun = time.monotonic()

        def until(*parts: str) -> float:
            """Seconds that are left, if these parts of the time may be gone."""
            return begun + sum(_FOR[part] for part in parts) * (ends - begun) - time.monotonic()

        seconds = until("autoencoder")
        self.autoencoder_, first = self._fitted(new_autoencoder, images, settings.train_autoencoder, folder, seconds)
        codes = [encode_all(self.autoencoder_, part) for part in images]
        _, perplexity = codebook_usage(codes[0], codebook_size=self.codebook_size)
        self.notes_ += filter(None, [collapse_warning(perplexity, self.codebook_size)])
        seconds = until("autoencoder", "prior")
        self.prior_, second = self._fitted(new_prior, codes, settings.train_prior, folder, seconds)
        seconds = until("autoencoder", "prior", "segmenter")
        self.segmenter_, third = self._fitted(new_segmenter, images, settings.train_segmenter, folder, seconds)
        self.settings_ = replace(settings, train_autoencoder=first, train_prior=second, train_segmenter=third)

    def _marks(self, network: Segmenter, window_px: int, images: Tensor, _epoch: int) -> Losses:
        """How well pseudo-anomalies are marked; an image has several or none."""
        shown, masks = images, torch.zeros_like(images[:, 0], dtype=torch.bool)
        for _ in range(_MARKED):
            painted, where = pseudo_defects(shown, family="taught", generator=torch.default_generator)
            used = torch.rand(len(images)).to(images.device) < 0.5  # drawn on the CPU, as the rest
            shown = torch.where(used[:, None, None, None], painted, shown)
            masks = masks | (where & used[:, None, None])
        seen = images_and_signals(self.autoencoder_, self.prior_, shown, window_px=window_px)
        return {"loss": segmentation_loss(network(seen), masks)}

    def _fitted(
        self, new: Callable, items: list[Tensor], config: TrainingConfig, folder: Path, seconds: float
    ) -> tuple[torch.nn.Module, TrainingConfig]:
        """A network, trained for as many epochs as the seconds allow; going on where an earlier call was cut off."""
        train, held_out = items
        torch.manual_seed(self.seed)
        network, objectives = new()
        name = objectives[0].name
        key = hashlib.sha256(repr((self.get_params(), config)).encode() + train.cpu().numpy().tobytes())
        folder = folder / f"{name}_{key.hexdigest()[:16]}"  # of other images or settings nothing is taken up
        noted = folder / "planned.json"  # going on, the learning rate must fall as it did
        batches = partial(Batches, batch_size=config.batch_size, seed=self.seed, shuffle=True)
        if not noted.is_file():
            epochs, n = (self.epochs, len(train)) if self.epochs else _within(seconds, new()[1], batches(train))
            write_json(noted, {"epochs": epochs, "images": n})
        planned = read_json(noted)
        config = replace(config, max_epochs=planned["epochs"])
        if finished(folder):
            load_weights(folder / f"{name}.safetensors", network)
        else:
            torch.manual_seed(self.seed)
            some = batches(train[: planned["images"]])
            fit(objectives, train=some, validation=batches(held_out), config=config, folder=folder, device=train.device)
        return network.eval().requires_grad_(False), config

    def _heatmaps(self, images: Tensor) -> Iterator[Tensor]:
        """Batch by batch, (b, H, W) on the networks' device."""
        for batch in images.split(_SCORE_BATCH):
            yield self.calibration_.heatmaps(self._signals(batch), self.mixture_)

    def _squeezed(self, X: Sequence | NDArray) -> Tensor:
        if not len(X):
            raise ValueError("X is empty: a detector takes one image at the least")
        return squeezed(X, self.settings_.image_size_px, white=self.settings_.white)

    @property
    def _device(self) -> torch.device:
        return next(self.prior_.parameters()).device

    def _signals(self, images: Tensor) -> Tensor:
        """`signal_maps` of uint8, or of float in [-1, 1]."""
        batch = images.to(self._device)
        batch = to_unit_range(batch) if batch.dtype == torch.uint8 else batch
        networks = self.autoencoder_, self.prior_, self.segmenter_, self.features_
        return signal_maps(*networks, batch, window_px=self.settings_.window_px)

    def _calibrate(self, held_out: Tensor) -> None:
        """Each half of the held-out images is judged by what is usual in the other."""
        window, halves = self.settings_.window_px, [held_out[::2], held_out[1::2]]
        generator = torch.Generator().manual_seed(seed_from("pseudo-anomalies", self.seed))
        normal, painted, masks = [], [], []
        for half in halves:
            normal.append(self._all_signals(half, "held-out images"))
            found = [
                pseudo_defects(to_unit_range(half), family="judged", generator=generator) for _ in range(_PAINTINGS)
            ]
            images, regions = (torch.cat(part) for part in zip(*found, strict=True))
            visible = regions.flatten(1).any(1)
            painted.append(self._all_signals(images[visible], "pseudo-anomalies"))
            masks.append(regions[visible])
        by_other = [Calibration.of(maps, window_px=window) for maps in normal[::-1]]
        anomalous = torch.cat(masks).flatten().numpy()
        rows, scores = [], {}
        for mixture in mixtures_of(normal[0].shape[1]):
            of_normal, of_painted = (
                torch.cat([calibration.heatmaps(maps, mixture) for calibration, maps in zip(by_other, of, strict=True)])
                for of in (normal, painted)
            )
            pixels = roc_auc_score(anomalous, of_painted.flatten().numpy())
            labels = [0] * len(of_normal) + [1] * len(of_painted)
            for share, value in SHARES.items():
                scores[mixture, share] = image_scores(of_normal, value).double().numpy(), of_normal.amax((1, 2)).numpy()
                both = np.concatenate([scores[mixture, share][0], image_scores(of_painted, value).numpy()])
                rows.append((mixture, share, roc_auc_score(labels, both), pixels))
        self.choices_ = pd.DataFrame(rows, columns=["signals", "share", "image_auroc", "pixel_auroc"])
        best = self.choices_.loc[(self.choices_["image_auroc"] + self.choices_["pixel_auroc"]).idxmax()]
        self.mixture_, self.share_ = best["signals"], best["share"]
        self.held_out_scores_, highest = scores[self.mixture_, self.share_]
        allowed = 1 - self.settings_.false_alarms
        self.threshold_ = float(np.nextafter(np.quantile(self.held_out_scores_, allowed, method="higher"), np.inf))
        self.hot_ = float(np.nextafter(np.quantile(highest, allowed, method="higher"), np.float32(np.inf)))
        self.calibration_ = Calibration.of(torch.cat(normal), window_px=window).to(self._device)
        shown = images[visible][:_EXAMPLES], by_other[1].heatmaps(painted[1][:_EXAMPLES], self.mixture_)
        self.examples_ = [((image + 1) * 127.5).byte().numpy() for image in shown[0]], shown[1].numpy()

    def _all_signals(self, images: Tensor, what: str) -> Tensor:
        batches = images.split(_SCORE_BATCH)
        return torch.cat(
            [self._signals(batch).cpu() for batch in progress(batches, what=f"score {what}", unit="batch")]
        )


def _without_defects(network: VQAutoencoder, settings: Settings, images: Tensor, _epoch: int) -> Losses:
    """Eq. 7, where the network sees images with pseudo-anomalies in them and is to give back those without."""
    shown = images
    for _ in range(settings.defects if network.training else 0):
        shown, _ = pseudo_defects(shown, family="taught", generator=torch.default_generator)
    return vq_terms(lambda _images: network(shown), images, settings.autoencoder)[1]


def _within(seconds: float, objectives: list[Objective], batches: Batches) -> tuple[int, int]:
    """How many epochs of how many images fit into so many seconds; by some batches, the first of which does not count.

    All images where they can all be seen once, else one epoch of as many as can, a batch at least.
    """
    times = []
    for batch, _ in itertools.islice(batches.shards(1), _TIMED_BATCHES + 1):
        started = time.monotonic()
        for objective in objectives:
            objective.network.train()
            objective.loss(batch, 1)["loss"].backward()
        times.append(time.monotonic() - started)
    each = float(np.mean(times[1:] or times))
    allowed = max(math.floor(0.9 * seconds / each), 1)
    return min(max(allowed // len(batches), 1), _PASSES), min(allowed * batches.batch_size, len(batches.items))
