"""Executed notebooks as pages that open from disk: nbconvert's cells in this project's own page."""

import hashlib
import itertools
import re
from pathlib import Path

from markupsafe import Markup
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from vqad_lib.errors import VqadError
from vqad_lib.files import write_text
from vqad_lib.reporting.page import page_template

_TEMPLATES = ("notebook.html.j2", "notebook.css", "page.css")
_NO_ALT = 'alt="No description has been provided for this image"'


def convert_notebooks(folder: Path) -> None:
    """Write NAME.html beside every executed NAME.ipynb, for reading with no network and no JavaScript.

    A page keeps a digest of its notebook and of the template, and is made again only when that has changed. Formulas
    stay as they are typed, for setting them would take a script from the network.

    Raises:
        VqadError: a notebook cannot be read, or a page cannot be written.
    """
    exporter = HTMLExporter(
        template_name="basic", embed_images=True, exclude_anchor_links=True, mathjax_url="", require_js_url=""
    )
    template, code_style = page_template("notebook.html.j2"), _code_style()
    style = b"".join((Path(__file__).parent / name).read_bytes() for name in _TEMPLATES) + code_style.encode()
    for notebook in sorted(Path(folder).glob("*.ipynb")):
        page = notebook.with_suffix(".html")
        mark = f"<!-- notebook and style sha256 {hashlib.sha256(notebook.read_bytes() + style).hexdigest()} -->\n"
        if page.exists() and page.read_text(encoding="utf-8").endswith(mark):
            continue
        try:
            cells, _ = exporter.from_filename(str(notebook))
        except (OSError, ValueError, AttributeError, KeyError) as error:
            raise VqadError(f"{notebook} is not a notebook ({error}); delete it and run it again") from error
        cells = Markup(_described(_without_scripts(cells), notebook.stem))
        content = template.render(name=notebook.stem, cells=cells, code_style=Markup(code_style))
        write_text(page, content.rstrip("\n") + "\n" + mark)


def _without_scripts(cells: str) -> str:
    # an output may bring its own, which would load something
    return re.sub(r"<script\b[^>]*>.*?</script>", "", cells, flags=re.DOTALL | re.IGNORECASE)


def _described(cells: str, name: str) -> str:
    """Say at least which image of which notebook it is; the report's page has the words for the figures."""
    count = itertools.count(1)
    return re.sub(re.escape(_NO_ALT), lambda _: f'alt="Image {next(count)} that {name} drew"', cells)


def _code_style() -> str:
    light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("default", "github-dark"))
    background = ".highlight { background: var(--paper) !important }"
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n{background}"
