"""Images one after the other, from wherever a person keeps them: a million take the memory of a hundred."""

import glob
import itertools
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vqad.prepare import reduced
from vqad.settings import Settings
from vqad_lib.data.decode import decode_frame
from vqad_lib.data.folder import is_image_name
from vqad_lib.errors import VqadError, printable
from vqad_lib.files import usable_cores

VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}


class Item(NamedTuple):
    """An image: its name, and (3, size, size) uint8 with its original (width, height), or why it cannot be read."""

    name: str
    pixels: np.ndarray | None
    size: tuple[int, int]
    trouble: str = ""


def items_of(sources: Iterable[str], *, settings: Settings, rank: int = 0, of: int = 1) -> Iterator[Item]:
    """Every `of`-th image, from number `rank` on, decoded by all cores a little ahead of who asks.

    Args:
        sources: files, folders (subfolders included, in the order of names), patterns such as `*.png`, videos, or "-"
            for a list of these on standard input, a line each.

    Raises:
        VqadError: a source is not there; a video needs PyAV and it is not installed.
    """
    mine = itertools.islice(_images(sources), rank, None, of)
    waiting, cores = deque(), usable_cores()
    with ThreadPoolExecutor(cores) as pool:
        for name, image in mine:
            waiting.append(pool.submit(_decoded, name, image, settings.image_size_px, settings.white))
            if len(waiting) > 2 * cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def count_of(sources: Iterable[str], *, rank: int = 0, of: int = 1) -> int | None:
    """How many items those will be, if names tell: not of a list on standard input, nor of videos."""
    n, sources = 0, list(sources)
    if "-" in sources:
        return None
    for _, path in _places(sources):  # one by one, for there may be a million
        if _is_video(path):
            return None
        n += 1
    return len(range(rank, n, of))


def _images(sources: Iterable[str]) -> Iterator[tuple[str, Path | np.ndarray]]:
    for name, path in _places(sources):
        if _is_video(path):
            yield from _frames(path)
        else:
            yield name, path


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS and os.path.isfile(path)


def _decoded(name: str, image: Path | np.ndarray, size_px: int, white: int) -> Item:
    name = printable(name)
    try:
        if isinstance(image, np.ndarray):
            return Item(name, reduced(image, size_px), image.shape[1::-1])
        return Item(name, *decode_frame(image, size_px, white=white))
    except VqadError as error:
        return Item(name, None, (0, 0), str(error))


def _places(sources: Iterable[str], *, listed: bool = False) -> Iterator[tuple[str, Path]]:
    """Names and files; one that is `listed` and not there is found to be so when it is decoded."""
    for source in sources:
        path = Path(source)
        if source == "-":
            yield from _places((line.rstrip("\n") for line in sys.stdin if line.strip()), listed=True)
        elif os.path.isdir(source):
            yield from ((str(found), found) for found in _below(path))
        elif listed or os.path.exists(source):
            yield source, path
        elif matches := sorted(glob.glob(source, recursive=True)):
            yield from _places(matches)
        else:
            raise VqadError(f"{source} is neither a file, nor a folder, nor a pattern that fits any")


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(names) if is_image_name(name))


def _frames(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    try:
        import av
    except ImportError as error:
        raise VqadError(f"{path} is a video, which takes PyAV: pip install av") from error
    try:
        with av.open(str(path)) as video:
            for number, frame in enumerate(video.decode(video=0)):
                yield f"{path}#{number}", frame.to_ndarray(format="rgb24")
    except av.FFmpegError as error:
        raise VqadError(f"cannot decode {path}: {error}; replace or remove the file") from error
