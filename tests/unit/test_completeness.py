"""Nothing of the paper is missing: every table and figure has a maker, a file, and the paper's own numbers in it."""

import re
from pathlib import Path

import pandas as pd
import pytest

from vqad_lib.paper import FIGURE_NUMBERS, TABLE_NUMBERS, reported
from vqad_lib.pipeline.graph import notebook_table
from vqad_lib.reporting.comparison import key_column
from vqad_lib.reporting.tables import load_table, row_name

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO_TABLES, DEMO_FIGURES = (
    REPOSITORY / "reports" / "demo" / "ucsd_ped2" / "tables",
    REPOSITORY / "figures" / "demo" / "ucsd_ped2",
)
STAGES = notebook_table(REPOSITORY)
ALL = [f"table_{n:02d}" for n in TABLE_NUMBERS] + [f"figure_{n:02d}" for n in FIGURE_NUMBERS]


def declared() -> dict[str, str]:
    """Name of each table and figure without placeholders -> the notebook that must write it."""
    outputs = [(Path(output).stem, notebook) for notebook, entry in STAGES.items() for output in entry["outputs"]]
    return {name: notebook for name, notebook in outputs if re.match(r"(table|figure)_\d\d", name)}


def committed(name: str) -> list[Path]:
    if name.startswith("table"):
        return [DEMO_TABLES / f"{name}.csv", DEMO_TABLES / f"{name}.txt"]
    return [DEMO_FIGURES / f"{name}.png"]


@pytest.mark.parametrize("name", ALL)
def test_a_notebook_makes_it(name):
    assert name in declared()


def test_nothing_is_made_that_the_paper_lacks():
    assert {re.match(r"[a-z]+_\d\d", name)[0] for name in declared()} <= set(ALL)


@pytest.mark.parametrize("name", sorted(declared()))
def test_committed_results_have_it(name):
    missing = [path.name for path in committed(name) if not path.exists()]
    assert not missing


@pytest.mark.parametrize("number", TABLE_NUMBERS)
def test_reported_cells_are_the_papers(number):
    """Every number of the paper's table stands in ours, in the row and the column where the paper has it."""
    ours, paper = load_table(DEMO_TABLES, f"table_{number:02d}"), reported(number)
    if number in (1, 2):
        pairs = [(f"paper_{side}", side) for side in ("height", "width", "channels")]
        lines = ours[ours["paper_height"].notna()]
    else:
        pairs = [(f"reported_{name}", name) for name in ("f1", "auc", "seconds_per_image") if name in paper]
        key = key_column(ours, number)
        lines = ours.set_index(ours[key].map(row_name)).loc[[row_name(name) for name in paper.index]]
    assert pairs
    for mine, theirs in pairs:
        assert lines[mine].tolist() == paper[theirs].tolist(), mine
        assert ours[mine].notna().sum() == len(paper), "a row that the paper lacks has no number of the paper's"


def test_official_twins_carry_no_number_of_the_papers():
    twins = sorted(DEMO_TABLES.glob("table_*_official.csv"))
    assert twins
    for path in twins:
        assert [column for column in pd.read_csv(path) if column.startswith("reported_")] == [], path.name


def test_summary_has_every_number_of_the_paper():
    summary = pd.read_csv(DEMO_TABLES.parent / "summary.csv", dtype={"row": str})
    given = {(line.table, line.row, line.column): line.reported for line in summary.itertuples()}
    wanted = {
        (number, row_name(row), column): float(value)
        for number in TABLE_NUMBERS
        for row, values in reported(number).drop(columns="component", errors="ignore").iterrows()
        for column, value in values.items()
    }
    assert given == wanted
    difference = summary["ours_paper_metrics"] - summary["reported"]
    assert (difference - summary["difference"]).abs().max() < 1e-5
    assert difference.notna().equals(summary["difference"].notna())
