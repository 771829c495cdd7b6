"""The same on somebody else's machine: odd paths, accounts, settings and limits, with the results of a plain one."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from tests.stress.kills import paper, relative, run_environment, write_images
from vqad_lib.progress import progress

EQUAL, REFUSED, LEFT_OUT = "the same results", "refused in one line", "left out"
NOBODY = 65534
_OWN = [sys.executable, "-m", "vqad_lib"]
# prepare data, execute a notebook, fit, score: what a person does first
_ONE_LINE = r"configure ended with 1: error: cannot write [^\n]+; [^\n]+"
LINES = (
    [*_OWN, "configure", "--profile=smoke", "--jobs=1"],
    [*_OWN, "stage", "00_data"],
    [*_OWN, "fit", "images", "--out=model", "--epochs=1", "--image-size-px=32"],
    [*_OWN, "score", "model", "images", "--out=scores.csv", "--heatmaps=maps"],
)


@dataclass(frozen=True)
class Elsewhere:
    """How a machine differs.

    Attributes:
        folder: what the checkout is called.
        before: goes before each command.
        environment: variables that are set, or unset where None.
        owner: whose the checkout is; ours if None.
        refused: whether nothing can be done there, and one line is to say so.
        possible: whether it can be tried here.
    """

    folder: str = "checkout"
    before: tuple[str, ...] = ()
    environment: dict[str, str | None] = field(default_factory=dict)
    owner: int | None = None
    refused: bool = False
    possible: Callable[[], bool] = lambda: True


def _has(program: str) -> Callable[[], bool]:
    return lambda: shutil.which(program) is not None


_AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env")


def _nobody_has_python() -> bool:
    """Whether another account can be had, and may start the Python that the environment is made of."""
    if os.geteuid() or not _has("setpriv")():
        return False
    line = [*_AS_NOBODY, sys.executable, "-c", "import torch"]
    return subprocess.run(line, cwd="/", capture_output=True, check=False).returncode == 0


MACHINES = {
    "plain": Elsewhere(),
    "a path with blanks, quotes and letters of other languages": Elsewhere(folder="my 'own' \"check out\" é日 $x"),
    "umask 077": Elsewhere(before=("bash", "-c", 'umask 077; exec "$@"', "-")),
    "no HOME": Elsewhere(environment={"HOME": None}),
    "a HOME that is not there": Elsewhere(environment={"HOME": "/nonexistent"}),
    "LC_ALL=POSIX": Elsewhere(environment={"LC_ALL": "POSIX", "LANG": None, "PYTHONUTF8": None}),
    "another time zone": Elsewhere(environment={"TZ": "Pacific/Chatham"}),
    "one core": Elsewhere(before=("taskset", "-c", "0"), possible=_has("taskset")),
    "128 open files": Elsewhere(before=("prlimit", "--nofile=128"), possible=_has("prlimit")),
    "4 GB of memory": Elsewhere(before=("prlimit", f"--data={4 << 30}"), possible=_has("prlimit")),
    "a narrow terminal, no colours": Elsewhere(environment={"COLUMNS": "20", "TERM": "dumb", "NO_COLOR": "1"}),
    "PYTHONOPTIMIZE": Elsewhere(environment={"PYTHONOPTIMIZE": "1"}),
    "another account": Elsewhere(before=_AS_NOBODY, owner=NOBODY, possible=_nobody_has_python),
    "a checkout that cannot be written": Elsewhere(before=_AS_NOBODY, refused=True, possible=_nobody_has_python),
}


def rows(place: Path) -> pd.DataFrame:
    """Do all of it in `place`, an empty folder.

    Returns:
        machine, found: `EQUAL`, `LEFT_OUT`, or what went wrong; files, how many were compared.
    """
    found, expected = [], {}
    for number, (name, machine) in enumerate(progress(MACHINES.items(), what="elsewhere", unit="machine")):
        if not machine.possible():
            found.append({"machine": name, "found": LEFT_OUT, "files": 0})
            continue
        root = paper(place / str(number) / machine.folder, jobs=1).root
        write_images(root / "images")
        _let_in(place, root, machine)
        trouble, results = _trouble(root, machine), {}
        if machine.refused:
            how = REFUSED if re.fullmatch(_ONE_LINE, trouble) else f"not refused in one line: {trouble}"
        else:
            results = {} if trouble else _results(root)
            expected = expected or results
            unequal = [path for path in {*expected, *results} if expected.get(path) != results.get(path)]
            how = trouble or (f"other results: {', '.join(sorted(unequal)[:3])}" if unequal else EQUAL)
        found.append({"machine": name, "found": how, "files": len(results)})
        shutil.rmtree(root.parent)
    return pd.DataFrame(found)


def _let_in(place: Path, root: Path, machine: Elsewhere) -> None:
    """Whoever the commands run as finds the checkout, and can write it if it is theirs."""
    place.chmod(0o711)
    if machine.owner is not None:
        for path in (root.parent, root, *root.rglob("*")):
            os.chown(path, machine.owner, machine.owner, follow_symlinks=False)


def _trouble(root: Path, machine: Elsewhere) -> str:
    environment = run_environment(root) | machine.environment
    environment = {key: value for key, value in environment.items() if value is not None}
    for line in LINES:
        done = subprocess.run(
            [*machine.before, *line], cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            return f"{line[3]} ended with {done.returncode}: {done.stderr.strip()[-300:]}"
    return ""


def _results(root: Path) -> dict[str, bytes]:
    """Tables, the model, scores and heatmaps; a path in them is from the folder in which the commands were started."""
    places = (root / "reports" / "smoke" / "synthetic" / "tables", root / "model", root / "maps")
    paths = [path for place in places for path in place.rglob("*") if path.is_file()]
    assert len(paths) > 8, os.listdir(root)
    return {relative(path, root): path.read_bytes() for path in (*paths, root / "scores.csv")}
