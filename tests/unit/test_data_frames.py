"""The cache of prepared frames, decoding of every mode, and the user's own image folder."""

import hashlib
import io
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import vqad_lib.data.frames as frames_module
from vqad_lib.config import SyntheticConfig
from vqad_lib.data.datasets import locate, prepare_frames
from vqad_lib.data.decode import decode_frame, decode_mask
from vqad_lib.data.folder import read_folder
from vqad_lib.data.samples import frame_titles
from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import RunInfo
from vqad_lib.reporting.figures import save_figure
from vqad_lib.reporting.grids import image_grid
from vqad_lib.reporting.tables import markdown_table

LABELS = RunInfo(profile="tiny", dataset=r"image folder $\frac{1}$ <b>", perceptual="", seed=0)

SYNTHETIC = SyntheticConfig(train_clips=1, test_clips=1, frames_per_clip=4, seed=0)


def folder_tree(root, *, masks=True):
    for name in ("normal", "abnormal", "masks") if masks else ("normal", "abnormal"):
        (root / name).mkdir(parents=True)
    Image.new("L", (20, 10), 40).save(root / "normal" / "b.png")
    Image.new("RGB", (9, 30), (10, 20, 30)).save(root / "normal" / "a.bmp")
    Image.new("RGB", (16, 16), (200, 0, 0)).save(root / "abnormal" / "x.png")
    (root / "normal" / "notes.txt").write_text("not an image")
    (root / "normal" / ".hidden.png").write_text("not an image")
    if masks:
        mask = np.zeros((16, 16), dtype=np.uint8)
        mask[:8] = 1  # any value that is not zero
        Image.fromarray(mask).save(root / "masks" / "x.png")
    return root


def prepare(root, cache, size_px=8, dataset="folder"):
    return prepare_frames(dataset=dataset, data_root=root, size_px=size_px, cache_dir=cache, synthetic=SYNTHETIC)


def test_folder_index_and_masks(tmp_path):
    frames = prepare(folder_tree(tmp_path / "mine"), tmp_path / "cache")
    assert locate(tmp_path / "mine")[0] == "folder"
    assert frames.title == "image folder mine"
    assert frames.index["image_id"].tolist() == ["normal/a.bmp", "normal/b.png", "abnormal/x.png"]
    assert frames.index["clip"].tolist() == ["normal", "normal", "abnormal"]
    assert frames.index["frame"].tolist() == [0, 1, 0]
    assert frames.index["part"].tolist() == ["folder"] * 3
    assert frames.index["label"].tolist() == [0, 0, 1]
    assert frames.images[0, :, 3, 3].tolist() == [10, 20, 30]
    assert frames.masks[:2].sum() == 0
    np.testing.assert_array_equal(frames.masks[2], np.repeat([[1], [0]], 4, axis=0) * np.ones((1, 8), dtype=np.uint8))
    assert prepare(folder_tree(tmp_path / "bare", masks=False), tmp_path / "cache").masks is None


def test_an_anomalous_image_whose_mask_marks_nothing_is_told(tmp_path):
    root, said = folder_tree(tmp_path / "mine"), "anomalous images all of whose pixels count as normal"
    assert not any(said in note for note in prepare(root, tmp_path / "cache").notes)
    for name, mark in (("y", 0), ("z", 0), ("w", 1)):
        Image.new("L", (16, 16)).save(root / "abnormal" / f"{name}.png")
        Image.new("L", (16, 16), mark).save(root / "masks" / f"{name}.png")
    assert f"y.png and 1 more mark no pixel: {said}" in prepare(root, tmp_path / "cache").notes


def test_folder_errors_name_the_file(tmp_path):
    root = folder_tree(tmp_path)
    Image.new("L", (16, 17)).save(root / "masks" / "x.png")
    with pytest.raises(VqadError, match=r"masks/x\.png is \(16, 17\) px but .*abnormal/x\.png is \(16, 16\)"):
        prepare(root, tmp_path / "cache")
    Image.new("L", (16, 16)).save(root / "masks" / "y.png")
    with pytest.raises(VqadError, match=r"masks/y\.png is a mask without an image"):
        read_folder(root)
    Image.new("L", (16, 16)).save(root / "abnormal" / "x.bmp")
    with pytest.raises(VqadError, match="would share a mask"):
        read_folder(root)
    (root / "abnormal" / "x.bmp").rename(root / "abnormal" / "z.bmp")
    (root / "masks" / "y.png").unlink()
    with pytest.raises(VqadError, match=r"abnormal/z\.bmp has no mask"):
        read_folder(root)
    for name in ("x.png", "z.bmp"):
        (root / "abnormal" / name).unlink()
    with pytest.raises(VqadError, match="abnormal holds no images"):
        read_folder(root)
    (root / "normal" / "a.bmp").unlink()
    (root / "normal" / "b.png").unlink()
    with pytest.raises(VqadError, match="normal holds no images"):
        read_folder(root)


