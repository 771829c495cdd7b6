"""Restoration: three algorithms that agree code for code, by hand and at random, and the draws behind them."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqad_lib.detectors.restoration import draw_codes
from vqad_lib.detectors.restoration import restore as restore_all
from vqad_lib.detectors.sample_wise import thresholds_at
from vqad_lib.models.prior import PrefixCache, Prior, code_nll
from vqad_lib.models.registry import PRIORS
from vqad_lib.seeds import addressed_uniforms

ALGORITHMS = ["fast", "jump_ahead", "plain"]
PERCENTILES = (20, 40, 60, 80, 90)
ALL_PRIORS = [*PRIORS, "logits_alone"]
FULL, ONCE = "after_every_replacement", "once"


def restore(prior: Prior, codes: Tensor, *, noise: Tensor, **options: Any) -> Tensor:
    """One restoration of each grid: noise and result are (B, h, w)."""
    return restore_all(prior, codes, noise=noise[:, None], **options)[:, 0]


def rows_of(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n random grids for the tiny priors, and noise for them."""
    codes = torch.randint(7, (n, 4, 5), generator=torch.Generator().manual_seed(seed))
    noise = addressed_uniforms(seed=seed, image_ids=[f"image {i}" for i in range(n)], n_restorations=1, grid=(4, 5))
    return codes, noise[:, 0]


def thresholds_of(prior: Prior, codes: Tensor) -> dict[int, float]:
    return thresholds_at(code_nll(prior.logits(codes), codes).numpy(), PERCENTILES)


class Chain(Prior):
    """A Markov chain over a grid, from a table of probabilities; counts its full passes."""

    def __init__(self, first: list[float], following: list[list[float]], grid: tuple[int, int]) -> None:
        super().__init__()
        self.first, self.following = torch.tensor(first).log(), torch.tensor(following).log()
        self.codebook_size, self.grid, self.passes, self.evaluated = len(first), grid, 0, 0

    def logits(self, codes: Tensor) -> Tensor:
        self.passes += 1
        rows = codes.flatten(1)
        later = self.following[rows[:, :-1]]
        together = torch.cat([self.first.expand(len(rows), 1, -1), later], 1)
        return together.reshape(len(rows), *self.grid, self.codebook_size)

    def prefix_cache(self, codes: Tensor, *, capacity: int) -> "ChainCache":
        return ChainCache(self, codes, capacity)


class ChainCache(PrefixCache):
    """Counts, in the chain, the branches made and the rows evaluated."""

    def __init__(self, chain: Chain, codes: Tensor, capacity: int) -> None:
        self.chain, self.capacity, self.branches = chain, capacity, 0
        self.logits = chain.logits(codes).flatten(1, 2)
        chain.evaluated = 0

    def branch(self, parents: Tensor, position: int) -> None:  # noqa: ARG002
        self.branches += len(parents)
        assert self.branches <= self.capacity

    def step(self, position: int, previous: Tensor) -> Tensor:  # noqa: ARG002
        assert len(previous) == self.branches
        self.chain.evaluated += len(previous)
        return self.chain.following[previous]


@pytest.fixture
def chain() -> Chain:
    """Likes to start with 0 and to stay where it is."""
    stay = [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]]
    return Chain([0.9, 0.05, 0.05], stay, (1, 4))


# --- draws


def test_draw_is_the_inverse_of_the_cumulated_probabilities_by_numpy() -> None:
    generator = np.random.default_rng(0)
    logits, uniforms = generator.normal(0, 2, (40, 3, 6)), generator.uniform(size=(40, 3))
    exponent = np.exp(logits)
    cumulated = np.cumsum(exponent / exponent.sum(-1, keepdims=True), -1)
    expected = [
        [np.searchsorted(c, u, side="right") for c, u in zip(*row, strict=True)]
        for row in zip(cumulated, uniforms, strict=True)
    ]
    drawn = draw_codes(torch.from_numpy(logits), torch.from_numpy(uniforms)[..., None])[..., 0]
    assert drawn.dtype == torch.int64
    np.testing.assert_array_equal(drawn.numpy(), expected)


