"""Result tables: CSV that is the same byte for byte when the numbers are, with notes beside it; Markdown for notebooks.

A table's columns are its own, then profile, dataset, seed and perceptual, so that a file that has left its folder
still says what made it.
"""

import re
from difflib import SequenceMatcher
from pathlib import Path

import pandas as pd
from pandas import DataFrame, Series
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import RunInfo
from vqad_lib.files import write_text
from vqad_lib.paper import DATA, reported

LABEL_COLUMNS = ("profile", "dataset", "seed", "perceptual")
_TEXT_LABELS = ("profile", "dataset", "perceptual")
SCORE_PREFIXES = ("f1", "auc", "auroc", "auprc", "reported_f1", "reported_auc")
_BESIDE = ("f1", "auc", "seconds_per_image")
PAPERS_ALGORITHM = " (plain algorithm)"  # ends the name of the row that was computed as the paper computed it
# names of files and folders may hold what Markdown and HTML take for their own
_MARKDOWN = str.maketrans({**{c: f"\\{c}" for c in "\\`*$|"}, "<": "&lt;", "&": "&amp;", "\n": " "})


def save_table(frame: DataFrame, name: str, *, labels: RunInfo, folder: Path, notes: str = "") -> Path:
    """Write one table as CSV, and what is to be said about it as text beside it.

    Args:
        frame: the table; its index is dropped.
        name: file name without ending, "table_06" or "table_06_official" for the paper's Table 6, else any.
        notes: a sentence or two, beneath the table on the report page.

    Returns:
        The CSV's path. Floats have six significant digits, missing values are empty, lines end in one line feed.

    Raises:
        VqadError: the folder cannot be written; what stood there before stays.
    """
    path = Path(folder) / f"{name}.csv"
    labelled = without_labels(frame).assign(**{column: getattr(labels, column) for column in LABEL_COLUMNS})
    # the CSV last: whoever sees it may count on the notes
    write_text(path.with_suffix(".txt"), " ".join(notes.split()) + "\n")
    write_text(path, labelled.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return path


def load_table(folder: Path, name: str) -> DataFrame:
    """Read back what `save_table` wrote, label columns included.

    Raises:
        VqadError: the table is not there.
    """
    path = Path(folder) / f"{name}.csv"
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(_TEXT_LABELS, str))
    except OSError as error:
        raise VqadError(f"cannot read {path}: {error.strerror}; run the notebook that makes it") from error
    # an empty label is "", not a missing value
    return frame.assign(**{column: frame[column].fillna("") for column in _TEXT_LABELS if column in frame})


def load_notes(folder: Path, name: str) -> str:
    """The notes that `save_table` wrote beside a table; "" where there are none."""
    path = Path(folder) / f"{name}.txt"
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def beside_paper(ours: DataFrame, *, table: int, key: str, dataset: str) -> DataFrame:
    """Put the paper's numbers beside ours, row by row.

    Args:
        ours: any columns, with `key` among them: the paper's row names (see `paper.reported`).
        table: 3-27.
        dataset: of ours, see `datasets.DATASETS`.

    Returns:
        `ours` where the data are not the paper's; else a copy, in its order, with those of reported_f1, reported_auc,
        reported_seconds_per_image that the paper's table has, after `key`; NaN in rows that the paper lacks.

    Raises:
        VqadError: a row of the paper's is missing from ours.
    """
    if dataset != DATA:
        return ours
    paper, names = reported(table).rename(index=row_name), ours[key].map(row_name)
    if missing := [name for name in paper.index if name not in set(names)]:
        raise VqadError(f"table {table}: our rows lack the paper's {', '.join(missing)} (column {key!r})")
    theirs = paper.filter(_BESIDE).add_prefix("reported_")
    result = ours.drop(columns=theirs.columns, errors="ignore")
    for column in reversed(theirs.columns):
        result.insert(result.columns.get_loc(key) + 1, column, names.map(theirs[column]))
    return result


