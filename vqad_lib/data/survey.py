"""What the files of a data set hold that their types do not say, found out before any is decoded.

A camera of 12 bits writes files of 16, and floating-point values may end at 1 or at 255. It is judged over all
files together, so that brightness stays comparable between images.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from vqad_lib.data.decode import FULL_RANGE, declared_white, is_deep, opened
from vqad_lib.errors import VqadError, printable

_WHITES = {8: 255, 10: 1023, 12: 4095, 14: 16383, 16: FULL_RANGE}  # bits -> largest value
_ROUNDING = 1.01  # floating-point values may end a little above 1
_TOO_DARK = 63  # of 255, and of the upper 8 bits of 16, where the values are of 14 bits or fewer
_USUAL = 0.999  # of all values: the others may be stray pixels


@dataclass(frozen=True)
class _Traits:
    """Of one file: `kind` is "integers", "floats", "colours" (16 bits a channel, of which Pillow keeps the upper 8), or
    "" where white has a known value; `largest` is the largest value; `peculiarities` are said of several files.
    """

    kind: str
    largest: float
    peculiarities: tuple[str, ...]


def survey(paths: Sequence[Path], *, workers: int) -> tuple[list[int], list[str]]:
    """Find the value of white of each file, and what a person should know of them.

    Only headers are read, but for files whose values have no known range or may be transparent.

    Args:
        paths: the images.
        workers: threads.

    Returns:
        For each file the value of white (see `decode_frame`), the same for all files of a kind: the lowest usual one
        that none of their values exceeds; and notes, a line each.

    Raises:
        VqadError: a file cannot be decoded, is cut off, or has values that no range fits; it is named.
    """
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(_traits, paths))
    whites, notes = {"": FULL_RANGE}, []
    for kind in sorted({traits.kind for traits in found} - {""}):
        files = [path for path, traits in zip(paths, found, strict=True) if traits.kind == kind]
        whites[kind], said = _white(kind, max(traits.largest for traits in found if traits.kind == kind), files)
        notes += [f"{len(files)} files {said} (for example {printable(files[0].name)})"] if said else []
    for said in sorted({said for traits in found for said in traits.peculiarities}):
        files = [path for path, traits in zip(paths, found, strict=True) if said in traits.peculiarities]
        notes.append(f"{len(files)} files {said} (for example {printable(files[0].name)})")
    return [whites[traits.kind] for traits in found], notes


def darkness(counts: np.ndarray) -> list[str]:
    """What is said of frames that are read nearly black, as where 8 bits hold 0 and 1, or stray pixels decide on white.

    Args:
        counts: (256,) how often each value occurs in all frames.
    """
    usual = int(np.searchsorted(np.cumsum(counts), _USUAL * counts.sum()))
    if usual > _TOO_DARK:
        return []
    return [
        f"read nearly black: {_USUAL:.1%} of all values are at most {usual} of 255 (white), the largest is "
        f"{np.flatnonzero(counts).max()}; if they should be brighter, save the files with white as the largest value "
        "of their type, and without stray pixels"
    ]


def _white(kind: str, largest: float, files: list[Path]) -> tuple[int, str]:
    """The value of white in all files of a kind, and what is said of them: nothing where the type says the same."""
    if kind == "colours":
        if largest <= _TOO_DARK:
            raise VqadError(
                f"{files[0]} has 16 bits per channel but values of 14 or fewer, of which Pillow would keep 6 or "
                "fewer; save such files with 8 bits per channel"
            )
        return FULL_RANGE, ""
    if kind == "floats":
        white = next(white for white in (1, *_WHITES.values()) if largest <= white * _ROUNDING)
        return white, f"have floating-point values up to {largest:g}, read as 0 (black) to {white} (white)"
    bits, white = next(item for item in _WHITES.items() if largest <= item[1])
    said = f"of a deeper type hold {bits}-bit values, up to {largest:g}, read as 0 (black) to {white} (white)"
    return white, said if bits < 16 else ""


def _traits(path: Path) -> _Traits:
    with opened(path) as image:
        peculiar, kind, largest = [], _kind(image), 0.0  # the kind first: it is known only until the values are read
        if getattr(image, "n_frames", 1) > 1:
            peculiar.append("hold several images, of which the first counts")
        # of a PNG file whose header has none Pillow would read all values to look behind them
        known = image.format != "PNG" or "exif" in image.info
        if known and image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            peculiar.append("are turned as their EXIF orientation says")
        if image.mode == "CMYK":
            peculiar.append("are CMYK, turned into RGB without a colour profile")
        if kind == "colours":
            extrema = image.convert("RGB").getextrema()
            largest = float(max(high for _, high in extrema))
        elif kind:
            largest = _largest(np.asarray(image), path)
        if not is_deep(image) and image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255:
            peculiar.append("have transparent parts, shown on white")
        return _Traits(kind, largest, tuple(peculiar))


def _kind(image: Image.Image) -> str:
    if declared_white(image):
        return ""
    if is_deep(image):
        return "floats" if image.mode == "F" else "integers"
    return "colours" if ";16" in str(image.tile) else ""


def _largest(values: np.ndarray, path: Path) -> float:
    smallest, largest = float(values.min()), float(values.max())
    if not 0 <= smallest <= largest <= FULL_RANGE:  # false too where one is not a number
        raise VqadError(
            f"{path}: values from {smallest:g} to {largest:g} have no known range; save it with 8 or 16 bits"
        )
    return largest
