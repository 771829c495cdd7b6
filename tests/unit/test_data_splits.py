"""Split sizes by hand, disjointness, and the errors."""

import numpy as np
import pandas as pd
import pytest

from vqad_lib.data.datasets import available_schemes
from vqad_lib.data.splits import split_frames
from vqad_lib.errors import VqadError


def make_index(n_train_clips=6, n_test_clips=3, n_frames=20, anomalous_from=5):
    rows = []
    for part, clips in (("train", n_train_clips), ("test", n_test_clips)):
        for c in range(1, clips + 1):
            for f in range(n_frames):
                clip = f"{part.title()}{c:03d}"
                label = int(part == "test" and f >= anomalous_from)
                rows.append((f"{clip}/{f:03d}", clip, f, part, label, ""))
    return pd.DataFrame(rows, columns=["image_id", "clip", "frame", "part", "label", "kind"])


def sizes(index, splits):
    return index.groupby([splits, "label"]).size().to_dict()


def ped2_like_index():
    """Ped2's numbers of frames: 2,912 normal ones and 1,648 anomalous ones."""
    n = np.arange(4560)
    label = (n >= 2912).astype(int)
    return pd.DataFrame({"image_id": [f"{i:04d}" for i in n], "clip": "", "frame": n, "part": "test", "label": label})


def test_paper_split_of_ped2():
    index = ped2_like_index()
    splits = split_frames(index, scheme="paper", seed=0, validation_clips=2)
    assert sizes(index, splits) == {
        ("train", 0): 2330,
        ("validation", 0): 291,
        ("test", 0): 291,
        ("validation", 1): 165,
        ("test", 1): 1483,
    }
    assert np.sum(splits == "test") == 1774


def test_paper_split_of_a_small_set():
    index = make_index()  # 135 normal: 14, 14 and the rest; 45 anomalous: 5 and the rest
    splits = split_frames(index, scheme="paper", seed=0, validation_clips=2)
    assert sizes(index, splits) == {
        ("train", 0): 107,
        ("validation", 0): 14,
        ("test", 0): 14,
        ("validation", 1): 5,
        ("test", 1): 40,
    }


@pytest.mark.parametrize("scheme", ["paper", "official"])
def test_seed_decides_and_row_order_does_not(scheme):
    index = make_index()
    first = split_frames(index, scheme=scheme, seed=1, validation_clips=2)
    np.testing.assert_array_equal(first, split_frames(index, scheme=scheme, seed=1, validation_clips=2))
    others = [split_frames(index, scheme=scheme, seed=s, validation_clips=2) for s in range(2, 6)]
    assert any((first != other).any() for other in others)
    shuffled = index.sample(frac=1, random_state=0)
    again = split_frames(shuffled, scheme=scheme, seed=1, validation_clips=2)
    expected = pd.Series(first, index=index["image_id"])[shuffled["image_id"]].to_numpy()
    np.testing.assert_array_equal(again, expected)


def test_official_split_keeps_clips_whole():
    index = make_index()
    splits = split_frames(index, scheme="official", seed=0, validation_clips=2)
    assert sizes(index, splits) == {("train", 0): 80, ("validation", 0): 40, ("test", 0): 15, ("test", 1): 45}
    assert (pd.Series(splits).groupby(index["clip"]).nunique() == 1).all()
    assert ((splits == "test") == (index["part"] == "test").to_numpy()).all()


def test_anomalous_training_frames_are_unused_by_official():
    index = make_index()
    index.loc[0, "label"] = 1
    assert split_frames(index, scheme="official", seed=0, validation_clips=2)[0] == "unused"


def test_folder_has_no_official_split():
    index = make_index().assign(part="folder")
    with pytest.raises(VqadError, match="official needs clips"):
        split_frames(index, scheme="official", seed=0, validation_clips=2)
    assert available_schemes("folder") == ("paper",)
    assert available_schemes("ucsd_ped2") == available_schemes("synthetic") == ("paper", "official")


@pytest.mark.parametrize("held_out", [0, 6, 7])
def test_official_needs_clips_on_both_sides(held_out):
    with pytest.raises(VqadError, match=f"official_validation_clips: {held_out} of 6"):
        split_frames(make_index(), scheme="official", seed=0, validation_clips=held_out)


def test_errors_about_too_few_clips_name_the_settings():
    with pytest.raises(VqadError, match=r"1 of 1 training clips cannot be held out.*more training clips .*synthetic"):
        split_frames(make_index(n_train_clips=1), scheme="official", seed=0, validation_clips=1)
    with pytest.raises(VqadError, match=r"no anomalous images .*; add images or clips .*raise .*data\.synthetic"):
        split_frames(make_index(n_frames=1), scheme="official", seed=0, validation_clips=1)


def test_empty_class_is_named():
    four_anomalous = make_index(n_test_clips=1, anomalous_from=16)
    with pytest.raises(VqadError, match="paper: validation has no anomalous images"):
        split_frames(four_anomalous, scheme="paper", seed=0, validation_clips=2)
    all_anomalous = make_index(anomalous_from=0)
    with pytest.raises(VqadError, match="official: test has no normal images"):
        split_frames(all_anomalous, scheme="official", seed=0, validation_clips=2)
    with pytest.raises(VqadError, match="paper: validation has no normal images"):
        split_frames(make_index(1, 1, 8, 2).iloc[6:], scheme="paper", seed=0, validation_clips=2)
    with pytest.raises(VqadError, match="'papr' is unknown"):
        split_frames(make_index(), scheme="papr", seed=0, validation_clips=2)
