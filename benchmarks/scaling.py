"""How the cost of pixel-wise restoration grows with images, restorations and codes per grid, and the exponent of that.

The networks have the profile's sizes and random weights, for no profile trains at other grids than its own.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.cases import random_prior
from benchmarks.timing import measure
from vqad_lib.config import Profile
from vqad_lib.detectors.restoration import restore
from vqad_lib.detectors.sample_wise import thresholds_at
from vqad_lib.models.prior import Prior, code_nll
from vqad_lib.models.registry import PRIORS
from vqad_lib.progress import progress
from vqad_lib.seeds import addressed_uniforms

ALGORITHMS = ("plain", "fast")
# what plain costs per axis is known well enough to tell beforehand what would take too long
_EXPECTED_EXPONENT = {"images": 1.0, "n_restorations": 1.0, "codes_per_grid": 2.0}
_AFFORDABLE = 5.0  # times `benchmarks.once_above_s`


def scaling_rows(profile: Profile, device: torch.device) -> pd.DataFrame:
    """Seconds along three axes; on each, the other two stand at their smallest value.

    What would take plain longer than five times `benchmarks.once_above_s`, going by the point before it, is left out.

    Returns:
        prior, algorithm, axis ("images", "n_restorations" or "codes_per_grid"), value, images, n_restorations, grid
        (side), seconds with _low and _high, calls.
    """
    config = profile.benchmarks
    images, restorations, sides = (
        sorted(values) for values in (config.scaling_images, config.n_restorations, config.scaling_grids)
    )
    points = {
        "images": [(n, restorations[0], sides[0]) for n in images],
        "n_restorations": [(images[0], n, sides[0]) for n in restorations],
        "codes_per_grid": [(images[0], restorations[0], side) for side in sides],
    }
    lines = [(kind, axis) for kind in PRIORS for axis in points]
    tables = [
        _line(profile, kind, axis, points[axis], device)
        for kind, axis in progress(lines, what="growth of cost", unit="line")
    ]
    return pd.concat(tables, ignore_index=True)


def exponent_rows(scaling: pd.DataFrame) -> pd.DataFrame:
    """Exponents of the growth: one row per prior, algorithm and axis with at least two points.

    Args:
        scaling: see `scaling_rows`.

    Returns:
        prior, algorithm, axis, exponent, points, from_value, to_value.
    """
    rows = []
    for (prior, algorithm, axis), line in scaling.groupby(["prior", "algorithm", "axis"], sort=False):
        if len(line) < 2:
            continue
        rows.append(
            {
                "prior": prior,
                "algorithm": algorithm,
                "axis": axis,
                "exponent": fitted_exponent(line["value"].to_numpy(), line["seconds"].to_numpy()),
                "points": len(line),
                "from_value": line["value"].min(),
                "to_value": line["value"].max(),
            }
        )
    return pd.DataFrame(rows)


def fitted_exponent(values: np.ndarray, seconds: np.ndarray) -> float:
    """The p of seconds = c * values ** p, by least squares of the logarithms.

    Args:
        values, seconds: (n,) positive, n >= 2, values not all equal.
    """
    x, y = np.log(values.astype(float)), np.log(seconds.astype(float))
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum())


def _line(
    profile: Profile, kind: str, axis: str, points: list[tuple[int, int, int]], device: torch.device
) -> pd.DataFrame:
    config, rows, before = profile.benchmarks, [], None
    priors: dict[int, Prior] = {}
    for images, n_restorations, side in points:
        prior = priors.setdefault(side, random_prior(profile, kind, grid=(side, side)).to(device))
        value = {"images": images, "n_restorations": n_restorations, "codes_per_grid": side * side}[axis]
        too_long = before is not None and _expected_s(before, value, axis) > _AFFORDABLE * config.once_above_s
        algorithms = ALGORITHMS[1:] if too_long else ALGORITHMS
        calls = _calls(prior, profile, algorithms, images=images, n_restorations=n_restorations)
        timings = measure(calls, repeats=config.repeats, once_above_s=config.once_above_s / 4, device=device)
        for algorithm, timing in timings.items():
            row = {"prior": kind, "algorithm": algorithm, "axis": axis, "value": value, "images": images}
            row |= {"n_restorations": n_restorations, "grid": side, **timing.seconds("seconds")}
            rows.append(row | {"calls": len(timing.samples_s)})
        if "plain" in timings:
            before = (value, timings["plain"].median_s)
    return pd.DataFrame(rows)


def _expected_s(before: tuple[int, float], value: int, axis: str) -> float:
    known, seconds = before
    return seconds * (value / known) ** _EXPECTED_EXPONENT[axis]


@torch.no_grad()
def _calls(prior: Prior, profile: Profile, algorithms: tuple[str, ...], *, images: int, n_restorations: int) -> dict:
    device = next(prior.parameters()).device
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(prior.codebook_size, (images, *prior.grid), generator=generator).to(device)
    names = [f"image {i}" for i in range(images)]
    noise = addressed_uniforms(seed=0, image_ids=names, n_restorations=n_restorations, grid=prior.grid).to(device)
    percentile = profile.evaluation.unsupervised_percentile
    threshold = thresholds_at(code_nll(prior.logits(codes), codes).cpu().numpy(), (percentile,))[percentile]

    def call(algorithm: str) -> Tensor:
        return restore(
            prior,
            codes,
            threshold_nats=threshold,
            noise=noise,
            recompute="after_every_replacement",
            algorithm=algorithm,
        )

    return {algorithm: lambda algorithm=algorithm: call(algorithm) for algorithm in algorithms}
