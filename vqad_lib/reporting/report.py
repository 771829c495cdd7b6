"""One page with every table and figure beside the paper's, readable from disk with no network.

The page is a function of the files below reports and figures and of `provenance`: no clock, no
random numbers, so the same inputs give the same bytes.
"""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from vqad_lib.files import write_text
from vqad_lib.reporting.alt_text import alt_text
from vqad_lib.reporting.comparison import comparison_rows
from vqad_lib.reporting.overview import leak_facts, overview_html
from vqad_lib.reporting.page import fact_lines, figure_body, page_template, table_body, title_of, variant_title
from vqad_lib.reporting.paper_numbers import FIGURE_NUMBERS, TABLE_NUMBERS, Kind, caption_record

SUMMARY_COLUMNS = ["table", "row", "column", "reported", "ours_paper_protocol", "ours_sound", "difference"]
DETAILS = ("versions", "python", "data digest")  # facts that are folded
# what a reader wants to know first; the others follow by name
FIRST_EXTRAS = ("claim_1_codebook", "claim_2_spatial", "claim_3_light", "leak", "leak_in_time", "official_auroc")
SECTIONS = {"3.1": "architecture", "3.9": "capacity", "4.3": "results", "5.1": "time, light against full"}


def build_report(
    *, reports: Path, figures: Path, notebooks: list[str], provenance: dict[str, Any], made_by: dict[str, str]
) -> Path:
    """Write reports/<profile>/<data set>/index.html and summary.csv.

    Args:
        reports: reports/<profile>/<data set>; tables are read from its tables/, executed notebooks from its notebooks/.
        figures: figures/<profile>/<data set>.
        notebooks: names of the executed notebooks, without ending, in order.
        provenance: run facts for people, shown in this order where present: profile, dataset, perceptual, hardware,
            seeds, seed, time, code, versions; then any others. Values may be text, numbers, lists or mappings.
        made_by: name of a table or figure, "table_06" or "leak" -> name of the executed notebook.

    Returns:
        The page's path.

    Raises:
        VqadError: a table or figure cannot be read, or the page cannot be written.
    """
    reports, figures = Path(reports), Path(figures)
    tables = reports / "tables"
    entries = [_table_entry(number, tables) for number in TABLE_NUMBERS]
    entries += [_figure_entry(number, figures, reports) for number in FIGURE_NUMBERS]
    extras = _extras(tables, figures, reports)
    for entry in entries + extras:
        entry["notebook"] = _notebook_link(made_by.get(entry["key"]), reports)
        for body in entry["bodies"]:
            body["notebook"] = _notebook_link(made_by.get(body.get("made_as", entry["key"])), reports)
    facts = fact_lines(provenance)
    summary = pd.DataFrame(
        [row for number in TABLE_NUMBERS for row in comparison_rows(number, tables)], columns=SUMMARY_COLUMNS
    )
    page = page_template("report.html.j2").render(
        profile=provenance.get("profile", reports.name),
        facts=[(name, value) for name, value in facts if name not in DETAILS],
        details=[(name, value) for name, value in facts if name in DETAILS],
        random_network="random" in str(provenance.get("perceptual", "")).lower(),
        perceptual=provenance.get("perceptual", ""),
        groups=_groups(entries),
        extras=extras,
        overview=overview_html(tables),
        leak=leak_facts(tables),
        notebooks=[link for link in (_notebook_link(name, reports) for name in notebooks) if link],
        present=sum(entry["present"] for entry in entries),
        total=len(entries),
        closest=_agreement(summary),
    )
    write_text(reports / "summary.csv", summary.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    write_text(reports / "index.html", page)
    return reports / "index.html"


def _entry(kind: Kind, number: int) -> dict[str, Any]:
    record = caption_record(kind, number)
    key = f"{kind}_{number:02d}"
    return {
        "key": key,
        "title": f"{kind.capitalize()} {number}",
        "caption": record.text,
        "short": _short(record.text),
        "section": record.section,
        "note": record.note,
        "present": False,
        "bodies": [],
        "notebook": None,
    }


_SHORTER = {
    r"^(Comparison of|Performance of Different|Different|Change in|Example of) ": "",
    r"^(F1 and AUC scores for|Best) |\(seconds per image\) | on validation set$| for N = 5 Restorations": "",
    r"^Sample-wise detection performance for different (.*) of GAN.Transformer": r"\1",
    r"Light-Pixel-wise detection and Pixel-wise detection performance for": "Light against full:",
    r" for [Aa]nomaly [Dd]etection methods on the": ":",
    r" values for (VAE|GAN)": r" for \1",
    r"^Anomaly score distribution for": "Scores,",
    r" results between (each model|VP, VT and GP \(GT results shown in paper\))": "",
}


def _short(text: str) -> str:
    """A caption for the contents, without the words that most captions share."""
    for pattern, words in _SHORTER.items():
        text = re.sub(pattern, words, text)
    return text if text.startswith("λ") else text[0].upper() + text[1:]


def _table_entry(number: int, folder: Path) -> dict[str, Any]:
    """A table with its variants: table_06.csv first, then table_06_official.csv and others by name."""
    entry = _entry("table", number)
    for path in sorted(folder.glob(f"table_{number:02d}*.csv"), key=lambda path: path.stem):
        suffix = path.stem.removeprefix(f"table_{number:02d}")
        entry["bodies"].append(table_body(folder, number, suffix, None))
    entry["present"] = bool(entry["bodies"])
    return entry


def _figure_entry(number: int, folder: Path, reports: Path) -> dict[str, Any]:
    entry = _entry("figure", number)
    for path in sorted(folder.glob(f"figure_{number:02d}*.png"), key=lambda path: path.stem):
        variant = variant_title(path.stem.removeprefix(f"figure_{number:02d}"))
        entry["bodies"].append(figure_body(path, reports, alt_text(path.stem, title=entry["caption"]), variant))
    entry["present"] = bool(entry["bodies"])
    return entry


def _extras(tables: Path, figures: Path, reports: Path) -> list[dict[str, Any]]:
    """What the paper does not have: one entry a name, a figure before the table that goes with it, training last."""
    known = re.compile(r"(table_(0[1-9]|1\d|2[0-7])|figure_(0[1-9]|1[0-8]))(_.*)?$")
    entries: dict[str, dict[str, Any]] = {}
    for path in [*sorted(figures.glob("*.png")), *sorted(tables.glob("*.csv"))]:
        if known.match(path.stem):
            continue
        title = title_of(path.stem)
        key = "training" if path.stem.startswith("training_") else path.stem
        entry = entries.setdefault(key, {"key": key, "title": title_of(key), "bodies": []})
        if path.suffix == ".csv":
            body = table_body(tables, 0, "", path.stem)
        else:
            body = figure_body(path, reports, alt_text(path.stem, title=title))
        fold = {"variant": title, "fold": True} if key == "training" else {}
        entry["bodies"].append(body | fold | {"made_as": path.stem})
    order = [*FIRST_EXTRAS, *sorted(entries.keys() - {*FIRST_EXTRAS, "training"}), "training"]
    return [entries[key] for key in order if key in entries]


def _notebook_link(name: str | None, reports: Path) -> dict[str, str] | None:
    """The page of an executed notebook, the notebook itself where it was not converted, or its bare name."""
    if not name:
        return None
    for ending in (".html", ".ipynb"):
        if (reports / "notebooks" / f"{name}{ending}").exists():
            return {"name": name, "href": f"notebooks/{name}{ending}"}
    return {"name": name, "href": ""}


def _groups(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries under the headings of the contents, order kept."""
    groups: list[dict[str, Any]] = []
    for entry in entries:
        is_table = entry["key"].startswith("table")
        title = f"Tables: {SECTIONS.get(entry['section'], 'thresholds and times')}" if is_table else "Figures"
        if not groups or groups[-1]["title"] != title:
            groups.append({"title": title, "entries": []})
        groups[-1]["entries"].append(entry)
    return groups


def _agreement(summary: pd.DataFrame) -> dict[str, Any]:
    """How many of the paper's scores have one of ours beside them, and how close those are."""
    scores = summary[summary["column"].isin(["f1", "auc"])]
    gaps = scores["difference"].dropna().abs()
    return {
        "reported": len(scores),
        "compared": len(gaps),
        "within": int((gaps <= 0.05).sum()),
        "median": f"{gaps.median():.3f}" if len(gaps) else "",
    }
