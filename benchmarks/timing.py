"""Interleaved timing: rivals take turns in one process, so that a machine that slows down slows all of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Clock = Callable[[], float]


@dataclass(frozen=True)
class Timing:
    """How long one callable took.

    Attributes:
        samples_s: seconds of each call that counts, in the order they were made.
        result: what the last of these calls returned.
    """

    samples_s: tuple[float, ...]
    result: Any = None

    @property
    def median_s(self) -> float:
        """The middle sample."""
        return float(np.median(self.samples_s))

    @property
    def low_s(self) -> float:
        """The quickest sample."""
        return min(self.samples_s)

    @property
    def high_s(self) -> float:
        """The slowest sample."""
        return max(self.samples_s)

    @property
    def quartiles_s(self) -> tuple[float, float]:
        """First and third quartile, linearly interpolated."""
        first, third = np.percentile(self.samples_s, [25, 75])
        return float(first), float(third)

    def seconds(self, name: str) -> dict[str, float]:
        """Columns `name`, `name`_low, `name`_high: median, quickest and slowest, in seconds."""
        return {name: self.median_s, f"{name}_low": self.low_s, f"{name}_high": self.high_s}

    def rate(self, name: str, amount: float) -> dict[str, float]:
        """Columns `name`, `name`_low, `name`_high: `amount` per second at the median, slowest and quickest call."""
        return {name: amount / self.median_s, f"{name}_low": amount / self.high_s, f"{name}_high": amount / self.low_s}


def measure(
    callables: dict[str, Callable[[], Any]],
    *,
    repeats: int,
    once_above_s: float,
    device: torch.device | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, Timing]:
    """Time several callables in turns: A B C, A B C, ...

    The first round warms up and does not count, except for what takes longer than `once_above_s`: beside so much, a
    warm-up makes no difference, and repeating it would cost too much; that one call is its only sample.

    Args:
        callables: name -> what to time.
        repeats: rounds that count, at least 1.
        once_above_s: seconds, as described.
        device: where the work happens; a CUDA device is waited for before and after each call.
        clock: seconds; a test brings its own.

    Returns:
        name -> its timing, in the order of `callables`.

    Raises:
        ValueError: repeats is less than 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    first = {name: _timed(call, device, clock) for name, call in callables.items()}
    samples = {name: [timed] if timed[0] > once_above_s else [] for name, timed in first.items()}
    repeated = [name for name, found in samples.items() if not found]
    for _ in range(repeats):
        for name in repeated:
            # only the newest result is kept: results of many rounds would not fit into a GPU's memory
            samples[name] = [(seconds, None) for seconds, _ in samples[name]]
            samples[name].append(_timed(callables[name], device, clock))
    return {name: Timing(tuple(seconds for seconds, _ in found), found[-1][1]) for name, found in samples.items()}


def _timed(call: Callable[[], Any], device: torch.device | None, clock: Clock) -> tuple[float, Any]:
    _wait(device)
    started = clock()
    result = call()
    _wait(device)
    return clock() - started, result


def _wait(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
