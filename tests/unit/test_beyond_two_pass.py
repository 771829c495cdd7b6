"""Eq. 20: hidden codes say nothing, shown ones all, and what is hidden is what the first pass calls unusual."""

import pytest
import torch

from beyond.masked import MaskedEncoder, MaskedPixelSnail, hidden_nll
from beyond.two_pass import densities, pseudo_likelihood
from beyond.two_pass_restoration import drawn_given_usual
from vqad_lib.config import Gpt2Config, PixelSnailConfig
from vqad_lib.detectors.restoration import draw_codes
from vqad_lib.models.prior import code_nll

K, GRID = 6, (3, 4)


@pytest.fixture(params=["BERT", "PixelSNAIL"])
def masked(request) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"codebook_size": K, "grid": GRID}
    if request.param == "BERT":
        config = Gpt2Config(layers=1, heads=2, width=16, dropout=0.1, random_second_half=False)
        return MaskedEncoder(config, **sizes).eval()
    of = {"channels": 16, "blocks": 1, "residual_blocks": 1, "kernel_px": 3, "heads": 2, "key_dim": 4}
    return MaskedPixelSnail(PixelSnailConfig(**of, dropout=0.1, attention_grid="half"), **sizes).eval()


@pytest.fixture
def codes() -> torch.Tensor:
    return torch.randint(K, (5, *GRID), generator=torch.Generator().manual_seed(1))


class Causal:
    """Says what it was told of each grid."""

    def __init__(self, nll: torch.Tensor, codes: torch.Tensor) -> None:
        rest = (-torch.expm1(-nll) / (K - 1)).log()[..., None].expand(*nll.shape, K)
        self.said = rest.scatter(-1, codes[..., None], -nll[..., None])

    def logits(self, _codes: torch.Tensor) -> torch.Tensor:
        return self.said


def test_hidden_codes_do_not_matter_and_shown_ones_do(masked, codes):
    hidden = torch.zeros_like(codes, dtype=torch.bool)
    hidden[:, 1, 1:3] = True
    changed = torch.where(hidden, (codes + 1) % K, codes)
    with torch.no_grad():
        assert torch.equal(masked(codes, hidden), masked(changed, hidden))
        changed[:, 2, 3] = (codes[:, 2, 3] + 1) % K
        assert not torch.allclose(masked(codes, hidden)[:, 0, 0], masked(changed, hidden)[:, 0, 0])


def test_two_passes_ask_for_what_the_first_calls_unusual(masked, codes):
    nll = torch.full(codes.shape, 0.5)
    nll[:, 0, 2] = nll[:, 2, 0] = 3.0
    found = densities(Causal(nll, codes), masked, codes, threshold_nats=1.0)
    torch.testing.assert_close(found["causal"][0], nll)
    unusual = nll > 1
    with torch.no_grad():
        expected = code_nll(masked(codes, unusual), codes)
    torch.testing.assert_close(found["two passes"][0][unusual], expected[unusual])
    assert not found["two passes"][0][~unusual].any()
    assert [passes for _, passes in found.values()][:2] == [1, 2]


def test_a_stable_set_shows_what_is_likely_after_all(masked, codes):
    nll = torch.full(codes.shape, 3.0)  # a first pass that trusts nothing
    threshold = float(code_nll(masked(codes, torch.ones_like(codes, dtype=torch.bool)), codes).detach().median())
    stable, passes = densities(Causal(nll, codes), masked, codes, threshold_nats=threshold)["to a stable set"]
    hidden = stable > 0
    assert hidden.any()
    assert not hidden.all()
    assert (stable[hidden] > threshold).all(), "what is left is unlikely given all that is shown"
    with torch.no_grad():
        torch.testing.assert_close(stable[hidden], code_nll(masked(codes, hidden), codes)[hidden])
    assert passes > 2
    none = densities(Causal(torch.full(codes.shape, 0.1), codes), masked, codes, threshold_nats=1.0)
    assert not none["to a stable set"][0].any()


def test_pseudo_likelihood_hides_one_code_at_a_time(masked, codes):
    pseudo = pseudo_likelihood(masked, codes)
    hidden = torch.zeros_like(codes, dtype=torch.bool)
    hidden[:, 2, 1] = True
    with torch.no_grad():
        expected = code_nll(masked(codes, hidden), codes)[:, 2, 1]
    torch.testing.assert_close(pseudo[:, 2, 1], expected)


def test_every_grid_hides_a_code_in_training_and_the_loss_falls(masked):
    pattern = torch.arange(12).reshape(1, 3, 4) % K
    codes, optimiser = pattern.expand(16, -1, -1), torch.optim.Adam(masked.parameters(), lr=1e-2)
    masked.train()
    losses = []
    for _ in range(60):
        loss = hidden_nll(masked, codes)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(map(torch.isfinite, map(torch.tensor, losses)))
    assert sum(losses[-5:]) < 0.2 * sum(losses[:5])


class Said:
    """An encoder that says the same of every grid, and notes what it was shown."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.said, self.seen = logits, []

    def __call__(self, codes: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        self.seen.append((codes.clone(), hidden.clone()))
        return self.said[: len(codes)] if len(codes) <= len(self.said) else self.said.repeat(len(codes), 1, 1, 1)


@pytest.mark.parametrize("rounds", [1, 4])
def test_only_unusual_codes_are_drawn_and_each_from_its_own_noise(codes, rounds):
    logits = torch.randn(1, *GRID, K, generator=torch.Generator().manual_seed(2)).expand(5, *GRID, K)
    said, unusual = Said(logits[:1]), torch.zeros_like(codes, dtype=torch.bool)
    unusual[:, :2] = True  # 8 of 12
    noise = torch.rand(5, 3, *GRID, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    restored = drawn_given_usual(said, codes, unusual, noise, rounds=rounds)
    assert torch.equal(restored[:, :, 2], codes[:, None, 2].expand(-1, 3, -1))
    drawn = draw_codes(logits[:, None].expand(-1, 3, -1, -1, -1), noise[..., None])[..., 0]
    assert torch.equal(restored[:, :, :2], drawn[:, :, :2]), "what it says does not change, so neither does a draw"
    left = [int(hidden[0].sum()) for _, hidden in said.seen]
    assert left == {1: [8], 4: [8, 7, 5, 3]}[rounds], "8 cos(r pi / 8), rounded down"


def test_the_likeliest_draws_of_a_round_stay(codes):
    logits = torch.randn(1, *GRID, K, generator=torch.Generator().manual_seed(2))
    said, unusual = Said(logits), torch.ones_like(codes, dtype=torch.bool)
    noise = torch.rand(5, 1, *GRID, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    drawn_given_usual(said, codes, unusual, noise, rounds=2)
    grids, hidden = said.seen[1]
    nll = code_nll(logits.expand(5, *GRID, K), grids)
    assert hidden.flatten(1).sum(1).tolist() == [8] * 5
    for of, still in zip(nll, hidden, strict=True):
        assert of[~still].max() <= of[still].min()


def test_no_unusual_code_no_change(masked, codes):
    noise = torch.rand(5, 2, *GRID, dtype=torch.float64)
    restored = drawn_given_usual(masked, codes, torch.zeros_like(codes, dtype=torch.bool), noise, rounds=4)
    assert torch.equal(restored, codes[:, None].expand(-1, 2, -1, -1))
