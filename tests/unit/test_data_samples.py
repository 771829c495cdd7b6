"""Which frames the figures show."""

import numpy as np
import pandas as pd
import pytest

from vqad_lib.config import SyntheticConfig
from vqad_lib.data.samples import (
    PED2_BOXES,
    PED2_TEST_CLIPS,
    anomalous_examples,
    anomaly_boxes,
    frame_kinds,
    frame_titles,
    normal_examples,
)
from vqad_lib.data.synthetic import generate

# the data set's own labels, 1-based and inclusive
PED2_INTERVALS = [
    (61, 180), (95, 180), (1, 146), (31, 180), (1, 129), (1, 159),
    (46, 180), (1, 180), (1, 120), (1, 150), (1, 180), (88, 180),
]  # fmt: skip


def index_of(clips: dict[str, tuple[str, list[int]]], kind: str = "") -> pd.DataFrame:
    """clip -> part and labels."""
    rows = [
        {"image_id": f"{clip}/{frame:03d}", "clip": clip, "frame": frame, "part": part, "label": label, "kind": kind}
        for clip, (part, labels) in clips.items()
        for frame, label in enumerate(labels)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def ped2() -> pd.DataFrame:
    """The frames of UCSD Ped2 as `read_ucsd` lists them, in either layout: it gives both the same ids."""
    clips = {f"Train{i:03d}": ("train", [0] * 10) for i in (1, 2)}
    for (clip, length), (first, last) in zip(PED2_TEST_CLIPS["frames"].items(), PED2_INTERVALS, strict=True):
        clips[clip] = ("test", [int(first <= frame <= last) for frame in range(1, length + 1)])
    return index_of(clips)


def ids(index: pd.DataFrame, rows: np.ndarray) -> list[str]:
    return index["image_id"].iloc[rows].tolist()


def test_ped2_shows_each_kind_in_turn(ped2):
    rows = anomalous_examples(ped2, n=4)
    assert ids(ped2, rows) == ["Test001/120", "Test004/105", "Test007/112", "Test012/133"]
    assert frame_kinds(ped2)[rows].tolist() == ["bike", "cart", "bike and skater", "skater"]
    assert frame_titles(ped2, rows)[1] == "cart\nTest004/105"


def test_fewer_frames_are_among_those_of_more(ped2):
    picked = {n: set(ids(ped2, anomalous_examples(ped2, n=n))) for n in (1, 4, 6)}
    assert picked[1] == {"Test004/105"}
    assert picked[1] < picked[4] < picked[6]
    assert picked[6] - picked[4] == {"Test002/137", "Test008/090"}


def test_the_nearest_frame_that_may_be_chosen(ped2):
    among = ~ped2["image_id"].isin(["Test004/105", "Test004/104", "Test012/133"]).to_numpy()
    picked = ids(ped2, anomalous_examples(ped2, n=4, among=among))
    assert picked == ["Test001/120", "Test004/106", "Test007/112", "Test012/132"]  # of equals the earlier


def test_a_clip_without_a_frame_to_choose_is_passed_over(ped2):
    among = (ped2["clip"] != "Test004").to_numpy()
    assert ids(ped2, anomalous_examples(ped2, n=1, among=among)) == ["Test012/133"]


def test_another_recording_with_the_same_names_has_no_known_kinds(ped2):
    other = ped2[~((ped2["clip"] == "Test004") & (ped2["frame"] == 179))].reset_index(drop=True)
    assert set(frame_kinds(other)) == {""}
    rows = anomalous_examples(other, n=4)
    assert [name.split("/")[0] for name in ids(other, rows)] == ["Test001", "Test005", "Test008", "Test012"]
    assert frame_titles(other, rows) == ids(other, rows)


def test_normal_frames_have_no_kind(ped2):
    rows = normal_examples(ped2, n=4)
    assert ped2["label"].iloc[rows].tolist() == [0] * 4
    assert frame_titles(ped2, rows) == ids(ped2, rows)


def test_synthetic_clips_show_all_three_kinds():
    _, index, _ = generate(SyntheticConfig(train_clips=1, test_clips=5, frames_per_clip=24, seed=0), 16)
    rows = anomalous_examples(index, n=3)
    assert sorted(index["kind"].iloc[rows]) == ["bike", "cart", "skater"]
    assert index["clip"].iloc[rows].tolist() == ["Test001", "Test002", "Test003"]
    for clip, row in zip(index["clip"].iloc[rows], rows, strict=True):
        anomalous = np.flatnonzero((index["clip"] == clip) & (index["label"] == 1))
        assert row == anomalous[len(anomalous) // 2]


def test_an_image_folder_is_spread_over_its_one_clip():
    clips = {"normal": ("folder", [0] * 6), "abnormal": ("folder", [1] * 9)}
    index = index_of(clips)
    assert ids(index, anomalous_examples(index, n=3)) == ["abnormal/000", "abnormal/004", "abnormal/008"]
    assert ids(index, normal_examples(index, n=2)) == ["normal/000", "normal/005"]
    assert len(anomalous_examples(index, n=20)) == 9


def test_the_same_frames_every_time(ped2):
    first, again = (anomalous_examples(ped2, n=6) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.int64
    assert (np.diff(first) > 0).all()


# -- where the anomalies are ------------------------------------------------------------------------------------------


def boxes_of(index: pd.DataFrame, *names: str, masks: np.ndarray | None = None) -> list[np.ndarray]:
    rows = np.array([index.index[index["image_id"] == name][0] for name in names])
    return [np.array(boxes) for boxes in anomaly_boxes(index, rows, masks=masks)]


def test_boxes_of_ped2_move_in_a_straight_line(ped2):
    size = np.array([360, 240, 360, 240])
    first, middle, last = boxes_of(ped2, "Test004/099", "Test004/105", "Test004/111")
    np.testing.assert_allclose(first * size, [[217, 148, 298, 198]])
    np.testing.assert_allclose(middle * size, [[206, 150.5, 286.5, 201.5]])
    np.testing.assert_allclose(last * size, [[195, 153, 275, 205]])


def test_boxes_of_ped2_only_between_the_two_frames_and_in_anomalous_ones(ped2):
    names = ("Test004/098", "Test004/112", "Test001/030", "Train001/005")
    assert [len(boxes) for boxes in boxes_of(ped2, *names)] == [0, 0, 0, 0]
    other = ped2.iloc[:-1]  # not Ped2: a clip is one frame short
    assert boxes_of(other, "Test004/105")[0].size == 0


def test_each_frame_that_figures_show_of_ped2_has_a_box_for_what_its_title_names(ped2):
    rng = np.random.default_rng(0)
    for among in (None, *(rng.random((5, len(ped2))) < 0.9)):  # as splits draw their test frames
        rows = anomalous_examples(ped2, n=6, among=among)
        found = anomaly_boxes(ped2, rows, masks=None)
        for kind, boxes in zip(frame_kinds(ped2)[rows], found, strict=True):
            assert len(boxes) >= len(kind.split(" and "))
            assert all(0 <= left < right <= 1 and 0 <= top < bottom <= 1 for left, top, right, bottom in boxes)
    for clip, first, last in PED2_BOXES.iloc[:, :3].itertuples(index=False):
        middle = int(np.mean(np.flatnonzero((ped2["clip"] == clip) & (ped2["label"] == 1))) + 0.5)
        assert ped2["frame"].iloc[middle] - first == last - ped2["frame"].iloc[middle] == 6


def test_boxes_go_by_the_mask_where_there_is_one(ped2):
    masks = np.zeros((len(ped2), 10, 20), np.uint8)
    row = ped2.index[ped2["image_id"] == "Test004/105"][0]
    masks[row, 2:4, 5:9] = 1
    masks[row, 4, 9] = 1  # touches by a corner
    masks[row, 7, 18] = 1
    boxes, none = boxes_of(ped2, "Test004/105", "Test004/106", masks=masks)
    np.testing.assert_allclose(boxes * [20, 10, 20, 10], [[4, 1, 11, 6], [17, 6, 20, 9]])
    assert none.size == 0
