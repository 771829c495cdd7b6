"""Clips of UCSD Ped1 and Ped2, CUHK Avenue and ShanghaiTech on tiny trees and, where a copy is at hand, real Ped2."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from vqad_lib.config import SyntheticConfig
from vqad_lib.data.clips import interval_labels, parse_matlab_labels, read_clips, read_mat_labels
from vqad_lib.data.datasets import DATASETS, Dataset, available_schemes, choose_dataset, locate, prepare_frames
from vqad_lib.data.frames import FrameRecord, FrameSource
from vqad_lib.data.splits import split_frames
from vqad_lib.errors import VqadError

REPOSITORY = Path(__file__).parents[2]
PED2 = Path(os.environ.get("VQAD_TEST_PED2", REPOSITORY.parent / "shared" / "data" / "ucsd_ped2"))
SYNTHETIC = SyntheticConfig(train_clips=1, test_clips=1, frames_per_clip=4, seed=0)
TRAIN_FRAMES, TEST_FRAMES = (3, 4), (6, 5)
LABELS = [[0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 1]]


def grey(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (24, 36), dtype=np.uint8)


def official_tree(root: Path) -> Path:
    ped2 = root / "UCSD_Anomaly_Dataset.v1p2" / "UCSDped2"
    for part, clips in (("Train", TRAIN_FRAMES), ("Test", TEST_FRAMES)):
        for number, n_frames in enumerate(clips, start=1):
            clip = ped2 / part / f"{part}{number:03d}"
            clip.mkdir(parents=True)
            (clip / "._001.tif").write_bytes(b"junk")
            (clip / ".DS_Store").write_bytes(b"junk")
            (clip / "Thumbs.db").write_bytes(b"junk")
            for frame in range(1, n_frames + 1):
                Image.fromarray(grey(100 * number + frame)).save(clip / f"{frame:03d}.tif")
            if part == "Test":
                masks = clip.with_name(f"{clip.name}_gt")
                masks.mkdir()
                for frame in range(1, n_frames + 1):
                    mask = np.zeros((24, 36), dtype=np.uint8)
                    mask[:12, :18] = 255 * LABELS[number - 1][frame - 1]
                    Image.fromarray(mask).save(masks / f"{frame:03d}.bmp")
    (ped2 / "Test" / "UCSDped2.m").write_text(
        "TestVideoFile = {};\n% TestVideoFile{end+1}.gt_frame = [1:2];\n"
        "TestVideoFile{end+1}.gt_frame = [2:3, 5];\nTestVideoFile{end+1}.gt_frame = [4:5];\n"
    )
    return ped2


def frames_tree(root: Path) -> Path:
    for part, clips in (("training", TRAIN_FRAMES), ("testing", TEST_FRAMES)):
        for number, n_frames in enumerate(clips, start=1):
            clip = root / part / "frames" / f"{number:02d}"
            clip.mkdir(parents=True)
            for frame in range(n_frames):
                Image.fromarray(grey(100 * number + frame + 1)).convert("RGB").save(
                    clip / f"{frame:03d}.jpg", quality=95
                )
    save_mat(root / "ped2.mat", [np.array([[2, 5], [3, 5]]), np.array([[4], [5]])])
    return root


def save_mat(path: Path, cells: list) -> None:
    gt = np.empty((1, len(cells)), dtype=object)
    for i, cell in enumerate(cells):
        gt[0, i] = cell
    scipy.io.savemat(path, {"gt": gt})


def prepare(root: Path, cache: Path, size_px: int = 12):
    return prepare_frames(dataset="ucsd_ped2", data_root=root, size_px=size_px, cache_dir=cache, synthetic=SYNTHETIC)


def test_both_layouts_give_the_same_index(tmp_path):
    official_tree(tmp_path / "a")
    frames_tree(tmp_path / "b")
    assert locate(tmp_path / "a")[0] == locate(tmp_path / "b")[0] == "ucsd_ped2"
    official, frames = prepare(tmp_path / "a", tmp_path / "cache"), prepare(tmp_path / "b", tmp_path / "cache")
    assert official.index.equals(frames.index)
    assert official.title == frames.title == "UCSD Ped2"
    index = official.index
    assert list(index.columns) == ["image_id", "clip", "frame", "part", "label", "kind"]
    assert index["image_id"].tolist()[:4] == ["Train001/000", "Train001/001", "Train001/002", "Train002/000"]
    assert index["part"].tolist() == ["train"] * 7 + ["test"] * 11
    assert index["label"].tolist() == [0] * 7 + LABELS[0] + LABELS[1]
    # JPEG differs from TIFF by its own loss only
    assert np.abs(official.images.astype(int) - frames.images).mean() < 3


def test_masks_come_from_the_official_layout_only(tmp_path):
    official = prepare(official_tree(tmp_path / "a"), tmp_path / "cache")
    quarter = np.zeros((12, 12), dtype=np.uint8)
    quarter[:6, :6] = 1
    labels = official.index["label"].to_numpy()
    np.testing.assert_array_equal(official.masks[labels == 1], np.broadcast_to(quarter, (5, 12, 12)))
    assert official.masks[labels == 0].sum() == 0
    assert prepare(frames_tree(tmp_path / "b"), tmp_path / "cache").masks is None


def test_frames_are_reduced_with_antialias(tmp_path):
    root = official_tree(tmp_path)
    expected = Image.fromarray(grey(101)).resize((12, 12), Image.Resampling.BILINEAR)
    for channel in prepare(root, tmp_path / "cache").images[0]:
        np.testing.assert_array_equal(channel, np.asarray(expected))


@pytest.mark.parametrize(
    ("line", "intervals"),
    [
        ("[61:180]", [(61, 180)]),
        ("[1:2, 5, 7:9]", [(1, 2), (5, 5), (7, 9)]),
        ("[ 1 : 2  5 ]", [(1, 2), (5, 5)]),
        ("[3]", [(3, 3)]),
        ("[]", []),
        ("4:6", [(4, 6)]),
    ],
)
def test_matlab_ranges(tmp_path, line, intervals):
    path = tmp_path / "UCSDped2.m"
    path.write_text(f"TestVideoFile = {{}};\nTestVideoFile{{end+1}}.gt_frame = {line};\n")
    assert parse_matlab_labels(path) == [intervals]


def test_matlab_range_that_is_no_number(tmp_path):
    path = tmp_path / "UCSDped2.m"
    path.write_text("TestVideoFile{end+1}.gt_frame = [1:2];\nTestVideoFile{end+1}.gt_frame = [1:n];\n")
    with pytest.raises(VqadError, match=r"UCSDped2\.m: clip Test002: cannot read '1:n'"):
        parse_matlab_labels(path)


@pytest.mark.parametrize("cut", ["", "[", "[1:2, 4", "[1:2, 4:"])
def test_matlab_labels_that_are_cut_off_are_not_taken_for_fewer(tmp_path, cut):
    path = tmp_path / "UCSDped2.m"
    path.write_text(f"TestVideoFile{{end+1}}.gt_frame = [1:2];\nTestVideoFile{{end+1}}.gt_frame = {cut}")
    with pytest.raises(VqadError, match=r"UCSDped2\.m: clip Test002: cannot read "):
        parse_matlab_labels(path)


def test_mat_cells_of_every_shape(tmp_path):
    save_mat(tmp_path / "ped2.mat", [[[61], [180]], np.array([3, 4]), [[1, 7], [2, 9]], np.zeros((2, 0))])
    assert read_mat_labels(tmp_path / "ped2.mat") == [[(61, 180)], [(3, 4)], [(1, 2), (7, 9)], []]


def test_mat_flat_object_array(tmp_path):
    gt = np.empty(2, dtype=object)
    gt[:] = [np.array([1, 2], dtype=np.uint8), np.array([[5], [6]], dtype=np.uint8)]
    scipy.io.savemat(tmp_path / "ped2.mat", {"gt": gt})
    assert read_mat_labels(tmp_path / "ped2.mat") == [[(1, 2)], [(5, 6)]]


@pytest.mark.parametrize("cell", [np.arange(6).reshape(3, 2), np.array([[1.5], [2]]), np.array(["ab", "cd", "ef"])])
def test_mat_cell_that_is_no_interval(tmp_path, cell):
    save_mat(tmp_path / "ped2.mat", [np.array([[1], [2]]), cell])
    with pytest.raises(VqadError, match=r"ped2\.mat: clip Test002"):
        read_mat_labels(tmp_path / "ped2.mat")


def test_mat_file_that_is_none(tmp_path):
    (tmp_path / "ped2.mat").write_bytes(b"not a MATLAB file at all, but long enough to look at" * 10)
    with pytest.raises(VqadError, match=r"cannot read gt in .*ped2\.mat"):
        read_mat_labels(tmp_path / "ped2.mat")


@pytest.mark.parametrize("interval", [(0, 2), (3, 2), (2, 6)])
def test_interval_outside_or_reversed(interval):
    with pytest.raises(VqadError, match=f"ped2.mat: clip Test003: interval {interval[0]}:{interval[1]}"):
        interval_labels([interval], n_frames=5, where="ped2.mat: clip Test003")


def test_interval_labels_are_one_based_and_inclusive():
    assert interval_labels([(1, 2), (5, 5)], n_frames=5, where="").tolist() == [1, 1, 0, 0, 1]


@pytest.mark.parametrize("layout", ["official", "frames"])
def test_interval_error_names_file_and_clip(tmp_path, layout):
    if layout == "official":
        root, name = official_tree(tmp_path), "UCSDped2.m"
        text = (root / "Test" / name).read_text().replace("[4:5]", "[4:6]")
        (root / "Test" / name).write_text(text)
    else:
        root, name = frames_tree(tmp_path), "ped2.mat"
        save_mat(root / name, [np.array([[2], [3]]), np.array([[4], [6]])])
    with pytest.raises(VqadError, match=rf"{name}: clip Test002: interval 4:6"):
        prepare(root, tmp_path / "cache")


@pytest.mark.parametrize(("rows", "first_odd"), [(1, "Test002"), (3, "Test003")])
def test_number_of_label_rows(tmp_path, rows, first_odd):
    root = frames_tree(tmp_path)
    save_mat(root / "ped2.mat", [np.array([[1], [2]])] * rows)
    with pytest.raises(VqadError, match=rf"ped2\.mat labels {rows} clips but there are 2 for the test: {first_odd}"):
        read_clips(root)


def test_missing_pieces_are_named(tmp_path):
    root = official_tree(tmp_path)
    (root / "Test" / "Test002_gt" / "005.bmp").unlink()
    with pytest.raises(VqadError, match=r"Test002_gt/005\.bmp is missing"):
        read_clips(root)
    (root / "Test" / "UCSDped2.m").unlink()
    with pytest.raises(VqadError, match=r"holds clips without labels: none of Test/UCSDped2\.m, Test/UCSDped1\.m,"):
        read_clips(root)
    (root / "Train" / "Train002" / "002.tif").unlink()
    with pytest.raises(VqadError, match=r"Train002: must be numbered without gaps, but 002 is missing"):
        read_clips(root)
    frames = frames_tree(tmp_path / "b")
    (frames / "ped2.mat").unlink()
    with pytest.raises(VqadError, match=r"without labels: none of ped2\.mat, ped1\.mat, avenue\.mat, testing/"):
        read_clips(frames)
    (frames / "training" / "frames" / "01").rename(frames / "training" / "frames" / "07")
    with pytest.raises(VqadError, match=r"training/frames: must be numbered"):
        read_clips(frames)


def test_ped1_has_masks_of_some_clips_which_are_not_used(tmp_path):
    root = official_tree(tmp_path)
    (root / "Test" / "UCSDped2.m").rename(root / "Test" / "UCSDped1.m")
    assert locate(root)[0] == "ucsd_ped1"
    assert read_clips(root).has_masks  # all clips do
    shutil.rmtree(root / "Test" / "Test002_gt")
    frames = prepare_frames(dataset="ucsd_ped1", data_root=root, size_px=12, cache_dir=tmp_path, synthetic=SYNTHETIC)
    assert (frames.title, frames.masks) == ("UCSD Ped1", None)
    assert "masks of 1 of 2 test clips are not used" in frames.notes
    assert frames.index["label"].tolist() == [0] * 7 + LABELS[0] + LABELS[1]


def test_avenue_is_told_by_its_labels(tmp_path):
    root = frames_tree(tmp_path / "avenue")
    (root / "ped2.mat").rename(root / "avenue.mat")
    assert locate(root) == ("cuhk_avenue", root.resolve())
    source = read_clips(root)
    assert [record.label for record in source.records][7:] == LABELS[0] + LABELS[1]
    assert source.label_files == (root / "avenue.mat",)


def shanghaitech_tree(root: Path) -> Path:
    frames_tree(root)
    (root / "ped2.mat").unlink()
    (root / "testing" / "test_frame_mask").mkdir()
    for part, names in (("training", ("01_001", "13_007")), ("testing", ("01_0014", "12_0142"))):
        for number, name in enumerate(names, start=1):
            (root / part / "frames" / f"{number:02d}").rename(root / part / "frames" / name)
    for name, labels in zip(("01_0014", "12_0142"), LABELS, strict=True):
        np.save(root / "testing" / "test_frame_mask" / f"{name}.npy", np.array(labels))
    return root


def test_shanghaitech_names_clips_by_camera_and_labels_each_frame(tmp_path):
    root = shanghaitech_tree(tmp_path / "shanghaitech")
    assert locate(root)[0] == "shanghaitech"
    options = {"data_root": root, "size_px": 12, "cache_dir": tmp_path, "synthetic": SYNTHETIC}
    frames = prepare_frames(dataset="shanghaitech", **options)
    assert frames.index["clip"].unique().tolist() == ["Train01_001", "Train13_007", "Test01_0014", "Test12_0142"]
    assert frames.index["image_id"].iloc[-1] == "Test12_0142/004"
    assert frames.index["label"].tolist() == [0] * 7 + LABELS[0] + LABELS[1]
    assert available_schemes("shanghaitech") == ("paper", "official")
    file = root / "testing" / "test_frame_mask" / "12_0142.npy"
    np.save(file, 1 - np.array(LABELS[1]))  # labels belong to the content
    assert prepare_frames(dataset="shanghaitech", **options).index["label"].tolist()[-5:] == [1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.array([0, 1, 1]), r"12_0142\.npy: must be 0 or 1 for each of 5 frames, got shape \(3,\)"),
        (np.array([0, 1, 2, 0, 0]), r"12_0142\.npy: must be 0 or 1"),
        (np.array([0, 1, None, 0, 0]), r"cannot read .*12_0142\.npy"),
        (None, r"cannot read .*12_0142\.npy"),
    ],
)
def test_broken_labels_of_shanghaitech(tmp_path, labels, said):
    root = shanghaitech_tree(tmp_path)
    file = root / "testing" / "test_frame_mask" / "12_0142.npy"
    file.unlink()
    if labels is not None:
        np.save(file, labels, allow_pickle=True)
    with pytest.raises(VqadError, match=said):
        read_clips(root)


def test_a_damaged_header_of_labels_is_one_line(tmp_path):
    root = shanghaitech_tree(tmp_path)
    file = root / "testing" / "test_frame_mask" / "12_0142.npy"
    file.write_bytes(file.read_bytes().replace(b"}", b"{"))  # Python's parser then misses a bracket
    with pytest.raises(VqadError, match=r"cannot read .*12_0142\.npy") as caught:
        read_clips(root)
    assert "\n" not in str(caught.value)


def test_choice_of_data_set(tmp_path):
    assert choose_dataset("synthetic", "", tmp_path)[:2] == ("synthetic", None)
    dataset, root, reason = choose_dataset("synthetic", "/nowhere", tmp_path)
    assert (dataset, root) == ("synthetic", None)
    assert "DATA_ROOT=/nowhere is ignored" in reason
    dataset, root, reason = choose_dataset("auto", "", tmp_path)
    assert (dataset, root) == ("synthetic", None)
    assert "make data" in reason
    assert "DATA_ROOT=" in reason
    with pytest.raises(VqadError, match=r"UCSD Ped2 is not in .*make data"):
        choose_dataset("ucsd_ped2", "", tmp_path)
    with pytest.raises(VqadError, match="DATA_ROOT"):
        choose_dataset("folder", "", tmp_path)
    with pytest.raises(VqadError, match=r"no folder at .*nowhere"):
        choose_dataset("auto", "nowhere", tmp_path)
    with pytest.raises(VqadError, match="no known layout"):
        choose_dataset("auto", ".", tmp_path)
    with pytest.raises(VqadError, match="unknown"):
        choose_dataset("avenue", "", tmp_path)


def test_choice_finds_ped2_below_the_repository_and_data_root(tmp_path):
    inner = official_tree(tmp_path / "data" / "raw").resolve()
    assert choose_dataset("auto", "", tmp_path)[:2] == ("ucsd_ped2", inner)
    assert choose_dataset("ucsd_ped2", "", tmp_path)[:2] == ("ucsd_ped2", inner)
    assert choose_dataset("auto", "data/raw", tmp_path)[:2] == ("ucsd_ped2", inner)
    with pytest.raises(VqadError, match="holds data set ucsd_ped2, not folder"):
        choose_dataset("folder", str(inner), tmp_path)
    assert locate(inner) == ("ucsd_ped2", inner)


@pytest.mark.skipif(not PED2.is_dir(), reason="no copy of UCSD Ped2 (VQAD_TEST_PED2)")
def test_real_ped2(tmp_path):
    frames = prepare(PED2, tmp_path, size_px=16)
    index = frames.index
    train, test = index[index["part"] == "train"], index[index["part"] == "test"]
    assert (train["clip"].nunique(), len(train), train["label"].sum()) == (16, 2550, 0)
    assert (test["clip"].nunique(), len(test), test["label"].sum()) == (12, 2010, 1648)
    assert frames.images.shape == (4560, 3, 16, 16)
    assert index["image_id"].is_unique
    paper = split_frames(index, scheme="paper", seed=0, validation_clips=2)
    counts = index.groupby([paper, "label"]).size().to_dict()
    assert counts == {
        ("train", 0): 2330,
        ("validation", 0): 291,
        ("validation", 1): 165,
        ("test", 0): 291,
        ("test", 1): 1483,
    }


def test_a_new_data_set_is_a_reader_and_an_entry(tmp_path, monkeypatch):
    """docs/extending.md."""

    def read(root: Path) -> FrameSource:
        paths = sorted((root / "camera").iterdir())
        return FrameSource(root, [FrameRecord(p, None, p.stem, "a", i, "train", 0) for i, p in enumerate(paths)], False)

    toy = Dataset(title="toy {name}", layout="camera/", detect=lambda folder: (folder / "camera").is_dir(), read=read)
    monkeypatch.setitem(DATASETS, "toy", toy)
    (tmp_path / "mine" / "camera").mkdir(parents=True)
    Image.fromarray(grey(0)).save(tmp_path / "mine" / "camera" / "0.png")
    dataset, root, reason = choose_dataset("auto", "mine", tmp_path)
    assert (dataset, reason.split("holds ")[1]) == ("toy", "toy mine.")
    frames = prepare_frames(dataset="toy", data_root=root, size_px=12, cache_dir=tmp_path, synthetic=SYNTHETIC)
    assert (frames.title, frames.images.shape, len(frames.paths)) == ("toy mine", (1, 3, 12, 12), 1)
    assert available_schemes("toy") == ("paper", "official")
