"""What files hold that their types do not say: judged over all of them, said in a line, and read right."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vqad_lib.config import SyntheticConfig
from vqad_lib.data.datasets import prepare_frames
from vqad_lib.data.decode import decode_frame, survey
from vqad_lib.errors import VqadError

SHAPE = (8, 8)


def written(folder, **images):
    """name=array, or a function that saves to a path -> paths, sorted by name."""
    paths = []
    for name, image in images.items():
        stem, _, suffix = name.rpartition("_")
        paths.append(folder / f"{stem}.{suffix}")
        image(paths[-1]) if callable(image) else Image.fromarray(image).save(paths[-1])
    return paths


def grey(paths, whites):
    frames = [decode_frame(path, 8, white=white)[0] for path, white in zip(paths, whites, strict=True)]
    assert all((frame == frame[:, :1, :1]).all() for frame in frames)
    return [frame[:, 0, 0].tolist()[0] for frame in frames]


@pytest.mark.parametrize(
    ("dtype", "values", "white", "expected", "said"),
    [
        (np.uint16, (100, 250), 255, [100, 250], "hold 8-bit values, up to 250"),
        (np.uint16, (512, 1000), 1023, [128, 249], "hold 10-bit values, up to 1000"),
        (np.uint16, (512, 4000), 4095, [32, 249], "hold 12-bit values, up to 4000"),
        (np.uint16, (512, 9000), 16383, [8, 140], "hold 14-bit values, up to 9000"),
        (np.uint16, (512, 65535), 65535, [2, 255], None),
        (np.int32, (512, 4000), 4095, [32, 249], "hold 12-bit values, up to 4000"),
        (np.float32, (0.25, 1.004), 1, [64, 255], "have floating-point values up to 1.004, read as 0 (black) to 1"),
        (np.float32, (51, 204.4), 255, [51, 204], "have floating-point values up to 204.4, read as 0 (black) to 255"),
    ],
)
def test_white_is_judged_over_all_files(tmp_path, dtype, values, white, expected, said):
    """The dark image stays dark beside the bright one: nothing is scaled image by image."""
    paths = written(tmp_path, dark_tif=np.full(SHAPE, values[0], dtype), light_tif=np.full(SHAPE, values[1], dtype))
    whites, notes = survey(paths, workers=2)
    assert whites == [white, white]
    assert grey(paths, whites) == expected
    narrow = [n for n in notes if "of fewer bits than the others" in n]
    assert bool(narrow) == (values[0] < white / 16)
    assert all(n.startswith(f"1 files have no value above {values[0]:g} of {white}; if") for n in narrow)
    others = [n for n in notes if n not in narrow]
    assert [
        said is not None and f"2 files {'of a deeper type ' if 'bit' in said else ''}{said}" in n for n in others
    ] == ([True] if said else [])


def test_kinds_are_judged_apart(tmp_path):
    paths = written(
        tmp_path,
        a_png=np.full(SHAPE, 4000, np.uint16),
        b_png=np.full(SHAPE, 200, np.uint8),
        c_tif=np.full(SHAPE, 0.5, np.float32),
    )
    whites, notes = survey(paths, workers=1)
    assert grey(paths, whites) == [249, 200, 128]
    assert len(notes) == 2


def test_formats_that_know_their_white_are_not_judged(tmp_path):
    def pgm(path):
        path.write_bytes(b"P5\n8 8\n4095\n" + (b"\x04\x00") * 64)  # 1024 of 4095

    def inverted(path):
        Image.fromarray(np.full(SHAPE, 0xF000, np.uint16)).save(path, tiffinfo={262: 0})  # white is zero

    paths = written(tmp_path, a_pgm=pgm, b_tif=inverted)
    whites, notes = survey(paths, workers=1)
    assert grey(paths, whites) == [64, 255 - 0xF0 * 257 * 255 // 65535 + 1]
    assert notes == []


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, 70000.0])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_values_without_a_range(tmp_path, value, dtype):
    if not np.isfinite(value) and dtype is np.int32:
        value = -5
    pixels = np.zeros(SHAPE, dtype)
    pixels[1, 1] = value
    paths = written(tmp_path, a_tif=pixels)
    with pytest.raises(VqadError, match=r"a\.tif: values from .* no known range; save it with 8 or 16 bits") as caught:
        survey(paths, workers=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "refused"), [(4000, True), (16383, True), (20000, False)])
def test_colours_of_which_pillow_would_keep_nothing(tmp_path, value, refused):
    def png(path):
        path.write_bytes(png_16_bit(value))

    paths = written(tmp_path, a_png=png)
    if refused:
        with pytest.raises(VqadError, match=r"a\.png has 16 bits per channel but values of 14 or fewer"):
            survey(paths, workers=1)
    else:
        assert survey(paths, workers=1) == ([65535], [])
        assert grey(paths, [65535]) == [20000 >> 8]


def png_16_bit(value: int) -> bytes:
    """An RGB file with 16 bits per channel, which Pillow cannot write: 8x8 of one value."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = b"\0" + struct.pack(">H", value) * 24
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 8)) + chunk(b"IEND", b"")


