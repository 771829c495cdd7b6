"""The environment in which the project's programs and notebooks run: its own settings, and nothing of the user's.

Python, Jupyter, IPython, matplotlib and git look for settings in environment variables and in the user's folders:
another Python's kernels, start-up files, a style for figures, warnings as errors, a coarser float32. Any of them can
change a result or end a run. `own_environment` is the one place that says what passes. `python -m vqad_lib` enters it
by itself; other programs that execute notebooks or tests do with

    python -m vqad_lib.pipeline.environment MODULE [ARGUMENT ...]
"""

import contextlib
import os
import re
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path

from vqad_lib.errors import VqadError
from vqad_lib.files import repository_root

_HERE = Path(__file__).parent
# Where packages and caches lie passes, and how a JupyterLab is reached; so does all that is not named: devices,
# threads, TMPDIR, TORCH_HOME, LD_LIBRARY_PATH, proxies, certificates.
_LEFT_OUT = re.compile(
    r"PYTHON(?!PATH$|HOME$|USERBASE$|NOUSERSITE$|PYCACHEPREFIX$|DONTWRITEBYTECODE$|UNBUFFERED$).+"
    r"|JUPYTER(?!_TOKEN$|_PORT$|_ALLOW_INSECURE_WRITES$).*|JPY_.*|IPYTHON.*|IPYKERNEL.*"
    r"|MPL.*|MATPLOTLIB.*|TQDM_.*|GIT_(?!CONFIG).*|PAPERMILL.*|PYTEST_.*|NBVAL.*|HYPOTHESIS.*|PANDAS_.*|SKLEARN_.*|LOKY_.*"
    r"|TORCH_ALLOW_TF32.*|NVIDIA_TF32_OVERRIDE|(ONEDNN|DNNL)_DEFAULT_FPMATH_MODE|SCIPY_ARRAY_API|SOURCE_DATE_EPOCH"
    r"|NO_COLOR|FORCE_COLOR|CLICOLOR.*|PY_COLORS|COLUMNS|LINES"
)


def own_environment(given: Mapping[str, str], root: Path) -> dict[str, str]:
    """What passes of the user's environment variables, and this project's own.

    The kernel `python3` is then the interpreter that starts it: `_HERE/jupyter` is searched first, and Jupyter puts its
    own interpreter for the word "python" there. What Jupyter, IPython and matplotlib keep lies in data/derived/jupyter.

    Args:
        given: as `os.environ`.
        root: of the repository.

    Returns:
        The whole environment; the same again for what was returned.
    """
    folder = _folder(root)
    return {name: value for name, value in given.items() if not _LEFT_OUT.fullmatch(name)} | {
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",  # whatever the locale: names of files and words on the terminal are not ASCII
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "JUPYTER_PATH": str(_HERE / "jupyter"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "IPYTHONDIR": str(folder / "ipython"),
        "MPLCONFIGDIR": str(folder / "matplotlib"),
    }


def enter_own_environment() -> None:
    """Start this program anew in `own_environment`, unless it is there: an interpreter reads some of it at its start.

    Raises:
        VqadError: as `repository_root`.
    """
    root = repository_root()
    own = own_environment(os.environ, root)
    if own != dict(os.environ):
        with contextlib.suppress(OSError):  # what needs the folder says so; IPython makes its own, but none above it
            _folder(root).mkdir(parents=True, exist_ok=True)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], own)


def _folder(root: Path) -> Path:
    return root / "data" / "derived" / "jupyter"


if __name__ == "__main__":
    try:
        enter_own_environment()
    except VqadError as error:
        sys.exit(f"error: {error}")
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