def save(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), value).save(path, format="PNG")


def test_every_file_is_used_or_said_to_be_left_out(tmp_path):
    normal = tmp_path / "mine" / "normal"
    for name in (
        "a.png",
        "b.jfif",
        "C.JPG",
        "monday/a.png",
        "monday/deep/x.jp2",
        "e.png/f.png",
        ".git/g.png",
        ".h.png",
    ):
        save(normal / name)
    for name in ("notes.txt", "Thumbs.db", "i.heic"):
        (normal / name).write_text("")
    (normal / "moved.png").symlink_to(tmp_path / "nowhere")
    (normal / "linked.png").symlink_to(normal / "a.png")
    (normal / "sunday").symlink_to(normal / "monday")
    os.mkfifo(normal / "pipe.png")
    save(tmp_path / "mine" / "abnormal" / "x.png")
    for name in ("good/x.png", "test/x.png", "stray.png", ".h.png"):
        save(tmp_path / "mine" / name)
    (tmp_path / "mine" / "notes.txt").write_text("")
    source = read_folder(tmp_path / "mine")
    ids = [record.image_id.removeprefix("normal/") for record in source.records if record.label == 0]
    assert ids == ["C.JPG", "a.png", "b.jfif", "e.png/f.png", "linked.png", "monday/a.png", "monday/deep/x.jp2"]
    assert source.notes == (
        "normal: 7 images; left out: 2 hidden (.git, .h.png), 1 links to folders (sunday), "
        "2 not regular files (moved.png, pipe.png), "
        "3 without an image's ending (Thumbs.db, i.heic, ...)",
        "abnormal: 1 images",
        "not looked into: 4 beside the folders (good, notes.txt, ...)",
    )
    assert len(prepare(tmp_path / "mine", tmp_path / "cache").images) == 8


@pytest.mark.parametrize(
    ("images", "masks", "pairs"),
    [
        (["x.png"], ["masks/x.bmp"], {"x.png": "masks/x.bmp"}),
        (["x.png"], ["ground_truth/x_mask.png"], {"x.png": "ground_truth/x_mask.png"}),
        (["scratch/0.png", "hole/0.png"], ["ground_truth/hole/0_mask.png", "ground_truth/scratch/0_mask.png"],
         {"hole/0.png": "ground_truth/hole/0_mask.png", "scratch/0.png": "ground_truth/scratch/0_mask.png"}),
        (["0.png"], ["masks/scratch/0.png"], {"0.png": "masks/scratch/0.png"}),
        (["0.png"], ["abnormal/0_mask.png"], {"0.png": "abnormal/0_mask.png"}),
        (["day/0.png"], ["abnormal/day/masks/0.png"], {"day/0.png": "abnormal/day/masks/0.png"}),
        (["0.png", "cut/0.png"], ["masks/0_MASK.png", "masks/cut/0_Mask.png"],
         {"0.png": "masks/0_MASK.png", "cut/0.png": "masks/cut/0_Mask.png"}),
        (["cut/0.png"], ["masks/0.png"], {"cut/0.png": "masks/0.png"}),
        (["0.png"], ["ground_truth/normal/0.png", "ground_truth/abnormal/0.png"],
         {"0.png": "ground_truth/abnormal/0.png"}),
        (["normal/0.png"], ["ground_truth/normal/0.png"], {"normal/0.png": "ground_truth/normal/0.png"}),
        (["0.png", "1_mask.png"], ["masks/0.png", "masks/1_mask.png"],
         {"0.png": "masks/0.png", "1_mask.png": "masks/1_mask.png"}),
    ],
)  # fmt: skip
def test_masks_are_found_where_people_put_them(tmp_path, images, masks, pairs):
    save(tmp_path / "normal" / "n.png")
    for path in [*(f"abnormal/{image}" for image in images), *masks]:
        save(tmp_path / path)
    found = {
        str(record.path.relative_to(tmp_path / "abnormal")): str(record.mask_path.relative_to(tmp_path))
        for record in read_folder(tmp_path).records
        if record.label
    }
    assert found == pairs


def test_capital_letters_of_the_known_folders_do_not_matter(tmp_path):
    for name in ("Normal/n.png", "ABNORMAL/x.png", "Masks/x_mask.png"):
        save(tmp_path / "mine" / name)
    assert locate(tmp_path / "mine")[0] == "folder"
    records = read_folder(tmp_path / "mine").records
    assert [(record.image_id, record.clip) for record in records] == [
        ("normal/n.png", "normal"),
        ("abnormal/x.png", "abnormal"),
    ]
    assert records[1].mask_path == tmp_path / "mine" / "Masks" / "x_mask.png"


