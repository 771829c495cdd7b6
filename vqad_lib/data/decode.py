"""Decoding: images and masks of any usual format and mode, reduced to a square.

The whole image is squeezed into the square, as the paper does; nothing is cropped. Reduction is Pillow's bilinear
filter, which averages over the pixels it drops. Transparency is shown on white; of an animation the first frame counts.

What the values of a file mean, its type may leave open: a camera of 12 bits writes files of 16, and floating-point
values may end at 1 or at 255. `survey` judges that over all files together, before any is decoded, so that brightness
stays comparable between images.
"""

import contextlib
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from vqad_lib.errors import VqadError, printable

FULL_RANGE = 65535
_WHITES = {8: 255, 10: 1023, 12: 4095, 14: 16383, 16: FULL_RANGE}  # bits -> largest value
_ROUNDING = 1.01  # floating-point values may end a little above 1
_TOO_DARK = 63  # of 255, and of the upper 8 bits of 16, where the values are of 14 bits or fewer
_USUAL = 0.999  # of all values: the others may be stray pixels
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
# between the sizes at which Pillow warns and at which it refuses, an image is read and nothing is said
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


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
    whites, files_of = {"": FULL_RANGE}, defaultdict(list)
    for kind in sorted({traits.kind for traits in found} - {""}):
        files = [path for path, traits in zip(paths, found, strict=True) if traits.kind == kind]
        whites[kind], remark = _white(kind, max(traits.largest for traits in found if traits.kind == kind), files)
        files_of[remark] = files
    for remark in sorted({remark for traits in found for remark in traits.remarks}):
        files_of[remark] = [path for path, traits in zip(paths, found, strict=True) if remark in traits.remarks]
    files_of.pop("", None)
    notes = [f"{len(files)} files {said} (for example {printable(files[0].name)})" for said, files in files_of.items()]
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


def decode_frame(path: Path, size_px: int, *, white: int = FULL_RANGE) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode one image of any usual mode and reduce it.

    Args:
        white: the value of white where the file leaves it open; see `survey`.

    Returns:
        (3, size_px, size_px) uint8 RGB, and the original (width, height) in px.

    Raises:
        VqadError: the file cannot be decoded or is cut off; it is named.
    """
    with _opened(path) as image:
        white = _declared_white(image) or white
        inverted = _is_deep(image) and getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0  # Pillow forgets it
        image.load()  # Pillow notices a cut-off file only here
        ImageOps.exif_transpose(image, in_place=True)
        rgb = _to_rgb(image, white).resize((size_px, size_px), Image.Resampling.BILINEAR)
        pixels = np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))
        return 255 - pixels if inverted else pixels, image.size


def decode_mask(path: Path, size_px: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode one mask, in which every visible pixel that is not black is anomalous, and reduce it.

    A reduced pixel is anomalous if at least half of the area under it is; where that would lose the whole anomaly,
    the most covered pixels stay.

    Returns:
        (size_px, size_px) uint8 of 0 and 1, and the original (width, height) in px.

    Raises:
        VqadError: as `decode_frame`.
    """
    with _opened(path) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if _is_deep(image):
            anomalous = np.asarray(image) != 0
        else:
            pixels = np.asarray(image.convert("RGBA"))
            anomalous = pixels[..., :3].any(axis=-1) & (pixels[..., 3] > 0)
        area = Image.fromarray(anomalous.astype(np.float32)).resize((size_px, size_px), Image.Resampling.BOX)
        covered = np.asarray(area)
        threshold = min(0.5, covered.max()) if anomalous.any() else 0.5
        return (covered >= threshold - 1e-6).astype(np.uint8), image.size


class _Traits(NamedTuple):
    """Of one file: `kind` is "integers", "floats", "colours" (16 bits per channel, of which Pillow keeps the upper 8),
    or "" where white has a known value; `largest` is the largest value; `remarks` are said of several files.
    """

    kind: str
    largest: float
    remarks: list[str]


def _white(kind: str, largest: float, files: list[Path]) -> tuple[int, str]:
    """The value of white in all files of a kind, and what is said of them: "" where the type says the same."""
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
    with _opened(path) as image:
        kind, largest, deep = "", 0.0, _is_deep(image)
        if not _declared_white(image):  # asked first: it is known only until the values are read
            kind = ("floats" if image.mode == "F" else "integers") if deep else "colours" * (";16" in str(image.tile))
        # of a PNG file whose header has no EXIF Pillow would read all values to look behind them
        looked_up = image.format != "PNG" or "exif" in image.info
        remarks = {
            "hold several images, of which the first counts": getattr(image, "n_frames", 1) > 1,
            "are turned as their EXIF orientation says": (
                looked_up and image.getexif().get(ExifTags.Base.Orientation, 1) != 1
            ),
            "are CMYK, turned into RGB without a colour profile": image.mode == "CMYK",
        }
        if kind == "colours":
            largest = float(max(high for _, high in image.convert("RGB").getextrema()))
        elif kind:
            values = np.asarray(image)
            smallest, largest = float(values.min()), float(values.max())
            if not 0 <= smallest <= largest <= FULL_RANGE:  # false too where one is not a number
                raise VqadError(
                    f"{path}: values from {smallest:g} to {largest:g} have no known range; save it with 8 or 16 bits "
                    "per channel"
                )
        remarks["have transparent parts, shown on white"] = (
            not deep and image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255
        )
        return _Traits(kind, largest, [remark for remark, applies in remarks.items() if applies])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image, not decoded yet; whatever goes wrong with it in the block becomes one line."""
    try:
        with Image.open(path) as image:
            yield image
    except VqadError:
        raise
    except Image.DecompressionBombError as error:
        most = 2 * Image.MAX_IMAGE_PIXELS // 10**6
        raise VqadError(
            f"{path} has more than {most} million pixels; save it smaller, for it is reduced to the profile's "
            "data.image_size_px anyway, or cut it into several images"
        ) from error
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VqadError(f"cannot decode {path}: {reason}; replace or remove the file") from error


def _is_deep(image: Image.Image) -> bool:
    """Whether its values are not those of 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def _declared_white(image: Image.Image) -> int | None:
    """The value of white where the format knows it: Pillow scales PGM files, and TIFF may say 12 bits."""
    if image.format == "PPM" and image.mode == "I":
        return FULL_RANGE
    return 4095 if getattr(image, "tag_v2", {}).get(_TIFF_BITS) == (12,) else None


def _to_rgb(image: Image.Image, white: int) -> Image.Image:
    if _is_deep(image):
        values = np.clip(np.asarray(image), 0, white)
        if image.mode == "F":
            grey = np.rint(values.astype(np.float64) * 255 / white)
        else:
            grey = (values.astype(np.uint32) * 255 + white // 2) // white
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
