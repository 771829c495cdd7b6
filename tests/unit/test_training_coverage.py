"""What an autoencoder sees beyond normal images: nothing, faster motion, or images with defects."""

import pytest
import torch

from vqad_lib.models.blocks import to_unit_range
from vqad_lib.training.coverage import FASTEST, covered, scaled_flow


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(100, 140, (70, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_without_coverage_there_are_the_images_alone(images):
    assert covered(images, "none", seed=0) is images


@pytest.mark.parametrize("coverage", ["faster", "defects"])
def test_as_many_more_are_added_and_a_seed_draws_them(images, coverage):
    found = covered(images, coverage, seed=0)
    assert found.dtype == torch.uint8
    assert len(found) == 140
    assert torch.equal(found[:70], images)
    assert torch.equal(found, covered(images, coverage, seed=0))
    assert not torch.equal(found, covered(images, coverage, seed=1))
    changed = (found[70:] != images).flatten(1).any(1).float().mean()
    assert changed > 0.9, "a defect may lie beyond the image, now and then"


def test_flow_is_scaled_about_no_motion_and_cut_at_the_limit():
    flow = torch.tensor([0.25, -0.5, -0.75])[None, :, None, None]  # right, up, and an eighth of the limit in all
    assert torch.equal(scaled_flow(flow, torch.ones(1)), flow)
    assert scaled_flow(flow, torch.tensor([2.0])).flatten().tolist() == [0.5, -1.0, -0.5]
    assert scaled_flow(flow, torch.tensor([FASTEST * 10])).flatten().tolist() == [1.0, -1.0, 1.0]
    still = torch.tensor([0.0, 0.0, -1.0])[None, :, None, None]
    assert torch.equal(scaled_flow(still, torch.tensor([3.0])), still)


def test_faster_flow_is_up_to_so_many_times_as_fast():
    flow = torch.full((200, 3, 4, 4), 140, dtype=torch.uint8)
    flow[:, 2] = 20
    sped = to_unit_range(covered(flow, "faster", seed=0)[200:])
    factors = (sped[:, 2, 0, 0] + 1) / (to_unit_range(flow)[:, 2, 0, 0] + 1)
    assert 1 <= factors.min() < 1.1
    assert 0.9 * FASTEST < factors.max() <= 1.05 * FASTEST
