"""What `make lab` and `make bench` open, with which settings, and how JupyterLab is started."""

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from vqad_lib.files import write_json
from vqad_lib.pipeline import lab

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with the explorer's notebook, as it is committed, and nothing run."""
    (tmp_path / "notebooks").mkdir()
    for name in ("30_explore.ipynb", "notebooks.yaml"):
        shutil.copy(REPOSITORY / "notebooks" / name, tmp_path / "notebooks")
    return tmp_path


def ran(root: Path, profile: str, dataset: str, *, seed: str, at: int) -> None:
    """What `make paper` leaves of its choice, so many seconds after the epoch."""
    path = root / "data" / "derived" / profile / dataset / "run.json"
    known = {"profile": profile, "dataset": dataset, "data_root": "", "seed": seed, "perceptual": "random"}
    write_json(path, known | {"seeds": "1", "data_digest": "d", "results": f"{profile}/{dataset}"})
    os.utime(path, (at, at))


def test_nothing_was_run(root):
    assert lab.as_in_the_last_run(root, {"profile": "", "seed": ""}) == {"profile": "smoke"}
    assert lab.as_in_the_last_run(root, {"profile": "demo", "seed": "3"}) == {"profile": "demo", "seed": "3"}


def test_the_last_run_is_taken(root):
    ran(root, "demo", "synthetic", seed="0", at=200)
    ran(root, "demo", "ucsd_ped2", seed="7", at=300)
    ran(root, "paper", "ucsd_ped2", seed="1", at=100)
    found = lab.as_in_the_last_run(root, {})
    wanted = {"profile": "demo", "dataset": "ucsd_ped2", "data_root": "", "seed": "7", "perceptual": "random"}
    assert found == wanted


def test_the_smoke_run_of_make_test_does_not_hide_another(root):
    ran(root, "smoke", "synthetic", seed="0", at=200)
    assert lab.as_in_the_last_run(root, {})["profile"] == "smoke"
    ran(root, "demo", "synthetic", seed="5", at=100)
    assert lab.as_in_the_last_run(root, {})["seed"] == "5"
    assert lab.as_in_the_last_run(root, {"profile": "smoke"})["seed"] == "0"


def test_what_is_given_picks_the_run_and_wins(root):
    ran(root, "demo", "synthetic", seed="4", at=100)
    ran(root, "demo", "ucsd_ped2", seed="7", at=300)
    assert lab.as_in_the_last_run(root, {"dataset": "synthetic"})["seed"] == "4"
    here = {key: value for key, value in lab.as_in_the_last_run(root, {}).items() if key != "data_root"}
    whole = {"data_root": str(root / "elsewhere" / "images"), "seed": "05", "dataset": "auto"}
    run = here | {"profile": "demo", "seed": "5", "data_root": "elsewhere/images"}
    write_json(root / "data" / "derived" / "demo" / "folder_images" / "run.json", run)
    assert lab.as_in_the_last_run(root, whole)["profile"] == "demo", "paths and numbers may be written another way"
    found = lab.as_in_the_last_run(root, {"seed": "77", "dataset": "ucsd_ped2"})
    assert (found["profile"], found["seed"]) == ("demo", "77"), "networks of another seed lie beside those of the last"
    found = lab.as_in_the_last_run(root, {"profile": "paper", "seed": "9"})  # which never ran
    assert found == {"profile": "paper", "seed": "9"}
    assert lab.as_in_the_last_run(root, whole)["data_root"] == "elsewhere/images", "as the run has it"
    found = lab.as_in_the_last_run(root, {"data_root": "elsewhere/others"})
    assert found == {"profile": "demo", "data_root": "elsewhere/others"}


@pytest.mark.parametrize(("seed", "said"), [("7", False), ("8", True)])
def test_it_is_said_that_no_run_has_the_settings(root, monkeypatch, capsys, seed, said):
    """Nothing is trained then, as it is in the smoke profile: the notebook names the command."""
    ran(root, "demo", "ucsd_ped2", seed="7", at=300)
    monkeypatch.setattr(os, "execv", lambda *_: None)
    lab.start_lab(root, {"seed": seed}, [])
    assert ("note      no run has just these settings; " in capsys.readouterr().out) is said


def test_first_page_is_of_the_last_run_and_leads_to_the_copy(root):
    ran(root, "demo", "synthetic", seed="7", at=300)
    stages = {"30_explore": {"seconds": 30}, "30_explore_twice": {"seconds": 60}, "30_explored": {"seconds": 999}}
    write_json(root / "reports" / "demo" / "synthetic" / "provenance.json", {"stages": stages, "hardware": "an abacus"})
    copy = lab.working_copy(root, {"profile": "demo"})
    page = lab.first_page(root, {"profile": "demo", "seed": "7"}, copy)
    about, table = (cell.source for cell in nbformat.read(page, as_version=4).cells)
    assert f"[30_explore]({copy.name})" in about
    assert "profile `demo`, data `synthetic`, an abacus" in about
    assert "| [30_explore](../../../notebooks/30_explore.ipynb) | What happens if the threshold moves? |" in table
    assert table.endswith("| 1.5 in 2 runs |")


