"""Score any number of frames chunk by chunk: memory stays flat, an interrupted run continues, processes share the work.

Frames come from an array mapped from disk; the next chunk is read while this one is scored.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

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
    subset: str,
    folder: Path,
) -> pd.DataFrame:
    """Score the frames of a subset; chunks that are in `folder` already are read, not computed again.

    Of several processes each scores some of the chunks, and all return the same.

    Args:
        images: (n, 3, H, W) uint8, possibly mapped from disk.
        index: a row per frame to score, labelled by its row number in `images`: image_id, clip, label.
        thresholds: which detectors at which thresholds.
        subset: "validation" or "test".
        folder: for one parquet file per chunk.

    Returns:
        One row per image, detector and percentile: image_id, clip, split, label, detector, threshold_percentile
        (-1 for regenerative), threshold_nats, score.

    Raises:
        VqadError: the folder cannot be written or the disk is full; finished chunks stay.
    """
    size, here = detectors.config.chunk_images, process()
    paths = {start: folder / f"{subset}_{start:06d}.parquet" for start in range(0, len(index), size)}
    missing = [start for start in list(paths)[here.rank :: here.size] if not paths[start].exists()]
    rows = [index.iloc[start : start + size] for start in missing]
    loaded = load_ahead(images, [chunk.index.to_numpy() for chunk in rows], detectors.device)
    work = zip(missing, rows, loaded, strict=True)
    for start, chunk, frames in progress(work, what=f"score {subset} images", total=len(missing), unit="chunk"):
        scores = detectors.scores(to_unit_range(frames), chunk["image_id"].tolist(), thresholds)
        with atomic_path(paths[start]) as temporary:
            _tidy(chunk, scores, thresholds, subset).to_parquet(temporary, index=False)
    barrier()
    return pd.concat([pd.read_parquet(path) for path in paths.values()], ignore_index=True)


@torch.no_grad()
def nll_of_frames(detectors: Detectors, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """NLL of every code of some frames: rows of (n, 3, H, W) uint8 -> (m, h, w) float32, nats."""
    size, found = detectors.config.chunk_images, []
    chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
    for frames in load_ahead(images, chunks, detectors.device):
        codes = detectors.encode(to_unit_range(frames))
        found.append(code_nll(detectors.logits(codes), codes).cpu().numpy())
    return np.concatenate(found)


def load_ahead(images: np.ndarray, chunks: list[np.ndarray], device: torch.device) -> Iterator[Tensor]:
    """Frames of one chunk after the other on the device, (m, 3, H, W) uint8; the next is read meanwhile."""
    waiting = iter(chunks)
    with ThreadPoolExecutor(1) as reader:

        def read_next() -> Future[np.ndarray] | None:
            rows = next(waiting, None)
            return None if rows is None else reader.submit(images.__getitem__, rows)

        coming = read_next()
        while coming:
            frames, coming = coming.result(), read_next()
            yield torch.from_numpy(frames).to(device)


def _tidy(
    rows: pd.DataFrame, scores: dict[tuple[str, int], np.ndarray], thresholds: ThresholdsByDetector, subset: str
) -> pd.DataFrame:
    order = ["image_id", "clip", "split", "label", "detector", "threshold_percentile", "threshold_nats", "score"]
    blocks = [
        rows[["image_id", "clip", "label"]].assign(
            split=subset,
            detector=detector,
            threshold_percentile=percentile,
            threshold_nats=threshold_nats,
            score=scores[detector, percentile],
        )[order]
        for detector, at in thresholds.items()
        for percentile, threshold_nats in at.items()
    ]
    return pd.concat(blocks, ignore_index=True)
