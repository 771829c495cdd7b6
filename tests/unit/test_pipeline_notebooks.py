"""A notebook is executed when something it depends on has changed, never otherwise, and never half."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml

from vqad_lib.errors import VqadError
from vqad_lib.experiment.digests import code_digest, digest, imported_files, notebook_digest
from vqad_lib.experiment.run import last_run
from vqad_lib.files import read_json, write_json
from vqad_lib.pipeline import notebooks
from vqad_lib.pipeline.graph import Stage
from vqad_lib.pipeline.notebooks import forget_stale, run_stage

REPOSITORY = Path(__file__).resolve().parents[2]
PARAMETERS = """\
profile = "smoke"
dataset = ""
data_root = ""
seed = ""
perceptual = ""
kind = "vqvae"  # "vqvae" or "gpt2"
"""
WRITE = """\
from pathlib import Path
folder = Path("..") / "reports" / profile / dataset / "tables"
folder.mkdir(parents=True, exist_ok=True)
(folder / f"table_{kind}.csv").write_text(f"{dataset} {seed} {perceptual}")
print("written by", kind)
"""
IMPORTS = """\
if False:  # these modules are for the digest alone
    import vqad_lib.other.used
    from vqad_lib.part import a
"""
CODE_FILES = {
    "config.py": "VALUE = 1\n",
    "part/__init__.py": "",
    "part/a.py": "def f():\n    from vqad_lib.part.deep.b import VALUE\n    from vqad_lib.part import names\n",
    "part/names.py": 'PAGE, NUMBERS = "page.html.j2", "numbers.csv"\n',
    "part/deep/b.py": '"""Words."""\n\nVALUE = 1\n',
    "part/page.html.j2": '{% include "page.css" %}',
    "part/page.css": "p {}",
    "part/unused.css": "p {}",
    "other/used.py": "from vqad_lib import config\n",
    "other/unused.py": "VALUE = 1\n",
    "../data/paper/numbers.csv": "1",
}
STAGES = {
    "10_tiny": {
        "profile": ["data", "training.{kind}"],
        "outputs": ["reports/{results}/tables/table_{kind}.csv"],
    },
    "09_before": {"profile": ["gpt2"]},
}
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
OUTPUT = "reports/tiny/synthetic/tables/table_vqvae.csv"
EXECUTED = "reports/tiny/synthetic/notebooks/10_tiny_vqvae.ipynb"
MANIFEST = "data/derived/tiny/synthetic/manifests/10_tiny_vqvae.json"
UPSTREAM = "data/derived/tiny/synthetic/manifests/09_before.json"


def write_notebook(root: Path, *cells: str) -> Path:
    """A notebook with a heading, the parameters, and code cells."""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL})
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# Tiny"),
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        *(nbformat.v4.new_code_cell(cell) for cell in cells),
    ]
    path = root / "notebooks" / "10_tiny.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one notebook, one profile, and a little code to depend on."""
    for folder in ("notebooks", "profiles", "vqad_lib/part/deep", "vqad_lib/other"):
        (tmp_path / folder).mkdir(parents=True)
    profile = yaml.safe_load((REPOSITORY / "profiles" / "smoke.yaml").read_text(encoding="utf-8")) | {"name": "tiny"}
    (tmp_path / "profiles" / "tiny.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    (tmp_path / "notebooks" / "notebooks.yaml").write_text(yaml.safe_dump(STAGES), encoding="utf-8")
    (tmp_path / "data" / "paper").mkdir(parents=True)
    for name, text in CODE_FILES.items():
        edit_code(tmp_path, name, text)
    settings = {"profile": "tiny", "dataset": "synthetic", "data_root": "", "seed": "3", "perceptual": "random"}
    settings |= {"results": "tiny/synthetic", "started": "1700000000", "jobs": "1"}
    write_json(tmp_path / "data" / "derived" / "run.json", settings | {"data_digest": "d" * 64})
    shutil.copy(write_notebook(tmp_path, "print()"), tmp_path / "notebooks" / "09_before.ipynb")
    executed = tmp_path / "reports" / "tiny" / "synthetic" / "notebooks" / "09_before.ipynb"
    executed.parent.mkdir(parents=True)
    executed.touch()
    write_notebook(tmp_path, WRITE, IMPORTS)
    monkeypatch.setenv("VQAD_ROOT", str(tmp_path))
    for name in ("VQAD_PROGRESS_FILE", "VQAD_PROGRESS_OF", "VQAD_PROGRESS_EVERY_S"):  # which executing a notebook sets
        monkeypatch.setenv(name, "")
    return tmp_path


@pytest.fixture
def executions(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The parameters of each execution, which a stand-in for Papermill records instead of starting a kernel."""
    calls = []

    def execute_notebook(source, working, *, parameters, **_options):
        calls.append(parameters)
        shutil.copy(source, working)
        output = root / "reports" / "tiny" / "synthetic" / "tables" / f"table_{parameters['kind']}.csv"
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(str(len(calls)))

    monkeypatch.setattr(papermill, "execute_notebook", execute_notebook)
    return calls


def stage(**parameters: str) -> Stage:
    return Stage("10_tiny", parameters or {"kind": "vqvae"}, ("09_before",))


def make(root: Path, of: Stage) -> bool:
    """What `make paper` does with a stage whose stage before is done; whether it was executed."""
    settings, before = last_run(root), Stage("09_before", {})
    write_json(root / UPSTREAM, {"inputs": notebooks._inputs_digests(root, settings)(before, {}), "outputs": []})
    forget_stale(root, [of, before], settings)
    missing = not (root / UPSTREAM).with_name(f"{of.name}.json").exists()
    if missing:
        run_stage(root, of)
    return missing


def edit_json(path: Path, **changes: object) -> None:
    write_json(path, read_json(path) | changes)


def edit_profile(root: Path, dotted: str, value: object) -> None:
    path = root / "profiles" / "tiny.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    *parents, last = dotted.split(".")
    place = content
    for part in parents:
        place = place[part]
    assert place[last] != value
    place[last] = value
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def edit_cells(root: Path, change) -> None:
    path = root / "notebooks" / "10_tiny.ipynb"
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)


def edit_code(root: Path, name: str, text: str) -> None:
    (root / "vqad_lib" / name).write_text(text, encoding="utf-8")


def add_outputs(notebook) -> None:
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="stored")]
    notebook.cells[2].execution_count = 7
    notebook.metadata["language_info"] = {"name": "python"}


def set_source(index: int, source: str):
    def change(notebook):
        notebook.cells[index].source = source

    return change


CHANGES_THAT_COUNT = {
    "code cell": lambda root: edit_cells(root, set_source(2, "1 + 1")),
    "text cell": lambda root: edit_cells(root, set_source(0, "# Other words")),
    "named section": lambda root: edit_profile(root, "data.split_seed", 9),
    "deep in a named section": lambda root: edit_profile(root, "data.synthetic.seed", 9),
    "section named by a parameter": lambda root: edit_profile(root, "training.vqvae.batch_size", 99),
    "threads": lambda root: edit_profile(root, "threads_per_stage", 2),
    "seed": lambda root: edit_json(root / "data/derived/run.json", seed="4"),
    "data": lambda root: edit_json(root / "data/derived/run.json", data_digest="e" * 64),
    "stage before": lambda root: edit_profile(root, "gpt2.layers", 9),
    "imported module": lambda root: edit_code(root, "other/used.py", "VALUE = 2\n"),
    "module that an imported one imports": lambda root: edit_code(root, "config.py", "VALUE = 2\n"),
    "module imported in a function": lambda root: edit_code(root, "part/deep/b.py", "VALUE = 2\n"),
    "imported package": lambda root: edit_code(root, "part/__init__.py", "VALUE = 2\n"),
    "template beside the code": lambda root: edit_code(root, "part/page.html.j2", "<p>"),
    "what the template includes": lambda root: edit_code(root, "part/page.css", "p {color: red}"),
    "the paper's numbers": lambda root: edit_code(root, "../data/paper/numbers.csv", "2"),
    "output deleted": lambda root: (root / OUTPUT).unlink(),
    "executed notebook deleted": lambda root: (root / EXECUTED).unlink(),
    "manifest deleted": lambda root: (root / MANIFEST).unlink(),
}
CHANGES_THAT_DO_NOT = {
    "nothing": lambda _root: None,
    "outputs, execution count, metadata": lambda root: edit_cells(root, add_outputs),
    "other section": lambda root: edit_profile(root, "evaluation.bootstrap_resamples", 50),
    "other network's training": lambda root: edit_profile(root, "training.gpt2.batch_size", 99),
    "words about the profile": lambda root: edit_profile(root, "about", "other words"),
    "module that is not imported": lambda root: edit_code(root, "other/unused.py", "VALUE = 2\n"),
    "style sheet that nothing names": lambda root: edit_code(root, "part/unused.css", "p {color: red}"),
    "comment and docstring": lambda root: edit_code(root, "part/deep/b.py", '"""Other."""\n# why\nVALUE  =  1\n'),
}


@pytest.mark.parametrize("change", CHANGES_THAT_COUNT.values(), ids=CHANGES_THAT_COUNT)
def test_executed_again_once_after(root, executions, change):
    assert make(root, stage())
    change(root)
    assert make(root, stage())
    assert len(executions) == 2
    assert (root / OUTPUT).read_text() == "2"
    assert not make(root, stage())


@pytest.mark.parametrize("change", CHANGES_THAT_DO_NOT.values(), ids=CHANGES_THAT_DO_NOT)
def test_not_executed_again_after(root, executions, change):
    assert make(root, stage())
    kept = {name: (root / name).read_bytes() for name in (MANIFEST, OUTPUT, EXECUTED)}
    change(root)
    assert not make(root, stage())
    assert len(executions) == 1
    assert {name: (root / name).read_bytes() for name in kept} == kept


def test_each_parameter_value_is_a_stage_of_its_own(root, executions):
    assert make(root, stage())
    assert make(root, stage(kind="gpt2"))
    assert [call["kind"] for call in executions] == ["vqvae", "gpt2"]
    assert not make(root, stage())
    assert not make(root, stage(kind="gpt2"))
    first, second = (
        read_json(root / "data/derived/tiny/synthetic/manifests" / f"10_tiny_{k}.json") for k in ("vqvae", "gpt2")
    )
    assert first["inputs"] != second["inputs"]
    assert (first["outputs"][1], second["outputs"][1]) == (OUTPUT, OUTPUT.replace("vqvae", "gpt2"))


def test_going_back_to_an_earlier_setting_executes_again(root, executions):
    """The outputs are of the newest execution, so an old digest is no proof that they are there."""
    make(root, stage())
    edit_profile(root, "data.split_seed", 9)
    make(root, stage())
    edit_profile(root, "data.split_seed", 0)
    assert make(root, stage())
    assert len(executions) == 3


@pytest.mark.usefixtures("executions")
def test_an_extra_package_that_comes_or_goes_executes_again(root, monkeypatch):
    table = STAGES | {"10_tiny": STAGES["10_tiny"] | {"packages": ["anomalib"]}}
    (root / "notebooks" / "notebooks.yaml").write_text(yaml.safe_dump(table), encoding="utf-8")
    installed = {}
    monkeypatch.setattr(notebooks, "find_spec", installed.get)
    monkeypatch.setattr(notebooks, "version", installed.get)
    for change in ({}, {"anomalib": "2.7.0"}, {"anomalib": "2.8.0"}):
        installed.update(change)
        assert make(root, stage())
        assert not make(root, stage())


def test_manifest_says_what_when_and_how_long(root, executions):
    before = time.time()
    make(root, stage())
    manifest = read_json(root / MANIFEST)
    assert sorted(manifest) == ["code", "inputs", "outputs", "run", "seconds"]
    assert manifest["run"] == "1700000000", "when make paper began"
    assert manifest["outputs"] == [EXECUTED, OUTPUT]
    assert 0 <= manifest["seconds"] <= time.time() - before + 1
    assert len(executions) == 1


def test_settings_of_the_run_reach_the_notebook(root, executions):
    make(root, stage())
    expected = {"profile": "tiny", "dataset": "synthetic", "data_root": "", "seed": "3", "perceptual": "random"}
    assert executions == [expected | {"kind": "vqvae"}]


def test_replicate_leaves_its_files_in_a_folder_of_its_seed_and_no_notebook(root, executions):
    table = STAGES | {"10_tiny": {"profile": ["data"], "outputs": ["reports/{results}/{replicate_folder}{kind}.csv"]}}
    (root / "notebooks" / "notebooks.yaml").write_text(yaml.safe_dump(table), encoding="utf-8")
    notebook = root / "notebooks" / "10_tiny.ipynb"
    notebook.write_text(notebook.read_text().replace("kind = ", 'replicate = 0\\n", "kind = '), encoding="utf-8")
    output = root / "reports" / "tiny" / "synthetic" / "seed_5" / "vqvae.csv"
    output.parent.mkdir(parents=True)
    output.touch()
    assert make(root, stage(kind="vqvae", replicate="2"))
    manifest = read_json(root / "data/derived/tiny/synthetic/manifests/10_tiny_vqvae_replicate2.json")
    assert manifest["outputs"] == [output.relative_to(root).as_posix()]
    assert executions[0]["replicate"] == "2"
    assert not list((root / "reports").rglob("10_tiny*.ipynb"))
    assert not make(root, stage(kind="vqvae", replicate="2"))


def test_figures_wanted_as_pdf_too_execute_again(root, executions, monkeypatch):
    table = STAGES | {"10_tiny": {"profile": ["data"], "outputs": ["figures/{results}/{kind}.png"]}}
    (root / "notebooks" / "notebooks.yaml").write_text(yaml.safe_dump(table), encoding="utf-8")
    figure = root / "figures" / "tiny" / "synthetic" / "vqvae.png"
    figure.parent.mkdir(parents=True)
    figure.touch()
    assert make(root, stage())
    assert not make(root, stage())
    monkeypatch.setenv("VQAD_FIGURE_FORMATS", "png,pdf")
    with pytest.raises(VqadError, match=r"without writing figures/tiny/synthetic/vqvae\.pdf$"):
        make(root, stage())
    figure.with_suffix(".pdf").touch()
    assert make(root, stage())
    assert len(executions) == 3


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "reports/x.ipynb"), "cannot write reports/x.ipynb: No space left on"),
        (OSError("short write"), "cannot write reports/tiny/synthetic/notebooks/10_tiny_vqvae.ipynb: short write;"),
    ],
)
def test_disk_that_fills_up_under_a_notebook(root, monkeypatch, error, message):
    def execute_notebook(*_, **__):
        raise error

    monkeypatch.setattr(papermill, "execute_notebook", execute_notebook)
    with pytest.raises(VqadError) as caught:
        make(root, stage())
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("free space or make the folder writable, then run again")
    assert not (root / MANIFEST).exists()


def test_disk_that_fills_up_within_a_notebook(root, monkeypatch):
    def execute_notebook(_source, working, **__):
        Path(working).write_text("{}")
        raise papermill.PapermillExecutionError(1, 1, "x", "OSError", "[Errno 28] No space left on device", [])

    monkeypatch.setattr(papermill, "execute_notebook", execute_notebook)
    with pytest.raises(VqadError, match=r"No space left on device; free space .* then run again \(the notebook"):
        make(root, stage())


def test_kernel_that_does_not_start_is_one_line(root, monkeypatch):
    def execute_notebook(*_, **__):
        raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr(papermill, "execute_notebook", execute_notebook)
    with pytest.raises(VqadError) as caught:
        make(root, stage())
    reason = "its kernel did not start (Kernel died before replying to kernel_info)"
    asked = f"is ipykernel in the environment of {sys.executable}?"
    assert str(caught.value) == f"10_tiny_vqvae failed: {reason}; {asked}"
    assert not (root / MANIFEST).exists()


def test_stage_before_that_has_not_run_is_named(root, executions):
    with pytest.raises(VqadError, match=r"cannot read .*09_before\.json"):
        run_stage(root, stage())
    assert executions == []


def test_missing_declared_output(root, monkeypatch):
    monkeypatch.setattr(papermill, "execute_notebook", lambda source, working, **_: shutil.copy(source, working))
    with pytest.raises(VqadError, match=rf"10_tiny_vqvae ended without writing {OUTPUT}$"):
        make(root, stage())
    assert not (root / MANIFEST).exists()


def test_progress_of_a_notebook_is_shown_in_a_terminal_and_in_a_log(root, monkeypatch, capfd):
    """Line by line and with the stage's name, for several share it; now and then, for a log is read later."""

    def execute_notebook(*_, **__):
        assert os.environ["VQAD_PROGRESS_EVERY_S"] == "60", "stderr is a file here"
        program = "from vqad_lib.progress import progress\nlist(progress(range(2), what='train'))"
        # a process of its own, whose output is caught, as a kernel's is
        environment = os.environ | {"VQAD_PROGRESS_EVERY_S": "1e-9"}
        subprocess.run(
            [sys.executable, "-c", program], env=environment, cwd=REPOSITORY, capture_output=True, check=True
        )
        deadline = time.monotonic() + 60
        while "train" not in "".join(shown) and time.monotonic() < deadline:
            shown.append(capfd.readouterr().err)
        raise RuntimeError

    shown: list[str] = []
    monkeypatch.setattr(papermill, "execute_notebook", execute_notebook)
    with pytest.raises(VqadError):
        make(root, Stage("10_tiny", {"kind": "gpt2"}))
    assert re.match(r"    10_tiny_gpt2 \| train +\d+% [012]/2 \[", "".join(shown))


# -- with a kernel ---------------------------------------------------------------------------------------------------


def test_executes_for_real(root):
    assert make(root, stage())
    assert (root / OUTPUT).read_text() == "synthetic 3 random"
    executed = nbformat.read(root / EXECUTED, as_version=4)
    text = (root / EXECUTED).read_text(encoding="utf-8")
    assert 'kind = "vqvae"' in executed.cells[2].source
    assert executed.cells[2].metadata.tags == ["injected-parameters"]
    assert "written by vqvae" in text
    assert [cell.execution_count for cell in executed.cells if cell.cell_type == "code"] == [1, 2, 3, 4]
    assert "papermill" not in executed.metadata
    assert str(root) not in text, "a path of this machine"
    assert not make(root, stage())
    assert not list((root / EXECUTED).parent.glob(".working/*"))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ('raise ValueError("first line\\n  second line")', "ValueError: first line second line"),
        ('from vqad_lib.errors import VqadError\nraise VqadError("no frames in x")', "no frames in x"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "DeadKernelError: Kernel died; if memory ran out"),
    ],
    ids=["error", "user's error", "killed kernel"],
)
def test_failed_notebook_leaves_no_target(root, cell, expected):
    """The notebook ended well before; it fails now."""
    (root / EXECUTED).write_text("executed earlier")
    write_json(root / MANIFEST, {"inputs": "of an earlier run", "outputs": []})
    write_notebook(root, "reached = 6 * 7\nprint(reached)", cell, WRITE)
    with pytest.raises(VqadError) as caught:
        make(root, stage())
    message = str(caught.value)
    assert message.startswith(f"10_tiny_vqvae failed: {expected}")
    assert "\n" not in message
    kept = root / "reports/tiny/synthetic/notebooks/failed/10_tiny_vqvae.ipynb"
    assert f"(the notebook with its error: {kept.relative_to(root)})" in message
    assert '"42\\n"' in kept.read_text(encoding="utf-8"), "what the notebook printed before it failed is the log"
    assert not (root / MANIFEST).exists()
    assert (root / EXECUTED).read_text() == "executed earlier"
    assert not (root / OUTPUT).exists()
    assert not list((root / EXECUTED).parent.glob(".working/*"))

    (root / EXECUTED).unlink()
    write_notebook(root, WRITE)
    assert make(root, stage())
    assert not kept.exists(), "the failure is mended"


