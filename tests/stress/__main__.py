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

from tests.stress import broken, kills, pairs
from vqad_lib.files import read_json, write_json, write_text
from vqad_lib.reporting.tables import markdown_table

REPOSITORY = Path(__file__).resolve().parents[2]
STATE, REPORTS = REPOSITORY / "data" / "derived" / "stress", REPOSITORY / "reports" / "stress"
CODE = ("vqad_lib", "vqad", "beyond", "notebooks", "profiles", "tests/stress")
PAGE, BEGIN, END = REPOSITORY / "docs" / "reliability.md", "<!-- made by make stress -->\n", "<!-- end -->"

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
    measured += f"byte for byte; {left} files under working names stay behind"
    return rows, measured, bool(rows["equal"].all())


def _pairs(place: Path) -> Found:
    rows = pairs.rows(place)
    held = rows["found"] == rows["expected"]
    return rows, f"{held.sum()} of {len(rows)} pairs", bool(held.all())


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
    "tests": ("training and scores by two processes, the paper's sizes", _tests),
}


def main(names: list[str]) -> int:
    """Do the parts that are not done for the code as it is; 1 if one does not hold."""
    code, lines = _digest(), []
    for name, (promise, part) in PARTS.items():
        state = STATE / f"{name}.json"
        known = read_json(state) if state.is_file() else {}
        if known.get("code") != code and (not names or name in names):
            print(f"stress    {name}: {promise}", flush=True)
            started = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="vqad_stress_") as place:
                rows, measured, held = part(Path(place))
            write_text(REPORTS / f"{name}.csv", rows.to_csv(index=False, lineterminator="\n"))
            known = {"code": code, "measured": measured, "held": held, "minutes": (time.monotonic() - started) / 60}
            write_json(state, known)
        if known:
            lines.append(
                {"part": name, "promise": promise} | {key: known[key] for key in ("measured", "held", "minutes")}
            )
            print(f"          {name}: {known['measured']}{'' if known['held'] else ' -- DOES NOT HOLD'}", flush=True)
    table = pd.DataFrame(lines)
    write_text(REPORTS / "summary.csv", table.to_csv(index=False, lineterminator="\n"))
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    shown = markdown_table(
        table.assign(held=table["held"].map({True: "yes", False: "no"}), minutes=table["minutes"].round(1))
    )
    write_text(PAGE, f"{before}{BEGIN}{shown}\n{END}{rest.split(END)[1]}")
    return 0 if table["held"].all() else 1


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