@pytest.mark.parametrize(("uniform", "code"), [(0.0, 0), (0.2499, 0), (0.25, 1), (0.4999, 1), (0.5, 3), (0.999999, 3)])
def test_draw_at_the_edges_by_hand(uniform: float, code: int) -> None:
    logits = torch.tensor([0.25, 0.25, 0.0, 0.5]).log()  # code 2 is impossible, and never drawn
    assert draw_codes(logits, torch.tensor([uniform], dtype=torch.float64)).item() == code


def test_a_number_at_the_end_of_a_code_s_share_draws_the_next() -> None:
    logits = torch.tensor([0.3, 0.3, 0.0, 0.4], dtype=torch.float64).log()
    ends = logits.softmax(-1).cumsum(-1)
    assert draw_codes(logits, ends[:2]).tolist() == [1, 3], "shares are [from, to): code 2 has none"


def test_draw_stays_in_range_where_the_sum_rounds_below_one() -> None:
    logits = torch.randn(500, 128, generator=torch.Generator().manual_seed(0))
    last = torch.full((500,), np.nextafter(1.0, 0.0), dtype=torch.float64)
    assert draw_codes(logits, last[:, None]).unique().tolist() == [127]


def test_drawn_frequencies_are_the_probabilities() -> None:
    probability = torch.tensor([0.5, 0.3, 0.15, 0.05])
    n = 20_000
    uniforms = addressed_uniforms(seed=0, image_ids=["a"], n_restorations=1, grid=(1, n)).flatten()
    drawn = draw_codes(probability.log(), uniforms)
    frequency = torch.bincount(drawn, minlength=4) / n
    deviation = (probability * (1 - probability) / n).sqrt()
    assert ((frequency - probability).abs() < 4 * deviation).all()


# --- by hand


def test_once_looks_at_the_original_codes_only(chain: Chain) -> None:
    codes = torch.tensor([[[1, 1, 1, 1]]])
    noise = torch.full(codes.shape, 0.5, dtype=torch.float64)
    # the start is unlikely; each following 1 is likely after a 1
    restored = restore(chain, codes, threshold_nats=math.log(2), noise=noise, recompute=ONCE)
    assert restored.tolist() == [[[0, 1, 1, 1]]]
    assert codes.tolist() == [[[1, 1, 1, 1]]]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_looking_again_makes_the_next_code_unlikely(chain: Chain, algorithm: str) -> None:
    codes = torch.tensor([[[1, 1, 1, 1]], [[0, 0, 0, 0]], [[0, 0, 2, 2]]])
    noise = torch.full(codes.shape, 0.5, dtype=torch.float64)
    noise[0, 0, 2] = 0.93  # cumulated after a 0: 0.9, 0.95, 1 -> code 1, after which the last 1 is likely
    restored = restore(chain, codes, threshold_nats=math.log(2), noise=noise, recompute=FULL, algorithm=algorithm)
    assert restored.tolist() == [[[0, 0, 1, 1]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]]
    assert codes.tolist() == [[[1, 1, 1, 1]], [[0, 0, 0, 0]], [[0, 0, 2, 2]]]


@pytest.mark.parametrize("recompute", [FULL, ONCE])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_code_at_the_threshold_stays(chain: Chain, recompute: str, algorithm: str) -> None:
    codes = torch.tensor([[[1, 1, 1, 1]]])
    noise = torch.zeros(codes.shape, dtype=torch.float64)
    at_threshold = code_nll(chain.logits(codes), codes)[0, 0, 0].item()  # -log 0.05, as computed
    options = {"noise": noise, "recompute": recompute, "algorithm": algorithm}
    assert torch.equal(restore(chain, codes, threshold_nats=at_threshold, **options), codes)
    below = restore(chain, codes, threshold_nats=at_threshold - 1e-3, **options)
    assert below[0, 0, 0].item() == 0


@pytest.mark.parametrize(("algorithm", "passes"), [("plain", 4), ("jump_ahead", 3), ("fast", 1)])
def test_passes_of_the_prior(chain: Chain, algorithm: str, passes: int) -> None:
    codes = torch.tensor([[[1, 1, 1, 1]], [[0, 0, 0, 0]]])
    noise = torch.full(codes.shape, 0.5, dtype=torch.float64)
    noise[0, 0, 1] = 0.93  # two replacements: 0, then 1 again
    restored = restore(chain, codes, threshold_nats=math.log(2), noise=noise, recompute=FULL, algorithm=algorithm)
    assert restored[0].tolist() == [[0, 1, 1, 1]]
    assert chain.passes == passes  # plain: one a position; jump ahead: one a replaced code, and one more


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_by_hand_each_way_to_ask_the_prior(chain: Chain, algorithm: str) -> None:
    codes = torch.tensor([[[1, 2, 2, 1]]])
    for recompute, uniforms, expected in (
        (FULL, [0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0]),
        (ONCE, [0.5, 0.01, 0.5, 0.01], [0, 0, 2, 0]),
    ):
        noise = torch.tensor(uniforms, dtype=torch.float64).reshape(1, 1, 4)
        options = {"threshold_nats": math.log(2), "noise": noise, "recompute": recompute}
        assert restore(chain, codes, algorithm=algorithm, **options).flatten().tolist() == expected, recompute


