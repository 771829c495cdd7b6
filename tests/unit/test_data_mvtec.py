"""A category of MVTec AD: which images are normal, and whose masks."""

import numpy as np
import pytest
from PIL import Image

from vqad.labelled import kinds_of
from vqad_lib.config import SyntheticConfig
from vqad_lib.data.datasets import folder_in_title, locate, prepare_frames
from vqad_lib.data.mvtec import read_mvtec
from vqad_lib.errors import VqadError

GENERATED = SyntheticConfig(train_clips=1, test_clips=1, frames_per_clip=4, seed=0)


@pytest.fixture
def bottle(tmp_path):
    root = tmp_path / "bottle"
    for n, (place, count) in enumerate([("train/good", 4), ("test/good", 2), ("test/broken", 2), ("test/dirt", 1)]):
        (root / place).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (20, 20), (20 * n, 10 * i, 0)).save(root / place / f"{i:03d}.png")
            if n > 1:
                truth = root / "ground_truth" / place.removeprefix("test/")
                truth.mkdir(parents=True, exist_ok=True)
                mask = np.zeros((20, 20), dtype=np.uint8)
                mask[: 5 * n] = 255
                Image.fromarray(mask).save(truth / f"{i:03d}_mask.png")
    return root


def test_good_images_of_both_parts_are_normal(bottle, tmp_path):
    assert locate(bottle) == ("mvtec_ad", bottle.resolve())
    options = {"data_root": bottle, "size_px": 20, "cache_dir": tmp_path, "synthetic": GENERATED}
    frames = prepare_frames(dataset="mvtec_ad", **options)
    assert (frames.title, folder_in_title(frames)) == ("MVTec AD bottle", "bottle")
    assert frames.index["label"].tolist() == [0] * 6 + [1] * 3
    assert frames.index["image_id"].tolist()[-3:] == ["test/broken/000.png", "test/broken/001.png", "test/dirt/000.png"]
    assert frames.masks.mean((1, 2)).tolist() == [0] * 6 + [0.5, 0.5, 0.75]
    assert kinds_of(frames).tolist() == [""] * 6 + ["broken", "broken", "dirt"]


def test_a_defect_needs_its_mask_where_others_have_one(bottle):
    (bottle / "ground_truth" / "dirt" / "000_mask.png").unlink()
    with pytest.raises(VqadError, match=r"test/dirt/000\.png has no mask in .*ground_truth/dirt; add it, or remove"):
        read_mvtec(bottle)
    for place in (bottle / "ground_truth" / "broken").iterdir():
        place.unlink()
    assert not read_mvtec(bottle).has_masks
