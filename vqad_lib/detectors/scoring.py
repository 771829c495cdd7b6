"""Score many images with the four detectors, chunk by chunk, so that an interrupted run continues.

Validation images are scored at every threshold percentile (Tables 13-24); test images at those that validation chose.
One encoding and one pass of the prior per image serve all detectors and thresholds.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vqad_lib.config import DetectorConfig
from vqad_lib.detectors.noise import addressed_uniforms
from vqad_lib.detectors.regenerative import regenerative_map, regenerative_score
from vqad_lib.detectors.residuals import anomaly_map, image_score
from vqad_lib.detectors.restoration import restore
from vqad_lib.detectors.sample_wise import sample_wise_score
from vqad_lib.files import atomic_path
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.prior import Prior, code_nll
from vqad_lib.progress import progress
from vqad_lib.training.batches import to_unit_range

RESTORATIONS = {"pixel_wise": "after_every_replacement", "light_pixel_wise": "once"}
NO_THRESHOLD = -1  # the percentile of regenerative rows, which have none

Jobs = dict[str, dict[int, float]]
"""detector -> {threshold percentile: threshold in nats}"""


@dataclass(frozen=True)
class Detectors:
    """An autoencoder and a prior, both in evaluation mode, and the numbers of eq. 9-12."""

    autoencoder: VQAutoencoder
    prior: Prior
    config: DetectorConfig
    seed: int

    def restored_codes(self, codes: Tensor, image_ids: list[str], *, detector: str, threshold_nats: float) -> Tensor:
        """N restorations of each grid: (B, h, w) int64 -> (B, N, h, w) int64."""
        N, grid = self.config.n_restorations, tuple(codes.shape[1:])
        noise = addressed_uniforms(seed=self.seed, image_ids=image_ids, n_restorations=N, grid=grid)
        rows = codes[:, None].expand(-1, N, -1, -1).flatten(0, 1)  # BN h w
        noise = noise.flatten(0, 1).to(codes.device)
        options = {"threshold_nats": threshold_nats, "recompute": RESTORATIONS[detector]}
        size = self.config.batch_rows
        restored = [
            restore(self.prior, rows[i : i + size], noise=noise[i : i + size], **options)
            for i in range(0, len(rows), size)
        ]
        return torch.cat(restored).unflatten(0, (len(codes), N))

    def decode(self, codes: Tensor) -> Tensor:
        """Images of grids, each distinct grid decoded once: (..., h, w) int64 -> (..., 3, H, W) float in [-1, 1]."""
        rows = codes.flatten(0, -3)
        distinct, which = rows.flatten(1).unique(dim=0, return_inverse=True)
        distinct = distinct.unflatten(1, tuple(codes.shape[-2:]))
        size = self.config.batch_rows
        images = torch.cat([self.autoencoder.decode(distinct[i : i + size]) for i in range(0, len(distinct), size)])
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
            heatmaps (B, H, W) float in [0, 2], and restorations (B, N, 3, H, W); N is 1 for "regenerative".
        """
        codes = self.autoencoder.encode(images)
        if detector == "regenerative":
            reconstructions = self.autoencoder.decode(codes)
            return regenerative_map(images, reconstructions), reconstructions[:, None]
        restored = self.restored_codes(codes, image_ids, detector=detector, threshold_nats=threshold_nats)
        restorations = self.decode(restored)
        return self._map(images, restorations), restorations

    def _map(self, images: Tensor, restorations: Tensor) -> Tensor:
        config = self.config
        return anomaly_map(
            images,
            restorations,
            temperature=config.weight_temperature,
            min_pool_px=config.min_pool_px,
            average_pool_px=config.average_pool_px,
        )

    @torch.no_grad()
    def scores(self, images: Tensor, image_ids: list[str], jobs: Jobs) -> dict[tuple[str, int], np.ndarray]:
        """Scores of a chunk of images: (detector, percentile) -> (B,) float64, higher is more anomalous.

        Args:
            images: (B, 3, H, W) float in [-1, 1].
            image_ids: B names.
            jobs: which detectors at which thresholds.
        """
        codes = self.autoencoder.encode(images)
        nll = code_nll(self.prior.logits(codes), codes)
        found: dict[tuple[str, int], Tensor] = {}
        for detector, thresholds in jobs.items():
            for percentile, threshold_nats in thresholds.items():
                if detector == "regenerative":
                    score = regenerative_score(images, self.autoencoder.decode(codes))
                elif detector == "sample_wise":
                    score = sample_wise_score(nll, threshold_nats=threshold_nats)
                else:
                    options = {"detector": detector, "threshold_nats": threshold_nats}
                    restorations = self.decode(self.restored_codes(codes, image_ids, **options))
                    score = image_score(self._map(images, restorations))
                found[detector, percentile] = score
        return {key: score.double().cpu().numpy() for key, score in found.items()}

    @torch.no_grad()
    def surprise(self, images: Tensor) -> np.ndarray:
        """Surprise of every code of uint8 images: (n, 3, H, W) uint8 -> (n, h, w) float32, nats."""
        codes, size = encode_all(self.autoencoder, images), self.config.batch_rows
        parts = [
            code_nll(self.prior.logits(codes[i : i + size]), codes[i : i + size]) for i in range(0, len(codes), size)
        ]
        return torch.cat(parts).cpu().numpy()


def encode_all(autoencoder: VQAutoencoder, images: Tensor, *, batch: int = 256) -> Tensor:
    """Codes of uint8 images: (n, 3, H, W) uint8 -> (n, h, w) int64."""
    starts = range(0, len(images), batch)
    return torch.cat([autoencoder.encode(to_unit_range(images[i : i + batch])) for i in starts])


def score_frames(
    detectors: Detectors, images: Tensor, index: pd.DataFrame, jobs: Jobs, *, subset: str, folder: Path
) -> pd.DataFrame:
    """Score all frames of a subset; chunks that are in `folder` already are read, not computed again.

    Args:
        images: (n, 3, H, W) uint8.
        index: n rows with image_id, clip, label.
        jobs: which detectors at which thresholds.
        subset: "validation" or "test".
        folder: for one parquet file per chunk.

    Returns:
        One row per image, detector and percentile: image_id, clip, split, label, detector, threshold_percentile
        (-1 for regenerative), threshold_nats, score.

    Raises:
        VqadError: the folder cannot be written or the disk is full; finished chunks stay.
    """
    size, parts = detectors.config.chunk_images, []
    for start in progress(range(0, len(index), size), what=f"score {subset} images", unit="chunk"):
        path = folder / f"{subset}_{start:06d}.parquet"
        if not path.exists():
            rows = index.iloc[start : start + size]
            scores = detectors.scores(to_unit_range(images[start : start + size]), rows["image_id"].tolist(), jobs)
            with atomic_path(path) as temporary:
                _tidy(rows, scores, jobs, subset).to_parquet(temporary, index=False)
        parts.append(pd.read_parquet(path))
    return pd.concat(parts, ignore_index=True)


def _tidy(rows: pd.DataFrame, scores: dict[tuple[str, int], np.ndarray], jobs: Jobs, subset: str) -> pd.DataFrame:
    blocks = []
    for (detector, percentile), values in scores.items():
        block = rows[["image_id", "clip", "label"]].assign(
            split=subset,
            detector=detector,
            threshold_percentile=percentile,
            threshold_nats=jobs[detector][percentile],
            score=values,
        )
        blocks.append(block)
    order = ["image_id", "clip", "split", "label", "detector", "threshold_percentile", "threshold_nats", "score"]
    return pd.concat(blocks, ignore_index=True)[order]
