"""Images per second of the four detectors, each by itself, from images in memory to one score per image."""

import math
from functools import partial

import numpy as np
import pandas as pd
import torch

from benchmarks import reference_implementations as reference
from benchmarks.cases import Case
from benchmarks.timing import measure
from vqad_lib.config import BenchmarkConfig
from vqad_lib.detectors.restoration import Algorithm
from vqad_lib.detectors.scoring import NO_THRESHOLD, RESTORATIONS
from vqad_lib.progress import progress

# title -> (name of the detector, algorithm of its restoration)
DETECTORS: dict[str, tuple[str, Algorithm]] = {
    "sample-wise": ("sample_wise", "fast"),
    "regenerative": ("regenerative", "fast"),
    "light pixel-wise": ("light_pixel_wise", "fast"),
    "pixel-wise": ("pixel_wise", "fast"),
    "pixel-wise, plain algorithm": ("pixel_wise", "plain"),
}


def detector_rows(cases: list[Case], config: BenchmarkConfig, *, percentile: int) -> pd.DataFrame:
    """The four detectors of each combination, pixel-wise with the plain algorithm too, and GANomaly where it is there.

    Args:
        percentile: threshold of those that have one.

    Returns:
        model, detector, images (per batch), n_restorations, percentile, images_per_s with _low and _high,
        times_light (its seconds per image over those of light pixel-wise), calls, networks.
    """
    tables = [
        _rows(case, config, percentile)
        for case in progress(cases, what="images per second of detectors", unit="combination")
    ]
    if reference.is_installed("anomalib"):
        tables.append(_ganomaly_row(cases[0], config))
    return pd.concat(tables, ignore_index=True)


def _rows(case: Case, config: BenchmarkConfig, percentile: int) -> pd.DataFrame:
    timings = measure(
        {title: partial(_score, case, percentile, *DETECTORS[title]) for title in DETECTORS},
        repeats=config.repeats,
        once_above_s=config.once_above_s,
        device=case.images.device,
    )
    light_s = timings["light pixel-wise"].median_s
    rows = []
    for title, timing in timings.items():
        name, _ = DETECTORS[title]
        rows.append(
            {
                "model": case.model,
                "detector": title,
                "images": len(case.images),
                "n_restorations": case.detectors.config.n_restorations if name in RESTORATIONS else 0,
                "percentile": NO_THRESHOLD if name == "regenerative" else percentile,
                **timing.rate("images_per_s", len(case.images)),
                "times_light": timing.median_s / light_s,
                "calls": len(timing.samples_s),
                "networks": case.networks,
            }
        )
    return pd.DataFrame(rows)


def _score(case: Case, percentile: int, name: str, algorithm: Algorithm) -> np.ndarray:
    of = {NO_THRESHOLD: math.nan} if name == "regenerative" else {percentile: case.thresholds[percentile]}
    scores = case.detectors.scores(case.images, case.image_ids, {name: of}, algorithm=algorithm)
    return next(iter(scores.values()))


def _ganomaly_row(case: Case, config: BenchmarkConfig) -> pd.DataFrame:
    images = case.images
    network = reference.ganomaly(images.shape[-1]).to(images.device)
    with torch.no_grad():
        timing = measure(
            {"GANomaly": lambda: network(images).pred_score},
            repeats=config.repeats,
            once_above_s=config.once_above_s,
            device=images.device,
        )["GANomaly"]
    row = {
        "model": "GANomaly (Anomalib)",
        "detector": "GANomaly",
        "images": len(images),
        "n_restorations": 0,
        "percentile": NO_THRESHOLD,
        **timing.rate("images_per_s", len(images)),
        "calls": len(timing.samples_s),
        "networks": "random",
    }
    return pd.DataFrame([row])