@pytest.mark.parametrize("wrong", [{"recompute": "sometimes"}, {"recompute": FULL, "algorithm": "faster"}])
def test_unknown_ways_are_refused(chain: Chain, wrong: dict) -> None:
    noise = torch.zeros(1, 1, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"sometimes|faster"):
        restore(chain, torch.tensor([[[1, 2, 2, 1]]]), threshold_nats=1.0, noise=noise, **wrong)


# --- against the plain algorithm, on both networks


@pytest.mark.parametrize("percentile", PERCENTILES)
@pytest.mark.parametrize("rows", [1, 2, 9])
def test_fast_algorithms_equal_the_plain_one(tiny_prior: Prior, percentile: int, rows: int) -> None:
    codes, noise = rows_of(rows, seed=rows)
    options = {"threshold_nats": thresholds_of(tiny_prior, codes)[percentile], "noise": noise, "recompute": FULL}
    plain = restore(tiny_prior, codes, algorithm="plain", **options)
    assert not torch.equal(plain, codes)
    assert torch.equal(restore(tiny_prior, codes, algorithm="fast", **options), plain)
    assert torch.equal(restore(tiny_prior, codes, algorithm="jump_ahead", **options), plain)


@settings(max_examples=12)
@given(
    name=st.sampled_from(ALL_PRIORS),
    rows=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    percentile=st.sampled_from(PERCENTILES),
)
def test_fast_algorithms_equal_the_plain_one_for_any_rows(
    tiny_priors: dict[str, Prior], name: str, rows: int, seed: int, percentile: int
) -> None:
    prior, (codes, noise) = tiny_priors[name], rows_of(rows, seed)
    options = {
        "threshold_nats": thresholds_of(prior, codes)[percentile],
        "noise": noise,
        "recompute": FULL,
    }
    plain = restore(prior, codes, algorithm="plain", **options)
    assert torch.equal(restore(prior, codes, algorithm="fast", **options), plain)
    assert torch.equal(restore(prior, codes, algorithm="jump_ahead", **options), plain)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("recompute", [FULL, ONCE])
def test_rows_do_not_depend_on_their_batch_or_order(tiny_prior: Prior, recompute: str, algorithm: str) -> None:
    codes, noise = rows_of(7, seed=3)
    threshold = thresholds_of(tiny_prior, codes)[60]

    def restored(rows: list[int]) -> Tensor:
        return restore(
            tiny_prior,
            codes[rows],
            threshold_nats=threshold,
            noise=noise[rows],
            recompute=recompute,
            algorithm=algorithm,
        )

    together = restored(list(range(7)))
    order = [4, 0, 6, 2, 5, 1, 3]
    assert torch.equal(restored(order), together[order])
    assert torch.equal(torch.cat([restored([0, 1, 2]), restored([3]), restored([4, 5, 6])]), together)


def test_looking_again_differs_from_looking_once(tiny_prior: Prior) -> None:
    codes, noise = rows_of(6, seed=4)
    options = {"threshold_nats": thresholds_of(tiny_prior, codes)[40], "noise": noise}
    full = restore(tiny_prior, codes, recompute=FULL, **options)
    once = restore(tiny_prior, codes, recompute=ONCE, **options)
    assert not torch.equal(full, once)
    first = (once != codes).flatten(1).int().argmax(1)  # up to its first replacement a row is treated alike
    for row, end in enumerate(first.tolist()):
        assert torch.equal(full[row].flatten()[: end + 1], once[row].flatten()[: end + 1])


