"""Choosing the quicker of two algorithms by a clock that the test holds."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from vqad_lib.detectors import restoration
from vqad_lib.detectors.restoration import QUICK, QuickestRestoration, restore
from vqad_lib.models.prior import Prior

FULL = "after_every_replacement"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The algorithms that were called on more than one grid, in order."""
    made = []

    def noted(prior: Prior, codes: Tensor, **options) -> Tensor:
        if len(codes) > 1:
            made.append(options.get("algorithm"))
        return restore(prior, codes, **options)

    monkeypatch.setattr(restoration, "restore", noted)
    return made


def clock_of(*seconds: float) -> Iterator[float]:
    """What a clock shows before and after pieces of work that take so long."""
    return itertools.chain.from_iterable((100.0, 100.0 + taken) for taken in seconds)


@pytest.mark.parametrize(("seconds", "chosen"), [((1, 2), "fast"), ((2, 1), "jump_ahead")])
def test_the_quicker_one_restores_what_follows(tiny_priors, calls, seconds, chosen) -> None:
    ticks = clock_of(*seconds, *reversed(seconds))
    quickest = QuickestRestoration(clock=lambda: next(ticks))
    prior, generator = tiny_priors["gpt2"], torch.Generator().manual_seed(0)
    codes = torch.randint(7, (3, 4, 5), generator=generator)
    noise = torch.rand(3, 2, 4, 5, dtype=torch.float64, generator=generator)
    low = torch.full((2,), 1.5, dtype=torch.float64)
    expected = restore(prior, codes, threshold_nats=low, noise=noise, recompute=FULL, algorithm="plain")
    assert not torch.equal(expected, codes[:, None].expand_as(expected))
    for _ in range(3):
        restored = quickest.restore(prior, codes, threshold_nats=low, noise=noise, recompute=FULL)
        assert torch.equal(restored, expected)
    assert calls == [*QUICK, chosen, chosen]
    quickest.restore(prior, codes, threshold_nats=low + 1, noise=noise, recompute=FULL)  # decided anew: the other way
    quickest.restore(prior, codes, threshold_nats=low + 1, noise=noise, recompute=FULL)
    assert calls[4:] == [*QUICK, next(name for name in QUICK if name != chosen)]


def test_light_restoration_has_nothing_to_choose(tiny_priors, calls) -> None:
    quickest, noise = QuickestRestoration(), torch.rand(3, 2, 4, 5, dtype=torch.float64)
    options = {"threshold_nats": torch.ones(2, dtype=torch.float64), "noise": noise, "recompute": "once"}
    codes = torch.zeros(3, 4, 5, dtype=torch.int64)
    assert torch.equal(
        quickest.restore(tiny_priors["gpt2"], codes, **options), restore(tiny_priors["gpt2"], codes, **options)
    )
    assert calls == [None]
    assert not quickest.seconds
