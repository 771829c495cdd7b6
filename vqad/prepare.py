"""Images as a detector takes them: squeezed into a square, uint8, and of one brightness and contrast where wanted."""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vqad_lib.data.decode import FULL_RANGE, decode_frame
from vqad_lib.files import usable_cores

_AT_A_TIME = 256  # images; as float they take four times the room
_DEVIATIONS = 6.0  # of an image's values, that the range from black to white spans


def squeezed(X: Sequence | NDArray, size_px: int, *, white: int = FULL_RANGE) -> Tensor:
    """Images of any size, or paths, as (n, 3, size, size) uint8.

    Args:
        X: (n, H, W) or (n, H, W, 3), uint8 or float in [0, 1]; or n paths.
        white: see `Settings`.

    Raises:
        VqadError: a file cannot be decoded.
        ValueError: X is none of these.
    """
    if are_paths(X):
        reduce = partial(decode_frame, size_px=size_px, white=white)
        with ThreadPoolExecutor(usable_cores()) as pool:
            frames = [frame for frame, _ in pool.map(reduce, map(Path, X))]
    else:
        frames = [reduced(image, size_px) for image in _checked(X)]
    return torch.from_numpy(np.stack(frames)) if frames else torch.empty(0, 3, size_px, size_px, dtype=torch.uint8)


def are_paths(X: Sequence | NDArray) -> bool:
    """Whether these are paths of images, and not images."""
    return isinstance(next(iter(X), None), str | Path)


def fingerprints(images: Iterable[Tensor | NDArray]) -> list[str]:
    """What tells images apart, each (3, H, W) uint8 after squeezing: 16 hexadecimal digits."""
    return [hashlib.blake2b(np.asarray(image).tobytes(), digest_size=8).hexdigest() for image in images]


def normalised(images: Tensor) -> Tensor:
    """Median brightness to grey, and six standard deviations to the range: (n, 3, H, W) uint8 -> the same."""
    return torch.cat([_normalised(part) for part in images.split(_AT_A_TIME)])


def _normalised(images: Tensor) -> Tensor:
    values = images.flatten(1).float()
    middle, deviation = values.median(1).values, values.std(1).clamp_min(2.0)
    shape = (-1, 1, 1, 1)
    scaled = (images.float() - middle.reshape(shape)) / (_DEVIATIONS * deviation.reshape(shape)) + 0.5
    return (scaled.clamp(0, 1) * 255).round().to(torch.uint8)


def _checked(X: Sequence | NDArray) -> NDArray[np.uint8]:
    images = np.asarray(X)
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] != 3):
        raise ValueError(f"images must be (n, H, W) or (n, H, W, 3), or paths of files, got {images.shape}")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "fiub" or not np.isfinite(images).all() or images.min() < 0 or images.max() > 1:
        raise ValueError("values of images must be uint8, or floating-point in [0, 1]")
    return np.rint(images.astype(np.float64) * 255).astype(np.uint8)


def reduced(image: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """An image (H, W) or (H, W, 3) as (3, size_px, size_px)."""
    picture = Image.fromarray(image).convert("RGB").resize((size_px, size_px), Image.Resampling.BILINEAR)
    return np.asarray(picture).transpose(2, 0, 1)
