"""Score any number of frames chunk by chunk: memory stays flat, an interrupted run continues, processes share the work.

Frames come from an array mapped from disk.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from vqad_lib.detectors.scoring import Detectors, ThresholdsByDetector
from vqad_lib.distributed.process import barrier, process
from vqad_lib.files import atomic_path
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.prior import code_nll
from vqad_lib.progress import progress


def score_frames(
    detectors: Detectors,
    images: np.ndarray,
    index: pd.DataFrame,
    thresholds: ThresholdsByDetector,
    *,
    split: str,
    folder: Path,
) -> pd.DataFrame:
    """Score the frames of a split; chunks that are in `folder` already are read, not computed again.

    Of several processes each scores some of the chunks, and all return the same.

    Args:
        images: (n, 3, H, W) uint8, possibly mapped from disk.
        index: a row per frame to score, labelled by its row number in `images`: image_id, clip, label.
        thresholds: which detectors at which thresholds.
        split: "validation" or "test".
        folder: for one parquet file per chunk.

    Returns:
        One row per image, detector and percentile: image_id, clip, split, label, detector, threshold_percentile
        (-1 for regenerative), threshold_nats, score.

    Raises:
        VqadError: the folder cannot be written or the disk is full; finished chunks stay.
    """
    size, here = detectors.config.chunk_images, process()
    paths = {start: folder / f"{split}_{start:06d}.parquet" for start in range(0, len(index), size)}
    missing = [start for start in list(paths)[here.rank :: here.size] if not paths[start].exists()]
    for start in progress(missing, what=f"score {split} images", unit="chunk"):
        chunk = index.iloc[start : start + size]
        frames = torch.from_numpy(images[chunk.index.to_numpy()]).to(detectors.device)
        scores = detectors.scores(to_unit_range(frames), chunk["image_id"].tolist(), thresholds)
        with atomic_path(paths[start]) as temporary:
            _tidy(chunk, scores, thresholds, split).to_parquet(temporary, index=False)
    barrier()
    return pd.concat([pd.read_parquet(path) for path in paths.values()], ignore_index=True)


@torch.no_grad()
def nll_of_frames(detectors: Detectors, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """NLL of every code of some frames: rows of (n, 3, H, W) uint8 -> (m, h, w) float32, nats."""
    size, found = detectors.config.chunk_images, []
    for start in range(0, len(rows), size):
        frames = torch.from_numpy(images[rows[start : start + size]]).to(detectors.device)
        codes = detectors.encode(to_unit_range(frames))
        found.append(code_nll(detectors.logits(codes), codes).cpu().numpy())
    return np.concatenate(found)


def _tidy(
    rows: pd.DataFrame, scores: dict[tuple[str, int], np.ndarray], thresholds: ThresholdsByDetector, split: str
) -> pd.DataFrame:
    order = ["image_id", "clip", "split", "label", "detector", "threshold_percentile", "threshold_nats", "score"]
    blocks = [
        rows.assign(split=split, detector=key, threshold_percentile=p, threshold_nats=nats, score=scores[key, p])
        for key, at in thresholds.items()
        for p, nats in at.items()
    ]
    return pd.concat(blocks, ignore_index=True)[order]
