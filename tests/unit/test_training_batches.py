"""Batches: an order from (seed, epoch) alone, every item once; and the range of the images."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vqad_lib.models.blocks import to_uint8, to_unit_range
from vqad_lib.seeds import seed_from
from vqad_lib.training.loop import Batches


def items(n: int) -> Tensor:
    """Code grids that carry their own number."""
    return torch.arange(n).reshape(n, 1, 1)


def order(batches: Batches, epoch: int) -> list[int]:
    return torch.cat([batch for batch, _ in batches.shards(epoch)]).flatten().tolist()


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = Batches(items(50), batch_size=8, seed=3, shuffle=True)
    reference = order(first, 2)
    torch.manual_seed(99)
    torch.rand(7)
    again = Batches(items(50), batch_size=16, seed=3, shuffle=True)
    assert order(again, 2) == reference  # without going through epoch 1, in another batch size
    assert order(first, 1) != reference
    assert order(Batches(items(50), batch_size=8, seed=4, shuffle=True), 2) != reference


def test_drawing_an_order_leaves_the_global_random_state_alone() -> None:
    state = torch.get_rng_state()
    order(Batches(items(9), batch_size=2, seed=0, shuffle=True), 1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("n", "batch_size", "sizes"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 5, [3])])
def test_every_item_comes_once(n: int, batch_size: int, sizes: list[int]) -> None:
    batches = Batches(items(n), batch_size=batch_size, seed=0, shuffle=True)
    assert [len(batch) for batch, _ in batches.shards(1)] == sizes
    assert len(batches) == len(sizes)
    assert sorted(order(batches, 1)) == list(range(n))


def test_without_shuffling_the_order_is_that_of_the_items() -> None:
    assert order(Batches(items(7), batch_size=3, seed=0, shuffle=False), 5) == list(range(7))


def test_no_items_are_refused() -> None:
    with pytest.raises(ValueError, match="no items"):
        Batches(items(0), batch_size=3, seed=0, shuffle=False)


def test_images_come_out_in_the_unit_range_and_codes_as_they_are() -> None:
    images = torch.tensor([0, 51, 204, 255], dtype=torch.uint8).reshape(1, 1, 2, 2).repeat(2, 3, 1, 1)
    ((batch, _),) = Batches(images, batch_size=2, seed=0, shuffle=False).shards(1)
    torch.testing.assert_close(batch[0, 0].flatten(), torch.tensor([-1.0, -0.6, 0.6, 1.0]))
    assert batch.dtype == torch.float32
    assert images.max() == 255  # the stored images stay as they were
    ((codes, _),) = Batches(items(4), batch_size=4, seed=0, shuffle=False).shards(1)
    assert codes.dtype == torch.int64


def test_all_grey_values_survive_the_way_there_and_back() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    np.testing.assert_array_equal(to_uint8(to_unit_range(values)), values.numpy())


def test_values_out_of_range_are_clipped_and_others_rounded() -> None:
    assert to_uint8(torch.tensor([-1.5, -1.0, -0.999, 0.001, 1.0, 9.0])).tolist() == [0, 0, 0, 128, 255, 255]


def test_seeds_from_parts_differ_and_stay() -> None:
    seeds = [seed_from("a", 1), seed_from("a", 2), seed_from("b", 1), seed_from("a/1", ""), seed_from(1, "a")]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_from("order", 0, 1) == 4473484566461243327  # blake2b of "order/0/1", the same on every machine