def test_masks_of_normal_images_are_left_out(tmp_path):
    for name in ("normal/0.png", "normal/0_mask.png", "normal/masks/1.png", "normal/2_mask.png", "abnormal/x.png"):
        save(tmp_path / name)
    source = read_folder(tmp_path)
    assert [record.image_id for record in source.records] == ["normal/0.png", "normal/2_mask.png", "abnormal/x.png"]
    assert source.notes[0] == "normal: 2 images; left out: 2 masks of normal images (0_mask.png, masks/1.png)"
    assert not source.has_masks


def test_a_mask_of_another_subfolder_is_not_taken(tmp_path):
    for name in ("abnormal/cut/0.png", "abnormal/scratch/1.png", "normal/n.png"):
        save(tmp_path / name)
    for name in ("cut/1_mask.png", "scratch/0_mask.png", "normal/n.png"):
        save(tmp_path / "ground_truth" / name)
    with pytest.raises(VqadError, match=r"cut/1_mask\.png is a mask without an image 1_mask\.\* in .*abnormal; remove"):
        read_folder(tmp_path)
    for name in ("cut", "scratch"):
        (tmp_path / "ground_truth" / name).rename(tmp_path / name)
    source = read_folder(tmp_path)
    assert "ground_truth: 0 images; left out: 1 masks of normal images (normal/n.png)" in source.notes


ODD_NAMES = [b"pr\xfcfbild", b"two\nlines", b"$HOME `id` $(id)", b"'\"", b"-rf", b"<b>&amp;", b"x" * 250, b"a\\xfc",
             b"$\\frac{1}$", "日本 \u202e\u3000".encode(), b"*?[a]|", b" ", b"%s {0}", b"~"]  # fmt: skip


def test_names_of_any_characters(tmp_path):
    """Whatever a file system allows can be written to a table, a page, a figure, and read back."""
    for kind in (b"normal", b"abnormal"):
        folder = os.fsencode(tmp_path / "mine") + b"/" + kind
        os.makedirs(folder)
        for name in ODD_NAMES:
            save(Path(os.fsdecode(folder + b"/" + name + b".png")))
    frames = prepare(tmp_path / "mine", tmp_path / "cache")
    ids = frames.index["image_id"]
    assert ids.is_unique
    assert len(ids) == 2 * len(ODD_NAMES)
    assert all(name.isprintable() and name.encode() for name in ids)
    assert "normal/pr\\udcfcfbild.png" in set(ids)
    assert "normal/a\\\\xfc.png" in set(ids), "a backslash is doubled, so that no two names become one"
    table = frames.index[["image_id"]]
    assert pd.read_csv(io.StringIO(table.to_csv(index=False)))["image_id"].tolist() == ids.tolist()
    markdown = markdown_table(table).splitlines()
    assert len(markdown) == 2 + len(ids)
    assert not any("<b>" in line for line in markdown)
    titles = frame_titles(frames.index, np.arange(len(ids)))
    figure = image_grid({"": np.asarray(frames.images)}, titles=titles)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a font lacks some of them
        save_figure(figure, "figure_04", labels=LABELS, folder=tmp_path)
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert len(shown) == len(ids)
    assert all(len(line) <= 18 for title in shown for line in title.split("\n"))


