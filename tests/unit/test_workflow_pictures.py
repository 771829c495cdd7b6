"""Frames and restorations of Figures 9-18."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vqad_lib.detectors.noise import addressed_uniforms
from vqad_lib.detectors.restoration import restore
from vqad_lib.models.prior import code_nll
from vqad_lib.workflow.pictures import restore_counts

GRID, CODEBOOK_SIZE = (4, 5), 7  # of `tiny_prior`
HW = GRID[0] * GRID[1]


def grid_of_codes(seed: int = 0) -> torch.Tensor:
    return torch.randint(CODEBOOK_SIZE, GRID, generator=torch.Generator().manual_seed(seed))


def noise(name: str = "Test004/105") -> torch.Tensor:
    return addressed_uniforms(seed=0, image_ids=[name], n_restorations=1, grid=GRID)[0, 0]


def replay(prior, codes, uniforms, threshold, limit):
    """The plain algorithm written out once more: which positions are replaced, and by what."""
    current, positions = codes.clone(), []
    for i in range(HW):
        at = divmod(i, GRID[1])
        logits = prior.logits(current[None])[0][at]
        surprise = F.cross_entropy(logits[None], current[at][None]).item()
        if surprise > threshold and len(positions) < limit:
            positions.append(at)
            cumulated = logits.double().softmax(-1).cumsum(-1)
            current[at] = int((cumulated <= uniforms[at]).sum().clamp_max(CODEBOOK_SIZE - 1))
    return current, positions


@pytest.mark.parametrize("seed", [0, 1])
def test_exactly_so_many_codes_are_replaced(tiny_prior, seed):
    codes, counts = grid_of_codes(seed), (0, 3, 6, 10, HW)
    restored, nats, replaced = restore_counts(tiny_prior, codes, noise=noise(), counts=counts)
    assert replaced == list(counts)
    for grid, threshold, count in zip(restored, nats, counts, strict=True):
        expected, positions = replay(tiny_prior, codes, noise(), threshold, count)
        assert len(positions) == count
        torch.testing.assert_close(grid, expected, rtol=0, atol=0)
        assert (grid != codes).sum() <= count


def test_none_replaced_is_the_grid_itself(tiny_prior):
    restored, _, _ = restore_counts(tiny_prior, grid_of_codes(), noise=noise(), counts=(0,))
    assert torch.equal(restored[0], grid_of_codes())


def test_more_codes_need_a_lower_threshold(tiny_prior):
    _, nats, _ = restore_counts(tiny_prior, grid_of_codes(), noise=noise(), counts=(2, 5, 9, HW))
    assert nats == sorted(nats, reverse=True)
    assert nats[-1] < 0 < nats[0]


def test_no_higher_threshold_replaces_as_many(tiny_prior):
    """Else the limit would cut off more than it must, and leave the lower part of the picture as it was."""
    codes, count = grid_of_codes(), 6
    _, (threshold,), _ = restore_counts(tiny_prior, codes, noise=noise(), counts=(count,))
    own = code_nll(tiny_prior.logits(codes[None]), codes[None]).flatten().double().sort().values
    tried = ((own[1:] + own[:-1]) / 2).tolist()  # half-way between the surprises of the frame's own codes
    assert min(abs(threshold - value) for value in tried) < 1e-6
    for higher in (value for value in tried if value > threshold + 1e-6):
        _, positions = replay(tiny_prior, codes, noise(), higher, HW)
        assert len(positions) < count


def test_a_wish_for_more_codes_than_there_are_replaces_all(tiny_prior):
    _, _, replaced = restore_counts(tiny_prior, grid_of_codes(), noise=noise(), counts=(HW + 30,))
    assert replaced == [HW]


def test_the_noise_is_that_of_the_first_restoration(tiny_prior):
    codes, name = grid_of_codes(), "Test004/105"
    restored, (threshold,), _ = restore_counts(tiny_prior, codes, noise=noise(name), counts=(HW,))
    draws = addressed_uniforms(seed=0, image_ids=[name], n_restorations=3, grid=GRID)
    whole = restore(tiny_prior, codes[None], threshold_nats=threshold, noise=draws, recompute="after_every_replacement")
    assert torch.equal(restored[0], whole[0, 0])
    assert not np.array_equal(whole[0, 0], whole[0, 1])
