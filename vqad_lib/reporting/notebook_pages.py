"""Executed notebooks as pages that open from disk."""

import hashlib
import re
from pathlib import Path

from nbconvert import HTMLExporter

from vqad_lib.errors import VqadError
from vqad_lib.files import write_text


def convert_notebooks(folder: Path) -> None:
    """Write NAME.html beside every executed NAME.ipynb, for reading with no network and no JavaScript.

    A page keeps the SHA-256 of its notebook, and is made again only when that has changed. Formulas stay as they are
    typed, for setting them would take a script from the network.

    Raises:
        VqadError: a notebook cannot be read, or a page cannot be written.
    """
    exporter = HTMLExporter(
        template_name="lab", embed_images=True, mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url=""
    )
    for notebook in sorted(Path(folder).glob("*.ipynb")):
        page = notebook.with_suffix(".html")
        mark = f"<!-- notebook sha256 {hashlib.sha256(notebook.read_bytes()).hexdigest()} -->\n"
        if page.exists() and page.read_text(encoding="utf-8").endswith(mark):
            continue
        try:
            body, _ = exporter.from_filename(str(notebook))
        except (OSError, ValueError, AttributeError, KeyError) as error:
            raise VqadError(f"{notebook} is not a notebook ({error}); delete it and run it again") from error
        # the template's scripts load MathJax, RequireJS and Mermaid
        body = re.sub(r"<script\b[^>]*>.*?</script>", "", body, flags=re.DOTALL | re.IGNORECASE)
        write_text(page, body.rstrip("\n") + "\n" + mark)
