"""Seconds per image of the four methods, from image to score (Tables 10 and 25-27).

Times are those of batches, divided by the number of images. The methods take turns, so that whatever else the machine
does meets all of them alike.
"""

import time

import numpy as np
import pandas as pd
import torch

from vqad_lib.config import SpeedConfig
from vqad_lib.detectors.scoring import DETECTORS, Detectors, ThresholdsByDetector
from vqad_lib.experiment.networks import load_detectors
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import at_selected_threshold, load_scores
from vqad_lib.files import usable_cores
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.registry import COMBINATIONS
from vqad_lib.progress import progress
from vqad_lib.reporting.tables import PAPERS_ALGORITHM

PLAIN = f"Pixel-wise{PAPERS_ALGORITHM}"
FAST = "Pixel-wise (fast, exact)"
METHODS = {
    "Sample-wise": ("sample_wise", "fast"),
    PLAIN: ("pixel_wise", "plain"),
    FAST: ("pixel_wise", "fast"),
    "Light Pixel-wise": ("light_pixel_wise", "fast"),
    "Regenerative": ("regenerative", "fast"),
}
TABLES = {"GT": 10, "VP": 25, "VT": 26, "GP": 27}


def combination_speed(run: Run, *, autoencoder: str, prior: str) -> pd.DataFrame:
    """Time the four methods of a scored combination on test images of scheme "paper".

    The images are spread evenly over the test images. Each lambda is the one that validation chose by the paper's
    metrics, as in Tables 6-8.

    Args:
        autoencoder: "vqvae" or "vqgan".
        prior: "pixelsnail" or "gpt2".

    Returns:
        See `seconds_per_image`.

    Raises:
        VqadError: the combination has not been scored yet.
    """
    names = {"autoencoder": autoencoder, "prior": prior, "scheme": "paper"}
    thresholds, scorer = chosen_thresholds(run, load_scores(run, **names)), load_detectors(run, **names)
    test = np.flatnonzero(run.splits("paper") == "test")
    rows = test[np.linspace(0, len(test) - 1, min(run.profile.speed.images, len(test))).round().astype(int)]
    return seconds_per_image(
        scorer,
        np.ascontiguousarray(run.frames.images[rows]),
        run.frames.index["image_id"].iloc[rows].tolist(),
        thresholds,
        config=run.profile.speed,
        title=COMBINATIONS[autoencoder, prior],
    )


def chosen_thresholds(run: Run, tidy: pd.DataFrame) -> ThresholdsByDetector:
    """One lambda for each detector, the one that validation selects by the paper's metrics: percentile -> nats.

    Args:
        tidy: the scores of a combination, see `load_scores`.
    """
    found = {detector: at_selected_threshold(run, tidy, detector, metrics="paper") for detector in DETECTORS}
    return {detector: {at.percentile: at.nats} for detector, at in found.items()}


def seconds_per_image(
    scorer: Detectors,
    frames: np.ndarray,
    image_ids: list[str],
    thresholds: ThresholdsByDetector,
    *,
    config: SpeedConfig,
    title: str,
) -> pd.DataFrame:
    """Time each method on the same images, in turns; the plain algorithm on as many as its time allows.

    Args:
        frames: (n, 3, H, W) uint8.
        image_ids: n names.
        thresholds: one threshold for each detector.
        config: repeats, and seconds for the plain algorithm.
        title: what is timed, for the progress line.

    Returns:
        method, seconds_per_image (median over the repeats), seconds_low and seconds_high (the fastest and the slowest
        repeat), images, and in the row of the fast algorithm times_faster_than_plain.
    """

    def seconds(method: str) -> float:
        detector, algorithm = METHODS[method]
        n = images[method]
        started = time.perf_counter()
        batch = to_unit_range(torch.from_numpy(frames[:n]).to(scorer.device))
        # scores come back as NumPy arrays, so a GPU has finished by then
        scorer.scores(batch, image_ids[:n], {detector: thresholds[detector]}, algorithm=algorithm)
        return (time.perf_counter() - started) / n

    images = dict.fromkeys(METHODS, len(frames)) | {PLAIN: 1}
    for method in METHODS:
        seconds(method)  # the first call pays for what later ones find ready
    affordable = config.plain_seconds / (config.repeats * max(seconds(PLAIN), 1e-9))
    images[PLAIN] = int(min(max(affordable, 1), len(frames)))
    order = list(METHODS)
    turns = [order[(i + repeat) % len(order)] for repeat in range(config.repeats) for i in range(len(order))]
    found: dict[str, list[float]] = {method: [] for method in METHODS}
    for method in progress(turns, what=f"time {title}", unit="batch"):
        found[method].append(seconds(method))
    times = pd.DataFrame(found)
    median = times.median()
    columns = {"seconds_per_image": median, "seconds_low": times.min(), "seconds_high": times.max(), "images": images}
    rows = pd.DataFrame(columns | {"times_faster_than_plain": {FAST: median[PLAIN] / median[FAST]}}, index=order)
    return rows.rename_axis("method").reset_index()


def machine(device: torch.device) -> str:
    """What the times were taken on, for the notes beneath a table."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU with {torch.get_num_threads()} of {usable_cores()} cores in use"
