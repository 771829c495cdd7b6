"""All priors behind their interface: causality to the last bit, normalisation, and incremental decoding."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vqad_lib.config import Gpt2Config, PixelSnailConfig
from vqad_lib.models.gpt2 import Gpt2
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.models.pixelsnail_layers import CausalAttention
from vqad_lib.models.prior import PrefixCache, Prior, code_nll

N = 4 * 5  # positions of the tiny priors' grid


@pytest.fixture
def codes() -> Tensor:
    return torch.randint(7, (3, 4, 5), generator=torch.Generator().manual_seed(0))


def test_logits_have_the_promised_shape_and_type(tiny_prior: Prior, codes: Tensor) -> None:
    logits = tiny_prior.logits(codes)
    assert logits.shape == (3, 4, 5, 7)
    assert logits.dtype == torch.float32
    assert torch.equal(tiny_prior(codes), logits)


@pytest.mark.parametrize("k", [0, 1, 4, 5, 11, 18, 19])
def test_causality_a_code_changes_nothing_at_or_before_itself(tiny_prior: Prior, codes: Tensor, k: int) -> None:
    before = tiny_prior.logits(codes).flatten(1, 2)
    changed = codes.flatten(1).clone()
    changed[:, k] = (changed[:, k] + 1) % 7
    after = tiny_prior.logits(changed.reshape(codes.shape)).flatten(1, 2)
    assert torch.equal(after[:, : k + 1], before[:, : k + 1])
    if not isinstance(tiny_prior, PixelSnail | Gpt2):
        return  # how far another prior looks is its own affair
    sees = (after - before).abs().amax((0, 2))[k + 1 :] > 1e-4
    at_row_end = k % 5 == 4 and isinstance(tiny_prior, PixelSnail)
    # PixelSNAIL's 3x3 convolutions bring the last code of a row to column 3 of the next one; attention, from there on
    blind = min(3, N - 1 - k) if at_row_end else 0
    assert sees[blind:].all()


def test_first_position_ignores_all_codes(tiny_prior: Prior, codes: Tensor) -> None:
    first = tiny_prior.logits(codes)[:, 0, 0]
    other = tiny_prior.logits((codes + 3) % 7)[:, 0, 0]
    assert torch.equal(first, other)
    assert torch.equal(first, first[:1].expand(3, -1))
    assert first.std() > 0.01


def test_eq_19_code_probabilities_add_up_to_one_and_give_the_nll(tiny_prior: Prior, codes: Tensor) -> None:
    logits = tiny_prior.logits(codes)
    exponent = np.exp(logits.double().numpy())
    probability = exponent / exponent.sum(-1, keepdims=True)
    chosen = np.take_along_axis(probability, codes.numpy()[..., None], -1)[..., 0]
    np.testing.assert_allclose(code_nll(logits, codes).numpy(), -np.log(chosen), rtol=1e-5)
    all_codes = torch.stack([code_nll(logits, torch.full_like(codes, k)) for k in range(7)])
    np.testing.assert_allclose(all_codes.neg().exp().sum(0).numpy(), 1.0, rtol=1e-5)


def test_all_sequences_of_a_small_grid_have_probabilities_that_add_up_to_one() -> None:
    torch.manual_seed(0)
    config = PixelSnailConfig(
        channels=4, blocks=1, residual_blocks=1, kernel_px=3, heads=1, key_dim=4, dropout=0.0, attention_grid="whole"
    )
    snail = PixelSnail(config, codebook_size=3, grid=(2, 2)).eval()
    gpt = Gpt2(
        Gpt2Config(layers=1, heads=2, width=8, dropout=0.0, random_second_half=False), codebook_size=3, grid=(2, 2)
    ).eval()
    sequences = torch.cartesian_prod(*[torch.arange(3)] * 4).reshape(-1, 2, 2)
    for prior in (snail, gpt):
        with torch.no_grad():
            nll = code_nll(prior.logits(sequences), sequences).sum((1, 2))  # -log p(s), the chain rule
        assert nll.std() > 1e-3
        assert nll.neg().exp().sum().item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(2, 5, 4, dtype=torch.int64),
        torch.zeros(2, 20, dtype=torch.int64),
        torch.zeros(4, 5, dtype=torch.int64),
        torch.zeros(2, 4, 5, dtype=torch.int32),
        torch.zeros(2, 4, 5),
    ],
)
def test_other_grids_and_types_are_refused(tiny_prior: Prior, wrong: Tensor) -> None:
    with pytest.raises(ValueError, match=r"codes must be \(B, 4, 5\) int64"):
        tiny_prior.logits(wrong)
    with pytest.raises(ValueError, match=r"codes must be \(B, 4, 5\) int64"):
        tiny_prior.prefix_cache(wrong, capacity=0)


def test_gpt2_tells_positions_apart(tiny_priors: dict[str, Prior]) -> None:
    # after the first, every token is the same: without position embeddings all later logits would be equal
    logits = tiny_priors["gpt2"].logits(torch.full((1, 4, 5), 2)).reshape(N, 7)[2:]
    gaps = (logits[:, None] - logits[None]).abs().amax(-1) + torch.eye(N - 2)
    assert gaps.min() > 1e-3


def test_pixelsnail_tells_positions_apart(tiny_priors: dict[str, Prior]) -> None:
    logits = tiny_priors["pixelsnail"].logits(torch.full((1, 4, 5), 2)).reshape(N, 7)
    gaps = (logits[:, None] - logits[None]).abs().amax(-1) + torch.eye(N)
    assert gaps.min() > 1e-3


@pytest.mark.parametrize("start", [0, 1, 10, 18])
def test_prefix_cache_gives_the_logits_of_one_pass(tiny_prior: Prior, codes: Tensor, start: int) -> None:
    """A branch of every grid at `start`, each with other codes than its grid's from there on."""
    cache = tiny_prior.prefix_cache(codes, capacity=len(codes))
    torch.testing.assert_close(cache.logits, tiny_prior.logits(codes).flatten(1, 2), rtol=0, atol=1e-5)
    other = codes.flatten(1).clone()
    other[:, start:] = (other[:, start:] + 1 + torch.arange(N - start)) % 7
    expected = tiny_prior.logits(other.reshape(codes.shape)).flatten(1, 2)
    assert (expected[:, start + 1 :] - cache.logits[:, start + 1 :]).abs().amax() > 0.1
    cache.branch(torch.arange(len(codes)), start)
    for i in range(start + 1, N):
        torch.testing.assert_close(cache.step(i, other[:, i - 1]), expected[:, i], rtol=0, atol=1e-5)


