"""The detectors on a chunk of images: one encoding and one pass of the prior serve all of them and all thresholds.

Work is cut into pieces that fit `detectors.memory_budget_mb`; what a piece leaves behind is two numbers a restoration.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqad_lib.config import DetectorConfig
from vqad_lib.detectors.memory import in_pieces
from vqad_lib.detectors.residuals import anomaly_map, regenerative_map, residual_sums, restoration_score
from vqad_lib.detectors.restoration import Algorithm, Recompute, restore
from vqad_lib.detectors.sample_wise import sample_wise_score
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.prior import Prior, code_nll
from vqad_lib.seeds import addressed_uniforms

NO_THRESHOLD = -1  # the percentile of detectors that have none


@dataclass(frozen=True)
class Detector:
    """A detector; it judges code NLLs (`score_codes`), restorations (`recompute`), or else reconstructions.

    Attributes:
        key: of files, options and tables.
        title: for people.
        letter: the index of its threshold lambda; "" where it has none.
        score_codes: ((B, h, w) NLLs of codes, threshold_nats=) -> (B,) scores, nats.
        recompute: when a restoration asks the prior again, see `restore`.
    """

    key: str
    title: str
    letter: str
    score_codes: Callable[..., Tensor] | None = None
    recompute: Recompute | None = None


DETECTORS = {
    "sample_wise": Detector("sample_wise", "Sample-wise", "S", score_codes=sample_wise_score),
    "pixel_wise": Detector("pixel_wise", "Pixel-wise", "P", recompute="after_every_replacement"),
    "light_pixel_wise": Detector("light_pixel_wise", "Light Pixel-wise", "LP", recompute="once"),
    "regenerative": Detector("regenerative", "Regenerative", ""),
}
RESTORATIONS = {key: detector.recompute for key, detector in DETECTORS.items() if detector.recompute}

ThresholdsByDetector = dict[str, dict[int, float]]
"""detector -> {threshold percentile: threshold in nats}; `NO_THRESHOLD` is the percentile of those that have none."""


@dataclass(frozen=True)
class Detectors:
    """An autoencoder and a prior, both in evaluation mode, and the numbers of eq. 9-12."""

    autoencoder: VQAutoencoder
    prior: Prior
    config: DetectorConfig
    seed: int

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.prior.parameters()).device

    def encode(self, images: Tensor) -> Tensor:
        """Codes: (B, 3, H, W) float in [-1, 1] -> (B, h, w) int64."""
        each, encode = self.autoencoder.bytes_per_image(images.shape[-1]), self.autoencoder.encode
        return self._in_pieces("images to encode", each, lambda piece: encode(images[piece]), len(images))

    def logits(self, codes: Tensor) -> Tensor:
        """What the prior says of grids, in one pass: (B, h, w) int64 -> (B, h, w, K) float32."""
        each = 2 * self.prior.cache_bytes_per_row
        return self._in_pieces("grids to look at", each, lambda piece: self.prior.logits(codes[piece]), len(codes))

    def restored_codes(
        self,
        codes: Tensor,
        image_ids: list[str],
        *,
        detector: str,
        thresholds_nats: list[float],
        algorithm: Algorithm | None = None,
        logits: Tensor | None = None,
    ) -> Tensor:
        """N restorations of each grid at each of T thresholds: (B, h, w) int64 -> (B, T, N, h, w) int64.

        Args:
            image_ids: B names, which address the noise.
            detector: "pixel_wise" or "light_pixel_wise".
            algorithm, logits: see `restore`; without an algorithm, `detectors.restoration_algorithm` has it.
        """
        T, N, grid = len(thresholds_nats), self.config.n_restorations, tuple(codes.shape[1:])
        noise = addressed_uniforms(seed=self.seed, image_ids=image_ids, n_restorations=N, grid=grid).to(codes.device)
        noise = noise[:, None].expand(-1, T, -1, -1, -1).flatten(1, 2)  # B TN h w: the same at every threshold
        thresholds = torch.tensor(thresholds_nats, dtype=torch.float64, device=codes.device).repeat_interleave(N)

        def restored(piece: slice) -> Tensor:
            return restore(
                self.prior,
                codes[piece],
                threshold_nats=thresholds,
                noise=noise[piece],
                recompute=DETECTORS[detector].recompute,
                algorithm=algorithm or self.config.restoration_algorithm,
                logits=None if logits is None else logits[piece],
            )

        each = (2 + T * N) * self.prior.cache_bytes_per_row
        return self._in_pieces("images to restore", each, restored, len(codes)).unflatten(1, (T, N))

    def decode(self, codes: Tensor) -> Tensor:
        """Images of grids, each distinct grid decoded once: (..., h, w) int64 -> (..., 3, H, W) float in [-1, 1]."""
        distinct, which = codes.flatten(0, -3).unique(dim=0, return_inverse=True)
        each = self.autoencoder.bytes_per_image(codes.shape[-1] * 2 ** (len(self.autoencoder.channels) - 1))
        decode = self.autoencoder.decode
        images = self._in_pieces("grids to decode", each, lambda piece: decode(distinct[piece]), len(distinct))
        return images[which].unflatten(0, tuple(codes.shape[:-2]))

    @torch.no_grad()
    def heatmaps(
        self, images: Tensor, image_ids: list[str], *, detector: str, threshold_nats: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Where images are abnormal, and what they were restored to.

        Args:
            images: (B, 3, H, W) float in [-1, 1].
            image_ids: B names, which address the noise.
            detector: "pixel_wise", "light_pixel_wise" or "regenerative".
            threshold_nats: lambda of the former two.

        Returns:
            heatmaps (B, H, W) float in [0, 1], whose means are the scores, and restorations (B, N, 3, H, W); N is 1 for
            "regenerative".
        """
        codes = self.encode(images)
        if not DETECTORS[detector].recompute:
            reconstructions = self.decode(codes)
            return regenerative_map(images, reconstructions), reconstructions[:, None]
        restored = self.restored_codes(codes, image_ids, detector=detector, thresholds_nats=[threshold_nats])
        restorations = self.decode(restored[:, 0])
        return anomaly_map(images, restorations, self.config), restorations

    @torch.no_grad()
    def scores(
        self,
        images: Tensor,
        image_ids: list[str],
        thresholds: ThresholdsByDetector,
        *,
        algorithm: Algorithm | None = None,
    ) -> dict[tuple[str, int], np.ndarray]:
        """Scores of a chunk of images: (detector, percentile) -> (B,) float64, higher is more anomalous.

        Args:
            images: (B, 3, H, W) float in [-1, 1].
            image_ids: B names.
            thresholds: of the detectors that are wanted.
            algorithm: of pixel-wise restoration, if not the profile's; no influence on the scores.
        """
        codes, found = self.encode(images), {}
        wanted = {key: DETECTORS[key] for key in thresholds}
        one_pass = any(detector.score_codes or detector.recompute == "once" for detector in wanted.values())
        logits = self.logits(codes) if one_pass else None
        keys, grids = [], []
        for name, detector in wanted.items():
            if detector.score_codes:
                nll = code_nll(logits, codes)
                found |= {(name, p): detector.score_codes(nll, threshold_nats=t) for p, t in thresholds[name].items()}
            elif detector.recompute:
                options = {"detector": name, "thresholds_nats": list(thresholds[name].values()), "algorithm": algorithm}
                grids.append(self.restored_codes(codes, image_ids, logits=logits, **options))  # B T N h w
                keys += [(name, percentile) for percentile in thresholds[name]]
        if keys and self.config.smooth_over != "pixels":  # else a score is a sum over restorations
            found |= zip(keys, self._map_scores(images, torch.cat(grids, 1)).unbind(1), strict=True)
            keys, grids = [], []
        reconstructing = [key for key, detector in wanted.items() if not (detector.score_codes or detector.recompute)]
        grids = [grid.flatten(1, 2) for grid in grids] + ([codes[:, None]] if reconstructing else [])
        if grids:
            difference, smoothed = self.residual_sums(images, torch.cat(grids, 1))
            N = self.config.n_restorations
            for place, key in enumerate(keys):
                of = difference[:, place * N : (place + 1) * N], smoothed[:, place * N : (place + 1) * N]
                found[key] = restoration_score(*of, self.config, values=images.shape[1:].numel())
            found |= {(name, p): difference[:, -1] for name in reconstructing for p in thresholds[name]}
        return {key: score.double().cpu().numpy() for key, score in found.items()}

    def _map_scores(self, images: Tensor, grids: Tensor) -> Tensor:
        """Scores from whole maps, for the rules that need them: (B, J, N, h, w) int64 -> (B, J) float."""

        def scored(piece: slice) -> Tensor:
            restorations = self.decode(grids[piece])  # b J N C H W
            maps = [anomaly_map(images[piece], of_job, self.config) for of_job in restorations.unbind(1)]
            return torch.stack([heatmap.mean((1, 2)) for heatmap in maps], 1)

        each = 4 * grids.shape[1:-2].numel() * images.shape[1:].numel() * images.element_size()
        return self._in_pieces("images to score by maps", each, scored, len(images))

    def residual_sums(self, images: Tensor, grids: Tensor) -> tuple[Tensor, Tensor]:
        """`residual_sums` of B images and M grids each: (B, M, h, w) int64 -> two (B, M) float.

        Each distinct grid is decoded once, and each distinct pair of image and grid is compared once.
        """
        B, M, h, w = grids.shape
        owner = torch.arange(B, device=grids.device).repeat_interleave(M)[:, None]
        pairs, which = torch.cat([grids.flatten(2).flatten(0, 1), owner], 1).unique(dim=0, return_inverse=True)
        codes, owner = pairs[:, :-1].unflatten(1, (h, w)), pairs[:, -1]  # sorted, so equal grids are neighbours

        def sums(piece: slice) -> Tensor:
            distinct, place = codes[piece].unique_consecutive(dim=0, return_inverse=True)
            restorations = self.autoencoder.decode(distinct)[place]
            return torch.stack(residual_sums(images[owner[piece]], restorations, self.config), 1)

        each = self.autoencoder.bytes_per_image(images.shape[-1]) + 6 * images.shape[1:].numel() * images.element_size()
        found = self._in_pieces("restorations to decode", each, sums, len(codes))[which]
        return found[:, 0].reshape(B, M), found[:, 1].reshape(B, M)

    def _in_pieces(self, what: str, bytes_each: float, function: Callable[[slice], Tensor], n: int) -> Tensor:
        """See `memory.in_pieces`; the pieces fit the budget."""
        size = max(int(self.config.memory_budget_mb * 1e6 // bytes_each), 1)
        return in_pieces(function, n, size=size, what=what)


def encode_all(autoencoder: VQAutoencoder, images: Tensor, *, batch: int = 256) -> Tensor:
    """Codes of uint8 images: (n, 3, H, W) uint8 -> (n, h, w) int64."""
    return torch.cat([autoencoder.encode(to_unit_range(piece)) for piece in images.split(batch)])
