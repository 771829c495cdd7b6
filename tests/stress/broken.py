"""Broken input, in thousands of ways: each must give one line that names the file or key, or a right result.

A case is attempted in this process. What may not happen: a traceback, a hang, an error that is more than a line or
names nothing, a number that is wrong, something left behind.
"""

import contextlib
import io
import json
import os
import shutil
import signal
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io
import torch
import yaml
from PIL import Image
from torch import nn

from vqad.estimator import VQAnomalyDetector
from vqad.model import load_model, save_model
from vqad_lib.config import Profile, load_profile
from vqad_lib.data.clips import parse_matlab_labels, read_clips
from vqad_lib.data.datasets import locate, prepare_frames
from vqad_lib.data.decode import decode_frame, survey
from vqad_lib.data.download import ARCHIVE_NAME, download_ped2
from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import configured
from vqad_lib.losses.pretrained import PERCEPTUAL, check_weights
from vqad_lib.progress import progress
from vqad_lib.training.checkpoint import TrainingState, load_checkpoint, load_weights, save_checkpoint, weights_bytes

REPOSITORY = Path(__file__).resolve().parents[2]
ALLOWED_S = 20  # for one attempt
ERROR, RIGHT = "error in one line", "right result"
GOOD = (ERROR, RIGHT)
SIZE_PX = 16


@dataclass(frozen=True)
class Case:
    """An attempt to read something broken.

    Attributes:
        kind: "frames", "labels", ...
        name: what was done to it; unique within the kind.
        attempt: (empty folder) -> whether the result is right; raises `VqadError` where there is none.
        named: an error must hold one of these.
    """

    kind: str
    name: str
    attempt: Callable[[Path], bool]
    named: tuple[str, ...]


def outcome(case: Case, folder: Path) -> str:
    """One of `GOOD`, or what went wrong."""
    folder.mkdir(parents=True)
    before = signal.signal(signal.SIGALRM, _ring)
    signal.alarm(ALLOWED_S)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            right = case.attempt(folder)
        found = RIGHT if right else "wrong result"
    except VqadError as error:
        unclear = len(str(error).splitlines()) != 1 or not any(name in str(error) for name in case.named)
        found = f"names nothing: {error}" if unclear else ERROR
    except _Hangs:
        found = f"hangs for {ALLOWED_S} s"
    except Exception as error:  # this is what the cases are for
        found = f"traceback: {type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if found in GOOD and (left := [path.name for path in folder.rglob("*.part*")]):
        found = f"left behind: {left}"
    shutil.rmtree(folder)
    return found


class _Hangs(BaseException):
    """Not to be caught as an ordinary error."""


def _ring(_number: int, _frame: object) -> None:
    raise _Hangs


def cases(place: Path) -> Iterator[Case]:
    """All of them; `place` is a folder for what several share."""
    yield from frame_cases()
    yield from sane_frame_cases()
    yield from label_cases()
    yield from profile_cases()
    yield from weight_cases(place)
    yield from model_cases(place)
    yield from folder_cases()
    yield from archive_cases()
    yield from setting_cases()


