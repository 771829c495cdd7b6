"""Decoding: images and masks of any usual format and mode, reduced to a square.

The whole image is squeezed into the square, as the paper does; nothing is cropped. Reduction is Pillow's bilinear
filter, which averages over the pixels it drops. Transparency is shown on white; of an animation the first frame counts.

What the values of a file mean, its type may leave open: a camera of 12 bits writes files of 16, and floating-point
values may end at 1 or at 255. `survey` judges that over all files together, before any is decoded, so that brightness
stays comparable between images.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from vqad_lib.errors import VqadError, printable

FULL_RANGE = 65535
_WHITES = {8: 255, 10: 1023, 12: 4095, 14: 16383, 16: FULL_RANGE}  # bits -> largest value
_ROUNDING = 1.01  # floating-point values may end a little above 1
_TOO_DARK = 63  # of 255, and of the upper 8 bits of 16, where the values are of 14 bits or fewer
_NARROW = 16  # files that use less than this part of the range of the others are named
_USUAL = 0.999  # of all values: the others may be stray pixels
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
# between the sizes at which Pillow warns and at which it refuses, an image is read and nothing is said
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def survey(paths: Sequence[Path], *, workers: int) -> tuple[list[int], list[str]]:
    """Find the value of white of each file, and what a person should know of them.

    Only headers are read, but for files whose values have no known range.

    Args:
        paths: the images, at least one.
        workers: threads.

    Returns:
        For each file the value of white (see `decode_frame`), the same for all files of a kind: the lowest usual one
        that none of their values exceeds; and notes, a line each.

    Raises:
        VqadError: a file cannot be decoded, is cut off, or has values that no range fits; it is named.
    """
    with ThreadPoolExecutor(workers) as pool:
        found = pd.DataFrame(pool.map(_traits, paths), columns=["kind", "largest", "several"], index=list(paths))
    whites, said = {}, {"hold several images, of which the first counts": found[found["several"]]}
    for kind, files in found.groupby("kind"):
        whites[kind], remark = _white(kind, files["largest"].max(), files.index[0])
        said[remark] = files
        if kind in ("integers", "floats"):  # a camera of 12 bits among files of 16: brightness alone would tell them
            narrow = files[files["largest"] <= whites[kind] / _NARROW]
            highest = f"{narrow['largest'].max():g} of {whites[kind]}"
            said[f"have no value above {highest}; if they are of fewer bits than the others, save all alike"] = narrow
    notes = [
        f"{len(files)} files {remark} (for example {printable(files.index[0].name)})"
        for remark, files in said.items()
        if remark and len(files)
    ]
    return found["kind"].map(whites).tolist(), notes


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


def unmarked(masks: Sequence[Path]) -> list[str]:
    """What is said of masks of anomalous images in which no pixel is anomalous."""
    said = "marks no pixel" if len(masks) == 1 else f"and {len(masks) - 1} more mark no pixel"
    return [f"{masks[0].name} {said}: anomalous images all of whose pixels count as normal"] if masks else []


def decode_frame(path: Path, size_px: int, *, white: int = FULL_RANGE) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode one image of any usual mode and reduce it.

    Args:
        white: the value of white where the file leaves it open; see `survey`.

    Returns:
        (3, size_px, size_px) uint8 RGB, and the original (width, height) in px.

    Raises:
        VqadError: the file cannot be decoded or is cut off; it is named.
    """
    with _rgb(path, white) as (rgb, inverted):
        reduced = rgb.resize((size_px, size_px), Image.Resampling.BILINEAR)
        pixels = np.ascontiguousarray(np.asarray(reduced).transpose(2, 0, 1))
        return 255 - pixels if inverted else pixels, rgb.size


def decode_grey(path: Path, *, white: int = FULL_RANGE) -> np.ndarray:
    """The same image at its own size, grey: (H, W) uint8."""
    with _rgb(path, white) as (rgb, inverted):
        pixels = np.asarray(rgb.convert("L"))
        return 255 - pixels if inverted else pixels


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


def _white(kind: str, largest: float, example: Path) -> tuple[int, str]:
    """The value of white in all files of a kind (see `_traits`), and what is said of them, if anything."""
    if kind == "colours" and largest <= _TOO_DARK:
        raise VqadError(
            f"{example} has 16 bits per channel but values of 14 or fewer, of which Pillow would keep 6 or fewer; save "
            "such files with 8 bits per channel"
        )
    if kind == "floats":
        white = next(white for white in (1, *_WHITES.values()) if largest <= white * _ROUNDING)
        return white, f"have floating-point values up to {largest:g}, read as 0 (black) to {white} (white)"
    bits, white = next(item for item in _WHITES.items() if largest <= item[1])
    if kind != "integers" or bits == 16:
        return FULL_RANGE, ""
    return white, f"of a deeper type hold {bits}-bit values, up to {largest:g}, read as 0 (black) to {white} (white)"


def _traits(path: Path) -> tuple[str, float, bool]:
    """Of one file its kind, its largest value, and whether it holds several images.

    The kind is "integers", "floats", "colours" (16 bits per channel, of which Pillow keeps the upper 8), or "" where
    white has a known value.
    """
    with _opened(path) as image:
        known, colours = _declared_white(image), ";16" in str(image.tile)  # asked before the values are read
        several, kind, largest = getattr(image, "n_frames", 1) > 1, "", 0.0
        if _is_deep(image) and not known:
            values, kind = np.asarray(image), "floats" if image.mode == "F" else "integers"
            smallest, largest = float(values.min()), float(values.max())
            if not 0 <= smallest <= largest <= FULL_RANGE:  # false too where one is not a number
                raise VqadError(
                    f"{path}: values from {smallest:g} to {largest:g} have no known range; save it with 8 or 16 bits "
                    "per channel"
                )
        elif colours and not known:
            kind, largest = "colours", float(max(high for _, high in image.convert("RGB").getextrema()))
        return kind, largest, several


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image, not decoded yet; whatever goes wrong with it in the block becomes one line."""
    try:
        with Image.open(path) as image:
            yield image
    except VqadError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        reason, advice = " ".join(str(error).split()) or type(error).__name__, "replace or remove the file"
        if isinstance(error, Image.DecompressionBombError):
            advice = "save it smaller, for it is reduced to data.image_size_px anyway, or cut it into several images"
        raise VqadError(f"cannot decode {path}: {reason}; {advice}") from error


@contextlib.contextmanager
def _rgb(path: Path, white: int) -> Iterator[tuple[Image.Image, bool]]:
    """The image, upright and in colour, and whether its values stand for darkness."""
    with _opened(path) as image:
        white = _declared_white(image) or white
        inverted = _is_deep(image) and getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0  # Pillow forgets it
        image.load()  # Pillow notices a cut-off file only here
        ImageOps.exif_transpose(image, in_place=True)
        yield _to_rgb(image, white), inverted


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
