"""What pages have in common: the template, one table or figure in it, and the facts of a run."""

import os
import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from PIL import Image

from vqad_lib.errors import VqadError
from vqad_lib.reporting.comparison import html_table
from vqad_lib.reporting.tables import labels_of, load_notes, load_table

_SUFFIX_TITLES = {"_official": "Official split", "_paper": "The paper's split"}


def page_template(name: str) -> jinja2.Template:
    """A template of this folder; text is escaped, a missing variable is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vqad_lib.reporting", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["lambdas"] = lambda text: Markup(re.sub(r"λ_(\w+)", r"λ<sub>\1</sub>", str(escape(text))))
    return environment.get_template(name)


def table_body(folder: Path, number: int, suffix: str, name: str | None, *, link: str = "tables/") -> dict[str, Any]:
    """One saved table, as `body_of` of page_parts.html.j2 shows it.

    Args:
        folder, number, suffix, name: see `tables.load_table`.
        link: from the page to the folder.
    """
    frame = load_table(folder, number, suffix, name)
    labels = labels_of(frame)
    stem = name if name is not None else f"table_{number:02d}"
    return {
        "kind": "table",
        "variant": _SUFFIX_TITLES.get(suffix, suffix.strip("_").replace("_", " ").capitalize()),
        "html": html_table(frame, table=number if name is None else None),
        "labels": labels.line() if labels else "",
        "notes": load_notes(folder, number, suffix, name),
        "csv": f"{link}{stem}{suffix}.csv",
    }


def figure_body(path: Path, reports: Path, alt: str) -> dict[str, Any]:
    """One saved figure, as `body_of` of page_parts.html.j2 shows it.

    Args:
        path: of the PNG.
        reports: the page's folder.
        alt: what the figure shows, for who cannot see it.

    Raises:
        VqadError: the figure cannot be read.
    """
    try:
        with Image.open(path) as image:
            width_px, height_px = image.size
    except OSError as error:
        raise VqadError(f"cannot read {path}: {error}; delete it and run its notebook again") from error
    link = Path(os.path.relpath(path, reports)).as_posix()
    pdf = link.removesuffix(".png") + ".pdf" if path.with_suffix(".pdf").exists() else ""
    # drawn at 200 dpi: half its pixels is its size on a page at 100 dpi
    return {"kind": "figure", "src": link, "pdf": pdf, "alt": alt, "width": width_px // 2, "height": height_px // 2}


def fact_lines(provenance: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts of a run as pairs of name and text, the usual ones first."""
    order = ("profile", "dataset", "perceptual", "hardware", "seeds", "seed", "time", "code", "versions")
    keys = [key for key in order if key in provenance] + sorted(key for key in provenance if key not in order)
    names = {"dataset": "data", "perceptual": "perceptual network"}
    return [(names.get(key, key.replace("_", " ")), _fact(provenance[key])) for key in keys]


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_fact(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