def _spoilt(content: bytes, *, cuts: int, flips: int, seed: int) -> Iterator[tuple[str, bytes, bool]]:
    """What happens to files: name, content, and whether nothing of the original is left changed where it can be read.

    Of a file that is cut off, or has something behind it, what can be read must be right; bits that flipped may have
    been pixels.
    """
    rng = np.random.default_rng(seed)
    n = len(content)
    places = {0, 1, 2, 3, 4, 8, 12, 16, n // 4, n // 2, 3 * n // 4, n - 16, n - 4, n - 2, n - 1}
    places |= set(rng.integers(0, n, max(cuts - len(places), 0)).tolist())
    for end in sorted(place for place in places if 0 <= place < n):
        yield f"cut at {end} of {n}", content[:end], True
    for _ in range(flips):
        at, bit = int(rng.integers(n)), int(rng.integers(8))
        spoilt = bytearray(content)
        spoilt[at] ^= 1 << bit
        yield f"bit {bit} of byte {at} flipped", bytes(spoilt), False
    yield "zeros", bytes(n), False
    yield "zeros in the middle", content[: n // 3] + bytes(n // 3) + content[2 * (n // 3) :], False
    yield "another beginning", b"\0\0\0\0\0\0\0\0" + content[8:], False
    yield "noise", rng.bytes(n), False
    yield "something behind it", content + rng.bytes(100), True
    yield "something before it", rng.bytes(100) + content, False


# -- frames ---------------------------------------------------------------------------------------------------------
def _pictures() -> dict[str, bytes]:
    """An image in each usual format and mode."""
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (24, 36, 3), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (24, 36), dtype=np.uint16))
    real = Image.fromarray(rng.random((24, 36), dtype=np.float32))
    frames = [noise.convert("P"), noise.rotate(90, expand=False).convert("P")]
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    many = {"save_all": True, "append_images": frames[1:]}
    saved = [
        ("jpg", noise, {"quality": 90}),
        ("rotated.jpg", noise, {"exif": exif}),
        ("webp", noise, {"lossless": True}),
    ]
    saved += [("progressive.jpg", noise, {"progressive": True}), ("cmyk.jpg", noise.convert("CMYK"), {})]
    saved += [(f"{mode}.png", noise.convert(mode), {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
    saved += [
        ("deep.png", deep, {}),
        ("interlaced.gif", frames[0], {"interlace": 1}),
        ("animated.gif", frames[0], many),
    ]
    saved += [("tif", noise, {}), ("lzw.tif", noise, {"compression": "tiff_lzw"}), ("deep.tif", deep, {})]
    saved += [("float.tif", real, {}), ("several.tif", noise, {"save_all": True, "append_images": [noise]})]
    saved += [("bmp", noise, {}), ("ppm", noise, {}), ("pgm", noise.convert("L"), {}), ("tga", noise, {})]
    made = {}
    for name, image, options in saved:
        stream = io.BytesIO()
        image.save(
            stream,
            format={"jpg": "JPEG", "tif": "TIFF", "pgm": "PPM"}.get(name.rsplit(".")[-1], name.rsplit(".")[-1]),
            **options,
        )
        made[name] = stream.getvalue()
    return made


def frame_cases() -> Iterator[Case]:
    """Files of images that were cut off, hold flipped bits, zeros or something else."""
    for seed, (suffix, content) in enumerate(_pictures().items()):
        for name, spoilt, same in _spoilt(content, cuts=15, flips=8, seed=seed):
            attempt = partial(_decode, content=content, spoilt=spoilt, suffix=suffix, same=same)
            yield Case("frames", f"{suffix}: {name}", attempt, ("picture.",))


def _decode(folder: Path, *, content: bytes, spoilt: bytes, suffix: str, same: bool) -> bool:
    whole, path = folder / f"whole.{suffix}", folder / f"picture.{suffix}"
    whole.write_bytes(content)
    path.write_bytes(spoilt)
    white = survey([whole], workers=1)[0][0]
    expected = decode_frame(whole, SIZE_PX, white=white)[0]
    pixels, _ = decode_frame(path, SIZE_PX, white=survey([path], workers=1)[0][0])
    return (pixels.shape, pixels.dtype) == ((3, SIZE_PX, SIZE_PX), np.uint8) and (
        not same or (pixels == expected).all()
    )


def sane_frame_cases() -> Iterator[Case]:
    """Odd images that are none the less what they are: grey in any mode, and any size, is grey."""
    grey = {"1": None, "L": 128, "LA": (128, 255), "P": 128, "RGB": (128,) * 3, "RGBA": (128, 128, 128, 255)}
    grey |= {"CMYK": (0, 0, 0, 127), "YCbCr": (128, 128, 128), "I;16": 32896, "I": 32896, "F": 0.50196}
    suffixes = {"1": "bmp", "CMYK": "tif", "YCbCr": "jpg", "I": "tif", "F": "tif"}
    sizes = ((1, 1), (1, 300), (300, 1), (2, 3), (1000, 1000), (20_000, 3))
    for mode, value in grey.items():
        for size in sizes:
            attempt = partial(_grey, mode=mode, value=value, size=size, suffix=suffixes.get(mode, "png"))
            yield Case("frames", f"grey, {mode}, {size}", attempt, ("picture.",))


def _grey(folder: Path, *, mode: str, value: object, size: tuple[int, int], suffix: str) -> bool:
    path = folder / f"picture.{suffix}"
    image = Image.new("1", size, 1) if value is None else Image.new(mode, size, value)
    if mode == "P":
        image.putpalette([i for i in range(256) for _ in range(3)])
    image.save(path)
    pixels, found = decode_frame(path, SIZE_PX, white=survey([path], workers=1)[0][0])
    return found == size and (np.abs(pixels.astype(int) - (255 if value is None else 128)) <= 1).all()


# -- labels ---------------------------------------------------------------------------------------------------------
LABELS_M = """TestVideoFile = {};
TestVideoFile{end+1}.gt_frame = [2:9];
TestVideoFile{end+1}.gt_frame = [];
TestVideoFile{end+1}.gt_frame = [1:3, 5, 7:12]; % three of them
"""
INTERVALS = [[(2, 9)], [], [(1, 3), (5, 5), (7, 12)]]


def label_cases() -> Iterator[Case]:
    """Labels of UCSD in both formats, and of ShanghaiTech."""
    text = LABELS_M.encode()
    for end in range(0, len(text), 3):
        yield Case("labels", f".m cut at {end}", partial(_labels_m, content=text[:end]), ("UCSDped2.m",))
    words = [
        "-1",
        "0",
        "13",
        "9:2",
        "1e3",
        "2.5",
        "abc",
        "1:2:3",
        ":",
        "2:",
        ":2",
        "NaN",
        "inf",
        "99999999999999999999",
    ]
    words += ["'2'", "[2", "2]", "2;3", "\0", "é", "2 : 9 : 1", "1:", "x(3)", "2..9", "2-9", "0x2", "٣", "1e400"]
    for word in words:
        spoilt = LABELS_M.replace("2:9", word).encode()
        yield Case("labels", f".m with {word!r}", partial(_labels_m, content=spoilt, same=False), ("UCSDped2.m",))
    for name, spoilt in {
        "twice": text + text,
        "utf-16": LABELS_M.encode("utf-16"),
        "noise": bytes(range(256)) * 4,
    }.items():
        yield Case("labels", f".m {name}", partial(_labels_m, content=spoilt), ("UCSDped2.m",))
    cells = np.empty((1, 3), dtype=object)
    cells[0, :] = [np.array(row, dtype=float).reshape(-1, 2).T for row in INTERVALS]
    for compressed in (False, True):
        stream = io.BytesIO()
        scipy.io.savemat(stream, {"gt": cells}, do_compression=compressed)
        for name, spoilt, same in _spoilt(stream.getvalue(), cuts=25, flips=40, seed=5):
            attempt = partial(_labels_mat, content=spoilt, same=same)
            yield Case("labels", f".mat, compressed {compressed}: {name}", attempt, ("ped2.mat",))
    stream = io.BytesIO()
    np.save(stream, np.array([0, 1] * 6))
    for name, spoilt, same in _spoilt(stream.getvalue(), cuts=20, flips=20, seed=6):
        attempt = partial(_labels_npy, content=spoilt, same=same)
        yield Case("labels", f".npy: {name}", attempt, ("01_001.npy",))


def _clips(folder: Path, train: str, test: str, clips: list[str]) -> Path:
    for place in (f"{train}{clips[0]}", *(f"{test}{clip}" for clip in clips)):
        (folder / place).mkdir(parents=True)
        for frame in range(1, 13):
            (folder / place / f"{frame:03d}.tif").touch()
    return folder


def _as_expected(folder: Path, *, same: bool) -> bool:
    """Whether the labels are those of `INTERVALS`; of changed ones, whether each frame has one."""
    records = pd.DataFrame(read_clips(folder).records)
    found = [rows["label"].tolist() for _, rows in records[records["part"] == "test"].groupby("clip")]
    expected = [[int(any(a <= i <= b for a, b in row)) for i in range(1, 13)] for row in INTERVALS]
    return all(len(row) == 12 for row in found) and (not same or found == expected)


def _labels_m(folder: Path, *, content: bytes, same: bool = True) -> bool:
    _clips(folder, "Train/Train", "Test/Test", ["001", "002", "003"])
    path = folder / "Test" / "UCSDped2.m"
    path.write_bytes(content)
    if not same:  # what a person reads there may have changed, and then must be it
        whole = _as_expected(folder, same=False)
        rows = parse_matlab_labels(path)
        return whole and rows[0] in ([(2, 9)], [(2, 2), (3, 3)], [(2, 2)], []) and rows[1:] == INTERVALS[1:]
    return _as_expected(folder, same=True)


def _labels_mat(folder: Path, *, content: bytes, same: bool) -> bool:
    _clips(folder, "training/frames/", "testing/frames/", ["01", "02", "03"])
    (folder / "ped2.mat").write_bytes(content)
    return _as_expected(folder, same=same)


def _labels_npy(folder: Path, *, content: bytes, same: bool) -> bool:
    _clips(folder, "training/frames/", "testing/frames/", ["01_001"])
    (folder / "testing" / "test_frame_mask").mkdir()
    (folder / "testing" / "test_frame_mask" / "01_001.npy").write_bytes(content)
    labels = [record.label for record in read_clips(folder).records if record.part == "test"]
    return set(labels) <= {0, 1} and len(labels) == 12 and (not same or labels == [0, 1] * 6)


# -- profiles -------------------------------------------------------------------------------------------------------
_MISSING, _TWICE = object(), object()
INSTEAD = [
    _MISSING,
    _TWICE,
    None,
    "text",
    "",
    "\0",
    -1,
    0,
    1.5,
    10**30,
    float("nan"),
    float("inf"),
    True,
    [],
    {},
    [1, "a"],
]


def profile_cases() -> Iterator[Case]:
    """Every key of a profile: missing, given twice, and with values of any kind in its place."""
    path = REPOSITORY / "profiles" / "demo.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for keys in _leaves(content):
        for value in INSTEAD:
            shown = {_MISSING: "missing", _TWICE: "twice"}.get(value, repr(value)) if _hashable(value) else repr(value)
            attempt = partial(_profile, content=content, keys=keys, value=value)
            # what is right by itself may not go with another key, which then is named
            yield Case("profiles", f"{'.'.join(keys)}: {shown}", attempt, (".".join(keys), keys[-1], "must be"))
    text = path.read_bytes()
    for end in range(0, len(text), 97):
        yield Case("profiles", f"cut at {end}", partial(_profile_text, content=text[:end]), ("demo.yaml",))
    odd = {"nothing": b"", "a list": b"- 1\n", "tabs": b"name:\n\t- x", "utf-16": text.decode().encode("utf-16")}
    odd |= {
        "deep": b"[" * 5000,
        "itself": b"a: &a [*a]",
        "zeros": bytes(100),
        "a number": b"7",
        "latin-1": b"about: \xe9",
    }
    odd |= {"thousands of digits": b"seed: " + b"9" * 9000, "an object": b"!!python/object/apply:os.system ['true']"}
    odd |= {"two documents": text + b"\n---\n" + text, "bombs": _laughs()}
    for name, spoilt in odd.items():
        yield Case("profiles", name, partial(_profile_text, content=spoilt), ("demo.yaml",))


def _laughs() -> bytes:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    return "\n".join(lines).encode()


def _hashable(value: object) -> bool:
    return not isinstance(value, list | dict)


def _leaves(content: dict, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in content.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from _leaves(value, (*before, key))


def _profile(folder: Path, *, content: dict, keys: tuple[str, ...], value: object) -> bool:
    changed = json.loads(json.dumps(content))
    *outer, last = keys
    owner = changed
    for key in outer:
        owner = owner[key]
    if value is _MISSING:
        del owner[last]
    elif value is not _TWICE:
        owner[last] = value
    path = folder / "demo.yaml"
    text = yaml.safe_dump(changed, sort_keys=False)
    path.write_text(_with_twice(text, keys) if value is _TWICE else text, encoding="utf-8")
    found = load_profile(path)
    if value is _MISSING or value is _TWICE:
        return False  # neither may pass
    for key in keys:
        found = getattr(found, key)
    found = list(found) if isinstance(found, tuple) else found
    numbers = {type(found), type(value)} == {int, float}
    return found == (float(value) if numbers else value) and (numbers or type(found) is type(value))


def _with_twice(text: str, keys: tuple[str, ...]) -> str:
    """The same YAML, in blocks, where a key and all below it stand twice."""
    lines, start = text.splitlines(), 0
    for depth, key in enumerate(keys):
        start = next(i for i in range(start, len(lines)) if lines[i].startswith(f"{'  ' * depth}{key}:"))
    inner = "  " * (len(keys) - 1)
    end = start + 1
    while end < len(lines) and lines[end].startswith((f"{inner} ", f"{inner}-")):
        end += 1
    return "\n".join(lines[:end] + lines[start:end] + lines[end:]) + "\n"


def _profile_text(folder: Path, *, content: bytes) -> bool:
    path = folder / "demo.yaml"
    path.write_bytes(content)
    return load_profile(path) == load_profile(REPOSITORY / "profiles" / "demo.yaml")


# -- weights, checkpoints, models -----------------------------------------------------------------------------------
def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def _state() -> TrainingState:
    network = _network()
    optimiser = torch.optim.Adam(network.parameters(), fused=True)
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    optimiser.step()
    return TrainingState({"net": network}, {"net": optimiser}, epoch=3, history=[{"epoch": 3.0, "train_loss": 0.5}])


def weight_cases(place: Path) -> Iterator[Case]:
    """Weights as safetensors, and checkpoints of a training."""
    for name, spoilt, _ in _spoilt(weights_bytes(_network()), cuts=30, flips=60, seed=7):
        yield Case("weights", name, partial(_weights, content=spoilt), ("net.safetensors",))
    other = weights_bytes(nn.Sequential(nn.Conv2d(3, 4, 5)))
    yield Case("weights", "of another network", partial(_weights, content=other), ("net.safetensors",))
    save_checkpoint(place / "written", _state())
    whole = (place / "written" / "checkpoint.pt").read_bytes()
    for name, spoilt, _ in _spoilt(whole, cuts=30, flips=60, seed=8):
        yield Case("checkpoints", name, partial(_checkpoint, content=spoilt), ("checkpoint.pt",))
    yield Case("checkpoints", "hostile pickle", _hostile, ("checkpoint.pt",))


@dataclass
class _Hostile:
    """Unpickled, it would leave a file."""

    path: Path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), "w")


def _hostile(folder: Path) -> bool:
    stream, owned = io.BytesIO(), folder / "owned"
    torch.save(_Hostile(owned), stream)
    try:
        return _checkpoint(folder, content=stream.getvalue())
    finally:
        if owned.exists():
            raise AssertionError("unpickled what it should not")


def _weights(folder: Path, *, content: bytes) -> bool:
    (folder / "net.safetensors").write_bytes(content)
    filled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    load_weights(folder / "net.safetensors", filled)
    return _equal(filled.state_dict(), _network().state_dict())


def _checkpoint(folder: Path, *, content: bytes) -> bool:
    (folder / "checkpoint.pt").write_bytes(content)
    expected, found = _state(), _state()
    for parameter in found.networks["net"].parameters():
        parameter.data.zero_()
    load_checkpoint(folder, found)
    same = _equal(found.networks["net"].state_dict(), expected.networks["net"].state_dict())
    of = (found.optimisers["net"].state_dict()["state"], expected.optimisers["net"].state_dict()["state"])
    same &= all(_equal(a, b) for a, b in zip(of[0].values(), of[1].values(), strict=True))
    return same and (found.epoch, found.history) == (expected.epoch, expected.history)


def _equal(found: dict, expected: dict) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def model_cases(place: Path) -> Iterator[Case]:
    """A fitted detector's folder."""
    model = place / "model"
    rng = np.random.default_rng(0)
    images = rng.integers(100, 156, (24, 32, 32, 3), dtype=np.uint8)
    small = {"image_size_px": 32, "channels": (8, 8, 16), "codebook_size": 8, "epochs": 1}
    with contextlib.redirect_stderr(io.StringIO()):
        detector = VQAnomalyDetector(**small).fit(images)
        save_model(detector, model, data="noise", images=24)
        scores = load_model(model, device="cpu").score_samples(images[:4])
    for name in ("model.safetensors", "settings.json"):
        for what, spoilt, _ in _spoilt((model / name).read_bytes(), cuts=25, flips=60, seed=9):
            attempt = partial(_model, model=model, name=name, content=spoilt, images=images[:4], scores=scores)
            yield Case("models", f"{name}: {what}", attempt, ("model",))
    facts = json.loads((model / "settings.json").read_text(encoding="utf-8"))
    changes = {"another format": {"format": 99}, "an older format": {"format": 1}, "no settings": {"settings": {}}}
    changes |= {"a threshold in words": {"threshold": "high"}, "no digest": {"weights_sha256": None}}
    for what, change in changes.items():
        spoilt = json.dumps(facts | change).encode()
        attempt = partial(_model, model=model, name="settings.json", content=spoilt, images=images[:4], scores=scores)
        yield Case("models", what, attempt, ("model",))


def _model(folder: Path, *, model: Path, name: str, content: bytes, images: np.ndarray, scores: np.ndarray) -> bool:
    shutil.copytree(model, folder / "model")
    (folder / "model" / name).write_bytes(content)
    loaded = load_model(folder / "model", device="cpu")
    original = load_model(model, device="cpu")
    return (loaded.score_samples(images) == scores).all() and (loaded.threshold_, loaded.hot_) == (
        original.threshold_,
        original.hot_,
    )


# -- folders, archives, settings ------------------------------------------------------------------------------------
def folder_cases() -> Iterator[Case]:
    """Folders that are empty, loop, or hold names that nobody expects."""

    def own(folder: Path, names: list[str], *, normal: int = 3) -> Path:
        for part in ("normal", "abnormal"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for i in range(normal):
            Image.new("L", (9, 9), 40 + i).save(folder / "normal" / f"{i}.png")
        for name in names:
            path = folder / "abnormal" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (9, 9), 200).save(path, format="PNG")
        return folder

    def prepared(folder: Path, expected: int) -> bool:
        where = {"dataset": "folder", "data_root": folder, "size_px": SIZE_PX}
        profile = load_profile(REPOSITORY / "profiles" / "smoke.yaml")
        frames = prepare_frames(**where, cache_dir=folder.parent / "cache", synthetic=profile.data.synthetic)
        return len(frames.images) == len(frames.index) == expected and frames.index["image_id"].is_unique

    def names(folder: Path, *, given: list[str]) -> bool:
        return prepared(own(folder / "mine", given), 3 + len(given))

    odd = [
        "a b.png",
        "ü.png",
        "<script>alert(1)</script>.png".replace("/", ""),
        "{{ 7 * 7 }}.png",
        "$(touch x).png",
        "`id`.png",
    ]
    odd += [
        "a\nb.png",
        "'.png",
        '".png',
        "%s.png",
        "\\.png",
        "-rf.png",
        "~.png",
        "#.png",
        "x;y.png",
        "x..png",
        "日本.PNG",
    ]
    odd += [
        "deep/er/and/deeper/x.png",
        "\udcff.png",
        "a" * 200 + ".png",
        "con.png",
        "*.png",
        "?.png",
        "[a].png",
        "|.png",
        "&.png",
    ]
    for name in odd:
        yield Case("folders", f"an image called {name!r}", partial(names, given=[name]), ("abnormal", "mine"))
    yield Case("folders", "all these at once", partial(names, given=odd), ("abnormal", "mine"))

    def made(folder: Path, *, how: Callable[[Path], int]) -> bool:
        root = folder / "mine"
        root.mkdir()
        return prepared(root, how(root))

    def loop(root: Path) -> int:
        own(root, ["x.png"])
        (root / "normal" / "loop").symlink_to(root)
        return 4

    def dangling(root: Path) -> int:
        own(root, ["x.png"])
        (root / "normal" / "gone.png").symlink_to(root / "nowhere.png")
        return 4

    def itself(root: Path) -> int:
        own(root, ["x.png"])
        (root / "normal" / "self.png").symlink_to(root / "normal" / "self.png")
        return 4

    def folder_named_as_an_image(root: Path) -> int:
        own(root, ["x.png"])
        (root / "normal" / "folder.png").mkdir()
        return 4

    def no_normal(root: Path) -> int:
        own(root, ["x.png"], normal=0)
        return -1

    def no_abnormal(root: Path) -> int:
        own(root, [])
        return -1

    def empty(_root: Path) -> int:
        return -1

    def text_for_an_image(root: Path) -> int:
        own(root, ["x.png"])
        (root / "normal" / "notes.png").write_text("none")
        return -1

    def pipe(root: Path) -> int:
        own(root, ["x.png"])
        os.mkfifo(root / "normal" / "pipe.png")
        return 4

    def only_hidden(root: Path) -> int:
        own(root, ["x.png"], normal=0)
        Image.new("L", (9, 9)).save(root / "normal" / ".x.png")
        return -1

    def mask_of_another_size(root: Path) -> int:
        own(root, ["x.png"])
        (root / "masks").mkdir()
        Image.new("L", (5, 5)).save(root / "masks" / "x.png")
        return -1

    def mask_without_an_image(root: Path) -> int:
        own(root, ["x.png"])
        (root / "masks").mkdir()
        Image.new("L", (9, 9)).save(root / "masks" / "y.png")
        return -1

    kinds = (loop, dangling, itself, folder_named_as_an_image, no_normal, no_abnormal, empty, text_for_an_image)
    for how in (*kinds, pipe, only_hidden, mask_of_another_size, mask_without_an_image):
        yield Case("folders", how.__name__.replace("_", " "), partial(made, how=how), ("mine",))
    for name in ("", "nowhere", "\0", "a" * 5000, "/dev/null", "/proc/self/mem", "~nobody_at_all", "..", "/dev/stdin"):
        yield Case(
            "folders", f"data root {name[:20]!r}", partial(_nowhere, name=name), (repr(name)[1:20], "layout", "folder")
        )


def _nowhere(folder: Path, *, name: str) -> bool:
    locate(folder / name)
    return False


def archive_cases() -> Iterator[Case]:
    """The archive of UCSD: cut off, flipped, hostile."""
    stream = io.BytesIO()
    rng = np.random.default_rng(3)
    inside = {f"UCSD_Anomaly_Dataset.v1p2/UCSDped2/Train/Train001/{i:03d}.tif": rng.bytes(300) for i in range(1, 9)}
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in inside.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    for name, spoilt, _ in _spoilt(stream.getvalue(), cuts=40, flips=60, seed=10):
        yield Case("archives", name, partial(_archive, content=spoilt, inside=inside), ("archive",))
    hostile = {"absolute": ("/vqad_owned", tarfile.REGTYPE), "above": ("../owned", tarfile.REGTYPE)}
    hostile |= {"deep above": ("UCSDped2/../../owned", tarfile.REGTYPE), "link": ("UCSDped2/x", tarfile.SYMTYPE)}
    hostile |= {"hard link": ("UCSDped2/x", tarfile.LNKTYPE), "device": ("UCSDped2/x", tarfile.CHRTYPE)}
    hostile |= {"block device": ("UCSDped2/x", tarfile.BLKTYPE), "pipe": ("UCSDped2/x", tarfile.FIFOTYPE)}
    hostile |= {"nothing of Ped2": ("UCSDped1/x", tarfile.REGTYPE)}
    for name, (path, kind) in hostile.items():
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz") as tar:
            member = tarfile.TarInfo(path)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        yield Case("archives", name, partial(_archive, content=stream.getvalue(), inside={"none": b""}), ("archive",))


def _archive(folder: Path, *, content: bytes, inside: dict[str, bytes]) -> bool:
    (folder / ARCHIVE_NAME).write_bytes(content)
    before = {path for path in folder.parent.rglob("*") if folder not in path.parents}
    try:
        target = download_ped2(folder, url="http://127.0.0.1:9/none")  # it is there already, and nothing is fetched
        found = {path.name: path.read_bytes() for path in target.rglob("*.tif")}
        return found == {Path(name).name: value for name, value in inside.items()}
    except VqadError:
        if [path for path in folder.iterdir() if path.name not in (f"{ARCHIVE_NAME}.rejected",)]:
            raise AssertionError(f"left behind: {list(folder.iterdir())}") from None
        raise
    finally:
        outside = {path for path in folder.parent.rglob("*") if folder not in path.parents} - before
        if outside or Path("/vqad_owned").exists():
            raise AssertionError(f"wrote outside: {outside}")


def setting_cases() -> Iterator[Case]:
    """What a person may type behind PROFILE=, SEED= and PERCEPTUAL=."""
    odd = [
        "../demo",
        "/etc/passwd",
        "demo.yaml",
        "dem o",
        "$(id)",
        "`id`",
        "demo\n",
        "\0",
        "a" * 300,
        "-x",
        ".",
        "..",
        "démo",
        "{{ x }}",
    ]
    for word in odd:
        yield Case("settings", f"PROFILE={word!r}", partial(_setting, profile=word), ("PROFILE", "profile"))
    for word in ["-1", "1.5", "one", "1e3", " 1", "1 ", "9" * 19, "0x1", "٣", "\n", "nan", "+1"]:
        yield Case("settings", f"SEED={word!r}", partial(_setting, seed=word), ("SEED",))
    for word in ["nowhere.pth", "/etc", "/dev/null", "a" * 5000, "http://x/y.pth", "vgg", "Random", "~nobody/x"]:
        yield Case("settings", f"PERCEPTUAL={word[:20]!r}", partial(_perceptual, word=word), ("perceptual", word[:20]))


def _setting(_folder: Path, *, profile: str = "smoke", seed: str = "") -> bool:
    loaded: Profile = configured(profile, seed=seed)
    return loaded.name == profile and str(loaded.seed) == seed


def _perceptual(_folder: Path, *, word: str) -> bool:
    profile = configured("smoke", perceptual=word)
    check_weights(profile.gan.perceptual_weights, PERCEPTUAL)
    return False


def survivors(place: Path) -> pd.DataFrame:
    """Attempt all.

    Returns:
        kind, name, outcome.
    """
    all_cases = list(cases(place))
    rows = [
        (case.kind, case.name, outcome(case, place / f"case_{number}"))
        for number, case in enumerate(progress(all_cases, what="broken input", unit="case"))
    ]
    return pd.DataFrame(rows, columns=["kind", "name", "outcome"])
