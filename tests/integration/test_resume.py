"""A run that was killed at any point and started again leaves the files of an unbroken one, byte for byte."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from vqad_lib.detectors.chunks import nll_of_frames
from vqad_lib.detectors.scoring import RESTORATIONS
from vqad_lib.errors import VqadError
from vqad_lib.experiment.networks import load_detectors, train_combination
from vqad_lib.experiment.run import Run, open_run
from vqad_lib.experiment.scores import score_combination
from vqad_lib.models.blocks import to_unit_range

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
EPOCHS = 8
NAMES = {"autoencoder": "vqvae", "prior": "pixelsnail", "scheme": "paper"}
KILLED = [  # the network's folder, the file there, how often it comes into being before, the epoch to resume after
    ("vqgan_*", ".checkpoint.*.part.pt", 2, 2),  # a checkpoint that is not in its place yet
    ("vqvae_????????????", "checkpoint.pt", 0, 1),
    ("vqvae_pixelsnail_*", ".checkpoint.*.part.pt", 3, 3),
]
SCRIPT = """
import os
import signal
import sys
from pathlib import PurePath

from vqad_lib.training import loop
from vqad_lib.experiment import networks
from vqad_lib.experiment.run import open_run
from vqad_lib.experiment.scores import score_combination

replace = os.replace


def die_at(path):
    if PurePath(path).match(sys.argv[1]):
        sys.argv[2] = int(sys.argv[2]) - 1
        if sys.argv[2] < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def replace_or_die(source, target):
    die_at(source)
    replace(source, target)
    die_at(target)


if sys.argv[1:]:
    os.replace = replace_or_die
loop.CHECKPOINT_EVERY_S = -1.0
run = open_run("tiny")
networks.train_autoencoder(run, autoencoder="vqgan", scheme="paper")
names = {"autoencoder": "vqvae", "prior": "pixelsnail", "scheme": "paper"}
networks.train_combination(run, **names)
score_combination(run, **names)
"""


def write_profile(root: Path, **detectors: float) -> dict:
    """The smoke profile, smaller, with a few more epochs to be killed in."""
    profile = yaml.safe_load((REPOSITORY / "profiles" / "smoke.yaml").read_text(encoding="utf-8"))
    profile |= {"name": "tiny", "threads_per_stage": 1}
    profile["data"] |= {
        "official_validation_clips": 1,
        "synthetic": {"train_clips": 3, "test_clips": 3, "frames_per_clip": 16, "seed": 0},
    }
    for training in profile["training"].values():
        training |= {"max_epochs": EPOCHS, "batch_size": 8, "patience": 100}
    profile["detectors"] |= {"chunk_images": 3, "memory_budget_mb": 256, **detectors}
    (root / "profiles" / "tiny.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    return profile


def make_root(root: Path) -> Path:
    """A repository of its own: nobody's edits, and nobody's trained networks, reach it."""
    (root / "profiles").mkdir(parents=True)
    (root / "notebooks").mkdir()
    shutil.copytree(REPOSITORY / "vqad_lib", root / "vqad_lib", ignore=shutil.ignore_patterns("__pycache__"))
    write_profile(root)
    return root


def run_script(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {
        "VQAD_ROOT": str(root),
        "PYTHONPATH": str(root),
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("VQAD_PROGRESS_FILE", None)
    command = [sys.executable, "-c", SCRIPT, *arguments]
    streams = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.run(command, cwd=root, env=environment, check=False, **streams)


def run_to_the_end(root: Path) -> str:
    done = run_script(root)
    assert done.returncode == 0, done.stdout
    return done.stdout


def kill_once(root: Path, pattern: str, after: int = 0) -> str:
    """Let the run be ended by SIGKILL as soon as such a file is there, after so many; return what it had printed."""
    done = run_script(root, pattern, str(after))
    assert done.returncode == -signal.SIGKILL, done.stdout
    return done.stdout


def networks(root: Path) -> Path:
    return root / "data" / "derived" / "tiny" / "synthetic" / "seed_0" / "paper"


def epoch_of(folder: Path) -> int:
    """The epoch of the checkpoint."""
    return torch.load(folder / "checkpoint.pt", weights_only=True)["epoch"]


def only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    assert len(found) == 1, f"{pattern}: {found}"
    return found[0]


def results(root: Path) -> dict[str, bytes]:
    """Content of the networks and scores, by path."""
    found = sorted(networks(root).rglob("*.safetensors")) + sorted((root / "reports").rglob("*.parquet"))
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def stamps(root: Path) -> dict[str, int]:
    """When each network was written."""
    return {path.name: path.stat().st_mtime_ns for path in networks(root).rglob("*.safetensors")}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_root(tmp_path_factory.mktemp("unbroken"))
    assert "resuming" not in run_to_the_end(root)
    return root


@pytest.fixture
def opened(unbroken: Path, monkeypatch: pytest.MonkeyPatch):
    """Open the unbroken run in this process, with some of its detectors' settings changed."""
    monkeypatch.setenv("VQAD_ROOT", str(unbroken))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def open_with(**changed: float) -> Run:
        write_profile(unbroken, **changed)
        return open_run("tiny")

    yield open_with
    write_profile(unbroken)


