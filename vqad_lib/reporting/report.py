"""One page with every table and figure beside the paper's, readable from disk with no network.

The page is a function of the files below reports and figures and of `provenance`: no clock, no
random numbers, so the same inputs give the same bytes.
"""

import os
import re
from collections.abc import Sequence, Set
from itertools import groupby, product
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape
from PIL import Image

from vqad_lib.errors import VqadError
from vqad_lib.files import whole_files, write_text
from vqad_lib.models.registry import AUTOENCODERS, PRIORS
from vqad_lib.paper import DATA, FIGURE_NUMBERS, TABLE_NUMBERS, Description, caption, descriptions
from vqad_lib.reporting.answers import answers
from vqad_lib.reporting.comparison import comparison_rows, overview, page_table
from vqad_lib.reporting.tables import labels_of, load_notes, load_table

_SUFFIX_TITLES = {"_official": "scheme official", "_curves": "ROC and precision-recall curves"}
_MOST_ROWS = 100  # of a table on the page


def build_report(
    *,
    reports: Path,
    figures: Path,
    notebooks: list[str],
    provenance: dict[str, Any],
    made_by: dict[str, str],
    left_out: Set[str] = frozenset(),
    to_come: Sequence[str] = (),
) -> Path:
    """Write reports/<profile>/<data set>/index.html and summary.csv.

    The paper's numbers stand beside those of its own data alone.

    Args:
        reports: reports/<profile>/<data set>; tables are read from its tables/, executed notebooks from its notebooks/.
        figures: figures/<profile>/<data set>.
        notebooks: names of the executed notebooks, without ending, in order; those that are not there are left out.
        provenance: run facts for people, shown in their order. Values may be text, numbers, lists or mappings.
        made_by: name of a table or figure, "table_06" or "leak" -> name of the executed notebook.
        left_out: names of tables and figures that are not of this run, though there may be files.
        to_come: names of executed notebooks that the run still waits for.

    Returns:
        The page's path.

    Raises:
        VqadError: a table or figure cannot be read, or the page cannot be written.
    """
    tables = reports / "tables"
    there = {path.stem: f"notebooks/{path.name}" for path in whole_files(reports / "notebooks", ".ipynb")}
    links = {name: {"name": name, "href": there.get(name, "")} for name in [*notebooks, *made_by.values()]}
    bodies = _bodies(tables, figures, reports, left_out)
    for key, found in bodies.items():
        for body in found:
            body["notebook"] = links.get(made_by.get(body["name"], made_by.get(key)))
    entries = []
    for kind, number in [*product(["table"], TABLE_NUMBERS), *product(["figure"], FIGURE_NUMBERS)]:
        key, text = f"{kind}_{number:02d}", caption(kind, number)
        entry = {"key": key, "title": f"{kind.capitalize()} {number}", "caption": text}
        entries.append(entry | {"bodies": bodies.pop(key, []), "notebook": links.get(made_by.get(key))})
    picture = next(iter(bodies.get("one_frame", [])), None)
    others = sorted(bodies, key=[*descriptions(), *bodies].index)
    extras = [{"key": key, "title": described(key).title, "bodies": bodies[key]} for key in others]
    rows = (comparison_rows(n, tables, made=f"table_{n:02d}" not in left_out) for n in TABLE_NUMBERS)
    summary, papers_data = pd.concat(list(rows)), provenance.get("dataset", DATA) == DATA
    if not papers_data:
        summary = summary.drop(columns=["reported", "difference"])
    page = page_template("report.html.j2").render(
        profile=provenance.get("profile", reports.name),
        facts=provenance,
        papers_data=papers_data,
        entries=entries,
        groups=[(title, list(of_title)) for title, of_title in groupby(entries, lambda entry: entry["caption"].group)],
        extras=extras,
        overview=[] if "table_06" in left_out else overview(tables),
        answers=answers(tables, summary, left_out),
        picture=picture,
        to_come=to_come,
        notebooks=[links[name] for name in notebooks if links[name]["href"]],
    )
    write_text(reports / "summary.csv", summary.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    write_text(reports / "index.html", page)
    return reports / "index.html"


def _bodies(tables: Path, figures: Path, reports: Path, left_out: Set[str]) -> dict[str, list[dict[str, Any]]]:
    """Every table and figure by where it stands: under "table_06" that one, then table_06_official.

    Those that are `left_out`, or belong to one that is, are not read: they may be old, or about to be written.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for path in [*whole_files(figures, ".png"), *whole_files(tables, ".csv")]:
        papers = re.match(r"(table|figure)_(\d\d)(?=_|$)", path.stem)
        key, variant, number = path.stem, "", None
        if papers:
            key, number = papers[0], int(papers[2])
            suffix = path.stem.removeprefix(key)
            variant = _SUFFIX_TITLES.get(suffix, suffix.strip("_").replace("_", " "))
        elif path.stem.startswith(("training_", "look_")):
            key, variant = path.stem.split("_")[0], described(path.stem).title
        if {key, path.stem} & left_out:
            continue
        fold = bool(variant) and (path.suffix == ".csv" or key in ("training", "look"))
        body = page_body(path, reports, alt=described(path.stem).alt_text, table=number, variant=variant, fold=fold)
        found.setdefault(key, []).append(body)
    return found


def described(name: str) -> Description:
    """A file name for people: "training_vqgan_gpt2_paper" is "Training VQ-GAN GPT-2 paper".

    Args:
        name: of a table or figure, without ending.

    Returns:
        Its title, and what it shows, for who cannot see it: of `paper.descriptions` where it is there.
    """
    if name in descriptions():
        return descriptions()[name]
    kind, *others = name.split("_")
    titles = {key: entry.title for key, entry in (AUTOENCODERS | PRIORS).items()}
    title = " ".join([kind.capitalize(), *(titles.get(word, word) for word in others)])
    shown = descriptions()[kind].alt_text if kind in descriptions() else ""
    return Description(title, f"{title}. {shown}".strip())


def page_template(name: str) -> jinja2.Template:
    """A template of this folder; text is escaped, a missing variable is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vqad_lib.reporting", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["lambdas"] = _lambdas
    return environment.get_template(name)


def _lambdas(text: object) -> Markup:
    """λ_S with S as an index."""
    return Markup(re.sub(r"λ_(\w+)", r"λ<sub>\1</sub>", str(escape(text))))  # noqa: S704 - escaped before


def page_body(
    path: Path, page: Path, *, alt: str = "", table: int | None = None, variant: str = "", fold: bool = False
) -> dict[str, Any]:
    """One saved table or figure, as `body_of` of page_parts.html.j2 shows it.

    Args:
        path: of the CSV or the PNG.
        page: the page's folder.
        alt: what the figure shows, for who cannot see it.
        table: 1-27, or None where the paper has no such table.
        variant: what sets it apart from others of the same number, "" for the first.
        fold: whether it is folded.

    Raises:
        VqadError: the table or the figure cannot be read.
    """
    body = {"variant": variant, "fold": fold, "name": path.stem, "href": _link(path, page)}
    if path.suffix == ".csv":
        frame, notes = load_table(path.parent, path.stem), load_notes(path.parent, path.stem)
        labels = labels_of(frame).line() if labels_of(frame) else ""
        if len(frame) > _MOST_ROWS:
            notes = f"{notes} The first {_MOST_ROWS} of {len(frame)} rows; the file has all.".strip()
        columns = page_table(frame.head(_MOST_ROWS), table=table)
        return body | {"columns": columns, "notes": notes, "labels": labels}
    try:
        with Image.open(path) as image:
            width_px, height_px = image.size
    except OSError as error:
        raise VqadError(f"cannot read {path}: {error}; delete it and run its notebook again") from error
    pdf = path.with_suffix(".pdf")
    # drawn at 200 dpi: half its pixels is its size on a page at 100 dpi
    size = {"width": width_px // 2, "height": height_px // 2}
    return body | size | {"alt": alt, "pdf": _link(pdf, page) if pdf.exists() else ""}


def _link(path: Path, page: Path) -> str:
    return Path(os.path.relpath(path, page)).as_posix()