def test_prefix_cache_branches_from_branches_and_leaves_others_alone(tiny_prior: Prior, codes: Tensor) -> None:
    """Grid 0; a branch of it at 3; a branch of grid 1 at 7; a branch of the first branch at 11."""
    leaves, grids = {0: (3, 0), 1: (7, 1), 2: (11, None)}, codes.flatten(1)
    rows = torch.stack([grids[0], grids[1], grids[0]]).clone()
    rows[0, 3:] = (rows[0, 3:] + 2) % 7
    rows[1, 7:] = (rows[1, 7:] + 3) % 7
    rows[2] = rows[0]
    rows[2, 11:] = (rows[2, 11:] + 4) % 7
    expected = tiny_prior.logits(rows.reshape(-1, *codes.shape[1:])).flatten(1, 2)
    cache, alive = tiny_prior.prefix_cache(codes, capacity=3), 0
    for i in range(N):
        if alive:
            found = cache.step(i, rows[:alive, i - 1])
            torch.testing.assert_close(found, expected[:alive, i], rtol=0, atol=1e-5)
        for branch, (position, parent) in leaves.items():
            if position == i:
                cache.branch(torch.tensor([len(codes) if parent is None else parent]), i)
                alive = branch + 1


@pytest.mark.parametrize("name", ["pixelsnail", "gpt2"])
def test_prefix_cache_holds_as_many_bytes_as_it_says(tiny_priors: dict[str, Prior], name: str, codes: Tensor) -> None:
    tiny_prior = tiny_priors[name]

    def held(cache: PrefixCache) -> int:
        return sum(part.kept.nbytes for part in getattr(cache, "kept_by", [cache]))

    few, many = (held(tiny_prior.prefix_cache(codes, capacity=n)) for n in (0, 10))
    assert many - few == 10 * tiny_prior.cache_bytes_per_row


