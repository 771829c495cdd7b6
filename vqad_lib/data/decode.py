"""Decoding: one image or mask of any usual format and mode, reduced to a square.

The whole image is squeezed into the square, as the paper does; nothing is cropped. Reduction is Pillow's bilinear
filter, which averages over the pixels it drops. 16-bit grey is scaled by the full range of its type, never per image,
so that brightness stays comparable; transparency is shown on white; of an animation the first frame counts.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vqad_lib.errors import VqadError


def decode_frame(path: Path, size_px: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode one image of any usual mode and reduce it.

    Returns:
        (3, size_px, size_px) uint8 RGB, and the original (width, height) in px.

    Raises:
        VqadError: the file cannot be decoded, is cut off, or has values without a stated range; it is named.
    """
    with _decoded(path) as image:
        rgb = _to_rgb(image, path).resize((size_px, size_px), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1)), image.size


def decode_mask(path: Path, size_px: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode one mask, in which every visible pixel that is not black is anomalous, and reduce it.

    A reduced pixel is anomalous if at least half of the area under it is; where that would lose the whole anomaly,
    the most covered pixels stay.

    Returns:
        (size_px, size_px) uint8 of 0 and 1, and the original (width, height) in px.

    Raises:
        VqadError: as `decode_frame`.
    """
    with _decoded(path) as image:
        if image.mode.startswith("I") or image.mode == "F":
            anomalous = np.asarray(image) != 0
        else:
            pixels = np.asarray(image.convert("RGBA"))
            anomalous = pixels[..., :3].any(axis=-1) & (pixels[..., 3] > 0)
        area = Image.fromarray(anomalous.astype(np.float32)).resize((size_px, size_px), Image.Resampling.BOX)
        covered = np.asarray(area)
        threshold = min(0.5, covered.max()) if anomalous.any() else 0.5
        return (covered >= threshold - 1e-6).astype(np.uint8), image.size


@contextlib.contextmanager
def _decoded(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            image.load()  # Pillow notices a cut-off file only here
            ImageOps.exif_transpose(image, in_place=True)
            yield image
    except VqadError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VqadError(f"cannot decode {path}: {reason}; replace or remove the file") from error


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise VqadError(f"{path}: 32-bit values have no known range; save it with 8 or 16 bits per channel")
        return Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise VqadError(f"{path}: floating-point values have no known range; save it with 8 or 16 bits per channel")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