# -- digests ---------------------------------------------------------------------------------------------------------

CODE = '''"""A module."""
import math


def area(radius):
    """Of a circle."""
    # a comment
    return math.pi * radius**2
'''


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('"""Of a circle."""', '"""Another text,\n    of two lines."""', True),
        ('"""A module."""', "'''Other.'''", True),
        ("    # a comment\n", "", True),
        ("math.pi * radius**2", "math.pi * (radius ** 2)  # spaced", True),
        ("radius**2", "radius**3", False),
        ("def area(radius)", "def area(radius=1)", False),
        ("import math", "import cmath as math", False),
        ("return math.pi", 'text = "Of a circle."\n    return math.pi', False),
    ],
)
def test_code_digest_sees_code_alone(tmp_path, old, new, same):
    module = tmp_path / "vqad_lib" / "part" / "a.py"
    module.parent.mkdir(parents=True)
    module.write_text(CODE)
    before = code_digest(tmp_path, ["part"])
    assert CODE.count(old) == 1
    module.write_text(CODE.replace(old, new))
    assert (code_digest(tmp_path, ["part"]) == before) is same


def test_code_digest_follows_imports_but_into_plumbing_and_from_what_stands_alone(root):
    before = (
        code_digest(root, ["part"]),
        code_digest(root, ["other/used.py"]),
        code_digest(root, [], alone=["part/a.py"]),
    )
    edit_code(root, "part/deep/b.py", "VALUE = 2\n")
    edit_code(root, "config.py", "VALUE = 2\n")
    after = (
        code_digest(root, ["part"]),
        code_digest(root, ["other/used.py"]),
        code_digest(root, [], alone=["part/a.py"]),
    )
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True, True]


