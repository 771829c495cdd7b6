"""What pages have in common: the template, one table or figure in it, and the facts of a run."""

import os
import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from PIL import Image

from vqad_lib.errors import VqadError
from vqad_lib.reporting.page_tables import page_table
from vqad_lib.reporting.tables import labels_of, load_notes, load_table


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


def table_body(path: Path, page: Path, *, table: int | None = None, variant: str = "") -> dict[str, Any]:
    """One saved table, as `body_of` of page_parts.html.j2 shows it; a variant is folded.

    Args:
        path: of the CSV.
        page: the page's folder.
        table: 1-27, or None where the paper has no such table.
        variant: what sets it apart from others of the same number, "" for the first.

    Raises:
        VqadError: the table cannot be read.
    """
    frame = load_table(path.parent, 0, name=path.stem)
    labels = labels_of(frame)
    return {
        "kind": "table",
        "variant": variant,
        "fold": bool(variant),
        "columns": page_table(frame, table=table),
        "labels": labels.line() if labels else "",
        "notes": load_notes(path.parent, 0, name=path.stem),
        "csv": _link(path, page),
    }


def figure_body(path: Path, page: Path, *, alt: str, variant: str = "") -> dict[str, Any]:
    """One saved figure, as `body_of` of page_parts.html.j2 shows it.

    Args:
        path: of the PNG.
        page: the page's folder.
        alt: what the figure shows, for who cannot see it.
        variant: a line above the figure, where there are several of the same number.

    Raises:
        VqadError: the figure cannot be read.
    """
    try:
        with Image.open(path) as image:
            width_px, height_px = image.size
    except OSError as error:
        raise VqadError(f"cannot read {path}: {error}; delete it and run its notebook again") from error
    pdf = path.with_suffix(".pdf")
    # drawn at 200 dpi: half its pixels is its size on a page at 100 dpi
    size = {"width": width_px // 2, "height": height_px // 2}
    links = {"src": _link(path, page), "pdf": _link(pdf, page) if pdf.exists() else ""}
    return {"kind": "figure", "fold": False, "variant": variant, "alt": alt, **links, **size}


def _link(path: Path, page: Path) -> str:
    return Path(os.path.relpath(path, page)).as_posix()


def fact_lines(provenance: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts of a run as pairs of name and text."""
    names = {"dataset": "data", "perceptual": "perceptual network"}
    return [(names.get(key, key.replace("_", " ")), _fact(value)) for key, value in provenance.items()]


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_fact(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
