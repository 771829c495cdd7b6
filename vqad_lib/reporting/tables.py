"""Result tables: CSV that is the same byte for byte when the numbers are, Markdown for people.

A table's columns are its own, then profile, dataset, seed and perceptual, so that a file that has left its folder
still says what made it.
"""

import re
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pandas import DataFrame, Series

from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import RunInfo
from vqad_lib.files import write_text
from vqad_lib.paper import caption, reported

LABEL_COLUMNS = ("profile", "dataset", "seed", "perceptual")
_TEXT_LABELS = ("profile", "dataset", "perceptual")
SCORE_PREFIXES = ("f1", "auc", "auroc", "auprc", "reported_f1", "reported_auc")
_BESIDE = ("f1", "auc", "seconds_per_image")
PAPERS_ALGORITHM = " (plain algorithm)"  # ends the name of the row that was computed as the paper computed it
_NOTES_MARK = "\nNotes: "
# names of files and folders may hold what Markdown and HTML take for their own
_MARKDOWN = str.maketrans({**{c: f"\\{c}" for c in "\\`*$|"}, "<": "&lt;", "&": "&amp;", "\n": " "})


def table_path(folder: Path, number: int, suffix: str = "", name: str | None = None) -> Path:
    """Where the CSV of a table lies: folder/table_NN{suffix}.csv, or folder/{name}{suffix}.csv."""
    stem = name if name is not None else f"table_{number:02d}"
    return Path(folder) / f"{stem}{suffix}.csv"


def save_table(
    frame: DataFrame,
    *,
    number: int,
    labels: RunInfo,
    folder: Path,
    suffix: str = "",
    notes: str = "",
    name: str | None = None,
) -> Path:
    """Write one table as CSV, with Markdown beside it.

    Args:
        frame: the table; its index is dropped.
        number: the paper's table number, 1-27; ignored where `name` is given.
        suffix: added to the file name, for example "_official".
        notes: a sentence or two beneath the Markdown table and on the report page.
        name: file name without ending, for a table that the paper does not have.

    Returns:
        The CSV's path. Floats have six significant digits, missing values are empty, lines end in one line feed.

    Raises:
        VqadError: no such table in the paper, or the folder cannot be written; what stood there before stays.
    """
    path = table_path(folder, number, suffix, name)
    title = name.replace("_", " ") if name is not None else f"Table {number}. {caption('table', number).text}"
    labelled = without_labels(frame).assign(**{column: getattr(labels, column) for column in LABEL_COLUMNS})
    parts = [f"**{title}**", markdown_table(frame), f"*{labels.line().translate(_MARKDOWN)}*"]
    if notes:
        parts.append(_NOTES_MARK.strip() + " " + " ".join(notes.split()))
    # the CSV last: whoever sees it may count on the Markdown
    write_text(path.with_suffix(".md"), "\n\n".join(parts) + "\n")
    write_text(path, labelled.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return path


def load_table(folder: Path, number: int, suffix: str = "", name: str | None = None) -> DataFrame:
    """Read back what `save_table` wrote, label columns included.

    Raises:
        VqadError: the table is not there.
    """
    path = table_path(folder, number, suffix, name)
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(_TEXT_LABELS, str))
    except OSError as error:
        raise VqadError(f"cannot read {path}: {error.strerror}; run the notebook that makes it") from error
    # an empty label is "", not a missing value
    return frame.assign(**{column: frame[column].fillna("") for column in _TEXT_LABELS if column in frame})


def load_notes(folder: Path, number: int, suffix: str = "", name: str | None = None) -> str:
    """The notes that `save_table` wrote beneath a table; "" where there are none."""
    path = table_path(folder, number, suffix, name).with_suffix(".md")
    content = path.read_text(encoding="utf-8") if path.exists() else ""
    return content.partition(_NOTES_MARK)[2].strip()


