"""Where results come from: everything a reader needs is recorded, and nothing is guessed."""

import json
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from vqad_lib import __version__
from vqad_lib.errors import VqadError
from vqad_lib.files import read_json, write_json
from vqad_lib.workflow.finish import facts_for_people
from vqad_lib.workflow.provenance import PACKAGES, code_revision, write_provenance

REPOSITORY = Path(__file__).resolve().parents[2]
SETTINGS = {"profile": "tiny", "dataset": "synthetic", "data_root": "", "seed": "5", "perceptual": "random"}
SETTINGS |= {"results": "tiny/synthetic"}
STAGES = ["00_data", "02_train_vqvae"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("notebooks", "profiles", "vqad_lib"):
        (tmp_path / folder).mkdir()
    profile = yaml.safe_load((REPOSITORY / "profiles" / "smoke.yaml").read_text(encoding="utf-8")) | {"name": "tiny"}
    (tmp_path / "profiles" / "tiny.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    write_json(tmp_path / "data" / "derived" / "run.json", SETTINGS | {"data_digest": "d" * 64})
    for stage, seconds, started in ((STAGES[0], 2.5, 100), (STAGES[1], 40.25, 103)):
        times = {"seconds": seconds, "started_at": started, "finished_at": started + int(seconds), "sitting": 95}
        revision = {"git_revision": "r" * 40, "git_changes": False}
        manifest = {"stage": stage, "inputs": "i" * 64, "outputs": [], **times, **revision}
        write_json(tmp_path / "data" / "derived" / "tiny" / "synthetic" / "manifests" / f"{stage}.json", manifest)
    monkeypatch.setenv("VQAD_ROOT", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path.parent / "gitconfig").touch()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path.parent / "gitconfig"))  # nobody's hooks, templates, signatures
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return tmp_path


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_fields(root):
    provenance = write_provenance(root, STAGES)
    assert provenance == read_json(root / "reports" / "tiny" / "synthetic" / "provenance.json")
    assert sorted(provenance) == [
        "data_digest",
        "dataset",
        "git_changes",
        "git_revision",
        "hardware",
        "perceptual",
        "profile",
        "python",
        "results",
        "seed",
        "seeds",
        "sittings",
        "stage_seconds_total",
        "stages",
        "versions",
        "vqad",
        "wall_seconds",
    ]
    assert provenance["vqad"] == __version__
    assert (provenance["profile"], provenance["dataset"], provenance["seed"]) == ("tiny", "synthetic", 5)
    assert provenance["data_digest"] == "d" * 64
    assert provenance["python"] == platform.python_version()
    assert provenance["stages"] == {
        "00_data": {"seconds": 2.5, "sitting": 1},
        "02_train_vqvae": {"seconds": 40.25, "sitting": 1},
    }
    assert provenance["stage_seconds_total"] == pytest.approx(42.75, abs=0.06)
    assert (provenance["sittings"], provenance["wall_seconds"]) == (1, 143 - 95)


def test_versions_are_those_installed(root):
    versions = write_provenance(root, STAGES)["versions"]
    assert {"torch", "numpy", "transformers", "scikit-learn", "pandas"} <= set(versions)
    assert versions == {package: version(package) for package in PACKAGES}


def test_hardware(root):
    hardware = write_provenance(root, STAGES)["hardware"]
    assert sorted(hardware) == ["cores", "cpu", "gpus", "system"]
    assert hardware["cores"] >= 1
    assert isinstance(hardware["gpus"], list)
    assert platform.system() in hardware["system"]
    assert hardware["cpu"].strip() == hardware["cpu"] != ""


def test_says_that_the_perceptual_network_is_random(root):
    assert "random weights" in write_provenance(root, STAGES)["perceptual"]
    write_json(root / "data" / "derived" / "run.json", SETTINGS | {"data_digest": "d" * 64, "perceptual": "none"})
    assert "random" not in write_provenance(root, STAGES)["perceptual"]


def test_no_path_of_this_machine(root):
    text = json.dumps(write_provenance(root, STAGES))
    assert str(root) not in text
    assert str(Path.home()) + "/" not in text


def change(root: Path, stage: str, **fields: object) -> None:
    manifest = root / "data" / "derived" / "tiny" / "synthetic" / "manifests" / f"{stage}.json"
    write_json(manifest, read_json(manifest) | fields)


def test_revision_is_that_of_the_stage_that_ended_last(root):
    change(root, STAGES[0], git_revision="a" * 40, git_changes=True)
    provenance = write_provenance(root, STAGES)
    assert provenance["git_revision"] == "r" * 40
    assert provenance["git_changes"] is True, "one of the stages ran with code that was not committed"


def test_revision_outside_git(root):
    assert code_revision(root) == {"git_revision": "unknown", "git_changes": False}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_revision_inside_git(root):
    (root / "vqad_lib" / "a.py").write_text("A = 1\n")
    git(root, "init", "-q")
    git(root, "add", "vqad_lib", "profiles")
    git(root, "commit", "-q", "-m", "first")
    head = git(root, "rev-parse", "HEAD")
    assert code_revision(root) == {"git_revision": head, "git_changes": False}, "derived data are no change of the code"
    (root / "vqad_lib" / "a.py").write_text("A = 2\n")
    assert code_revision(root) == {"git_revision": head, "git_changes": True}


def test_sittings_are_counted_and_the_pause_between_them_is_not(root):
    """One notebook was executed again three days later."""
    later = 100 + 3 * 24 * 3600
    change(root, STAGES[0], started_at=later, finished_at=later + 2, sitting=later - 8)
    provenance = write_provenance(root, STAGES)
    assert (provenance["sittings"], provenance["wall_seconds"]) == (2, 40 + 2)
    assert [provenance["stages"][stage]["sitting"] for stage in STAGES] == [2, 1]


def test_stages_side_by_side_count_once(root):
    change(root, STAGES[0], started_at=110, finished_at=120, sitting=105)  # inside 103..143
    assert write_provenance(root, STAGES)["wall_seconds"] == 40


def test_facts_for_people(root):
    provenance = write_provenance(root, STAGES) | {"wall_seconds": 1038}
    provenance["hardware"] = {"cores": 2, "cpu": "A CPU", "gpus": [], "system": "Linux x86_64"}
    facts = facts_for_people(provenance)
    assert facts["time"] == "17.3 min"
    assert facts["hardware"] == "A CPU, 2 cores, no GPU, Linux x86_64"
    assert facts["code"] == f"vqad {__version__}, revision {'r' * 40}"
    assert (facts["seed"], provenance["seeds"]) == (5, [5])
    assert "seeds" not in facts
    several = facts_for_people(provenance | {"seeds": [5, 6, 7]})
    assert several["seeds"] == [5, 6, 7]
    assert "seed" not in several
    facts = facts_for_people(provenance | {"sittings": 3, "git_changes": True})
    assert facts["time"] == "17.3 min in which a notebook ran, put together from 3 sittings"
    assert facts["code"].endswith(", with changes that are not committed")


def test_stage_that_has_not_run_is_named(root):
    with pytest.raises(VqadError, match=r"cannot read .*04_score\.json"):
        write_provenance(root, [*STAGES, "04_score"])
    assert not (root / "reports").exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_new_module_counts_as_a_change_whatever_git_shows_the_user(root):
    git(root, "init", "--quiet")
    git(root, "commit", "--quiet", "--allow-empty", "--message=none")
    git(root, "config", "status.showUntrackedFiles", "no")
    (root / "vqad_lib").mkdir(exist_ok=True)
    (root / "vqad_lib" / "new.py").touch()
    assert code_revision(root)["git_changes"] is True