@pytest.mark.stress
def test_killed_run_equals_unbroken(unbroken, tmp_path):
    root, resumed = make_root(tmp_path / "broken"), []
    for pattern, at, before, epoch in KILLED:
        said = kill_once(root, f"{pattern}/{at}", before)
        assert all(f"after epoch {earlier} of at most {EPOCHS}" in said for earlier in resumed), said
        resumed = [epoch]
        folder = only(networks(root), pattern)
        assert epoch_of(folder) == epoch
        assert not (folder / "done.json").exists()
        assert not list(folder.glob("*.safetensors")), f"{folder.name} has weights that look final"
    assert f"after epoch {epoch} of at most {EPOCHS}" in kill_once(root, "scores_*/[a-z]*.parquet")
    parts = {path: path.stat().st_mtime_ns for path in networks(root).glob("scores_*/[a-z]*.parquet")}
    assert parts
    assert not list((root / "reports").rglob("*.parquet")), "scores look final although the run was killed"
    run_to_the_end(root)

    expected = results(unbroken)
    assert sorted(Path(name).name for name in expected) == [
        "discriminator.safetensors",
        "pixelsnail.safetensors",
        "vqgan.safetensors",
        "vqvae.safetensors",
        "vqvae_pixelsnail.parquet",
    ]
    found = results(root)
    assert [name for name in expected if found.get(name) != expected[name]] == []
    assert sorted(found) == sorted(expected)
    assert {path: path.stat().st_mtime_ns for path in parts} == parts, "finished chunks were computed again"
    for curves in networks(unbroken).rglob("curves.csv"):
        other = networks(root) / curves.relative_to(networks(unbroken))
        pd.testing.assert_frame_equal(
            pd.read_csv(curves).drop(columns="seconds"), pd.read_csv(other).drop(columns="seconds"), check_exact=True
        )
        assert len(pd.read_csv(curves)) == EPOCHS


def test_finished_run_does_nothing_again(unbroken):
    before = results(unbroken)
    times = stamps(unbroken)
    parts = {path: path.stat().st_mtime_ns for path in networks(unbroken).glob("scores_*/[a-z]*.parquet")}
    assert len(times) == 4
    assert parts
    run_to_the_end(unbroken)
    assert results(unbroken) == before
    assert stamps(unbroken) == times
    assert {path: path.stat().st_mtime_ns for path in networks(unbroken).glob("scores_*/[a-z]*.parquet")} == parts