def beside_paper(ours: DataFrame, *, table: int, key: str) -> DataFrame:
    """Put the paper's numbers beside ours, row by row.

    Args:
        ours: any columns, with `key` among them: the paper's row names (see `paper.reported`).
        table: 3-27.

    Returns:
        A copy of `ours`, in its order, with those of reported_f1, reported_auc, reported_seconds_per_image that the
        paper's table has, after `key`; NaN in rows that the paper lacks.

    Raises:
        VqadError: `key` is no column of ours, or a row of the paper's is missing from ours.
    """
    if key not in ours:
        raise VqadError(f"table {table}: no column {key!r} among {', '.join(map(str, ours.columns))}")
    paper = reported(table)
    theirs = {row_name(row): row for row in paper.index}
    names = ours[key].map(row_name)
    missing = [name for name in theirs if name not in set(names)]
    if missing:
        raise VqadError(f"table {table}: our rows lack the paper's {', '.join(missing)} (column {key!r})")
    result = ours.copy()
    position = result.columns.get_loc(key) + 1
    for column in (column for column in _BESIDE if column in paper):
        values = [paper.at[theirs[name], column] if name in theirs else float("nan") for name in names]
        result = result.drop(columns=f"reported_{column}", errors="ignore")
        result.insert(min(position, result.shape[1]), f"reported_{column}", values)
        position += 1
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
    kinds, pairs = [_kinds(frame["component"]) for frame in (ours, paper)], []
    for tag, a, a_end, b, b_end in SequenceMatcher(None, *kinds, autojunk=False).get_opcodes():
        if tag == "equal":
            pairs += zip(range(a, a_end), range(b, b_end), strict=True)
        else:  # -1, a row that there is not, where a line stands alone
            pairs += [(i, -1) for i in range(a, a_end)] + [(-1, j) for j in range(b, b_end)]
    left, right = map(list, zip(*pairs, strict=True))
    both = ours.reindex(left).reset_index(drop=True).join(theirs.reindex(right).reset_index(drop=True))
    both.insert(1, "component_in_paper", both.pop("component_in_paper"))
    return both.astype({column: "Int64" for column in both if "component" not in column})


def _kinds(components: Series) -> list[str]:
    """What each line does, without the number of its blocks; the input has another name in either table."""
    return ["input"] + [re.sub(r" × \d+", "", component) for component in components[1:]]


def row_name(value: object) -> str:
    """A row's name as the paper has it, as text: 20, 20.0 and "20" are one row; `PAPERS_ALGORITHM` is left out."""
    return f"{value:g}" if isinstance(value, float) else str(value).removesuffix(PAPERS_ALGORITHM)


def format_column(column: Series) -> list[str]:
    """One column as text: scores with 3 decimals, whole numbers without, others below 1 with 3 digits."""
    is_score = str(column.name).startswith(SCORE_PREFIXES) and pd.api.types.is_numeric_dtype(column)
    column = column.astype(float) if is_score else column  # a column of ones is read back as whole numbers
    numbers = column.dropna()
    floats = pd.api.types.is_float_dtype(column)
    whole = floats and not is_score and bool((numbers == numbers.round()).all())
    return [_format(value, whole=whole, is_score=is_score) for value in column]


def _format(value: object, *, whole: bool, is_score: bool) -> str:
    if pd.isna(value):
        return ""
    if not isinstance(value, float):
        return str(value)
    if whole:
        return f"{value:.0f}"
    return f"{value:.3f}" if is_score or value == 0 or abs(value) >= 1 else f"{value:#.3g}"


class Value(NamedTuple):
    """What stands in one place of a table, as text; "" where there is no such thing.

    Attributes:
        low, high: the bounds of its interval.
        spread: its standard deviation.
    """

    text: str
    low: str = ""
    high: str = ""
    spread: str = ""


def folded(frame: DataFrame) -> dict[str, list[Value]]:
    """Every column as text, label columns left out; x_low and x_high go into x, x_sd into x_mean."""
    text = {str(name): format_column(column) for name, column in without_labels(frame).items()}
    parts = {}
    for name in text:
        ends = [f"{name}_low", f"{name}_high"]
        spread = name.removesuffix("_mean") + "_sd" if name.endswith("_mean") else ""
        parts[name] = [end if set(ends) <= set(text) else "" for end in ends] + [spread if spread in text else ""]
    inner, blank = {name for names in parts.values() for name in names}, [""] * len(frame)
    columns = {name: [text.get(part, blank) for part in parts[name]] for name in text if name not in inner}
    return {name: [Value(*row) for row in zip(text[name], *found, strict=True)] for name, found in columns.items()}


def markdown_table(frame: DataFrame) -> str:
    """A frame as a Markdown table: 3 decimals, the label columns left out; "0.91 [0.88, 0.94]", "0.91 ± 0.02"."""
    columns = folded(frame)
    numeric = [pd.api.types.is_numeric_dtype(frame[column]) for column in columns]
    lines = [list(columns), ["---:" if number else "---" for number in numeric]]
    lines += [[_in_markdown(value) for value in row] for row in zip(*columns.values(), strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _in_markdown(value: Value) -> str:
    text = value.text.translate(_MARKDOWN)
    if text and value.low and value.high:
        return f"{text} [{value.low}, {value.high}]"
    return f"{text} ± {value.spread}" if text and value.spread else text


def without_labels(frame: DataFrame) -> DataFrame:
    """A table without its label columns."""
    return frame.drop(columns=[*LABEL_COLUMNS], errors="ignore")


def labels_of(frame: DataFrame) -> RunInfo | None:
    """The labels that a loaded table carries, or None where it carries none."""
    if frame.empty or not set(LABEL_COLUMNS) <= set(frame):
        return None
    labels = frame.iloc[0][[*LABEL_COLUMNS]].to_dict()
    return RunInfo(**labels | {"seed": int(labels["seed"])})
