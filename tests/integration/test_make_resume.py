"""`make paper` killed in mid-training and in mid-scoring, then run again, against an unbroken run: `make stress`.

Minutes long, so the test command leaves it out; test_resume.py has the same at library level.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from vqad_lib.files import read_json

REPOSITORY = Path(__file__).resolve().parents[2]
TIMES = ("table_10", "table_25", "table_26", "table_27")  # running times, which no two runs share
KILL_WHEN_THERE_IS = [
    "vqgan_*/checkpoint.pt",  # between two epochs of an autoencoder
    "vqgan_gpt2_*/checkpoint.pt",  # of a prior
    "scores_*/validation_*.parquet",  # between two chunks of scores
]

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(3600),
]


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[list[Path]]:
    """Two copies of the repository in which every epoch is saved; the smoke profile with fewer frames."""
    folders = [tmp_path / name for name in ("unbroken", "killed")]
    for folder in folders:
        folder.mkdir()
        for name in ("notebooks", "profiles", "vqad", "vqad_lib"):
            shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(REPOSITORY / "data" / "paper", folder / "data" / "paper")
        shutil.copy(REPOSITORY / "Makefile", folder)
        profile = folder / "profiles" / "smoke.yaml"
        content = yaml.safe_load(profile.read_text(encoding="utf-8"))
        content["data"]["synthetic"] |= {"train_clips": 4, "test_clips": 2, "frames_per_clip": 16}
        content["detectors"]["chunk_images"] = 8
        profile.write_text(yaml.safe_dump(content), encoding="utf-8")
        loop = folder / "vqad_lib" / "training" / "loop.py"
        before = loop.read_text(encoding="utf-8")
        after = before.replace("CHECKPOINT_EVERY_S = 30.0", "CHECKPOINT_EVERY_S = 0.0")
        assert after != before
        loop.write_text(after, encoding="utf-8")
    yield folders
    for folder in folders:
        kill(folder)


def start(root: Path) -> subprocess.Popen:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "VQAD_"))}
    environment |= {"PYTHONPATH": str(root), "VQAD_ROOT": str(root)}
    line = ["make", "paper", "PROFILE=smoke", f"PYTHON={sys.executable}"]
    return subprocess.Popen(line, cwd=root, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)


def kill(root: Path) -> int:
    """SIGKILL for make and everything it started, until nothing is left; returns how many processes that were."""
    total = 0
    while found := started_by(root):
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        total += len(found)
        time.sleep(0.1)
    return total


def started_by(root: Path) -> list[int]:
    """Kernels have sessions of their own, so processes are told by VQAD_ROOT in their environment."""
    mark, found = f"VQAD_ROOT={root}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def results(root: Path) -> dict[str, bytes]:
    reports, figures = (root / kind / "smoke" / "synthetic" for kind in ("reports", "figures"))
    paths = [*reports.glob("tables/*"), *reports.glob("scores/*/*"), *figures.glob("*")]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths if path.stem not in TIMES}


def test_killed_and_gone_on_with_gives_the_same_results(copies):
    unbroken, killed = copies
    assert start(unbroken).wait() == 0
    for pattern in KILL_WHEN_THERE_IS:
        run = start(killed)
        while not list((killed / "data" / "derived" / "smoke" / "synthetic" / "seed_0").glob(f"*/{pattern}")):
            assert run.poll() is None, f"ended before there was {pattern}"
            time.sleep(0.01)
        assert kill(killed) > 1
        run.wait()
        assert not (killed / "reports" / "smoke" / "synthetic" / "index.html").exists()
    assert start(killed).wait() == 0
    expected = results(unbroken)
    assert len(expected) > 80
    assert {name for name, content in results(killed).items() if expected.get(name) != content} == set()
    assert results(killed).keys() == expected.keys()
    assert read_json(unbroken / "reports" / "smoke" / "synthetic" / "provenance.json")["time"].endswith("in 1 run(s)")
    assert "in 1 run" not in read_json(killed / "reports" / "smoke" / "synthetic" / "provenance.json")["time"]
    manifests = sorted((killed / "data" / "derived" / "smoke" / "synthetic" / "manifests").glob("*.json"))
    before = [path.stat().st_mtime_ns for path in manifests]
    assert start(killed).wait() == 0
    assert [path.stat().st_mtime_ns for path in manifests] == before, "the run after that has nothing to do"
