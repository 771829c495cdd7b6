"""`make stress`: what takes too long for `make test`, part by part; a part that is done is not done again.

python -m tests.stress [PART ...]

Each part leaves its rows in reports/stress/, and all of them a line in the table of docs/reliability.md.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tests.stress import broken, elsewhere, kills, mutants, pairs
from vqad_lib.files import read_json, write_json, write_text
from vqad_lib.pipeline.notebooks import code_revision
from vqad_lib.reporting.tables import markdown_table

REPOSITORY = Path(__file__).resolve().parents[2]
STATE, REPORTS = REPOSITORY / "data" / "derived" / "stress", REPOSITORY / "reports" / "stress"
CODE = ("vqad_lib", "vqad", "beyond", "notebooks", "profiles", "tests/stress")
PAGE, BEGIN, END = REPOSITORY / "docs" / "reliability.md", "<!-- made by make stress -->\n", "<!-- end -->"
MUTANTS_KILLED, LINES_REACHED = 0.95, 0.90

Found = tuple[pd.DataFrame, str, bool]


def _broken(place: Path) -> Found:
    rows = broken.survivors(place)
    counts = rows["outcome"].value_counts()
    bad = rows[~rows["outcome"].isin(broken.GOOD)]
    measured = f"{len(rows) - len(bad)} of {len(rows)} broken inputs: " + ", ".join(
        f"{counts.get(outcome, 0)} {outcome}" for outcome in broken.GOOD
    )
    by_kind = rows.groupby(["kind", "outcome"]).size().reset_index(name="cases")
    for _, row in bad.iterrows():
        print(f"          {row['kind']}: {row['name']}: {row['outcome']}")
    return by_kind, measured, bad.empty


def _kills(place: Path) -> Found:
    rows = kills.rows(place)
    left = rows.groupby("kind")["left"].first().sum()
    measured = (
        f"{rows['equal'].sum()} of {len(rows)} SIGKILLs, {rows['running'].sum()} of them in the middle: results equal, "
    )
    again = rows["executed_again"].max()
    measured += f"byte for byte; {left} files under working names stay behind; {again} notebooks executed again"
    return rows, measured, bool(rows["equal"].all()) and not again


def _pairs(place: Path) -> Found:
    rows = pairs.rows(place)
    held = rows["found"] == rows["expected"]
    return rows, f"{held.sum()} of {len(rows)} pairs", bool(held.all())


def _elsewhere(place: Path) -> Found:
    rows = elsewhere.rows(place)
    hows = (elsewhere.EQUAL, elsewhere.REFUSED, elsewhere.LEFT_OUT)
    equal, refused, left_out = ((rows["found"] == how).sum() for how in hows)
    measured = f"{equal} of {len(rows)} machines: {rows['files'].max()} files equal, byte for byte; "
    measured += f"{refused} refused in one line; {left_out} left out"
    return rows, measured, equal + refused + left_out == len(rows)


def _mutants(place: Path) -> Found:
    rows = mutants.rows(place)
    imported = rows[rows["outcome"] != mutants.BROKEN]
    survived = imported["outcome"] == mutants.SURVIVED
    argued = (survived & (imported["why"] != "")).sum()
    counted = len(imported) - argued
    share = 1 - (survived.sum() - argued) / counted
    for _, row in imported[survived & (imported["why"] == "")].iterrows():
        print(f"          {row['module']}:{row['line']}: {row['change']}: {row['before']}")
    noticed = counted - survived.sum() + argued
    measured = f"{noticed} of {counted} changes noticed, {share:.1%}; {argued} more change nothing"
    return imported[survived], measured, share >= MUTANTS_KILLED


def _coverage(place: Path) -> Found:
    settings = place / "coverage.ini"
    write_text(settings, f"[run]\nsource = vqad_lib\nparallel = true\npatch = subprocess\ndata_file = {place}/found\n")
    command = [sys.executable, "-m", "coverage"]
    tests = ["-m", "pytest", "-q", "--numprocesses=2", "tests/unit"]
    subprocess.run([*command, "run", f"--rcfile={settings}", *tests], cwd=REPOSITORY, check=True)
    for verb in (["combine", "-q"], ["json", "-q", "-o", str(place / "lines.json")]):
        subprocess.run([*command, verb[0], f"--rcfile={settings}", *verb[1:]], cwd=REPOSITORY, check=True)
    files = read_json(place / "lines.json")["files"]
    counts = [of["summary"] | {"package": Path(path).parts[1].removesuffix(".py")} for path, of in files.items()]
    named = pd.DataFrame(counts).rename(columns={"num_statements": "statements", "covered_lines": "reached"})
    rows = named.groupby("package", as_index=False)[["statements", "reached"]].sum()
    share = rows["reached"].sum() / rows["statements"].sum()
    return rows, f"{share:.1%} of {rows['statements'].sum()} statements of vqad_lib", share >= LINES_REACHED


def _tests(_place: Path) -> Found:
    line = [sys.executable, "-m", "pytest", "-q", "-m", "stress", "tests"]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    print(done.stdout)
    said = re.sub(r" in [\d.]+s.*| \([\d:]+\)", "", done.stdout.strip().splitlines()[-1])
    return pd.DataFrame([{"outcome": said}]), said, done.returncode == 0


PARTS: dict[str, tuple[str, Callable[[Path], Found]]] = {
    "broken": ("broken input is one line that names it, or a right result", _broken),
    "kills": ("what is killed goes on to the same bytes", _kills),
    "pairs": ("two at a time are safe, or the second is refused in one line", _pairs),
    "elsewhere": ("odd paths, settings and limits change no result", _elsewhere),
    "mutants": ("a change to what numbers come from makes a test fail", _mutants),
    "coverage": ("unit tests reach the package", _coverage),
    "tests": ("training and scores by two processes, the paper's sizes", _tests),
}


def main(names: list[str]) -> int:
    """Do the parts that are not done for the code as it is, or those of these names; 1 if one does not hold."""
    code = _digest()
    for name, (promise, part) in PARTS.items():
        state = STATE / f"{name}.json"
        done = state.is_file() and read_json(state)["code"] == code
        if not done and (not names or name in names):
            print(f"stress    {name}: {promise}", flush=True)
            started = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="vqad_stress_") as place:
                rows, measured, held = part(Path(place))
            write_text(REPORTS / f"{name}.csv", rows.to_csv(index=False, lineterminator="\n"))
            found = {"part": name, "promise": promise, "measured": measured, "held": "yes" if held else "no"}
            found |= {"minutes": round((time.monotonic() - started) / 60, 1), "revision": code_revision(REPOSITORY)[:8]}
            write_json(state, {"code": code, "row": found})
            _write_table()
            print(f"          {name}: {measured}{'' if held else ' -- DOES NOT HOLD'}", flush=True)
    return 0 if (_write_table()["held"] == "yes").all() else 1


def _write_table() -> pd.DataFrame:
    """Of all parts that have been done, each with the revision of the code that it was done for."""
    states = (STATE / f"{name}.json" for name in PARTS)
    found = [read_json(state)["row"] for state in states if state.is_file()]
    table = pd.DataFrame(found, columns=["part", "promise", "measured", "held", "minutes", "revision"])
    write_text(REPORTS / "summary.csv", table.to_csv(index=False, lineterminator="\n"))
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    write_text(PAGE, f"{before}{BEGIN}{markdown_table(table)}\n{END}{rest.split(END)[1]}")
    return table


def _digest() -> str:
    """Of all code that the parts run."""
    found = hashlib.sha256()
    for folder in CODE:
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.suffix in (".py", ".ipynb", ".yaml", ".j2"):
                found.update(path.relative_to(REPOSITORY).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
