"""docs/fidelity_measured.md: the table of `make fidelity` as a page, and nothing on it that is not in the table."""

from pathlib import Path

import pandas as pd
from pandas import DataFrame

from vqad_lib.config import load_profile
from vqad_lib.files import write_text
from vqad_lib.reporting.tables import labels_of, load_table, markdown_table, table_path
from vqad_lib.workflow.fidelity_choices import NULL, every_choice

DOCUMENTED = "demo/ucsd_ped2"  # profile and data set whose results are part of the repository
PAGE = Path("docs") / "fidelity_measured.md"
_HEAD = f"""# What the choices do to the numbers

Written by notebook 13 (`make fidelity PROFILE=demo`) from
`reports/{DOCUMENTED}/tables/fidelity.csv`; do not edit. [fidelity.md](fidelity.md) says what the choices are,
and which others there are."""
_NOT_YET = "Not measured yet."
_HOW_TO_READ = """Each row compares two sides that differ in one choice; all else, the seed included, is equal. All
numbers are of test images. `difference` is other minus default, in brackets its 95% interval: a paired bootstrap over
images, over whole clips on split `official`. An interval around 0 means that these images cannot tell the two apart.
It knows nothing of training: `seed_sd` is how much the default itself varies from one training seed to the next
(standard deviation; empty where only one seed was run). A difference of that size may be luck, where the two sides
were trained separately.

`percentile` is where λ stands, by side where the sides differ. Sample-wise, validation chooses it for each side. So it
does for choices about restorations, whose sides share one set of them. Where a choice is trained, the restorations of
both sides are made at one fixed percentile, `evaluation.unsupervised_percentile`, and not at the one that validation
would choose; so their default may differ from that of the result tables. On split `official`, whose validation has no
anomalies, λ stands at that percentile throughout.

`default_fpr` and `other_fpr` are the shares of normal test images that are called anomalous at the threshold of the F1
beside them. Where most images are anomalous, an F1 may be high in spite of many false alarms."""
_COLUMNS = ["default_value", "other_value", "model", "split", "detector", "percentile", "metric", "default", "other"]
_COLUMNS += ["difference", "difference_low", "difference_high", "seed_sd", "default_fpr", "other_fpr"]
_TEXTS = ["default_value", "other_value", "percentile"]
_NEARLY_NULL = [NULL, "adaptive_delta"]  # both change δ of eq. 16, which is small beside the gradient it is added to


def measured_page(table: DataFrame | None, expected: dict[str, str] | None = None) -> str:
    """The page in Markdown.

    Args:
        table: fidelity.csv as `load_table` reads it; None where nothing has been measured.
        expected: names of the choices -> what each is about; those that the table lacks are named.
    """
    if table is None:
        return f"{_HEAD}\n\n{_NOT_YET}\n"
    texts = table[["matter", "paper", "published", "key"]].astype(object).fillna("")
    labels = labels_of(table)
    parts = [_HEAD, f"*{labels.line()}*" if labels else "", _HOW_TO_READ, _noise(table)]
    for matter in texts["matter"].unique():
        rows, text = table[texts["matter"] == matter], texts[texts["matter"] == matter].iloc[0]
        parts.append(f"## {matter[0].upper()}{matter[1:]}")
        parts.append(" ".join(_sentences(text)))
        columns = [name for name in _COLUMNS if name in rows and (name[-4:] != "_fpr" or rows[name].notna().any())]
        shown = rows[columns].assign(**{name: rows[name].map(_text) for name in _TEXTS if name in rows})
        parts.append(markdown_table(shown))
    lacking = [matter for name, matter in (expected or {}).items() if name not in set(table["choice"])]
    if lacking:
        parts.append(f"## Not measured yet\n\n{'; '.join(lacking)}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _noise(table: DataFrame) -> str:
    """What changes next to nothing, and by how much the numbers differ all the same."""
    rows = table[table["choice"].isin(_NEARLY_NULL) & (table["metric"] == "AUROC")]
    if rows.empty:
        return ""
    row = rows.loc[rows["difference"].abs().idxmax()]
    ratio = abs(row["difference"]) / row["seed_sd"]  # NaN without seeds
    excess = f", {ratio:.1f} times its `seed_sd`: so few seeds understate the noise of training" if ratio > 1 else ""
    return (
        f"**The noise of training.** Setting δ of eq. 16 from {_text(row['default_value'])} to "
        f"{_text(row['other_value'])} changes hardly anything in a step. The two trainings go apart all the same, and "
        f"the {row['detector']} AUROC of {row['model']} on split `{row['split']}` differs by {row['difference']:+.3g}"
        f"{excess}. No smaller difference between sides that were trained separately shows what a choice does, "
        "whatever its interval."
    )


def _text(value: object) -> str:
    """A value that may have been read as a number because its whole column looks like one."""
    if pd.isna(value):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sentences(text: pd.Series) -> list[str]:
    found = [f"Paper's text: {text['paper']}."]
    if text["published"]:
        found.append(f"Published code: {text['published']}.")
    found.append(f"Profile key: `{text['key']}`." if text["key"] else "No profile key.")
    return found


def update_page(root: Path, results: str) -> Path | None:
    """Write the page anew from fidelity.csv of a profile and data set, if they are those that the repository documents.

    Returns:
        The page's path, or None for others.
    """
    if results != DOCUMENTED:
        return None
    write_text(root / PAGE, current_page(root))
    return root / PAGE


def current_page(root: Path) -> str:
    """What the page has to say, by the documented fidelity.csv."""
    folder = root / "reports" / DOCUMENTED / "tables"
    is_there = table_path(folder, 0, name="fidelity").exists()
    profile = load_profile(root / "profiles" / f"{DOCUMENTED.split('/')[0]}.yaml")
    expected = {choice.name: choice.matter for choice in every_choice(profile)}
    return measured_page(load_table(folder, 0, name="fidelity") if is_there else None, expected)
