"""What `make lab` does: start JupyterLab on a copy of notebook 30 that is set to the last run.

A copy, for JupyterLab saves what it shows: in the notebook itself that would be a change of a committed file, and the
stored outputs that the tests compare with would be gone.
"""

import json
import os
import sys
from pathlib import Path

from vqad_lib.files import read_json, write_text
from vqad_lib.losses.labels import SETTINGS
from vqad_lib.workflow.digests import digest
from vqad_lib.workflow.settings import absolute, configured

NOTEBOOK = "30_explore"
SMALLEST = "smoke"  # its networks mean nothing, but are trained in a moment
_PARAMETERS = ("profile", "dataset", "data_root", "seed", "perceptual")


def start_lab(root: Path, given: dict[str, str], options: list[str]) -> None:
    """Become JupyterLab; its own exit status is then this program's.

    Args:
        given: of `parameters_to_explore`.
        options: further ones for JupyterLab, for example "--port=9999".

    Raises:
        VqadError: the profile is not usable.
    """
    parameters = parameters_to_explore(root, given)
    configured(parameters["profile"], seed=parameters.get("seed", ""), perceptual=parameters.get("perceptual", ""))
    shown = " ".join(f"{key} {value}" for key, value in parameters.items() if value)
    print(f"lab       {shown}; others with PROFILE=, DATASET=, DATA_ROOT=, SEED=, PERCEPTUAL=", flush=True)
    if parameters["profile"] == SMALLEST:
        print("note      pictures of this profile are noise; make paper PROFILE=demo makes better ones", flush=True)
    line = command(root, working_copy(root, parameters), options)
    os.execv(line[0], line)


def parameters_to_explore(root: Path, given: dict[str, str]) -> dict[str, str]:
    """What the notebook is set to: what is given, and the rest as in the last run that agrees with it.

    Profile smoke comes after all others, however late it ran: `make test` runs it.

    Args:
        given: profile, dataset, data_root, seed, perceptual; "" or absent where not given.

    Returns:
        The same keys, without those that the profile decides. Where no run agrees, what is given with the profile of
        the last run; where nothing was run yet, profile smoke on its synthetic walkway.
    """
    chosen = {key: value for key, value in given.items() if value}
    files = sorted((root / "data" / "derived").glob("*/*/run.json"), key=lambda path: path.stat().st_mtime_ns)
    runs = sorted(map(read_json, files), key=lambda run: run["profile"] != SMALLEST)  # and among equals by time
    asked = _as_recorded(root, chosen)
    fitting = [run for run in runs if asked.items() <= _as_recorded(root, run).items()]
    if fitting:
        last = {key: fitting[-1][key] for key in _PARAMETERS if key in fitting[-1]}
    else:
        last = {"profile": runs[-1]["profile"]} if runs else {}
        if (last | chosen).get("profile", SMALLEST) != SMALLEST:  # which the notebook trains
            print("note      no run has these settings; the notebook names the make paper that it needs", flush=True)
    return {"profile": SMALLEST} | last | chosen


def _as_recorded(root: Path, settings: dict[str, str]) -> dict[str, str]:
    """Settings in one form, as a person or a run may have written them: whole paths, no "auto", numbers as numbers."""
    same = {key: settings[key] for key in _PARAMETERS if key in settings}
    for key in ("data_root", "perceptual"):
        if same.get(key) and not (key == "perceptual" and same[key] in SETTINGS):
            same[key] = absolute(root, same[key])
    if same.get("seed", "").isdecimal():
        same["seed"] = str(int(same["seed"]))
    if same.get("dataset") == "auto":
        del same["dataset"]
    return same


def working_copy(root: Path, parameters: dict[str, str]) -> Path:
    """The notebook below data/derived/lab, with the parameters put in and without outputs.

    A copy that is there stays as it was saved, but for controls, which show nothing without the kernel that made them.
    Another version of the notebook gets a copy of its own.
    """
    import nbformat  # seconds to import, as is papermill
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    source = root / "notebooks" / f"{NOTEBOOK}.ipynb"
    key = digest(source.read_text(encoding="utf-8"), json.dumps(parameters, sort_keys=True))
    copy = root / "data" / "derived" / "lab" / f"{NOTEBOOK}_{parameters['profile']}_{key[:8]}.ipynb"
    saved = copy.exists()
    notebook = load_notebook_node(str(copy if saved else source))
    if not saved:
        notebook = parameterize_notebook(notebook, parameters, comment="what make lab was called with, or the last run")
    for shown_or_made_here in ("widgets", "papermill"):
        notebook.metadata.pop(shown_or_made_here, None)
    for cell in notebook.cells:
        if cell.cell_type == "code":  # a stored control without its kernel is shown as an error
            kept = [output for output in cell.outputs if not any("widget" in kind for kind in output.get("data", {}))]
            cell.outputs, cell.execution_count = (kept, cell.execution_count) if saved else ([], None)
    write_text(copy, nbformat.writes(notebook))
    return copy


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