@pytest.mark.parametrize("percentile", PERCENTILES)
def test_once_replaces_exactly_the_codes_above_the_threshold(tiny_prior: Prior, percentile: int) -> None:
    codes, noise = rows_of(8, seed=5)
    logits = tiny_prior.logits(codes)
    nll = code_nll(logits, codes).numpy()
    threshold = thresholds_of(tiny_prior, codes)[percentile]
    exceeds = nll > threshold
    assert exceeds.mean() == pytest.approx(1 - percentile / 100, abs=0.01)
    exponent = np.exp(logits.double().numpy())
    cumulated = np.cumsum(exponent / exponent.sum(-1, keepdims=True), -1)
    drawn = (cumulated <= noise.numpy()[..., None]).sum(-1)
    restored = restore(tiny_prior, codes, threshold_nats=threshold, noise=noise, recompute=ONCE)
    np.testing.assert_array_equal(restored.numpy(), np.where(exceeds, drawn, codes.numpy()))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_threshold_below_all_nll_resamples_the_whole_grid(tiny_prior: Prior, algorithm: str) -> None:
    codes, noise = rows_of(3, seed=6)
    options = {"threshold_nats": -1.0, "noise": noise, "recompute": FULL, "algorithm": algorithm}
    restored = restore(tiny_prior, codes, **options)
    assert torch.equal(restore(tiny_prior, (codes + 1) % 7, **options), restored)  # nothing of the codes is left
    assert torch.equal(draw_codes(tiny_prior.logits(restored), noise[..., None])[..., 0], restored)


@pytest.mark.parametrize("recompute", [FULL, ONCE])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_empty_batch_and_unreached_threshold(tiny_prior: Prior, recompute: str, algorithm: str) -> None:
    codes, noise = rows_of(2, seed=7)
    options = {"recompute": recompute, "algorithm": algorithm}
    untouched = restore(tiny_prior, codes, threshold_nats=1e6, noise=noise, **options)
    assert torch.equal(untouched, codes)
    assert untouched.data_ptr() != codes.data_ptr()
    empty = restore(tiny_prior, codes[:0], threshold_nats=0.0, noise=noise[:0], **options)
    assert empty.shape == (0, 4, 5)
    assert empty.dtype == torch.int64


def test_shapes_that_do_not_fit_are_refused(tiny_prior: Prior) -> None:
    codes, noise = rows_of(2, seed=8)
    with pytest.raises(ValueError, match=r"noise \(1, 1, 4, 5\) must be \(B, N, h, w\) for codes \(2, 4, 5\)"):
        restore(tiny_prior, codes, threshold_nats=0.0, noise=noise[:1], recompute=ONCE)


# --- several restorations and thresholds of one image


def restorations_of(n: int, N: int, seed: int) -> tuple[Tensor, Tensor]:
    """n random grids for the tiny priors, and noise for N restorations of each."""
    codes = torch.randint(7, (n, 4, 5), generator=torch.Generator().manual_seed(seed))
    ids = [f"image {i}" for i in range(n)]
    return codes, addressed_uniforms(seed=seed, image_ids=ids, n_restorations=N, grid=(4, 5))


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(ALL_PRIORS),
    images=st.integers(1, 4),
    N=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    percentiles=st.lists(st.sampled_from(PERCENTILES), min_size=6, max_size=6),
    alike=st.floats(0, 1),
)
def test_many_restorations_equal_the_plain_ones_for_any_mixture(
    tiny_priors: dict[str, Prior],
    name: str,
    images: int,
    N: int,
    seed: int,
    percentiles: list[int],
    alike: float,
) -> None:
    """Also where restorations agree for long: part of the noise is the same for all restorations of an image."""
    prior, (codes, noise) = tiny_priors[name], restorations_of(images, N, seed)
    same = torch.rand(noise.shape, generator=torch.Generator().manual_seed(seed)) < alike
    noise = torch.where(same, noise[:, :1], noise)
    thresholds = thresholds_of(prior, codes)
    options = {
        "threshold_nats": torch.tensor([thresholds[p] for p in percentiles[:N]], dtype=torch.float64),
        "noise": noise,
        "recompute": FULL,
    }
    plain = restore_all(prior, codes, algorithm="plain", **options)
    assert plain.shape == (images, N, 4, 5)
    assert torch.equal(restore_all(prior, codes, algorithm="fast", **options), plain)
    assert torch.equal(restore_all(prior, codes, algorithm="jump_ahead", **options), plain)