def test_images_beyond_the_first_are_said_to_be_left_out(tmp_path):
    first, second = Image.new("L", SHAPE, 10), Image.new("L", SHAPE, 200)
    paths = written(
        tmp_path,
        a_gif=lambda path: first.save(path, save_all=True, append_images=[second]),
        b_tif=lambda path: first.save(path, save_all=True, append_images=[second]),
        c_png=first.save,
    )
    assert survey(paths, workers=1)[1] == ["2 files hold several images, of which the first counts (for example a.gif)"]


def test_notes_are_kept_with_the_frames(tmp_path):
    for kind in ("normal", "abnormal"):
        (tmp_path / "mine" / kind).mkdir(parents=True)
        Image.fromarray(np.full(SHAPE, 4000, np.uint16)).save(tmp_path / "mine" / kind / "a.png")
    options = {
        "size_px": 8,
        "cache_dir": tmp_path / "cache",
        "synthetic": SyntheticConfig(train_clips=1, test_clips=1, frames_per_clip=4, seed=0),
    }
    first, again = (prepare_frames(dataset="folder", data_root=tmp_path / "mine", **options) for _ in range(2))
    assert first.notes == again.notes
    assert first.notes[:2] == ("normal: 1 images", "abnormal: 1 images")
    assert first.notes[2].startswith("2 files of a deeper type hold 12-bit values, up to 4000")
    assert first.images[0, 0, 0, 0] == 249


@pytest.mark.parametrize(
    ("usual", "stray", "dtype", "said"),
    [
        (1, 1, np.uint8, "99.9% of all values are at most 1 of 255 (white), the largest is 1;"),
        (0, 0, np.uint8, "99.9% of all values are at most 0 of 255 (white), the largest is 0;"),
        (4095, 65535, np.uint16, "99.9% of all values are at most 16 of 255 (white), the largest is 255;"),
        (64, 64, np.uint8, None),
    ],
)
def test_frames_that_are_read_nearly_black(tmp_path, usual, stray, dtype, said):
    pixels = np.full((32, 32), usual, dtype)
    for kind in ("normal", "abnormal"):
        (tmp_path / "mine" / kind).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "mine" / kind / "a.png")
    pixels[5, 5] = stray
    Image.fromarray(pixels).save(tmp_path / "mine" / "normal" / "b.png")
    synthetic = SyntheticConfig(train_clips=1, test_clips=1, frames_per_clip=4, seed=0)
    options = {"size_px": 32, "cache_dir": tmp_path / "cache", "synthetic": synthetic}
    notes = prepare_frames(dataset="folder", data_root=tmp_path / "mine", **options).notes
    assert [
        said is not None and note.startswith(f"read nearly black: {said}") for note in notes[2 + (stray > usual) :]
    ] == ([True] if said else [])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest sets the filters anew
def test_too_large_an_image_says_what_to_do(tmp_path, monkeypatch):
    path = written(tmp_path, a_png=np.zeros((30, 30), np.uint8))[0]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 800)
    assert survey([path], workers=1) == ([65535], [])
    assert decode_frame(path, 8)[1] == (30, 30)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(VqadError, match=r"a\.png: .* exceeds limit of 800 pixels.*; save it smaller, for"):
        survey([path], workers=1)