def beside_paper_shapes(rows: list[dict[str, str | int]], *, table: int) -> DataFrame:
    """Put our lines beside the paper's, in order; a smaller profile lacks some of them.

    Lines are paired by what they do, whatever the number of blocks: the longest runs of equal lines first. So a
    profile with one level less leaves one line of the paper's alone, and the others stand beside their like.

    Args:
        rows: component, height, width, channels, see `shape_rows`; the first is the input.
        table: 1 or 2.

    Returns:
        component, component_in_paper, height, width, channels, paper_height, paper_width, paper_channels; missing
        where a line has no partner. Every line of the paper's is there, in its order.
    """
    ours = DataFrame(rows)
    paper = reported(table).reset_index(drop=True)
    theirs = paper[["component", "height", "width", "channels"]].add_prefix("paper_")
    theirs = theirs.rename(columns={"paper_component": "component_in_paper"})
    # what each line does, without the number of its blocks; the input has another name in either table
    lines = (frame["component"][1:] for frame in (ours, paper))
    kinds, pairs = [["input", *(re.sub(r" × \d+", "", name) for name in names)] for names in lines], []
    for tag, a, a_end, b, b_end in SequenceMatcher(None, *kinds, autojunk=False).get_opcodes():
        if tag == "equal":
            pairs += zip(range(a, a_end), range(b, b_end), strict=True)
        else:  # -1, a row that there is not, where a line stands alone
            pairs += [(i, -1) for i in range(a, a_end)] + [(-1, j) for j in range(b, b_end)]
    left, right = map(list, zip(*pairs, strict=True))
    both = ours.reindex(left).reset_index(drop=True).join(theirs.reindex(right).reset_index(drop=True))
    both.insert(1, "component_in_paper", both.pop("component_in_paper"))
    return both.astype({column: "Int64" for column in both if "component" not in column})


def row_name(value: object) -> str:
    """A row's name as the paper has it, as text: 20, 20.0 and "20" are one row; `PAPERS_ALGORITHM` is left out."""
    return f"{value:g}" if isinstance(value, float) else str(value).removesuffix(PAPERS_ALGORITHM)


def format_column(column: Series) -> list[str]:
    """One column as text: scores with 3 decimals, whole numbers without, others below 1 with 3 digits."""
    if not is_numeric_dtype(column) or is_bool_dtype(column):
        return ["" if pd.isna(value) else str(value) for value in column]
    is_score, numbers = str(column.name).startswith(SCORE_PREFIXES), column.dropna()
    places = ".3f" if is_score else ".0f" if (numbers == numbers.round()).all() else ""
    by_size = [places or (".3f" if value == 0 or abs(value) >= 1 else "#.3g") for value in column]
    return ["" if pd.isna(value) else f"{value:{form}}" for value, form in zip(column, by_size, strict=True)]


def folded(frame: DataFrame) -> dict[str, list[tuple[str, str]]]:
    """Every column as text, label columns left out: x_low and x_high go into x, x_sd into x_mean.

    Returns:
        Column -> its cells, each a number or words and what stands beside it: "[0.880, 0.940]", "± 0.020" or "".
    """
    text = {str(name): format_column(column) for name, column in without_labels(frame).items()}
    columns, inner = {}, set()
    for name, cells in text.items():
        low, high, spread = f"{name}_low", f"{name}_high", f"{name.removesuffix('_mean')}_sd"
        beside = [""] * len(frame)
        if {low, high} <= set(text):
            inner |= {low, high}
            beside = [f"[{a}, {b}]" if a and b else "" for a, b in zip(text[low], text[high], strict=True)]
        elif name.endswith("_mean") and spread in text:
            inner |= {spread}
            beside = [f"± {sd}" if sd else "" for sd in text[spread]]
        columns[name] = list(zip(cells, beside, strict=True))
    return {name: cells for name, cells in columns.items() if name not in inner}


def markdown_table(frame: DataFrame) -> str:
    """A frame as a Markdown table: 3 decimals, the label columns left out; "0.91 [0.88, 0.94]", "0.91 ± 0.02"."""
    columns = folded(frame)
    lines = [list(columns), ["---:" if is_numeric_dtype(frame[name]) else "---" for name in columns]]
    for row in zip(*columns.values(), strict=True):
        lines.append([f"{text.translate(_MARKDOWN)} {beside}".strip() for text, beside in row])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def without_labels(frame: DataFrame) -> DataFrame:
    """A table without its label columns."""
    return frame.drop(columns=[*LABEL_COLUMNS], errors="ignore")


def labels_of(frame: DataFrame) -> RunInfo | None:
    """The labels that a loaded table carries, or None where it carries none."""
    if frame.empty or not set(LABEL_COLUMNS) <= set(frame):
        return None
    labels = frame.iloc[0][[*LABEL_COLUMNS]].to_dict()
    return RunInfo(**labels | {"seed": int(labels["seed"])})