@pytest.mark.parametrize(("memory_budget_mb", "chunk_images"), [(1e-6, 3), (256, 7), (2.5, 64)])
def test_scores_do_not_depend_on_batching(unbroken, opened, memory_budget_mb, chunk_images):
    path = unbroken / "reports" / "tiny" / "synthetic" / "scores" / "paper" / "vqvae_pixelsnail.parquet"
    kept, times = path.read_bytes(), stamps(unbroken)
    expected = pd.read_parquet(path)
    found = score_combination(opened(memory_budget_mb=memory_budget_mb, chunk_images=chunk_images), **NAMES)
    path.write_bytes(kept)
    assert stamps(unbroken) == times, "a setting of the detectors trained a network anew"
    key = ["split", "detector", "threshold_percentile", "image_id"]
    expected, found = (scores.sort_values(key).reset_index(drop=True) for scores in (expected, found))
    assert expected["score"].nunique() > 100
    # sample-wise scores are sums of up to some hundred nats, so 1e-6 of the value is the last bit of a float32
    pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("detector", list(RESTORATIONS))
def test_restored_codes_do_not_depend_on_batching(opened, detector):
    run = opened()
    rows = np.flatnonzero(run.splits("paper") == "test")
    ids = run.frames.index["image_id"].iloc[rows].tolist()
    scorer = load_detectors(run, **NAMES)
    with torch.no_grad():
        codes = scorer.autoencoder.encode(to_unit_range(run.images(rows)))
    threshold = (
        float(np.percentile(nll_of_frames(scorer, run.frames.images, rows), 70)) + 1e-4
    )  # off every value of the data
    options = {"detector": detector, "thresholds_nats": [threshold]}
    together = scorer.restored_codes(codes, ids, **options)[:, 0]
    assert 0.05 < (together != codes[:, None]).float().mean() < 0.95
    assert (together[:, 0] != together[:, 1]).any(), "restorations of an image should differ"
    small = load_detectors(opened(memory_budget_mb=1e-6), **NAMES)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
    for start_at in range(0, len(order), 5):
        picked = order[start_at : start_at + 5]
        alone = small.restored_codes(codes[picked], [ids[i] for i in picked], **options)[:, 0]
        assert torch.equal(alone, together[picked])


@pytest.mark.usefixtures("opened")
def test_evaluation_alone_needs_no_training(unbroken):
    path = unbroken / "reports" / "tiny" / "synthetic" / "scores" / "paper" / "vqvae_pixelsnail.parquet"
    kept, times, before = path.read_bytes(), stamps(unbroken), set(networks(unbroken).iterdir())
    profile = write_profile(unbroken)
    profile["evaluation"] |= {"unsupervised_percentile": 60, "bootstrap_resamples": 50}
    (unbroken / "profiles" / "tiny.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    run = open_run("tiny")
    assert run.profile.evaluation.unsupervised_percentile == 60
    scores = score_combination(run, **NAMES)
    path.write_bytes(kept)
    assert stamps(unbroken) == times
    assert {made.name.split("_")[0] for made in set(networks(unbroken).iterdir()) - before} == {"scores"}
    pd.testing.assert_frame_equal(scores, pd.read_parquet(path))


def test_code_decides_where_a_network_lies(unbroken, opened):
    """A network trained by other code is never found again; one with other comments is."""
    source = unbroken / "vqad_lib" / "losses" / "vq.py"
    times, text = stamps(unbroken), source.read_text(encoding="utf-8")
    before = set(networks(unbroken).iterdir())
    source.write_text(text + "\n# a comment\n", encoding="utf-8")
    load_detectors(opened(), **NAMES)
    assert stamps(unbroken) == times
    source.write_text(text + "\nUNUSED = 1\n", encoding="utf-8")
    try:
        with pytest.raises(VqadError, match="not trained yet"):
            load_detectors(opened(), **NAMES)
        train_combination(opened(), **NAMES)
        made = set(networks(unbroken).iterdir()) - before
        assert sorted(folder.name[:-13] for folder in made) == ["vqvae", "vqvae_pixelsnail"]
    finally:
        source.write_text(text, encoding="utf-8")
        for folder in set(networks(unbroken).iterdir()) - before:
            shutil.rmtree(folder)
