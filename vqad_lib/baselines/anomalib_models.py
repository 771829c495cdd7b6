"""GANomaly [1] and DFKDE [42] by Anomalib [47], as the paper ran them, on our frames and our splits.

Networks, losses, training loop and scores are Anomalib's; nothing of them is written anew here. Two things differ from
its defaults: images come from arrays in memory, at the profile's size, and scores are left as they are, neither scaled
nor turned into labels. Anomalib is not among the packages that the project needs (README), so it is imported at use.
"""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vqad_lib.config import DfkdeConfig, GanomalyConfig
from vqad_lib.errors import VqadError
from vqad_lib.losses.pretrained import DFKDE, pretrained
from vqad_lib.progress import progress

_SCORE_BATCH = 64


def anomalib_version() -> str:
    """The version that is installed, or "" where none is."""
    try:
        return metadata.version("anomalib")
    except metadata.PackageNotFoundError:
        return ""


def pca_components(wanted: int, training_images: int) -> int:
    """How many principal components so many images have: one fewer than images, for their mean is taken away."""
    return min(wanted, training_images - 1)


def ganomaly_scores(
    training: np.ndarray, queries: np.ndarray, *, config: GanomalyConfig, seed: int, device: torch.device
) -> np.ndarray:
    """Train GANomaly and score frames: the mean squared difference of the two latent vectors of each.

    Args:
        training: (n, 3, s, s) uint8, normal frames, n >= 2.
        queries: (m, 3, s, s) uint8.
        seed: of weights and order.

    Returns:
        (m,) float64, >= 0; higher is more anomalous.

    Raises:
        VqadError: fewer than two training frames (batch normalisation needs two).
        ImportError: Anomalib is not installed.
    """
    with _quiet(seed):
        from anomalib.models import Ganomaly

        batch = min(config.batch_size, len(training))
        model = Ganomaly(
            batch_size=batch,
            n_features=config.features,
            latent_vec_size=config.latent_dim,
            lr=config.learning_rate,
            **_bare(Ganomaly, training),
        )
        _fit(model, _loader(training, batch, shuffle_seed=seed), epochs=config.epochs, device=device)
        return _predict(model, queries, device)


def dfkde_scores(
    training: np.ndarray, queries: np.ndarray, *, config: DfkdeConfig, seed: int, device: torch.device
) -> np.ndarray:
    """Fit DFKDE and score frames: minus the log density of their features after PCA.

    Args:
        training: (n, 3, s, s) uint8, normal frames, n >= 2; of few images n - 1 components are taken.
        queries: (m, 3, s, s) uint8.
        seed: of a random backbone, and of which frames are kept beyond `config.max_training_points`.

    Returns:
        (m,) float64, nats; higher is more anomalous.

    Raises:
        VqadError: too few training frames, or features that do not vary; see `pretrained` too.
        ImportError: Anomalib is not installed.
    """
    with _quiet(seed):
        from anomalib.models import Dfkde

        model = Dfkde(
            backbone=pretrained(config.backbone, config.weights, setting=DFKDE).eval().requires_grad_(False),
            # averaged over positions, of a ResNet this is the penultimate layer
            layers=("features" if config.backbone == "vgg16" else "layer4",),
            n_pca_components=pca_components(config.pca_components, len(training)),
            max_training_points=config.max_training_points,
            **_bare(Dfkde, training),
        )
        try:
            _fit(model, _loader(training, _SCORE_BATCH, shuffle_seed=seed), epochs=1, device=device)
        except torch.linalg.LinAlgError as error:
            raise VqadError(
                f"DFKDE found fewer than {config.pca_components} directions in which the features vary; lower "
                "baselines.dfkde.pca_components"
            ) from error
        model.model.classifier = _DensityNll(model.model.classifier)
        return _predict(model, queries, device)


