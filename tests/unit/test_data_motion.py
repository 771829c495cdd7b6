"""Stacks by hand, flow of what is known to move, clips apart, prepared once, refused where there are no clips."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from vqad_lib.config import DataConfig, SyntheticConfig, profile_from_mapping
from vqad_lib.data import motion as module
from vqad_lib.data.frames import FrameSet
from vqad_lib.data.motion import with_motion
from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import Run

CONFIG = DataConfig(
    dataset="auto",
    image_size_px=32,
    input="flow",
    stack_step=2,
    flow_step=1,
    flow_window_share=0.0,
    flow_limit_px=8.0,
    split_seed=0,
    official_validation_clips=1,
    synthetic=SyntheticConfig(train_clips=1, test_clips=1, frames_per_clip=4, seed=0),
)
CLIPS = {"Train001": 5, "Test001": 4, "Test002": 1}
SPEEDS = {"Train001": (2, 0), "Test001": (0, -1), "Test002": (3, 3)}  # px a frame, rightwards and downwards


def moving(clip: str, frame: int, size: int) -> np.ndarray:
    """Texture that moves as a whole: (size, size) uint8."""
    right, down = (frame * speed for speed in SPEEDS[clip])
    texture = np.asarray(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)).resize((128, 128))
    )
    return texture[32 - down : 32 - down + size, 32 - right : 32 - right + size]


@pytest.fixture
def frames() -> FrameSet:
    rows = [(f"{clip}/{frame:03d}", clip, frame, clip[:-3].lower()) for clip, n in CLIPS.items() for frame in range(n)]
    index = pd.DataFrame(rows, columns=["image_id", "clip", "frame", "part"]).assign(label=0, kind="")
    images = np.stack([np.repeat(moving(clip, frame, 32)[None], 3, 0) for _, clip, frame, _ in rows])
    return FrameSet("synthetic", "walkway", images, index, None, "d" * 64)


def test_frames_stay_as_they_are(frames, tmp_path):
    assert with_motion(frames, replace(CONFIG, input="frame"), tmp_path) is frames
    assert list(tmp_path.iterdir()) == []


def test_stacks_by_hand(frames, tmp_path):
    stacks = with_motion(frames, replace(CONFIG, input="stack"), tmp_path)
    grey = frames.images[:, 0]
    for row, earlier in {0: (0, 0, 0), 1: (0, 0, 1), 4: (0, 2, 4), 5: (5, 5, 5), 8: (5, 6, 8), 9: (9, 9, 9)}.items():
        np.testing.assert_array_equal(stacks.images[row], grey[list(earlier)])
    assert stacks.title == "walkway, three frames as one"
    assert stacks.digest != frames.digest


@pytest.mark.parametrize("from_files", [False, True])
def test_flow_is_how_far_things_move(frames, tmp_path, from_files):
    if from_files:
        paths = [tmp_path / f"{i}.png" for i in range(len(frames.images))]
        for path, (clip, frame) in zip(paths, frames.index[["clip", "frame"]].to_numpy(), strict=True):
            Image.fromarray(moving(clip, frame, 64)).save(path)
        frames = replace(frames, paths=tuple(paths))
    flow = with_motion(frames, CONFIG, tmp_path / "cache").images.astype(float)
    assert flow.shape == (10, 3, 32, 32)
    inner = flow[:, :, 8:-8, 8:-8].mean((2, 3))
    found = np.stack([(2 * inner[:, 0] / 255 - 1) * 8, (2 * inner[:, 1] / 255 - 1) * 8, inner[:, 2] / 255 * 8], 1)
    for row, clip in enumerate(frames.index["clip"]):
        right, down = SPEEDS[clip] if CLIPS[clip] > 1 else (0, 0)  # of a single frame nobody knows
        np.testing.assert_allclose(found[row], (right, down, np.hypot(right, down)), atol=0.25)


def test_flow_since_several_frames_before(frames, tmp_path):
    flow = with_motion(frames, replace(CONFIG, flow_step=2), tmp_path).images.astype(float)
    found = (2 * flow[:, :2, 8:-8, 8:-8].mean((2, 3)) / 255 - 1) * 8
    np.testing.assert_allclose(found[:5], [(4, 0)] * 5, atol=0.4)
    np.testing.assert_allclose(found[5:9], [(0, -2)] * 4, atol=0.4)
    assert found[9] == pytest.approx(0, abs=0.1)
    longer = with_motion(frames, replace(CONFIG, flow_step=4), tmp_path).images[5:9]  # than a clip of four has
    np.testing.assert_array_equal(longer, longer[:1].repeat(4, 0))


def test_flow_is_averaged_over_windows(frames, tmp_path):
    fine = with_motion(frames, CONFIG, tmp_path).images[3].astype(float)
    wide = with_motion(frames, replace(CONFIG, flow_window_share=0.5), tmp_path).images[3].astype(float)
    assert wide[:, 12:20, 12:20].std((1, 2)).max() < fine[:, 12:20, 12:20].std((1, 2)).max() + 1e-9
    np.testing.assert_allclose(wide[:, 16, 16], fine[:, 8:24, 8:24].mean((1, 2)), atol=1.5)


def test_a_run_on_frames_changes_to_one_on_motion(frames, tmp_path, profile_mapping):
    run = Run(tmp_path, profile_from_mapping(profile_mapping, source="test"), frames, torch.device("cpu"))
    stacks = run.changed({"data.input": "stack"})
    assert stacks.frames.title == "walkway, three frames as one"
    assert stacks.frames.digest != frames.digest
    assert run.changed({"data.split_seed": 7}).frames is frames
    with pytest.raises(ValueError, match=r"whose data\.input is frame"):
        stacks.changed({"data.stack_step": 5})


def test_faster_than_the_limit_is_the_end_of_the_scale(frames, tmp_path):
    flow = with_motion(frames, replace(CONFIG, flow_limit_px=1.0), tmp_path).images
    assert (flow[2, 0, 8:-8, 8:-8] == 255).all()
    assert (flow[2, 2, 8:-8, 8:-8] == 255).all()


def test_made_once_for_each_setting(frames, tmp_path, monkeypatch):
    first = with_motion(frames, CONFIG, tmp_path)
    other = with_motion(frames, replace(CONFIG, flow_limit_px=4.0), tmp_path)
    assert first.digest != other.digest
    monkeypatch.setattr(module, "flows", lambda *_: pytest.fail("made again"))
    np.testing.assert_array_equal(with_motion(frames, CONFIG, tmp_path).images, first.images)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_cache_is_one_line(frames, tmp_path):
    with_motion(frames, CONFIG, tmp_path)
    (file,) = tmp_path.glob("*/frames.npy")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(VqadError, match=r"cannot read prepared frames in .*delete the folder and run again"):
        with_motion(frames, CONFIG, tmp_path)


def test_a_folder_of_images_has_no_motion(frames, tmp_path):
    folder = replace(frames, index=frames.index.assign(part="folder"))
    with pytest.raises(VqadError, match=r"data.input flow takes clips, and an image folder has none; set it to frame"):
        with_motion(folder, CONFIG, tmp_path)


def test_frames_of_a_clip_that_differ_in_size_are_named(frames, tmp_path):
    paths = tuple(tmp_path / f"{i}.png" for i in range(len(frames.images)))
    for i, path in enumerate(paths):
        Image.new("L", (40, 30) if i == 4 else (40, 32)).save(path)  # the last of its clip
    with pytest.raises(VqadError, match=r"4\.png is 40 x 30 px, but 3\.png before it 40 x 32"):
        with_motion(replace(frames, paths=paths), CONFIG, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
