"""Frames and restorations of Figures 9-18."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from vqad_lib.analysis.pictures import FROM_TRAINING_CLIPS, MARKED, frames_of, large_images, restore_counts
from vqad_lib.detectors.restoration import restore
from vqad_lib.models.prior import code_nll
from vqad_lib.seeds import addressed_uniforms

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


def run_of(parts: list[str], labels: list[int], *, paths: tuple = (), masks=None) -> SimpleNamespace:
    n = len(parts)
    columns = {"image_id": [f"c/{i}" for i in range(n)], "clip": "c", "frame": range(n), "part": parts}
    index = pd.DataFrame(columns | {"label": labels, "kind": ""})
    images = np.arange(n, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 3, 4, 4), np.uint8)
    frames = SimpleNamespace(index=index, images=images, paths=paths, masks=masks)
    return SimpleNamespace(frames=frames, images=lambda rows: torch.from_numpy(images[rows]))


def test_a_test_frame_of_a_training_clip_is_explained():
    run = run_of(["train", "test"], [0, 0])
    assert frames_of(run, np.array([0, 1])).note == FROM_TRAINING_CLIPS
    assert frames_of(run, np.array([1])).note == ""


def test_boxes_are_explained_where_there_are_any():
    masks = np.zeros((2, 4, 4), np.uint8)
    masks[1, 1, 1] = 1
    frames = frames_of(run_of(["test", "test"], [0, 1], masks=masks), np.array([0, 1]))
    assert frames.note == MARKED
    assert frames.boxes == [[], [(0.0, 0.0, 0.75, 0.75)]]


def test_large_images_are_as_the_files_have_them(tmp_path):
    rng = np.random.default_rng(0)
    wide = np.repeat(rng.integers(0, 255, (1, 36), np.uint8), 24, axis=0)  # columns, 36 x 24
    for name in "ab":
        Image.fromarray(wide).save(tmp_path / f"{name}.png")
    Image.fromarray(wide[:12, :12]).save(tmp_path / "c.png")
    run = run_of(["test"] * 3, [1] * 3, paths=tuple(tmp_path / f"{name}.png" for name in "abc"))
    shown = large_images(run, np.array([1, 2]))
    assert shown.shape == (2, 3, 24, 36)  # all as large as the first
    np.testing.assert_array_equal(shown[0], np.broadcast_to(wide, (3, 24, 36)))
    assert large_images(run, np.array([1]), at_most_px=18).shape == (1, 3, 12, 18)


def test_large_images_of_16_bits_are_no_darker_than_the_prepared_ones(tmp_path):
    for name, value in (("a", 100), ("b", 4000)):  # 12 bits
        Image.fromarray(np.full((8, 8), value, np.uint16)).save(tmp_path / f"{name}.png")
    run = run_of(["test"] * 2, [1] * 2, paths=(tmp_path / "a.png", tmp_path / "b.png"))
    assert np.unique(large_images(run, np.array([0]))).tolist() == [round(100 * 255 / 4095)]


def test_generated_frames_have_no_files_and_are_shown_as_they_are():
    run = run_of(["test"] * 2, [1] * 2)
    np.testing.assert_array_equal(large_images(run, np.array([1])), run.frames.images[[1]])
