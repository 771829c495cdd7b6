"""Pixel-wise restoration: the paper's algorithm against the fast ones, on the same grids with the same noise."""

from collections.abc import Callable

import pandas as pd
from torch import Tensor

from benchmarks.cases import Case, share_equal
from benchmarks.timing import measure
from vqad_lib.config import BenchmarkConfig
from vqad_lib.detectors.restoration import restore as restore_codes
from vqad_lib.progress import progress

Restore = Callable[..., Tensor]
ALGORITHMS = ("plain", "fast", "jump_ahead")


def restoration_rows(
    cases: list[Case], config: BenchmarkConfig, *, size: str, restore: Restore = restore_codes
) -> pd.DataFrame:
    """Plain against fast and jump ahead, for each case, number of restorations and threshold percentile.

    Args:
        cases: one per prior.
        config: how often, and which numbers of restorations.
        size: name of the profile that the networks' sizes are from.
        restore: the function to measure; a test brings a wrong one.

    Returns:
        prior, size, percentile, n_restorations, images, plain_s, fast_s, ratio (plain_s / fast_s), equal_codes (the
        fraction of codes that are plain's, of fast or jump_ahead, whichever has fewer; 1 only if all are equal),
        jump_ahead_s, quickest (of fast and jump_ahead), then the quickest and the slowest call of each, how many calls
        of each there were, and networks.
    """
    cases = [
        (case, n, percentile) for case in cases for n in config.n_restorations for percentile in sorted(case.thresholds)
    ]
    return pd.DataFrame(
        [_row(*case, config, size, restore) for case in progress(cases, what="restoration, plain and fast", unit="row")]
    )


def _row(
    case: Case, n: int, percentile: int, config: BenchmarkConfig, size: str, restore: Restore
) -> dict[str, object]:
    options = {
        "threshold_nats": case.thresholds[percentile],
        "noise": case.noise(n),
        "recompute": "after_every_replacement",
    }
    prior, codes = case.detectors.prior, case.codes
    timings = measure(
        {
            algorithm: lambda algorithm=algorithm: restore(prior, codes, algorithm=algorithm, **options)
            for algorithm in ALGORITHMS
        },
        repeats=config.repeats,
        once_above_s=config.once_above_s,
        device=codes.device,
    )
    plain, fast, jump_ahead = (timings[algorithm] for algorithm in ALGORITHMS)
    spread = {
        f"{name}_s_{end}": seconds
        for name, timing in timings.items()
        for end, seconds in (("low", timing.low_s), ("high", timing.high_s))
    }
    return {
        "prior": case.prior_kind,
        "size": size,
        "percentile": percentile,
        "n_restorations": n,
        "images": len(codes),
        "plain_s": plain.median_s,
        "fast_s": fast.median_s,
        "ratio": plain.median_s / fast.median_s,
        "equal_codes": min(share_equal(plain.result, other.result) for other in (fast, jump_ahead)),
        "jump_ahead_s": jump_ahead.median_s,
        "quickest": "fast" if fast.median_s <= jump_ahead.median_s else "jump_ahead",
        **spread,
        **{f"{name}_calls": len(timing.samples_s) for name, timing in timings.items()},
        "networks": case.networks,
    }
