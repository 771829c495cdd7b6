"""The numbers and captions that the paper prints, read from ``data/paper``.

``reported.csv`` holds every number of Tables 3-27, ``shapes.csv`` Tables 1 and 2 line by line, ``captions.csv`` the
captions of Tables 1-27 and Figures 1-18. Tables 23 and 24 are printed with lambda_LP but hold lambda_S; the captions
here are corrected and say so in ``printed_caption_note``.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from pandas import DataFrame

from vqad_lib.errors import VqadError

PAPER_FOLDER = Path(__file__).resolve().parents[2] / "data" / "paper"
TABLE_NUMBERS = tuple(range(1, 28))
FIGURE_NUMBERS = tuple(range(1, 19))
COLUMN_ORDER = ("threshold_percentile", "lambda_nats", "f1", "auc", "seconds_per_image")

Kind = Literal["table", "figure"]


@dataclass(frozen=True)
class Caption:
    """One caption: its text, the paper's section, and what the printed one gets wrong ("" where nothing)."""

    text: str
    section: str
    note: str


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


def caption_record(kind: Kind, number: int) -> Caption:
    """One caption with its section and the note on the printed one.

    Raises:
        VqadError: the paper has no such table or figure.
    """
    captions = _read("captions.csv")
    found = captions[(captions["kind"] == kind) & (captions["number"] == str(number))]
    if found.empty:
        raise VqadError(f"the paper has no {kind} {number}; it has tables 1 to 27 and figures 1 to 18")
    line = found.iloc[0]
    return Caption(line["caption"], line["section"], line["printed_caption_note"])


def caption(kind: Kind, number: int) -> str:
    """The caption of one table or figure, close to the paper's wording; raises as `caption_record`."""
    return caption_record(kind, number).text