class _DensityNll(nn.Module):
    """-log density of Anomalib's fitted kernel density: (B, D) -> (B,) float64, nats.

    Anomalib's own score is a decreasing function of the same density, but in float32, where the density of what is far
    off becomes zero and all such frames score alike. Here the logarithm is taken before the sum over kernels.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, features: Tensor) -> Tensor:
        fitted, kernel = self.classifier, self.classifier.kde_model
        reduced = fitted.pca_model.transform(features)
        scaled, _ = fitted.pre_process(reduced, fitted.max_length)
        points, centres = (scaled @ kernel.bw_transform).double(), kernel.dataset.double()
        logs = -0.5 * torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist") ** 2  # B n
        # Anomalib's constant is a product in float32, which may overflow; taken anew as a sum of logarithms
        sides = kernel.bw_transform.double().diagonal()
        constant = (sides.log() - 0.5 * np.log(2 * np.pi)).sum()
        return -(logs.logsumexp(dim=1) - np.log(len(centres)) + constant)


def _loader(frames: np.ndarray, batch_size: int, *, shuffle_seed: int | None = None) -> DataLoader:
    """Frames in memory, (n, 3, s, s) uint8, as Anomalib's batches, float in [0, 1]."""
    from anomalib.data import ImageBatch

    def batch_of(rows: list[int]) -> ImageBatch:
        return ImageBatch(image=torch.from_numpy(frames[rows]).float() / 255)

    options = {}
    if shuffle_seed is not None:
        generator = torch.Generator().manual_seed(shuffle_seed)
        # a last batch of one frame would stop batch normalisation
        options = {"shuffle": True, "generator": generator, "drop_last": len(frames) % batch_size == 1}
    return DataLoader(range(len(frames)), batch_size, collate_fn=batch_of, **options)


def _bare(model: type, frames: np.ndarray) -> dict:
    """Anomalib's own preparation at the size of our frames; no scaling of scores, no metrics, no pictures."""
    if len(frames) < 2:
        raise VqadError(f"{model.__name__} needs at least two training frames, got {len(frames)}")
    prepared = model.configure_pre_processor(tuple(frames.shape[-2:]))
    return {"pre_processor": prepared, "post_processor": False, "evaluator": False, "visualizer": False}


def _fit(model: nn.Module, loader: DataLoader, *, epochs: int, device: torch.device) -> None:
    with _engine(device, f"train {type(model).__name__}", epochs * len(loader), max_epochs=epochs) as engine:
        engine.fit(model, train_dataloaders=loader)


def _predict(model: nn.Module, frames: np.ndarray, device: torch.device) -> np.ndarray:
    loader = _loader(frames, _SCORE_BATCH)
    with _engine(device, f"score with {type(model).__name__}", len(loader)) as engine:
        batches = engine.predict(model, dataloaders=loader)
    scores = torch.cat([batch.pred_score.reshape(-1).double().cpu() for batch in batches]).numpy()
    if not np.isfinite(scores).all():
        raise VqadError(f"{type(model).__name__} gave a score that is not a number; lower its learning rate")
    return scores


@contextmanager
def _engine(device: torch.device, what: str, steps: int, **options: object) -> Iterator:
    """Anomalib's engine on one device, with our own progress; what it writes, checkpoints too, goes with it."""
    from anomalib.engine import Engine
    from lightning.pytorch.callbacks import LambdaCallback
    from lightning.pytorch.plugins.environments import LightningEnvironment

    bar = progress(range(steps), what=what, unit="batch")
    stages = ("train_batch_end", "train_end", "predict_batch_end", "predict_end")
    advance = LambdaCallback(**{f"on_{stage}": lambda *_arguments, **_named: next(bar, None) for stage in stages})
    cuda = device.type == "cuda"
    where = {"accelerator": "gpu" if cuda else "cpu", "devices": [device.index or 0] if cuda else 1}
    shown = {"enable_progress_bar": False, "enable_model_summary": False, "callbacks": [advance]}
    with tempfile.TemporaryDirectory() as folder:
        # without the plugin a scheduler's variables would make Lightning wait for processes that are not there
        yield Engine(default_root_dir=folder, plugins=[LightningEnvironment()], **where, **shown, **options)


@contextmanager
def _quiet(seed: int) -> Iterator[None]:
    """Random state of our own, given back afterwards; Lightning's and Anomalib's talk kept out of the notebook."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            yield
    finally:
        logging.disable(before)
