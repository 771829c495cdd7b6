"""Decoding: one image or mask of any usual format and mode, reduced to a square.

The whole image is squeezed into the square, as the paper does; nothing is cropped. Reduction is Pillow's bilinear
filter, which averages over the pixels it drops. Transparency is shown on white; of an animation the first frame counts.

Where the type of a file does not say what its values mean, `decode_frame` is told the value of white; see `survey`.
"""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vqad_lib.errors import VqadError

FULL_RANGE = 65535
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
# between the sizes at which Pillow warns and at which it refuses, an image is read and nothing is said
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def decode_frame(path: Path, size_px: int, *, white: int = FULL_RANGE) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode one image of any usual mode and reduce it.

    Args:
        white: the value of white where the file leaves it open; see `survey`.

    Returns:
        (3, size_px, size_px) uint8 RGB, and the original (width, height) in px.

    Raises:
        VqadError: the file cannot be decoded or is cut off; it is named.
    """
    with opened(path) as image:
        white = declared_white(image) or white
        inverted = is_deep(image) and getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0  # Pillow forgets it
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
    with opened(path) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if is_deep(image):
            anomalous = np.asarray(image) != 0
        else:
            pixels = np.asarray(image.convert("RGBA"))
            anomalous = pixels[..., :3].any(axis=-1) & (pixels[..., 3] > 0)
        area = Image.fromarray(anomalous.astype(np.float32)).resize((size_px, size_px), Image.Resampling.BOX)
        covered = np.asarray(area)
        threshold = min(0.5, covered.max()) if anomalous.any() else 0.5
        return (covered >= threshold - 1e-6).astype(np.uint8), image.size


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
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


def is_deep(image: Image.Image) -> bool:
    """Whether its values are not those of 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def declared_white(image: Image.Image) -> int | None:
    """The value of white where the format knows it: Pillow scales PGM files, and TIFF may say 12 bits."""
    if image.format == "PPM" and image.mode == "I":
        return FULL_RANGE
    return 4095 if getattr(image, "tag_v2", {}).get(_TIFF_BITS) == (12,) else None


def _to_rgb(image: Image.Image, white: int) -> Image.Image:
    if is_deep(image):
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
