"""Progress with a time estimate, in a terminal, in JupyterLab, and out of a notebook that Papermill executes.

It is text everywhere: JupyterLab cannot show a widget again that was drawn into the output of another one. A kernel's
own output ends up in the executed notebook, where a moving bar is noise. So a line with the name of the stage,
`VQAD_PROGRESS_OF`, goes to `VQAD_PROGRESS_FILE` every `VQAD_PROGRESS_EVERY_S` seconds where the notebook runner has set
them; it prints what comes there. Of several processes only the first shows anything.
"""

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
quiet = False  # in all processes of a run but the first; see `distributed.process.joined`


class _Lines(io.TextIOBase):
    """A file that takes each state of a bar as a line of its own: several notebooks may share a terminal."""

    def write(self, text: str) -> None:
        if text.strip():
            line = f"    {os.environ.get('VQAD_PROGRESS_OF', '')} | {text.strip()}\n"
            # a full disk, or a runner that has ended, must not end a training for want of its progress
            with contextlib.suppress(OSError), open(os.environ["VQAD_PROGRESS_FILE"], "a", encoding="utf-8") as file:
                file.write(line)


def progress(items: Iterable[Item], *, what: str, total: int | None = None, unit: str = "it") -> Iterator[Item]:
    """Iterate over `items` and show `what`, how far it is, and how long it will still take.

    Args:
        what: a few words, for example "decode frames".
        total: number of items, where `items` has no length.
        unit: what one item is called, for example "image".
    """
    shown = {"leave": False, "mininterval": 0.5}
    if os.environ.get("VQAD_PROGRESS_FILE"):
        plain = "{desc} {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}, about {remaining} left]"
        shown |= {"file": _Lines(), "bar_format": plain, "ncols": 90, "ascii": True}
        every_s = float(os.environ.get("VQAD_PROGRESS_EVERY_S") or 10)
        shown |= {"mininterval": every_s, "maxinterval": every_s, "delay": every_s}  # what is quick is not shown
    yield from items if quiet else tqdm(items, desc=what, total=total, unit=unit, **shown)
