"""A user's settings of Python, Jupyter, IPython, matplotlib, git and Bash reach no notebook, and end no run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.formatters import DisplayFormatter

from vqad_lib.files import write_json

REPOSITORY = Path(__file__).resolve().parents[2]
PARAMETERS = 'profile = "smoke"\ndataset = ""\ndata_root = ""\nseed = ""\nperceptual = ""\n'
LOOK = """\
import json, os, sys, warnings
import matplotlib as mpl
from vqad_lib.reporting.figures import use_style
warnings.warn("words for the reader")
use_style()
found = {
    "executable": sys.executable, "prefix": sys.prefix, "optimize": sys.flags.optimize, "utf8": sys.flags.utf8_mode,
    "startup": "startup" in globals(),
    "origin": mpl.rcParams["image.origin"], "usetex": mpl.rcParams["text.usetex"], "backend": mpl.get_backend(),
    "styles": "users" in mpl.style.available, "formats": str(get_ipython().display_formatter.active_types),
    "passed": os.environ["TORCH_HOME"],
}
open("../found.json", "w").write(json.dumps(found))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository of one notebook, which writes down where it finds itself."""
    root = tmp_path / "repository"
    for folder in ("notebooks", "profiles", "vqad_lib"):
        (root / folder).mkdir(parents=True)
    profile = yaml.safe_load((REPOSITORY / "profiles" / "smoke.yaml").read_text(encoding="utf-8")) | {"name": "tiny"}
    (root / "profiles" / "tiny.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    (root / "notebooks" / "notebooks.yaml").write_text("10_tiny:\n  profile: [data]\n", encoding="utf-8")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    notebook.cells = [
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(LOOK),
    ]
    nbformat.write(notebook, root / "notebooks" / "10_tiny.ipynb")
    keys = {"profile": "tiny", "dataset": "synthetic", "data_root": "", "seed": "0", "perceptual": "random"}
    more = {"data_digest": "d" * 64, "results": "tiny/synthetic", "started": 0, "jobs": 1}
    write_json(root / "data" / "derived" / "run.json", keys | more)
    return root


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def settings_of(user: Path) -> dict[str, str]:
    """What a user can have, all at once: in the home folder, and where variables point to."""
    other = put(user / "other_python", f'#!/bin/sh\necho used >> "{user}/used"\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    argv = [str(other), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = json.dumps({"argv": argv, "display_name": "other", "language": "python"})
    for place in (".local/share/jupyter", "jupyter", "data"):
        put(user / place / "kernels" / "python3" / "kernel.json", kernel)
    for place in (".ipython", "ipython"):
        put(user / place / "profile_default" / "startup" / "00.py", "startup = 1\n")
        config = "c.InteractiveShell.logappend = '/nowhere/at/all'\nc.DisplayFormatter.active_types = ['text/plain']\n"
        put(user / place / "profile_default" / "ipython_config.py", config)
        put(user / place / "profile_default" / "ipython_kernel_config.py", config)
    for place in (".config/matplotlib", "mpl"):
        put(user / place / "matplotlibrc", "image.origin: lower\ntext.usetex: True\nbackend: TkAgg\n")
        put(user / place / "stylelib" / "users.mplstyle", "image.origin: lower\n")
    put(user / "startup.py", "startup = 1\n")
    put(user / "bash_env", "echo from bash_env; exit 3\n")
    scratch = user / "scratch_of_a_cluster_job_of_mine" / "with_a_long_name_that_leaves_no_room_for_sockets"
    scratch.mkdir(parents=True)
    return {
        "HOME": str(user),
        "XDG_CONFIG_HOME": str(user / ".config"),
        "XDG_DATA_HOME": str(user / ".local" / "share"),
        "JUPYTER_PATH": str(user / "jupyter"),
        "JUPYTER_DATA_DIR": str(user / "data"),
        "IPYTHONDIR": str(user / "ipython"),
        "MPLCONFIGDIR": str(user / "mpl"),
        "MPLBACKEND": "TkAgg",
        "PYTHONSTARTUP": str(user / "startup.py"),
        "PYTHONWARNINGS": "error",
        "PYTHONOPTIMIZE": "2",
        "PYTHONINSPECT": "1",
        "PYTHONIOENCODING": "ascii",
        "LC_ALL": "en_US.ISO-8859-1",
        "GIT_DIR": str(user / "another.git"),
        "FORCE_COLOR": "1",
        "BASH_ENV": str(user / "bash_env"),
        "CDPATH": str(user),
        "TMPDIR": str(scratch),
        "TORCH_HOME": "the user's",
    }


def test_a_notebook_runs_under_this_python_and_these_settings(root, tmp_path):
    user = tmp_path / "user"
    variables = settings_of(user)
    put(root / "notebooks" / "matplotlibrc", "image.origin: lower\ntext.usetex: True\n")  # where the notebook runs
    done = subprocess.run(
        [sys.executable, "-m", "vqad_lib", "stage", "10_tiny"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "VQAD_ROOT": str(root)} | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert not (user / "used").exists(), "another Python's kernel"
    assert json.loads((root / "found.json").read_text()) == {
        "executable": sys.executable,
        "prefix": sys.prefix,
        "optimize": 0,
        "utf8": 1,
        "startup": False,
        "origin": "upper",
        "usetex": False,
        "backend": "module://matplotlib_inline.backend_inline",
        "styles": False,
        "formats": str(DisplayFormatter().active_types),
        "passed": "the user's",
    }


def test_another_program_runs_in_the_same_environment(root):
    """pytest, nbconvert and jupyterlab of the Makefile."""
    put(root / "look.py", "import os, sys\nprint(sys.argv[1:], sys.flags.optimize, 'PYTHONSTARTUP' in os.environ)\n")
    done = subprocess.run(
        [sys.executable, "-m", "vqad_lib.pipeline.environment", "look", "--an", "argument"],
        cwd=root,
        env=os.environ
        | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{root}", "VQAD_ROOT": str(root)}
        | {"PYTHONOPTIMIZE": "2", "PYTHONSTARTUP": "x"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("['--an', 'argument'] 0 False\n", "")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("given", "arguments", "expected"),
    [
        ({}, [], ""),
        ({"MAKEFLAGS": "-j7"}, [], "-j7"),
        ({"GNUMAKEFLAGS": "-j7"}, [], "-j7"),
        ({"MAKEFLAGS": "-j"}, [], ""),
        ({"MAKEFLAGS": "-j7"}, ["JOBS=2"], ""),
        ({}, ["-j3"], "-j3"),
    ],
    ids=str,
)
def test_jobs_that_make_was_given_are_those_that_are_announced(given, arguments, expected):
    """Where there are none, or without a number, it is for `configure` to say how many."""
    assert make([r"--eval=show:;@echo '$(SLOTS)'", "show", *arguments], **given).stdout == f"{expected}\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_reads_nothing_of_bash(tmp_path):
    (tmp_path / "bash_env").write_text("echo from bash_env; exit 3\n")
    function = {"BASH_FUNC_sed%%": "() { echo exported; }", "SHELLOPTS": "noexec"}
    done = make(["help"], BASH_ENV=str(tmp_path / "bash_env"), **function)
    assert done.stdout.startswith("help: list the targets and settings\n"), done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_settings_that_come_from_the_environment_are_said_aloud():
    assert make(["help"], SEED="7").stdout.startswith("note      SEED=7 comes from the environment\nhelp: ")
    assert "environment\n" not in make(["help", "SEED=7"]).stdout


def make(arguments: list[str], **variables: str) -> subprocess.CompletedProcess:
    line = ["make", "--no-print-directory", *arguments, "PYTHON=python3"]
    options = {"cwd": REPOSITORY, "env": os.environ | variables, "capture_output": True, "text": True, "timeout": 60}
    return subprocess.run(line, check=True, **options)
