"""Pixel-wise restoration: the paper's algorithm against the fast one, on the same grids with the same noise."""

from collections.abc import Callable

import pandas as pd
from torch import Tensor

from vqad_lib.benchmarks.subjects import Subject, share_equal
from vqad_lib.benchmarks.timing import measure
from vqad_lib.config import BenchmarkConfig
from vqad_lib.detectors.restoration import restore as restore_codes
from vqad_lib.progress import progress

Restore = Callable[..., Tensor]


def restoration_rows(
    subjects: list[Subject], config: BenchmarkConfig, *, size: str, restore: Restore = restore_codes
) -> pd.DataFrame:
    """Plain against fast, for each subject, number of restorations and threshold percentile.

    Args:
        subjects: one per prior.
        config: how often, and which numbers of restorations.
        size: name of the profile that the networks' sizes are from.
        restore: the function to measure; a test brings a wrong one.

    Returns:
        prior, size, percentile, n_restorations, images, plain_s, fast_s, ratio (plain_s / fast_s), equal_codes (the
        fraction of codes that both give; 1 only if all are equal), then the quickest and the slowest call of each,
        how many calls of each there were, and networks.
    """
    cases = [
        (subject, n, percentile)
        for subject in subjects
        for n in config.n_restorations
        for percentile in sorted(subject.thresholds)
    ]
    return pd.DataFrame(
        [_row(*case, config, size, restore) for case in progress(cases, what="restoration, plain and fast", unit="row")]
    )


def _row(
    subject: Subject, n: int, percentile: int, config: BenchmarkConfig, size: str, restore: Restore
) -> dict[str, object]:
    options = {
        "threshold_nats": subject.thresholds[percentile],
        "noise": subject.noise(n),
        "recompute": "after_every_replacement",
    }
    prior, codes = subject.detectors.prior, subject.codes
    timings = measure(
        {
            algorithm: lambda algorithm=algorithm: restore(prior, codes, algorithm=algorithm, **options)
            for algorithm in ("plain", "fast")
        },
        repeats=config.repeats,
        once_above_s=config.once_above_s,
        device=codes.device,
    )
    plain, fast = timings["plain"], timings["fast"]
    spread = {
        f"{name}_s_{end}": seconds
        for name, timing in timings.items()
        for end, seconds in (("low", timing.low_s), ("high", timing.high_s))
    }
    return {
        "prior": subject.prior_kind,
        "size": size,
        "percentile": percentile,
        "n_restorations": n,
        "images": len(codes),
        "plain_s": plain.median_s,
        "fast_s": fast.median_s,
        "ratio": plain.median_s / fast.median_s,
        "equal_codes": share_equal(plain.result, fast.result),
        **spread,
        "plain_calls": len(plain.samples_s),
        "fast_calls": len(fast.samples_s),
        "networks": subject.networks,
    }
