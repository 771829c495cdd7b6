"""One page with every table and figure beside the paper's, readable from disk with no network.

The page is a function of the files below reports and figures and of `provenance`: no clock, no
random numbers, so the same inputs give the same bytes.
"""

import re
from itertools import groupby
from pathlib import Path
from typing import Any

from pandas import DataFrame

from vqad_lib.files import write_text
from vqad_lib.models.registry import AUTOENCODERS, PRIORS
from vqad_lib.paper import FIGURE_NUMBERS, TABLE_NUMBERS, Kind, caption, descriptions
from vqad_lib.reporting.comparison import comparison_rows
from vqad_lib.reporting.page import fact_lines, figure_body, page_template, table_body
from vqad_lib.reporting.page_tables import leak_facts, overview

DETAILS = ("versions", "python", "data digest")  # facts that are folded
_SUFFIX_TITLES = {"_official": "scheme official", "_curves": "ROC and precision-recall curves"}


def build_report(
    *, reports: Path, figures: Path, notebooks: list[str], provenance: dict[str, Any], made_by: dict[str, str]
) -> Path:
    """Write reports/<profile>/<data set>/index.html and summary.csv.

    Args:
        reports: reports/<profile>/<data set>; tables are read from its tables/, executed notebooks from its notebooks/.
        figures: figures/<profile>/<data set>.
        notebooks: names of the executed notebooks, without ending, in order; those that are not there are left out.
        provenance: run facts for people, shown in their order. Values may be text, numbers, lists or mappings.
        made_by: name of a table or figure, "table_06" or "leak" -> name of the executed notebook.

    Returns:
        The page's path.

    Raises:
        VqadError: a table or figure cannot be read, or the page cannot be written.
    """
    reports, figures = Path(reports), Path(figures)
    tables = reports / "tables"
    entries = [_entry("table", number, tables, reports) for number in TABLE_NUMBERS]
    entries += [_entry("figure", number, figures, reports) for number in FIGURE_NUMBERS]
    extras = _extras(tables, figures, reports)
    for entry in entries + extras:
        entry["notebook"] = _notebook_link(made_by.get(entry["key"]), reports)
        for body in entry["bodies"]:
            body["notebook"] = _notebook_link(made_by.get(body.get("made_as", entry["key"])), reports)
    facts = fact_lines(provenance)
    summary = DataFrame([row for number in TABLE_NUMBERS for row in comparison_rows(number, tables)])
    page = page_template("report.html.j2").render(
        profile=provenance.get("profile", reports.name),
        facts=[(name, value) for name, value in facts if name not in DETAILS],
        details=[(name, value) for name, value in facts if name in DETAILS],
        random_network="random" in str(provenance.get("perceptual", "")).lower(),
        perceptual=provenance.get("perceptual", ""),
        groups=[(title, list(of_title)) for title, of_title in groupby(entries, lambda entry: entry["caption"].group)],
        extras=extras,
        overview=overview(tables),
        leak=leak_facts(tables),
        notebooks=[link for link in (_notebook_link(name, reports) for name in notebooks) if link and link["href"]],
        present=sum(bool(entry["bodies"]) for entry in entries),
        total=len(entries),
        closest=_agreement(summary),
    )
    write_text(reports / "summary.csv", summary.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    write_text(reports / "index.html", page)
    return reports / "index.html"


def _entry(kind: Kind, number: int, folder: Path, reports: Path) -> dict[str, Any]:
    """A table or figure of the paper's with its variants: table_06 first, then table_06_official and others by name."""
    key, text, bodies = f"{kind}_{number:02d}", caption(kind, number), []
    for path in _by_name(folder, f"{key}*.{'csv' if kind == 'table' else 'png'}"):
        variant = variant_title(path.stem.removeprefix(key))
        if kind == "table":
            bodies.append(table_body(path, reports, table=number, variant=variant))
        else:
            bodies.append(figure_body(path, reports, alt=alt_text(path.stem, title=text.text), variant=variant))
    return {"key": key, "title": f"{kind.capitalize()} {number}", "caption": text, "bodies": bodies}


def _by_name(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda path: path.stem)


def _extras(tables: Path, figures: Path, reports: Path) -> list[dict[str, Any]]:
    """What the paper does not have: one entry a name, a figure before the table that goes with it."""
    entries: dict[str, dict[str, Any]] = {}
    for path in [*_by_name(figures, "*.png"), *_by_name(tables, "*.csv")]:
        if re.match(r"(table|figure)_\d\d(_|$)", path.stem):
            continue
        title = title_of(path.stem)
        key = "training" if path.stem.startswith("training_") else path.stem
        entry = entries.setdefault(key, {"key": key, "title": title_of(key), "bodies": []})
        if path.suffix == ".csv":
            body = table_body(path, reports)
        else:
            body = figure_body(path, reports, alt=alt_text(path.stem, title=title))
        fold = {"variant": title, "fold": True} if key == "training" else {}
        entry["bodies"].append(body | fold | {"made_as": path.stem})
    known = [*descriptions()]
    return sorted(entries.values(), key=lambda entry: [*known, entry["key"]].index(entry["key"]))


def _notebook_link(name: str | None, reports: Path) -> dict[str, str] | None:
    """The executed notebook; its bare name where it is not there."""
    if not name:
        return None
    there = (reports / "notebooks" / f"{name}.ipynb").exists()
    return {"name": name, "href": f"notebooks/{name}.ipynb" if there else ""}


def _agreement(summary: DataFrame) -> dict[str, Any]:
    """How many of the paper's scores have one of ours beside them, and how close those are."""
    scores = summary[summary["column"].isin(["f1", "auc"])]
    gaps = scores["difference"].dropna().astype(float).abs()
    median = f"{gaps.median():.3f}" if len(gaps) else ""
    return {"reported": len(scores), "compared": len(gaps), "within": int((gaps <= 0.05).sum()), "median": median}


def variant_title(suffix: str) -> str:
    """What a suffix of a file name means: "_official" is "scheme official"; "" is ""."""
    return _SUFFIX_TITLES.get(suffix, suffix.strip("_").replace("_", " "))


def title_of(name: str) -> str:
    """A file name for people: "training_vqgan_gpt2_paper" is "Training of VQ-GAN + GPT-2 on scheme paper"."""
    if name in descriptions():
        return descriptions()[name].title
    first, *others = name.split("_")
    if first != "training":
        return " ".join([first.capitalize(), *others])
    networks = [(AUTOENCODERS | PRIORS)[word].title for word in others if word in AUTOENCODERS | PRIORS]
    return f"Training of {' + '.join(networks)} on scheme {others[-1]}"


def alt_text(name: str, *, title: str) -> str:
    """What a figure shows, for who cannot see it.

    Args:
        name: of its file, without ending, for example "figure_06".
        title: what to say where nobody has described that figure.
    """
    if name.startswith("training_"):
        return f"{title}: loss over epochs, on training and on validation frames."
    return descriptions()[name].alt_text if name in descriptions() else title