@pytest.mark.parametrize("recompute", [FULL, ONCE])
def test_a_sweep_over_thresholds_is_each_of_them_alone(tiny_prior: Prior, recompute: str) -> None:
    codes, noise = restorations_of(3, 2, seed=11)
    thresholds = list(thresholds_of(tiny_prior, codes).values())
    together = restore_all(
        tiny_prior,
        codes,
        threshold_nats=torch.tensor(thresholds, dtype=torch.float64).repeat_interleave(2),
        noise=noise.repeat(1, len(thresholds), 1, 1),
        recompute=recompute,
    )
    alone = [
        restore_all(tiny_prior, codes, threshold_nats=threshold, noise=noise, recompute=recompute)
        for threshold in thresholds
    ]
    assert torch.equal(together, torch.cat(alone, 1))
    assert len({tuple(one.flatten().tolist()) for one in alone}) == len(thresholds)


@pytest.mark.parametrize("recompute", [FULL, ONCE])
def test_more_restorations_leave_the_first_as_they_were(tiny_prior: Prior, recompute: str) -> None:
    codes, noise = restorations_of(3, 5, seed=12)
    options = {"threshold_nats": thresholds_of(tiny_prior, codes)[40], "recompute": recompute}
    five = restore_all(tiny_prior, codes, noise=noise, **options)
    assert torch.equal(restore_all(tiny_prior, codes, noise=noise[:, :2], **options), five[:, :2])
    assert not torch.equal(five[:, 0], five[:, 1])


def test_nothing_is_evaluated_for_rows_that_are_not_there(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChainCache, "step", lambda *_of: pytest.fail("no restoration has a row of its own"))
    monkeypatch.setattr(ChainCache, "branch", lambda *_of: pytest.fail("after the last position nothing is asked"))
    noise = torch.full((1, 2, 1, 4), 0.5, dtype=torch.float64)
    for codes in ([0, 0, 0, 0], [0, 0, 0, 1]):  # nothing unlikely; the last alone
        restored = restore_all(chain, torch.tensor([[codes]]), threshold_nats=0.69, noise=noise, recompute=FULL)
        assert restored.flatten().tolist() == [0] * 8


def test_logits_that_are_known_save_the_pass(chain: Chain) -> None:
    codes, noise = torch.tensor([[[1, 1, 1, 1]]]), torch.full((1, 2, 1, 4), 0.5, dtype=torch.float64)
    logits, options = chain.logits(codes), {"threshold_nats": math.log(2), "noise": noise, "recompute": ONCE}
    expected, before = restore_all(chain, codes, **options), chain.passes
    assert torch.equal(restore_all(chain, codes, logits=logits, **options), expected)
    assert chain.passes == before


@pytest.mark.parametrize(
    ("third", "evaluated"),
    [
        # all replace the first code by 0 and agree until position 2, which none replaces after a 0, 1: one row
        (0.93, 3),
        # the third draws a 0 at position 1, and at 2 again: from there on it has a row of its own
        (0.5, 1 + 2 + 2),
    ],
)
def test_a_prefix_that_restorations_share_is_evaluated_once(chain: Chain, third: float, evaluated: int) -> None:
    codes = torch.tensor([[[1, 1, 1, 1]]])
    noise = torch.full((1, 3, 1, 4), 0.5, dtype=torch.float64)
    noise[0, :, 0, 1] = torch.tensor([0.93, 0.94, third])  # after a 0: 1, 1, and 1 or 0
    restored = restore_all(chain, codes, threshold_nats=math.log(2), noise=noise, recompute=FULL)
    assert restored[0, 0].tolist() == restored[0, 1].tolist() == [[0, 1, 1, 1]]
    assert restored[0, 2].tolist() == [[0, 1, 1, 1] if third > 0.9 else [0, 0, 0, 0]]
    assert chain.evaluated == evaluated


def test_an_image_without_an_unlikely_code_costs_one_pass(chain: Chain) -> None:
    codes = torch.tensor([[[0, 0, 0, 0]], [[0, 0, 0, 0]]])
    noise = torch.full((2, 3, 1, 4), 0.5, dtype=torch.float64)
    restored = restore_all(chain, codes, threshold_nats=math.log(2), noise=noise, recompute=FULL)
    assert torch.equal(restored, codes[:, None].expand_as(restored))
    assert (chain.passes, chain.evaluated) == (1, 0)