@pytest.fixture
def half_blind() -> Gpt2:
    """GPT-2 that reads random codes in place of the second half, as the published code of the paper."""
    torch.manual_seed(6)
    config = Gpt2Config(layers=2, heads=2, width=16, dropout=0.1, random_second_half=True)
    prior = Gpt2(config, codebook_size=7, grid=(4, 5)).eval().requires_grad_(False)
    for parameter in prior.parameters():
        if parameter.ndim > 1:
            parameter.mul_(8.0)
    return prior


def test_random_second_half_reads_the_first_half_only(half_blind: Gpt2, codes: Tensor) -> None:
    other = codes.flatten(1).clone()
    other[:, N // 2 :] = (other[:, N // 2 :] + 3) % 7
    assert torch.equal(half_blind.logits(other.reshape(codes.shape)), half_blind.logits(codes))
    other[:, N // 2 - 1] = (other[:, N // 2 - 1] + 3) % 7
    assert not torch.equal(half_blind.logits(other.reshape(codes.shape)), half_blind.logits(codes))
    assert torch.equal(half_blind.logits(codes[:1]), half_blind.logits(codes)[:1])  # the same in any batch
    half_blind.train()
    torch.manual_seed(0)
    first = half_blind.tokens(codes)
    assert torch.equal(first[:, 1 : N // 2 + 1], codes.flatten(1)[:, : N // 2])
    assert not torch.equal(half_blind.tokens(codes), first), "training draws anew"


def test_random_second_half_decodes_incrementally_as_it_passes(half_blind: Gpt2, codes: Tensor) -> None:
    other = codes.flatten(1).clone()
    other[:, 3:] = (other[:, 3:] + 2) % 7
    expected = half_blind.logits(other.reshape(codes.shape)).flatten(1, 2)
    cache = half_blind.prefix_cache(codes, capacity=len(codes))
    cache.branch(torch.arange(len(codes)), 3)
    for i in range(4, N):
        torch.testing.assert_close(cache.step(i, other[:, i - 1]), expected[:, i], rtol=0, atol=1e-5)


def test_gpt2_medium_has_as_many_parameters_as_its_formula() -> None:
    layers, width, K, n = 24, 1024, 128, 64
    with torch.device("meta"):
        prior = Gpt2(
            Gpt2Config(layers=layers, heads=16, width=width, dropout=0.1, random_second_half=False),
            codebook_size=K,
            grid=(8, 8),
        )
    # a block: attention 4 w^2 + 4 w, feed-forward 8 w^2 + 5 w, two layer norms 4 w; at the end another layer norm
    blocks = layers * (12 * width**2 + 13 * width) + 2 * width
    assert blocks == 302_311_424
    embeddings = (K + 1) * width + n * width  # codes and the start token; positions
    assert sum(p.numel() for p in prior.network.parameters()) == blocks + embeddings
    assert sum(p.numel() for p in prior.parameters()) == blocks + embeddings + K * width
    assert {block.attn.num_heads for block in prior.network.h} == {16}


def test_pixelsnail_of_the_paper_has_four_blocks_of_four_residual_blocks() -> None:
    config = PixelSnailConfig(
        channels=8, blocks=4, residual_blocks=4, kernel_px=3, heads=2, key_dim=4, dropout=0.1, attention_grid="whole"
    )
    prior = PixelSnail(config, codebook_size=5, grid=(2, 2))
    assert [len(block.residuals) for block in prior.blocks] == [4, 4, 4, 4]
    assert {residual.dropout.p for block in prior.blocks for residual in block.residuals} == {0.1}
    assert {(block.attention.heads, block.attention.key_dim) for block in prior.blocks} == {(2, 4)}


@pytest.fixture
def half_size_prior() -> PixelSnail:
    """Over 4x6 grids of 7 codes, with attention over cells of 2x2 alone: convolutions see next to nothing."""
    torch.manual_seed(2)
    config = PixelSnailConfig(
        channels=8,
        blocks=2,
        residual_blocks=1,
        kernel_px=3,
        heads=2,
        key_dim=4,
        dropout=0.1,
        attention_grid="half",
    )
    prior = PixelSnail(config, codebook_size=7, grid=(4, 6)).eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.mul_(1.6 if parameter.ndim > 1 else 1)
    return prior


def test_half_size_attention_sees_cells_of_earlier_pairs_of_rows_alone() -> None:
    torch.manual_seed(0)
    attention = CausalAttention(3, 5, heads=2, key_dim=4, half_size=True).double().requires_grad_(False)
    query, key = torch.rand(2, 3, 4, 6, dtype=torch.float64), torch.rand(2, 5, 4, 6, dtype=torch.float64)
    mixed = attention(query, key)
    assert (mixed[:, :, :2] == 0).all(), "nothing is complete before the first two rows"
    assert (mixed[:, :, 2:] != 0).all()
    for row in range(4):
        other = key.clone()
        other[:, :, row, 3] += 1
        changed = (attention(query, other) != mixed).any(1).any(0)
        assert changed.any(1).tolist() == [False, False, row < 2, row < 2]
    # eq. 8 by hand, at one position, with a cell of zeros beside the three complete ones
    q = attention.to_query(query)[0, :4, 3, 1]
    k, v = attention.to_key_value(key).reshape(2, 2, 2, 4, 2, 2, 3, 2).mean((5, 7))[0, :, 0, :, 0]  # key_dim 3
    weights = torch.cat([torch.zeros(1), q @ k / 2]).softmax(0)[1:]
    torch.testing.assert_close(mixed[0, :4, 3, 1], v @ weights)


def test_half_size_attention_keeps_the_prior_causal_and_its_prefix_cache_exact(half_size_prior: PixelSnail) -> None:
    prior, generator = half_size_prior, torch.Generator().manual_seed(1)
    codes = torch.randint(7, (3, 4, 6), generator=generator)
    logits = prior.logits(codes).flatten(1, 2)
    for i in range(24):
        other = codes.flatten(1).clone()
        other[:, i] = (other[:, i] + 1) % 7
        changed = (prior.logits(other.reshape(codes.shape)).flatten(1, 2) != logits).any(2)
        assert not changed[:, : i + 1].any()
    other = torch.cat([codes.flatten(1)[:, :5], torch.randint(7, (3, 19), generator=generator)], 1)
    expected = prior.logits(other.reshape(codes.shape)).flatten(1, 2)
    cache = prior.prefix_cache(codes, capacity=3)
    cache.branch(torch.arange(3), 5)
    for i in range(6, 24):
        torch.testing.assert_close(cache.step(i, other[:, i - 1]), expected[:, i], rtol=0, atol=1e-5)


def test_half_size_attention_needs_an_even_grid() -> None:
    config = PixelSnailConfig(
        channels=8,
        blocks=1,
        residual_blocks=1,
        kernel_px=3,
        heads=2,
        key_dim=4,
        dropout=0.1,
        attention_grid="half",
    )
    with pytest.raises(ValueError, match="even grid of codes, got 4x5"):
        PixelSnail(config, codebook_size=7, grid=(4, 5))


@pytest.mark.parametrize("name", ["pixelsnail", "gpt2"])
def test_dropout_works_in_training_and_rests_in_evaluation(tiny_priors: dict[str, Prior], name: str) -> None:
    prior, codes = tiny_priors[name], torch.zeros(1, 4, 5, dtype=torch.int64)
    try:
        prior.train()
        assert not torch.equal(prior.logits(codes), prior.logits(codes))
    finally:
        prior.eval()
    assert torch.equal(prior.logits(codes), prior.logits(codes))
