"""Progress with a time estimate, in a terminal, in JupyterLab, and out of a notebook that Papermill executes.

It is text everywhere: JupyterLab cannot show a widget again that was drawn into the output of another one. A kernel's
own output ends up in the executed notebook, where a moving bar is noise. So when `VQAD_PROGRESS_FILE` is set, as the
notebook runner does, the bar's text goes to that file, and the runner shows it on the terminal. Of several processes
only the first shows anything.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
quiet = False  # in all processes of a run but the first; see `distributed.process.joined`


class _LineFile:
    """A file that keeps only the newest bar, so that a reader sees one line, whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            temporary = self.path.with_suffix(".new")
            with contextlib.suppress(OSError):  # a full disk must not end a training for want of its progress
                temporary.write_text(line, encoding="utf-8")
                os.replace(temporary, self.path)

    def flush(self) -> None:
        """Nothing to do: every write is whole."""


def progress(items: Iterable[Item], *, what: str, total: int | None = None, unit: str = "it") -> Iterator[Item]:
    """Iterate over `items` and show `what`, how far it is, and how long it will still take.

    Args:
        what: a few words, for example "decode frames".
        total: number of items, where `items` has no length.
        unit: what one item is called, for example "image".
    """
    path = os.environ.get("VQAD_PROGRESS_FILE")
    shown = {"leave": False, "mininterval": 0.5}
    if path:
        plain = "{desc} {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}, about {remaining} left]"
        shown = {"file": _LineFile(Path(path)), "bar_format": plain, "mininterval": 1.0, "ncols": 90, "ascii": True}
    yield from items if quiet else tqdm(items, desc=what, total=total, unit=unit, **shown)
