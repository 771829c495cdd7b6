"""Addressed noise: a draw depends on (seed, image, restoration, position) and on nothing else."""

import numpy as np
import pytest
import torch

from vqad_lib.seeds import addressed_uniforms


def test_uniform_shape_type_and_range() -> None:
    noise = addressed_uniforms(seed=0, image_ids=["a", "b"], n_restorations=50, grid=(8, 4))
    assert noise.shape == (2, 50, 8, 4)
    assert noise.dtype == torch.float64
    assert noise.min() >= 0
    assert noise.max() < 1
    # 3,200 draws: each tenth holds 320 on average, with a standard deviation of 17
    assert np.abs(np.histogram(noise, 10, (0, 1))[0] - 320).max() < 75


def test_draws_stay_the_same_over_versions() -> None:
    noise = addressed_uniforms(seed=3, image_ids=["Test001/000"], n_restorations=1, grid=(1, 2)).flatten()
    key = 0xBB674605BCDAE01B0035805CB998CC9E  # blake2b of "3/Test001/000", 16 bytes
    expected = np.random.Generator(np.random.Philox(key=key)).random(2)
    assert noise.tolist() == expected.tolist()


def test_more_restorations_keep_the_earlier_ones() -> None:
    few = addressed_uniforms(seed=1, image_ids=["a", "b"], n_restorations=2, grid=(3, 4))
    many = addressed_uniforms(seed=1, image_ids=["a", "b"], n_restorations=9, grid=(3, 4))
    assert torch.equal(many[:, :2], few)


def test_batch_and_order_of_images_have_no_influence() -> None:
    options = {"seed": 1, "n_restorations": 3, "grid": (2, 2)}
    together = addressed_uniforms(image_ids=["a", "b", "c"], **options)
    other = addressed_uniforms(image_ids=["c", "x", "a"], **options)
    alone = addressed_uniforms(image_ids=["b"], **options)
    assert torch.equal(together[[2, 0]], other[[0, 2]])
    assert torch.equal(together[1:2], alone)


def test_asking_twice_gives_the_same_whatever_the_global_state() -> None:
    options = {"seed": 1, "image_ids": ["a"], "n_restorations": 1, "grid": (2, 2)}
    first = addressed_uniforms(**options)
    torch.manual_seed(99)
    torch.rand(5)
    assert torch.equal(first, addressed_uniforms(**options))


@pytest.mark.parametrize(("seed", "image_id"), [(2, "a"), (1, "b"), (1, "A"), (11, "a"), (1, "1/a")])
def test_another_seed_or_image_gives_other_draws(seed: int, image_id: str) -> None:
    options = {"n_restorations": 2, "grid": (2, 3)}
    reference = addressed_uniforms(seed=1, image_ids=["a"], **options)
    other = addressed_uniforms(seed=seed, image_ids=[image_id], **options)
    assert (reference != other).all()


def test_restorations_and_positions_differ() -> None:
    assert addressed_uniforms(seed=0, image_ids=["a"], n_restorations=4, grid=(8, 8)).unique().numel() == 256


def test_no_images_give_an_empty_tensor() -> None:
    noise = addressed_uniforms(seed=0, image_ids=[], n_restorations=4, grid=(3, 2))
    assert noise.shape == (0, 4, 3, 2)
    assert noise.dtype == torch.float64
