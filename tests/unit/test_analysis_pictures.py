"""Frames and restorations of Figures 9-18."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from PIL import Image

from vqad_lib.analysis.pictures import (
    FROM_TRAINING_CLIPS,
    MARKED,
    Frames,
    frames_of,
    large_images,
    restored_by_count,
)
from vqad_lib.config import profile_from_mapping
from vqad_lib.detectors.restoration import restore
from vqad_lib.detectors.scoring import Detectors
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.blocks import to_uint8
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.models.prior import code_nll
from vqad_lib.seeds import addressed_uniforms


def test_as_nearly_so_many_codes_change_as_a_threshold_allows(profile_mapping):
    """By hand: no NLL of a frame's own codes as lambda, however rounded, changes a number of codes that is nearer."""
    torch.manual_seed(0)
    profile = profile_from_mapping(profile_mapping, source="test")
    coder = VQAutoencoder(profile.autoencoder).eval()
    prior = PixelSnail(profile.pixelsnail, codebook_size=profile.autoencoder.codebook_size, grid=(8, 8)).eval()
    scorer = Detectors(coder, prior, profile.detectors, 0)
    frames = Frames(["a/1", "b/2"], ["a", "b"], [[], []], torch.rand(2, 3, 16, 16) * 2 - 1, "")
    counts = (0, 5, 20, 64)
    shown, table = restored_by_count(scorer, frames, counts)
    np.testing.assert_array_equal(shown[0], to_uint8(scorer.decode(scorer.encode(frames.images))))
    assert table["wanted"].tolist() == [*counts] * 2
    assert table.loc[table["wanted"] == 0, "changed"].tolist() == [0, 0]
    for codes, (name, rows) in zip(scorer.encode(frames.images), table.groupby("image_id"), strict=True):
        noise = addressed_uniforms(seed=0, image_ids=[name], n_restorations=1, grid=(8, 8))
        tried = [*(code_nll(prior.logits(codes[None]), codes[None]).flatten() + 1e-3).tolist()]
        options = {"threshold_nats": torch.tensor(tried, dtype=torch.float64), "recompute": "after_every_replacement"}
        same = noise.expand(-1, len(tried), -1, -1)  # at each lambda
        (restored,) = restore(prior, codes[None], noise=same, **options, algorithm="plain")
        changes = (restored != codes).sum((1, 2)).numpy()
        for row in rows.itertuples():
            assert row.changed == changes[tried.index(row.threshold_nats)]
            assert abs(row.changed - row.wanted) == np.abs(changes - row.wanted).min()


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