def test_an_error_about_an_odd_name_is_one_line(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\nb\xfc.png"))
    path.write_bytes(b"")
    with pytest.raises(VqadError) as caught:
        decode_frame(path, 8)
    assert str(caught.value).isprintable()
    assert r"a\nb\udcfc.png" in str(caught.value)


def test_digest_goes_by_content(tmp_path):
    root = folder_tree(tmp_path / "mine")
    first = prepare(root, tmp_path / "cache")
    expected = hashlib.sha256()
    for name in ("abnormal/x.png", "masks/x.png", "normal/a.bmp", "normal/b.png"):  # the mask too; not notes.txt
        expected.update(name.encode() + b"\0" + hashlib.sha256((root / name).read_bytes()).digest())
    assert first.digest == expected.hexdigest()
    assert (tmp_path / "cache" / f"folder_8_{first.digest[:12]}_v2").is_dir()
    Image.new("L", (20, 10), 41).save(root / "normal" / "b.png")
    assert prepare(root, tmp_path / "cache").digest != first.digest


def test_second_call_decodes_nothing(tmp_path, monkeypatch):
    root = folder_tree(tmp_path / "mine")
    first = prepare(root, tmp_path / "cache")
    monkeypatch.setattr(frames_module, "decode_frame", None)
    second = prepare(root, tmp_path / "cache")
    np.testing.assert_array_equal(first.images, second.images)
    assert first.index.equals(second.index)
    assert not second.images.flags.writeable


def test_frames_of_another_version_are_made_again(tmp_path, monkeypatch):
    root = folder_tree(tmp_path / "mine")
    monkeypatch.setattr(frames_module, "PREPARATION_VERSION", -1)
    prepare(root, tmp_path / "cache")
    monkeypatch.undo()
    prepare(root, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("content", [b"", b"short"])
def test_damaged_cache_says_what_to_do(tmp_path, content):
    root = folder_tree(tmp_path / "mine")
    prepare(root, tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    (folder / "frames.npy").unlink()
    (folder / "frames.npy").write_bytes(content)
    with pytest.raises(VqadError, match=r"cannot read prepared frames in .*; delete the folder and run again"):
        prepare(root, tmp_path / "cache")


def test_interrupted_preparation_leaves_nothing(tmp_path, monkeypatch):
    root = folder_tree(tmp_path / "mine")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(root, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_unwritable_cache(tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(VqadError, match=r"cannot write .*cache"):
        prepare(folder_tree(tmp_path / "mine"), tmp_path / "cache")


@pytest.mark.parametrize("suffix", ["tif", "jpg", "png", "bmp"])
def test_truncated_frame_is_named(tmp_path, suffix):
    path = folder_tree(tmp_path) / "normal" / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(VqadError, match=rf"cannot decode .*cut\.{suffix}"):
        prepare(tmp_path, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_file_that_is_no_image(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(VqadError, match=r"cannot decode .*a\.png"):
        decode_frame(tmp_path / "a.png", 8)


def test_every_mode(tmp_path):
    def decoded(image, name, **options):
        image.save(tmp_path / name, **options)
        pixels, size = decode_frame(tmp_path / name, 8)
        assert (pixels.shape, pixels.dtype, size) == ((3, 8, 8), np.uint8, (16, 12))
        assert (pixels == pixels[:, :1, :1]).all()
        return pixels[:, 0, 0].tolist()

    shape = (12, 16)
    assert decoded(Image.fromarray(np.full(shape, 77, np.uint8)), "grey.tif") == [77] * 3
    assert decoded(Image.fromarray(np.full(shape, 0x8080, np.uint16)), "deep.tif") == [128] * 3
    assert decoded(Image.fromarray(np.full(shape, 0xFFFF, np.uint16)), "deep.png") == [255] * 3
    assert decoded(Image.fromarray(np.full(shape, 257, np.int32)), "int.tif") == [1] * 3
    assert decoded(Image.new("1", (16, 12), 1), "bits.png") == [255] * 3
    assert decoded(Image.new("RGB", (16, 12), (1, 2, 3)).quantize(4), "palette.tif") == [1, 2, 3]
    assert decoded(Image.new("RGB", (16, 12), (1, 2, 3)).quantize(4), "palette.png") == [1, 2, 3]
    assert decoded(Image.new("RGBA", (16, 12), (9, 9, 9, 0)), "clear.png") == [255] * 3
    assert decoded(Image.new("RGBA", (16, 12), (9, 8, 7, 255)), "opaque.png") == [9, 8, 7]
    assert decoded(Image.new("LA", (16, 12), (50, 255)), "la.png") == [50] * 3
    assert decoded(Image.new("CMYK", (16, 12), (0, 0, 0, 255)), "cmyk.tif") == [0] * 3
    first, second = Image.new("L", (16, 12), 10), Image.new("L", (16, 12), 200)
    assert decoded(first, "animated.gif", save_all=True, append_images=[second]) == [10] * 3


def test_mask_rules(tmp_path):
    def decoded(image):
        image.save(tmp_path / "mask.png")
        return decode_mask(tmp_path / "mask.png", 2)[0].tolist()

    pixels = np.zeros((8, 8), dtype=np.uint8)
    pixels[:4, :2] = 1  # half of the upper left quarter
    pixels[4:, 4] = 255  # a quarter of the lower right one
    assert decoded(Image.fromarray(pixels)) == [[1, 0], [0, 0]]
    pixels[:4] = 0
    assert decoded(Image.fromarray(pixels)) == [[0, 0], [0, 1]]
    assert decoded(Image.fromarray((pixels > 0).astype(np.uint16))) == [[0, 0], [0, 1]]
    assert decoded(Image.fromarray(pixels * 0)) == [[0, 0], [0, 0]]
    transparent = np.zeros((8, 8, 4), dtype=np.uint8)
    transparent[..., 3] = 255
    transparent[:4, :4, 1] = 9
    transparent[4:, 4:] = (255, 255, 255, 0)
    assert decoded(Image.fromarray(transparent)) == [[1, 0], [0, 0]]


def test_synthetic_is_prepared_without_a_folder(tmp_path):
    frames = prepare(None, tmp_path, size_px=16, dataset="synthetic")
    assert (frames.title, frames.images.shape, frames.masks.shape) == ("synthetic walkway", (8, 3, 16, 16), (8, 16, 16))
    assert frames.index["image_id"].tolist()[3:5] == ["Train001/003", "Test001/000"]