def test_first_page_where_nothing_was_run(root):
    about = nbformat.read(lab.first_page(root, {}, root / "x.ipynb"), as_version=4).cells[0].source
    assert "not yet at an end" in about


def test_the_copy_has_the_settings_and_no_outputs(root):
    source = root / "notebooks" / "30_explore.ipynb"
    before = source.read_bytes()
    copy = lab.working_copy(root, {"profile": "demo", "data_root": "my 'own' images"})
    assert source.read_bytes() == before
    assert copy.parent == root / "data" / "derived" / "lab"
    notebook = nbformat.read(copy, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tags = [cell.metadata.get("tags", []) for cell in code]
    injected = tags.index(["injected-parameters"])
    assert "parameters" in tags[injected - 1]
    found: dict[str, str] = {}
    exec(code[injected - 1].source + "\n" + code[injected].source, found)
    assert (found["profile"], found["data_root"], found["seed"]) == ("demo", "my 'own' images", "")
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert "widgets" not in notebook.metadata


def test_what_was_added_to_the_copy_by_hand_stays(root):
    copy = lab.working_copy(root, {"profile": "demo"})
    notebook = nbformat.read(copy, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("my = 1", outputs=[nbformat.v4.new_output("stream", text="shown")]))
    nbformat.write(notebook, copy)
    assert lab.working_copy(root, {"profile": "demo"}) == copy
    again = nbformat.read(copy, as_version=4)
    assert (again.cells[-1].source, [output["text"] for output in again.cells[-1].outputs]) == ("my = 1", ["shown"])
    injected = next(cell for cell in again.cells if "injected-parameters" in cell.metadata.get("tags", []))
    injected.source = 'profile = "mine"'
    controls = {"application/vnd.jupyter.widget-view+json": {"model_id": "gone"}}
    again.cells[-1].outputs = [nbformat.v4.new_output("display_data", data=controls)]
    nbformat.write(again, copy)
    again = nbformat.read(lab.working_copy(root, {"profile": "demo"}), as_version=4)
    assert 'profile = "mine"' in [cell.source for cell in again.cells], "parameters changed by hand stay"
    assert again.cells[-1].outputs == []
    assert sum("injected-parameters" in cell.metadata.get("tags", []) for cell in again.cells) == 1
    assert lab.working_copy(root, {"profile": "smoke"}) != copy


@pytest.mark.parametrize(("user", "expected"), [(0, True), (1000, False)])
def test_root_may_start_it(monkeypatch, root, user, expected):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    line = lab.command(root, root / "data" / "derived" / "lab" / "a.ipynb", ["--port=9999"])
    assert line[:3] == [sys.executable, "-m", "jupyterlab"]
    assert ("--allow-root" in line) == expected
    assert "--LabApp.default_url=/lab/tree/data/derived/lab/a.ipynb" in line
    assert line[-1] == "--port=9999", "what a person asks for comes last, and wins"


@pytest.mark.parametrize("screen", ["", "DISPLAY", "WAYLAND_DISPLAY"])
def test_without_a_screen_no_browser_is_opened(monkeypatch, root, screen):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if screen:
        monkeypatch.setenv(screen, ":0")
    line = lab.command(root, root / "data" / "derived" / "lab" / "a.ipynb", [])
    assert ("--no-browser" in line) == (not screen)


def test_bench_takes_what_is_not_given_from_the_last_run_of_its_profile(root, monkeypatch):
    executed = []
    monkeypatch.setattr(lab, "execute_notebook", lambda *given: executed.append(given[1:]))
    monkeypatch.setattr(lab, "load_frames", lambda *_: SimpleNamespace(dataset="ped2"))
    page = lab.bench(root, {"profile": "", "seed": ""}, networks="")
    assert page == root / "reports" / "demo" / "ped2" / "bench" / "index.html"
    ran(root, "demo", "ucsd_ped2", seed="7", at=100)
    lab.bench(root, {"seed": "8"}, networks="")
    lab.bench(root, {"profile": "smoke", "seed": "3"}, networks="random")
    known = {"profile": "demo", "dataset": "ucsd_ped2", "data_root": "", "seed": "8", "perceptual": "random"}
    assert [parameters for _, parameters, _ in executed] == [
        {"profile": "demo"},
        known,
        {"profile": "smoke", "seed": "3", "networks": "random"},
    ]
    assert {(notebook, place.name) for notebook, _, place in executed} == {("20_benchmarks", "20_benchmarks.ipynb")}
