"""Where results come from: everything a reader needs is recorded, and nothing is guessed."""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from vqad_lib import __version__
from vqad_lib.errors import VqadError
from vqad_lib.files import read_json, write_json
from vqad_lib.pipeline.graph import expand
from vqad_lib.pipeline.notebooks import code_revision
from vqad_lib.pipeline.provenance import PACKAGES, made_by, report_so_far, write_provenance

REPOSITORY = Path(__file__).resolve().parents[2]
SETTINGS = {"profile": "tiny", "dataset": "synthetic", "data_root": "", "seed": "5", "perceptual": "random"}
SETTINGS |= {"results": "tiny/synthetic", "started": "95", "jobs": "1"}
STAGES = ["00_data", "02_train_vqvae"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("notebooks", "profiles", "vqad_lib"):
        (tmp_path / folder).mkdir()
    profile = yaml.safe_load((REPOSITORY / "profiles" / "smoke.yaml").read_text(encoding="utf-8")) | {"name": "tiny"}
    (tmp_path / "profiles" / "tiny.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    write_json(tmp_path / "data" / "derived" / "run.json", SETTINGS | {"data_digest": "d" * 64})
    for stage, seconds in zip(STAGES, (2.5, 39.5), strict=True):
        manifest = {"inputs": "i" * 64, "outputs": [], "seconds": seconds, "run": "95", "code": "r" * 40}
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
    assert {key: provenance[key] for key in ("profile", "dataset", "seeds")} == {
        "profile": "tiny",
        "dataset": "synthetic",
        "seeds": [5],
    }
    assert provenance["data_digest"] == "d" * 64
    assert provenance["python"] == platform.python_version()
    assert provenance["stages"] == {"00_data": {"seconds": 2.5}, "02_train_vqvae": {"seconds": 39.5}}
    assert provenance["time"] == "0.7 min for all notebooks together, in 1 run(s)"
    assert provenance["code"] == f"vqad {__version__}, revision {'r' * 40}"


def test_versions_are_those_installed(root):
    versions = write_provenance(root, STAGES)["versions"]
    assert {"torch", "numpy", "transformers", "scikit-learn", "pandas"} <= set(versions)
    assert versions == {package: version(package) for package in PACKAGES}


def test_hardware(root):
    hardware = write_provenance(root, STAGES)["hardware"]
    assert re.fullmatch(rf".+, \d+ cores, .+, {platform.system()} {platform.machine()}", hardware)


def test_says_that_the_perceptual_network_is_random(root):
    assert "random weights" in write_provenance(root, STAGES)["perceptual"]
    write_json(root / "data" / "derived" / "run.json", SETTINGS | {"data_digest": "d" * 64, "perceptual": "none"})
    assert "random" not in write_provenance(root, STAGES)["perceptual"]


def test_weights_are_named_by_their_digest(root, tmp_path):
    (tmp_path / "vgg16.pth").write_bytes(b"weights")
    for weights, digest in ((str(tmp_path / "vgg16.pth"), hashlib.sha256(b"weights").hexdigest()), ("hed", "0df5a5c0")):
        settings = SETTINGS | {"data_digest": "d" * 64, "perceptual": weights}
        write_json(root / "data" / "derived" / "run.json", settings)
        assert digest in write_provenance(root, STAGES)["perceptual_weights"]


def test_no_path_of_this_machine(root):
    text = json.dumps(write_provenance(root, STAGES))
    assert str(root) not in text
    assert str(Path.home()) + "/" not in text


def change(root: Path, stage: str, **fields: object) -> None:
    manifest = root / "data" / "derived" / "tiny" / "synthetic" / "manifests" / f"{stage}.json"
    write_json(manifest, read_json(manifest) | fields)


def test_revision_outside_git(root):
    assert code_revision(root) == "unknown"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_revision_inside_git(root):
    (root / "vqad_lib" / "a.py").write_text("A = 1\n")
    git(root, "init", "-q")
    git(root, "add", "vqad_lib", "profiles")
    git(root, "commit", "-q", "-m", "first")
    head = git(root, "rev-parse", "HEAD")
    assert code_revision(root) == head, "derived data are no change of the code"
    (root / "vqad_lib" / "a.py").write_text("A = 2\n")
    assert code_revision(root) == f"{head} with changes that are not committed"


def test_runs_and_revisions_are_all_named(root):
    """One notebook was executed again three days later."""
    change(root, STAGES[0], run="260000", code="a" * 40 + " with changes that are not committed")
    provenance = write_provenance(root, STAGES)
    assert provenance["time"].endswith(", in 2 run(s)")
    assert provenance["code"].endswith(f", revision {'a' * 40} with changes that are not committed, {'r' * 40}")


def test_stage_that_has_not_run_is_named(root):
    with pytest.raises(VqadError, match="of the last run 04_score has not ended, nor 0 others; go on with make paper"):
        write_provenance(root, [*STAGES, "04_score"])
    assert not (root / "reports").exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_new_module_counts_as_a_change_whatever_git_shows_the_user(root):
    git(root, "init", "--quiet")
    git(root, "commit", "--quiet", "--allow-empty", "--message=none")
    git(root, "config", "status.showUntrackedFiles", "no")
    (root / "vqad_lib").mkdir(exist_ok=True)
    (root / "vqad_lib" / "new.py").touch()
    assert code_revision(root).endswith("not committed")


def test_page_is_there_once_a_table_is(root):
    shutil.copy(REPOSITORY / "notebooks" / "notebooks.yaml", root / "notebooks")
    manifests, results = (root / place / "tiny" / "synthetic" for place in ("data/derived", "reports"))
    (manifests / "manifests" / "00_data.json").rename(manifests / "00_data.json")
    report_so_far(root)
    assert not results.exists(), "no stage that makes a table has ended"
    (manifests / "00_data.json").rename(manifests / "manifests" / "00_data.json")
    report_so_far(root)
    assert sorted(path.name for path in results.iterdir() if path.is_file()) == ["index.html", "summary.csv"]
    page = (results / "index.html").read_text(encoding="utf-8")
    assert re.search(r"When this page was written: 1 of \d\d notebooks after \S+, about \S+ left \(min:s\)\.", page)
    assert "08_seconds_per_image" in page
    for age, anew in ((30, False), (90, True)):
        (results / "index.html").write_text("the last one")
        os.utime(results / "index.html", (then := time.time() - age, then))
        report_so_far(root)
        assert ("08_seconds_per_image" in (results / "index.html").read_text()) is anew


def test_what_another_run_left_is_not_on_the_page(root):
    """The table of a target that this run has not reached, and those that its profile leaves out."""
    shutil.copy(REPOSITORY / "notebooks" / "notebooks.yaml", root / "notebooks")
    path = root / "profiles" / "tiny.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"capacity": None}), encoding="utf-8")
    tables = root / "reports" / "tiny" / "synthetic" / "tables"
    tables.mkdir(parents=True)
    for name in ("fidelity", "table_03", "leak", "of_mine"):
        (tables / f"{name}.csv").write_text("scheme,auroc\npaper,0.5\n")
    report_so_far(root)
    page = (tables.parent / "index.html").read_text(encoding="utf-8")
    assert [name for name in ("fidelity", "table_03", "leak", "of_mine") if f"tables/{name}.csv" in page] == [
        "leak",
        "of_mine",
    ]


def test_makers_are_found_with_and_without_parameters():
    table = {
        "02_train": {
            "grid": ["autoencoder", "replicate"],
            "outputs": ["figures/{results}/{replicate_folder}training_{autoencoder}.png"],
        },
        "06_results": {
            "outputs": ["reports/{results}/tables/table_06.csv", "figures/{results}/figure_06_curves.png"],
            "also": ["reports/{results}/tables/official_auroc.csv"],
        },
        "10_capacity_train": {
            "grid": ["latent_dim/codebook_size"],
            "outputs": ["reports/{results}/scores/capacity/d{latent_dim}_k{codebook_size}.parquet"],
        },
    }
    values = {"autoencoder": ["vqvae", "vqgan"], "replicate": ["0"], "latent_dim/codebook_size": ["16/32"]}
    values["replicate"] = ["0", "1"]
    assert made_by(expand(table, values)["paper"], table) == {
        "training_vqvae": "02_train_vqvae",
        "training_vqgan": "02_train_vqgan",
        "table_06": "06_results",
        "figure_06_curves": "06_results",
        "official_auroc": "06_results",
        "d16_k32": "10_capacity_train_16_32",
    }
