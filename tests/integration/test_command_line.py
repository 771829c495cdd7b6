"""Bad input through the commands behind the Makefile: one line that names the file or key, and nothing half-made."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from vqad_lib.files import read_json
from vqad_lib.pipeline.graph import notebook_table

REPOSITORY = Path(__file__).resolve().parents[2]
SIZE_PX = 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one small profile and no data."""
    root = tmp_path / "repository"
    (root / "notebooks").mkdir(parents=True)
    (root / "profiles").mkdir()
    shutil.copy(REPOSITORY / "notebooks" / "notebooks.yaml", root / "notebooks")
    for notebook in notebook_table(root):  # whose contents play no part here
        (root / "notebooks" / f"{notebook}.ipynb").write_text('{"cells": []}')
    profile = yaml.safe_load((REPOSITORY / "profiles" / "smoke.yaml").read_text(encoding="utf-8")) | {"name": "tiny"}
    profile["data"] |= {"dataset": "auto", "image_size_px": SIZE_PX}
    profile["data"]["synthetic"] |= {"train_clips": 2, "test_clips": 1, "frames_per_clip": 12}
    profile["data"]["official_validation_clips"] = 1
    (root / "profiles" / "tiny.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    return root


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it left on the two streams."""

    returncode: int
    stdout: str
    stderr: str


def command(root: Path, *arguments: str, largest_file_bytes: int | None = None, **environment: str) -> Done:
    environment = os.environ | {"VQAD_ROOT": str(root), "PYTHONPATH": str(REPOSITORY)} | environment
    line = [sys.executable, "-m", "vqad_lib", *arguments]
    if largest_file_bytes is not None:  # writing beyond it fails in the middle of a file, as on a full disk
        line = ["prlimit", f"--fsize={largest_file_bytes}", *line]
    done = subprocess.run(line, cwd=root, env=environment, capture_output=True, timeout=600, check=False)
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())  # text=True would make \r a new line


def configure(root: Path, *arguments: str) -> Done:
    return command(root, "configure", "--profile", "tiny", *arguments)


def shown(stderr: str) -> list[str]:
    """The lines that stay on a terminal: a progress bar returns to the start of its line and is written over."""
    return [line.rsplit("\r", 1)[-1] for line in stderr.removesuffix("\n").split("\n")]


def write_ped2(folder: Path) -> Path:
    """The official layout: two training clips and one test clip of twelve frames each."""
    rng = np.random.default_rng(0)
    for part, count in (("Train", 2), ("Test", 1)):
        for clip in range(1, count + 1):
            place = folder / part / f"{part}{clip:03d}"
            place.mkdir(parents=True)
            for frame in range(1, 13):
                pixels = rng.integers(0, 256, (24, 36), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{frame:03d}.tif")
    (folder / "Test" / "UCSDped2.m").write_text("TestVideoFile = {};\nTestVideoFile{end+1}.gt_frame = [2:9];\n")
    return folder


def write_image_folder(folder: Path, *, normal: int = 12, abnormal: int = 10) -> Path:
    """Images of odd sizes in every mode that people have."""
    rng = np.random.default_rng(0)
    formats = (
        ("L", "png"),
        ("RGB", "jpg"),
        ("RGBA", "png"),
        ("P", "gif"),
        ("1", "bmp"),
        ("CMYK", "tif"),
        ("LA", "png"),
    )
    for name, count in (("normal", normal), ("abnormal", abnormal)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            mode, suffix = formats[i % len(formats)]
            pixels = rng.integers(0, 256, (7 + 5 * i, 31 - 2 * i, 3), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / name / f"image {i:02d}.{suffix}")
    deep = rng.integers(0, 65536, (9, 40), dtype=np.uint16)
    Image.fromarray(deep).save(folder / "normal" / "image 00.png")
    return folder


def edit_profile(root: Path, change: Callable[[dict], object]) -> None:
    path = root / "profiles" / "tiny.yaml"
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(profile)
    path.write_text(yaml.safe_dump(profile), encoding="utf-8")


def no_folder(root: Path) -> tuple[list[str], str]:
    return ["--data-root", "nowhere"], str(root / "nowhere")


def file_for_a_folder(root: Path) -> tuple[list[str], str]:
    (root / "archive.zip").write_bytes(b"PK")
    return ["--data-root", "archive.zip"], str(root / "archive.zip")


def unknown_layout(root: Path) -> tuple[list[str], str]:
    (root / "mine" / "pictures").mkdir(parents=True)
    return ["--data-root", "mine"], f"{root / 'mine'} has no known layout"


def empty_class(root: Path) -> tuple[list[str], str]:
    shutil.rmtree(write_image_folder(root / "mine") / "abnormal")
    (root / "mine" / "abnormal").mkdir()
    return ["--data-root", "mine"], f"{root / 'mine' / 'abnormal'} holds no images"


def truncated_frame(root: Path) -> tuple[list[str], str]:
    frame = write_ped2(root / "ped2") / "Train" / "Train002" / "003.tif"
    frame.write_bytes(frame.read_bytes()[: frame.stat().st_size // 2])
    return ["--data-root", "ped2"], f"cannot decode {frame}"


def truncated_image(root: Path) -> tuple[list[str], str]:
    image = write_image_folder(root / "mine") / "abnormal" / "image 01.jpg"
    image.write_bytes(image.read_bytes()[:-40])
    return ["--data-root", "mine"], f"cannot decode {image}"


def missing_frame(root: Path) -> tuple[list[str], str]:
    clip = write_ped2(root / "ped2") / "Test" / "Test001"
    (clip / "002.tif").unlink()
    return ["--data-root", "ped2"], f"{clip}: must be numbered without gaps, but 002 is missing"


def interval_outside_the_clip(root: Path) -> tuple[list[str], str]:
    labels = write_ped2(root / "ped2") / "Test" / "UCSDped2.m"
    labels.write_text(labels.read_text().replace("[2:9]", "[2:13]"))
    return ["--data-root", "ped2"], f"{labels}: clip Test001: interval 2:13"


def unknown_key(root: Path) -> tuple[list[str], str]:
    edit_profile(root, lambda profile: profile["detectors"].update(restorations=3))
    return [], f"{root / 'profiles' / 'tiny.yaml'}: detectors.restorations: unknown key"


def missing_key(root: Path) -> tuple[list[str], str]:
    edit_profile(root, lambda profile: profile["training"]["gpt2"].pop("patience"))
    return [], f"{root / 'profiles' / 'tiny.yaml'}: training.gpt2.patience: missing key"


def wrong_type(root: Path) -> tuple[list[str], str]:
    edit_profile(root, lambda profile: profile["autoencoder"].update(latent_dim="many"))
    return [], f"{root / 'profiles' / 'tiny.yaml'}: autoencoder.latent_dim: "


def broken_yaml(root: Path) -> tuple[list[str], str]:
    (root / "profiles" / "tiny.yaml").write_text("name: tiny\n  data: [\n")
    return [], f"{root / 'profiles' / 'tiny.yaml'} is not valid YAML"


def profile_of_another_project(root: Path) -> tuple[list[str], str]:
    (root / "profiles" / "tiny.yaml").write_text("- 1\n- 2\n")
    return [], str(root / "profiles" / "tiny.yaml")


def unknown_profile(_root: Path) -> tuple[list[str], str]:
    return ["--profile", "huge"], "profiles there: tiny"


def seed_in_words(_root: Path) -> tuple[list[str], str]:
    return ["--seed", "one"], "SEED must be a whole number of 1 to 18 digits, got 'one'"


def jobs_in_words(_root: Path) -> tuple[list[str], str]:
    return ["--jobs", "two"], "JOBS must be a whole number"


def derived_is_a_file(root: Path) -> tuple[list[str], str]:
    """For root no folder is read-only; a file in its place cannot be written into by anybody."""
    (root / "data").mkdir()
    (root / "data" / "derived").write_text("in the way")
    return [], f"cannot write {root / 'data' / 'derived'}"


def absent_perceptual_file(root: Path) -> tuple[list[str], str]:
    return ["--perceptual", "weights/vgg16.pth"], f"no file at {root / 'weights' / 'vgg16.pth'}; set gan.perceptual_"


def absent_perceptual_file_in_the_profile(root: Path) -> tuple[list[str], str]:
    edit_profile(root, lambda profile: profile["gan"].update(perceptual_weights="weights/vgg16.pth"))
    return [], f"gan.perceptual_weights: no file at {root / 'weights' / 'vgg16.pth'}"


def too_few_images(root: Path) -> tuple[list[str], str]:
    write_image_folder(root / "mine", normal=4)
    return ["--data-root", "mine"], "scheme paper: validation has no normal images (4 normal and 10 anomalous in all)"


def too_many_held_out_clips(root: Path) -> tuple[list[str], str]:
    edit_profile(root, lambda profile: profile["data"].update(official_validation_clips=2))
    return [], "data.official_validation_clips: 2 of 2 training clips cannot be held out"


BAD_INPUT = [
    no_folder,
    file_for_a_folder,
    unknown_layout,
    empty_class,
    truncated_frame,
    truncated_image,
    missing_frame,
    interval_outside_the_clip,
    unknown_key,
    missing_key,
    wrong_type,
    broken_yaml,
    profile_of_another_project,
    unknown_profile,
    seed_in_words,
    jobs_in_words,
    derived_is_a_file,
    absent_perceptual_file,
    absent_perceptual_file_in_the_profile,
]


@pytest.mark.parametrize("spoil", BAD_INPUT, ids=lambda spoil: spoil.__name__)
def test_bad_input_is_one_line(root, spoil):
    arguments, expected = spoil(root)
    done = configure(root, *arguments)
    lines = shown(done.stderr)
    assert done.returncode == 1, done.stderr
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert expected in lines[0]
    assert not (root / "data" / "derived" / "run.json").exists()
    assert not (root / "data" / "derived" / "run.mk").exists()
    assert not list(root.rglob("notes.json")), "prepared frames look whole"
    assert not list(root.rglob("*.part*")), "left something behind"


@pytest.mark.parametrize("spoil", [too_few_images, too_many_held_out_clips], ids=lambda spoil: spoil.__name__)
def test_split_that_cannot_be_made_is_one_line(root, spoil):
    """The frames themselves are fine and stay prepared."""
    arguments, expected = spoil(root)
    done = configure(root, *arguments)
    (line,) = shown(done.stderr)
    assert done.returncode == 1
    assert line.startswith(f"error: {expected}")
    assert not (root / "data" / "derived" / "run.json").exists()


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is not installed")
def test_disk_that_fills_up_is_one_line_and_leaves_nothing(root):
    arguments = ["configure", "--profile", "tiny", "--dataset", "synthetic"]
    done = command(root, *arguments, largest_file_bytes=10_000)
    lines = shown(done.stderr)
    assert (done.returncode, len(lines)) == (1, 1), done.stderr
    assert lines[0].startswith(f"error: cannot write {root / 'data' / 'derived' / 'frames' / 'synthetic_'}")
    assert lines[0].endswith("; free space or make the folder writable, then run again")
    assert [path.name for path in (root / "data").rglob("*") if path.is_file()] == ["run.lock"]
    assert list((root / "data" / "derived" / "frames").iterdir()) == []
    assert command(root, *arguments).returncode == 0, "and with room it goes on"


def test_good_input_passes_where_bad_input_fails(root):
    """What the cases above spoil is fine before they do."""
    write_ped2(root / "ped2")
    done = configure(root, "--data-root", "ped2")
    assert (done.returncode, shown(done.stderr)) == (0, [""]), done.stderr
    settings = read_json(root / "data" / "derived" / "run.json")
    assert (settings["dataset"], settings["data_root"]) == ("ucsd_ped2", "ped2")
    assert len(list(root.rglob("notes.json"))) == 1


def test_bad_input_leaves_an_earlier_run_alone(root):
    assert configure(root).returncode == 0
    files = [root / "data" / "derived" / name for name in ("run.json", "run.mk")]
    before = [path.read_bytes() for path in files]
    assert configure(root, "--data-root", "nowhere").returncode == 1
    assert [path.read_bytes() for path in files] == before


def test_folder_of_odd_images_is_accepted(root):
    write_image_folder(root / "my images")
    done = configure(root, "--data-root", "my images")
    assert done.returncode == 0, done.stderr
    assert "data      folder: " in done.stdout
    assert shown(done.stderr) == [""]
    assert "04_score_vqvae_gpt2_official" not in (root / "data" / "derived" / "run.mk").read_text()
    settings = read_json(root / "data" / "derived" / "run.json")
    assert (settings["dataset"], settings["data_root"]) == ("folder", "my images")
    prepared = next((root / "data" / "derived" / "frames").glob("folder_*"))
    images = np.load(prepared / "frames.npy")
    assert (images.shape, images.dtype) == ((22, 3, SIZE_PX, SIZE_PX), np.uint8)
    assert all(len(np.unique(image)) > 1 for image in images), "an image came out blank"
    labels = pd.read_parquet(prepared / "index.parquet")["label"]
    assert labels.tolist() == [0] * 12 + [1] * 10


def test_synthetic_data_have_both_schemes(root):
    assert configure(root, "--dataset", "synthetic").returncode == 0
    assert "04_score_vqvae_gpt2_official" in (root / "data" / "derived" / "run.mk").read_text()


def test_stage_before_configure_is_one_line(root):
    done = command(root, "stage", "00_data")
    assert done.returncode == 1
    assert len(shown(done.stderr)) == 1
    assert done.stderr.startswith(
        f"error: no {root / 'data' / 'derived' / 'run.json'}, or by an older version; run `make paper` "
    )


def test_outside_the_repository_is_one_line(tmp_path):
    done = command(tmp_path, "configure")
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path} is not inside the vqad repository; change into it or set VQAD_ROOT\n"


def test_ctrl_c_is_one_line(root):
    """Also where the tests run in the background, where a shell lets its jobs ignore the key press."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        environment = os.environ | {"VQAD_ROOT": str(root), "PYTHONPATH": str(REPOSITORY)}
        line = [sys.executable, "-m", "vqad_lib", "configure", "--profile", "tiny"]
        process = subprocess.Popen(line, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    while not (root / "data" / "derived" / "run.lock").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)  # the data come next
    stderr = process.communicate(timeout=600)[1].decode()
    assert (process.returncode, shown(stderr)[-1]) == (130, "stopped; the same command goes on from here")
