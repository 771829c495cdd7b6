"""The numbers and captions that the paper prints, and what figures show in words, read from ``data/paper``.

``reported.csv`` holds every number of Tables 3-27, ``shapes.csv`` Tables 1 and 2 line by line, ``captions.csv`` the
captions of Tables 1-27 and Figures 1-18. Tables 23 and 24 are printed with lambda_LP but hold lambda_S; the captions
here are corrected and say so in ``note``. ``descriptions.csv`` has alternative texts of figures, and titles of the
tables and figures that the paper lacks, in the order in which the page shows them.
"""

import functools
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
from pandas import DataFrame

from vqad_lib.errors import VqadError

PAPER_FOLDER = Path(__file__).resolve().parents[1] / "data" / "paper"
TABLE_NUMBERS = tuple(range(1, 28))
FIGURE_NUMBERS = tuple(range(1, 19))
DATA = "ucsd_ped2"  # the data set whose numbers these are; beside other data they say nothing
MODELS = ("VP", "VT", "GP", "GT")  # the combinations that the paper has, in the order of its tables
COLUMN_ORDER = ("threshold_percentile", "lambda_nats", "f1", "auc", "seconds_per_image")

Kind = Literal["table", "figure"]


@functools.cache
def _read(name: str) -> DataFrame:
    path = PAPER_FOLDER / name
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except OSError as error:
        raise VqadError(f"cannot read {path}: {error.strerror}; run from a full copy of the repository") from error


def reported(table: int) -> DataFrame:
    """What the paper prints in one table.

    Args:
        table: 1-27.

    Returns:
        Tables 3-27: one row per row of the paper's table, in its order, indexed by "row": a combination (VP, VT, GP,
        GT), a method, or an int (latent dimension, codebook size, percentile). Columns are those of
        ``COLUMN_ORDER`` that the table has: f1 and auc in [0, 1], lambda_nats, threshold_percentile in 0..100,
        seconds_per_image. Tables 1 and 2: component, height, width, channels, indexed by line from 0.

    Raises:
        VqadError: the paper has no such table, or data/paper is missing.
    """
    if table in (1, 2):
        shapes = _read("shapes.csv")
        lines = shapes[shapes["table"] == str(table)].drop(columns="table")
        numbers = dict.fromkeys(("row", "height", "width", "channels"), int)
        return lines.astype(numbers).set_index("row")
    long = _read("reported.csv")
    long = long[long["table"] == str(table)]
    if long.empty:
        raise VqadError(f"the paper has no table {table}; it has 1 to 27")
    wide = long.pivot(index="row", columns="column", values="value").loc[long["row"].unique()].astype(float)
    wide = wide[[name for name in COLUMN_ORDER if name in wide]].rename_axis(columns=None)
    if all(name.isdigit() for name in wide.index):
        wide.index = wide.index.astype(int)
    return wide


def caption(kind: Kind, number: int) -> Any:
    """The caption of one table or figure.

    Returns:
        A named tuple: text, close to the paper's wording; section of the paper; note, what the printed one gets wrong,
        "" where nothing; short, for a table of contents; group, the heading above it there.

    Raises:
        VqadError: the paper has no such table or figure.
    """
    for row in _read("captions.csv").itertuples():
        if (row.kind, row.number) == (kind, str(number)):
            return row
    raise VqadError(f"the paper has no {kind} {number}; it has tables 1 to 27 and figures 1 to 18")


class Description(NamedTuple):
    """A table or figure in words: its title ("" for the paper's, which have captions), and what it shows."""

    title: str
    alt_text: str


def descriptions() -> dict[str, Description]:
    """File name without ending, for example "figure_06" or "leak" -> its description, in the page's order."""
    return {row.name: Description(row.title, row.alt_text) for row in _read("descriptions.csv").itertuples()}
