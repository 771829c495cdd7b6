"""What a report says first: does the paper replicate, what is wrong with its measurement, what is the honest result."""

from collections.abc import Set
from pathlib import Path

import pandas as pd
from pandas import DataFrame, Series

from vqad_lib.files import whole_files
from vqad_lib.reporting.tables import load_table

_LEAKS_ABOVE = 0.9  # AUROC of the nearest training frame
_FOR_A_CLAIM = ["better", "as good"]  # of the verdicts of `analysis.claims`


def answers(tables: Path, summary: DataFrame, left_out: Set[str]) -> dict[str, str]:
    """Three questions, each with an answer whose numbers are read from the tables; none where a table is missing.

    Args:
        tables: reports/<profile>/<data set>/tables.
        summary: of `comparison_rows`, all tables.
        left_out: names of tables not to be read.
    """
    names = {path.stem for path in whole_files(tables, ".csv")}
    read = ("leak", "claim_", "official_frame")
    there = {name: load_table(tables, name) for name in sorted(names - left_out) if name.startswith(read)}
    if "table_06" not in left_out and "table_06_official" in names:
        there["official"] = load_table(tables, "table_06_official")
    given = {
        "Does it replicate?": _agreement(summary),
        "What is wrong with the measurement?": _leak(there),
        "What is the honest result?": _result(there),
    }
    return {question: answer for question, answer in given.items() if answer}


def _agreement(summary: DataFrame) -> str:
    """How close the scores of Tables 6-9 come out, one for each detector."""
    if "difference" not in summary:  # of other data than the paper's
        return ""
    scores = summary["column"].isin(["f1", "auc"]) & summary["table"].between(6, 9)
    gaps = summary.loc[scores, "difference"].dropna().abs()
    if not len(gaps):
        return ""
    return (
        f"By the paper’s metrics on the paper’s split, {(gaps <= 0.05).sum()} of the {len(gaps)} F1 and AUC scores in "
        f"Tables 6 to 9 come out within 0.05; half of all differ by less than {gaps.median():.3f}."
    )


def _nearest(there: dict[str, DataFrame]) -> Series:
    """AUROC of the distance to the nearest training frame, by scheme."""
    frame = there.get("leak", DataFrame({"scheme": []})).set_index("scheme")
    return frame.get("auroc", Series(dtype=float)).dropna()


def _leak(there: dict[str, DataFrame]) -> str:
    nearest = _nearest(there)
    if nearest.get("paper", 0.0) < _LEAKS_ABOVE:
        return ""
    why = "It leaks: its test and training images are of one set."
    if "official" in nearest:
        why = "It leaks: test frames of scheme paper lie between training frames of the same clips."
    return f"{why} The distance to the nearest training frame, with no model at all, has AUROC {nearest['paper']:.3f}."


def _result(there: dict[str, DataFrame]) -> str:
    """Of scheme official, whose test clips are never trained on."""
    if not {"model", "auroc", "auroc_low", "auroc_high"} <= set(there.get("official", ())):
        return ""
    of_models = there["official"][~there["official"]["model"].str.startswith("nearest")]
    lowest, highest = of_models.min(numeric_only=True), of_models.max(numeric_only=True)
    text = (
        "On clips that no network has seen (scheme official), sample-wise detection has AUROC "
        f"{lowest['auroc']:.3f} to {highest['auroc']:.3f} by model, "
        f"with intervals from {lowest['auroc_low']:.2f} to {highest['auroc_high']:.2f}"
    )
    nearest = _nearest(there).get("official")
    text += f"; the nearest training frame has {nearest:.3f}." if nearest else "."
    if "official_frame_auroc" in there:
        area = there["official_frame_auroc"].set_index("method")["auroc_micro"]
        text += f" How fast something moves, with no model at all, has {area['largest speed, no model']:.3f}"
        text += f", and an unlikely code of its motion {area['codes of motion']:.3f}."
    claims = [table.query("scheme == 'official'") for name, table in there.items() if name.startswith("claim_")]
    rows = pd.concat(claims) if claims else DataFrame(columns=["verdict", "comparison", "detector"])
    of_density = rows["comparison"].str.contains("P - .T") & (rows["detector"] == "sample_wise")
    verdicts = rows.loc[~of_density, "verdict"]  # claim 2 is about restoration
    good, bad = verdicts.isin(_FOR_A_CLAIM).sum(), (verdicts == "worse").sum()
    tally = (
        f" Of the {len(verdicts)} comparisons behind the paper’s three claims {good} are for a claim, {bad} against "
        f"it, and {len(verdicts) - good - bad} undecided."
    )
    return text + tally if len(verdicts) else text
