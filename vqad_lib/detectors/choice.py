"""Which of the quick algorithms restores: the one that took less time on the first images, for these thresholds.

The walk makes h * w small steps whatever there is to replace; the jump ahead makes one whole pass per replaced code.
Which is quicker depends on the prior, the thresholds and the device (`make bench`): where starting a kernel costs more
than running it, and few codes are over the threshold, jumping may win. The codes are the same.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vqad_lib.detectors.restoration import Algorithm, restore
from vqad_lib.models.prior import Prior

CANDIDATES: tuple[Algorithm, ...] = ("fast", "jump_ahead")


@dataclass
class QuickestRestoration:
    """`restore` by the algorithm that measured best.

    Attributes:
        clock: seconds; a test brings its own.
        seconds: thresholds -> algorithm -> seconds of the trial.
    """

    clock: Callable[[], float] = time.perf_counter
    seconds: dict[tuple[float, ...], dict[Algorithm, float]] = field(default_factory=dict)

    def restore(
        self, prior: Prior, codes: Tensor, *, threshold_nats: Tensor, noise: Tensor, recompute: str, **options
    ) -> Tensor:
        """As `restore`; the first call with these thresholds tries the candidates on its codes, all in turn."""
        options |= {"threshold_nats": threshold_nats, "recompute": recompute}
        if recompute == "once" or not len(codes):
            return restore(prior, codes, noise=noise, **options)
        thresholds = tuple(threshold_nats.tolist())
        if thresholds not in self.seconds:
            for algorithm in CANDIDATES:  # warm up
                restore(prior, codes[:1], noise=noise[:1], algorithm=algorithm, **options)
            measured, restored = {}, codes
            for algorithm in CANDIDATES:
                started = self._now(codes.device)
                restored = restore(prior, codes, noise=noise, algorithm=algorithm, **options)
                measured[algorithm] = self._now(codes.device) - started
            self.seconds[thresholds] = measured
            return restored
        measured = self.seconds[thresholds]
        return restore(prior, codes, noise=noise, algorithm=min(measured, key=measured.get), **options)

    def _now(self, device: torch.device) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return self.clock()