def test_code_digest_sees_names(root):
    before = code_digest(root, ["part"])
    (root / "vqad_lib" / "part" / "a.py").rename(root / "vqad_lib" / "part" / "c.py")
    assert code_digest(root, ["part"]) != before


def test_what_selects_a_threshold_is_in_the_digests_of_all_tables_that_it_shapes():
    """Tables 3 and 4 once stayed as they were when the rule of `chosen_percentiles` changed."""
    for notebook in ("04_score", "05_threshold_sweeps", "06_results", "10_capacity", "11_baselines", "12_claims"):
        files = imported_files(REPOSITORY, REPOSITORY / "notebooks" / f"{notebook}.ipynb")
        names = {file.relative_to(REPOSITORY / "vqad_lib").as_posix() for file in files if file.suffix == ".py"}
        assert {"experiment/scores.py", "evaluation/selection.py"} <= names, notebook


def test_digest_keeps_parts_apart():
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a", "b") != digest("b", "a")
    assert digest("a") != digest("a", "")
    assert len(digest()) == 64


def test_notebook_digest_reads_source_as_text_or_lines(tmp_path):
    cells = [{"cell_type": "code", "source": "a = 1\nb = 2", "outputs": [], "execution_count": None, "metadata": {}}]
    lines = [cells[0] | {"source": ["a = 1\n", "b = 2"], "outputs": [{"output_type": "stream"}]}]
    other = [cells[0] | {"cell_type": "markdown"}]
    digests = []
    for variant in (cells, lines, other):
        path = tmp_path / "n.ipynb"
        path.write_text(json.dumps({"cells": variant}), encoding="utf-8")
        digests.append(notebook_digest(tmp_path, path))
    assert digests[0] == digests[1] != digests[2]
