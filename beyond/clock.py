"""What scoring an image takes."""

import time

from numpy.typing import NDArray

from vqad_lib.detectors.scoring import Detectors, ThresholdsByDetector
from vqad_lib.experiment.run import Run
from vqad_lib.models.blocks import to_unit_range


def seconds_per_image(run: Run, scorer: Detectors, rows: NDArray, thresholds: ThresholdsByDetector) -> float:
    """Seconds of an image, encoding included, where those of some rows are scored at once."""
    images, ids = to_unit_range(run.images(rows)), run.frames.index["image_id"].iloc[rows].tolist()
    started = time.perf_counter()
    scorer.scores(images, ids, thresholds)
    return (time.perf_counter() - started) / len(rows)
