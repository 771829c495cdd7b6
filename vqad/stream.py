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


def items_of(
    sources: Iterable[str], *, settings: Settings, rank: int = 0, of: int = 1, without: Path | None = None
) -> Iterator[Item]:
    """Every `of`-th image, from number `rank` on, decoded by all cores a little ahead of who asks.

    Args:
        sources: files, folders (subfolders included, in the order of names), patterns such as `*.png`, videos, or "-"
            for a list of these on standard input, a line each.
        without: a folder below those that is passed over.

    What lies below a folder and cannot be read, a folder that cannot be listed or is a link included, is an item with
    trouble, and so is a video that cannot be decoded, or not without PyAV.

    Raises:
        VqadError: a source is not there.
    """
    mine = itertools.islice(_images(sources, without), rank, None, of)
    waiting, cores = deque(), usable_cores()
    with ThreadPoolExecutor(cores) as pool:
        for name, image in mine:
            waiting.append(pool.submit(_decoded, name, image, settings.image_size_px, settings.white))
            if len(waiting) > 2 * cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def count_of(sources: Iterable[str], *, rank: int = 0, of: int = 1, without: Path | None = None) -> int | None:
    """How many items those will be, if names tell: not of a list on standard input, nor of videos."""
    n, sources = 0, list(sources)
    if "-" in sources:
        return None
    for _, path in _places(sources, without):  # one by one, for there may be a million
        if isinstance(path, Path) and _is_video(path):
            return None
        n += 1
    return len(range(rank, n, of))


def _images(sources: Iterable[str], without: Path | None) -> Iterator[tuple[str, Path | np.ndarray | VqadError]]:
    for name, path in _places(sources, without):
        if isinstance(path, Path) and _is_video(path):
            yield from _frames(path)
        else:
            yield name, path


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS and os.path.isfile(path)


def _decoded(name: str, image: Path | np.ndarray | VqadError, size_px: int, white: int) -> Item:
    name = printable(name)
    try:
        if isinstance(image, VqadError):
            raise image
        if isinstance(image, np.ndarray):
            return Item(name, reduced(image, size_px), image.shape[1::-1])
        return Item(name, *decode_frame(image, size_px, white=white))
    except VqadError as error:
        return Item(name, None, (0, 0), str(error))


def _places(
    sources: Iterable[str], without: Path | None = None, *, listed: bool = False
) -> Iterator[tuple[str, Path | VqadError]]:
    """Names and files, or why there is none; that one which is `listed` is not there is found when it is decoded."""
    for source in sources:
        path = Path(source)
        if source == "-" and not listed:
            if hasattr(sys.stdin, "reconfigure"):  # names need not be UTF-8
                sys.stdin.reconfigure(errors="surrogateescape")
            yield from _places((line.rstrip("\n") for line in sys.stdin if line.strip()), without, listed=True)
        elif os.path.isdir(source):
            yield from ((str(found), trouble or found) for found, trouble in _below(path, without))
        elif os.path.exists(source):
            yield source, path
        elif matches := sorted(glob.glob(source, recursive=True)):
            if "**" in source:  # which fits folders, and what lies in them too
                matches = [match for match in matches if not os.path.isdir(match)]
            yield from _places(matches, without)
        elif listed:
            yield source, path
        else:
            raise VqadError(f"{source} is neither a file, nor a folder, nor a pattern that fits any")


def _below(folder: Path, without: Path | None) -> Iterator[tuple[Path, VqadError | None]]:
    closed, passed_over = [], without and without.resolve()
    for place, folders, names in os.walk(folder, onerror=closed.append):
        yield from _not_listed(closed)
        seen = [Path(place, name) for name in sorted(folders) if not name.startswith(".")]
        for path in filter(os.path.islink, seen):
            yield path, VqadError(f"{path} is a link to a folder, and not followed; give that folder too")
        below = (path for path in seen if not path.is_symlink() and path.resolve() != passed_over)
        folders[:] = [path.name for path in below]
        for name in sorted(names):
            if is_image_name(name) or Path(name).suffix.lower() in VIDEOS:
                yield Path(place, name), None
    yield from _not_listed(closed)


def _not_listed(closed: list[OSError]) -> Iterator[tuple[Path, VqadError]]:
    while closed:
        error = closed.pop(0)
        yield Path(error.filename), VqadError(f"cannot list {error.filename}: {error.strerror}; make it readable")


def _frames(path: Path) -> Iterator[tuple[str, np.ndarray | VqadError]]:
    try:
        import av
    except ImportError:
        yield str(path), VqadError(f"{path} is a video, which takes PyAV: pip install av")
        return
    try:
        with av.open(str(path)) as video:
            for number, frame in enumerate(video.decode(video=0)):
                yield f"{path}#{number}", frame.to_ndarray(format="rgb24")
    except av.FFmpegError as error:
        yield str(path), VqadError(f"cannot decode {path}: {error}; replace or remove the file")
