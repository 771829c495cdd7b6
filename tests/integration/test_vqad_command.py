"""`vqad` as a person types it: outside of the repository, and on two processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = ["--image-size-px", "32", "--epochs", "1"]
pytestmark = pytest.mark.slow


def run(*command: str, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("VQAD_")}
    environment |= {"PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with images and a model of them, fitted there."""
    folder = tmp_path_factory.mktemp("own")
    draw = np.random.default_rng(0)
    for name, n in (("normal", 24), ("others", 70)):
        (folder / name).mkdir()
        for i in range(n):
            Image.fromarray(draw.integers(90, 160, (40, 48), dtype=np.uint8)).save(folder / name / f"{i:03}.png")
    said = run("-m", "vqad", "fit", "normal", "--out", "model", *SMALL, cwd=folder)
    assert "images    normal: 24 images" in said
    return folder


def test_two_processes_write_the_table_of_one(place):
    run("-m", "vqad", "score", "model", "others", "--out", "one.csv", cwd=place)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run(*torchrun, "-m", "vqad_lib", "score", "model", "others", "--out", "two.csv", cwd=place)
    assert (place / "two.csv").read_text() == (place / "one.csv").read_text()
    assert sorted(path.name for path in place.glob("*.csv*")) == ["one.csv", "two.csv"]


def test_info_prints_the_card(place):
    assert "fitted to 24 normal images" in run("-m", "vqad", "info", "model", cwd=place)


def test_a_reader_that_has_read_enough_is_no_fault(place):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "vqad", "info", "model"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=place, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
