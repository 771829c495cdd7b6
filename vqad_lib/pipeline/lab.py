"""What `make lab` and `make bench` do with notebooks 30 and 20, apart from `make paper`.

JupyterLab opens a list of all notebooks, which leads to the explorer: to a copy, for JupyterLab saves what it shows,
which in the notebook itself would be a change of a committed file.
"""

import json
import os
import sys
from pathlib import Path

import nbformat

from vqad_lib.config import Profile
from vqad_lib.experiment.digests import digest
from vqad_lib.experiment.run import Run, absolute, configured, load_frames
from vqad_lib.files import read_json, write_text
from vqad_lib.pipeline.contents import COMMITTED, contents
from vqad_lib.pipeline.notebooks import execute_notebook

LAB, BENCH = "30_explore", "20_benchmarks"
SMALLEST = "smoke"  # its networks mean nothing
_PARAMETERS = ("profile", "dataset", "data_root", "seed", "perceptual")


def start_lab(root: Path, given: dict[str, str], options: list[str]) -> None:
    """Become JupyterLab; its own exit status is then this program's.

    Args:
        given: of `as_in_the_last_run`.
        options: further ones for JupyterLab, for example "--port=9999".

    Raises:
        VqadError: the profile is not usable.
    """
    parameters = as_in_the_last_run(root, given)
    _profile(parameters)
    shown = " ".join(f"{key} {value}" for key, value in parameters.items() if value)
    print(f"lab       {shown}; others with PROFILE=, DATASET=, DATA_ROOT=, SEED=, PERCEPTUAL=", flush=True)
    if parameters["profile"] == SMALLEST:
        print("note      pictures of this profile are noise; make paper PROFILE=demo makes better ones", flush=True)
    elif not any(parameters.items() <= run.items() for run in _runs(root)):
        print("note      no run has just these settings; the notebook names the make paper that it needs", flush=True)
    line = command(root, first_page(root, parameters, working_copy(root, parameters)), options)
    os.execv(line[0], line)


def bench(root: Path, given: dict[str, str], *, networks: str) -> Path:
    """Measure, and say where the page is.

    Args:
        given: profile, dataset, data_root, seed, perceptual; "" or absent for those of the last run of the profile,
            which is demo where none is named.
        networks: "trained", "random", or "auto" and "": trained where make paper has left them, else random.

    Returns:
        reports/<profile>/<data set>/bench/index.html.

    Raises:
        VqadError: profile or data are not usable, or the notebook failed.
    """
    parameters = as_in_the_last_run(root, given | {"profile": given.get("profile") or "demo"})
    parameters |= {"networks": networks} if networks else {}
    profile = _profile(parameters)
    print(f"bench     profile {profile.name}; leave the machine alone meanwhile, for it is measured", flush=True)
    frames = load_frames(root, profile, parameters.get("dataset", ""), parameters.get("data_root", ""))
    reports = Run(root, profile, frames, device=None).reports / "bench"
    execute_notebook(root, BENCH, parameters, reports / "notebooks" / f"{BENCH}.ipynb")
    print(f"report    {(reports / 'index.html').relative_to(root)}")
    return reports / "index.html"


def _profile(parameters: dict[str, str]) -> Profile:
    return configured(**{key: parameters[key] for key in ("profile", "seed", "perceptual") if key in parameters})


def as_in_the_last_run(root: Path, given: dict[str, str]) -> dict[str, str]:
    """What a notebook is set to: what is given, and the rest as in the last run of that profile on those data.

    Profile smoke comes after all others, however late it ran: `make test` runs it.

    Args:
        given: profile, dataset, data_root, seed, perceptual; "" or absent where not given.

    Returns:
        The same keys, without those that the profile decides. Where no run agrees, what is given with the profile of
        the last run; where nothing was run yet, profile smoke on its synthetic walkway.
    """
    wanted, runs = {key: value for key, value in given.items() if value not in ("", "auto")}, _runs(root)
    if "data_root" in wanted:  # as a run records it
        wanted["data_root"] = os.path.relpath(absolute(root, wanted["data_root"]), root)
    meant = {key: wanted[key] for key in ("profile", "dataset", "data_root") if key in wanted}
    found = {"profile": runs[-1]["profile"] if runs else SMALLEST}
    found = next((run for run in reversed(runs) if meant.items() <= run.items()), found)
    return {key: found[key] for key in _PARAMETERS if key in found} | wanted


def _runs(root: Path) -> list[dict[str, str]]:
    """What `make paper` has written down of the last run on each data set, the last one last."""
    files = sorted((root / "data" / "derived").glob("*/*/run.json"), key=lambda path: path.stat().st_mtime_ns)
    return sorted(map(read_json, files), key=lambda run: run["profile"] != SMALLEST)  # ties: by time


def working_copy(root: Path, parameters: dict[str, str]) -> Path:
    """The notebook below data/derived/lab, with the parameters put in and without outputs.

    A copy that is there stays as it was saved, but for controls, which show an error without the kernel that made them.
    Another version of the notebook gets a copy of its own.
    """
    # seconds to import
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    source = root / "notebooks" / f"{LAB}.ipynb"
    key = digest(source.read_text(encoding="utf-8"), json.dumps(parameters, sort_keys=True))
    copy = root / "data" / "derived" / "lab" / f"{LAB}_{parameters['profile']}_{key[:8]}.ipynb"
    saved = copy.exists()
    notebook = load_notebook_node(str(copy if saved else source))
    if not saved:
        notebook = parameterize_notebook(notebook, parameters, comment="what make lab was called with, or the last run")
    for shown_or_made_here in ("widgets", "papermill"):
        notebook.metadata.pop(shown_or_made_here, None)
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        kept = [output for output in cell.outputs if not any("widget" in kind for kind in output.get("data", {}))]
        cell.outputs, cell.execution_count = (kept, cell.execution_count) if saved else ([], None)
    write_text(copy, nbformat.writes(notebook))
    return copy


def first_page(root: Path, parameters: dict[str, str], explore: Path) -> Path:
    """index.ipynb below data/derived/lab, anew: of the last run with these parameters, else of committed results."""
    runs = [run["results"] for run in _runs(root) if parameters.items() <= run.items()]
    page = root / "data" / "derived" / "lab" / "index.ipynb"
    results = [*reversed(runs), *(results for results in COMMITTED if (root / "reports" / results).exists())]
    notebook = contents(root, (results or COMMITTED)[0], page.parent, explore=explore)
    write_text(page, nbformat.writes(notebook))
    return page


def command(root: Path, notebook: Path, options: list[str]) -> list[str]:
    """JupyterLab's command line: its file browser begins at `root`, its first tab is the notebook.

    It lets root start it, for in a container there is nobody else. Without a screen it opens no browser: it prints the
    address, as it always does.
    """
    line = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}"]
    line += [f"--LabApp.default_url=/lab/tree/{notebook.relative_to(root).as_posix()}"]
    if os.geteuid() == 0:
        line.append("--allow-root")
    if sys.platform != "darwin" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        line.append("--no-browser")
    return line + options
