"""One page with every table and figure beside the paper's, readable from disk with no network.

The page is a function of the files under reports/<profile> and figures/<profile> and of `provenance`: no clock, no
random numbers, so the same inputs give the same bytes.
"""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from vqad_lib.files import write_text
from vqad_lib.reporting.comparison import comparison_rows
from vqad_lib.reporting.page import fact_lines, figure_body, page_template, table_body
from vqad_lib.reporting.paper_numbers import FIGURE_NUMBERS, TABLE_NUMBERS, Kind, caption_record

SUMMARY_COLUMNS = ["table", "row", "column", "reported", "ours_paper_protocol", "ours_sound", "difference"]
SECTIONS = {"3.1": "Architecture", "3.9": "Capacity", "4.3": "Results", "5.1": "Running time, light against full"}


def build_report(
    *, reports: Path, figures: Path, notebooks: list[str], provenance: dict[str, Any], made_by: dict[str, str]
) -> Path:
    """Write reports/<profile>/index.html and summary.csv.

    Args:
        reports: reports/<profile>; tables are read from its tables/, executed notebooks from its notebooks/.
        figures: figures/<profile>.
        notebooks: names of the executed notebooks, without ending, in order.
        provenance: run facts for people, shown in this order where present: profile, dataset, perceptual, hardware,
            seeds, seed, time, code, versions; then any others. Values may be text, numbers, lists or mappings.
        made_by: "table_06" or "figure_12" -> notebook name.

    Returns:
        The page's path.

    Raises:
        VqadError: a table or figure cannot be read, or the page cannot be written.
    """
    reports, figures = Path(reports), Path(figures)
    tables = reports / "tables"
    entries = [_table_entry(number, tables) for number in TABLE_NUMBERS]
    entries += [_figure_entry(number, figures, reports) for number in FIGURE_NUMBERS]
    for entry in entries:
        entry["notebook"] = _notebook_link(made_by.get(entry["key"]), reports)
    summary = pd.DataFrame(
        [row for number in TABLE_NUMBERS for row in comparison_rows(number, tables)], columns=SUMMARY_COLUMNS
    )
    page = page_template("report.html.j2").render(
        profile=provenance.get("profile", reports.name),
        facts=fact_lines(provenance),
        random_network="random" in str(provenance.get("perceptual", "")).lower(),
        perceptual=provenance.get("perceptual", ""),
        groups=_groups(entries),
        extras=_extras(tables, figures, reports),
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


def _short(text: str) -> str:
    """A caption for the contents, without the words that most captions share."""
    text = re.sub(r"^(Comparison of|Performance of Different|Different|Change in|Example of) ", "", text)
    text = re.sub(
        r"^(F1 and AUC scores for|Best) |\(seconds per image\) | on validation set$| for N = 5 Restorations", "", text
    )
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
        entry["bodies"].append(figure_body(path, reports, f"{entry['title']}: {entry['caption']}"))
    entry["present"] = bool(entry["bodies"])
    return entry


def _extras(tables: Path, figures: Path, reports: Path) -> list[dict[str, Any]]:
    """What the paper does not have: one entry a name, a table before the figure that goes with it."""
    known = re.compile(r"(table_(0[1-9]|1\d|2[0-7])|figure_(0[1-9]|1[0-8]))(_.*)?$")
    paths = [*sorted(tables.glob("*.csv")), *sorted(figures.glob("*.png"))]
    entries: dict[str, dict[str, Any]] = {}
    for path in (path for path in paths if not known.match(path.stem)):
        name = path.stem
        entry = entries.setdefault(name, {"key": name, "title": _title(name), "bodies": []})
        is_table = path.suffix == ".csv"
        entry["bodies"].append(
            table_body(tables, 0, "", name) if is_table else figure_body(path, reports, entry["title"])
        )
    return list(entries.values())


_TITLES = {
    "data_card": "Data card: sizes and class balance of each split",
    "leak": "The leak: how near test frames are to training frames",
    "leak_in_time": "The leak in time: AUROC by distance to the training frames",
    "official_auroc": "Split official: AUROC, averaged in each way in use",
    "threshold_sweeps": "Percentiles of λ on validation, ours beside the paper’s",
}
_WORDS = {"vqvae": "VQ-VAE", "vqgan": "VQ-GAN", "pixelsnail": "+ PixelSNAIL", "gpt2": "+ GPT-2"}
_WORDS |= {"paper": "on split paper", "official": "on split official"}


def _title(name: str) -> str:
    """A file name for people: "training_vqgan_gpt2_paper" is "Training of VQ-GAN + GPT-2 on split paper"."""
    if name in _TITLES:
        return _TITLES[name]
    first, *others = name.split("_")
    words = ["Training of"] if first == "training" and others else [first.capitalize()]
    return " ".join(words + ([_WORDS.get(word, word) for word in others] if first == "training" else others))


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
        title = SECTIONS.get(entry["section"], "Appendix: thresholds and times") if is_table else "Figures"
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
