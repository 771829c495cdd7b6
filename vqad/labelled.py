"""Images of which it is known whether, of what kind, and where they are abnormal; for `evaluate`."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vqad_lib.data.folder import is_folder, read_folder
from vqad_lib.data.frames import FrameSet
from vqad_lib.data.mvtec import Labelled, tested_images
from vqad_lib.errors import VqadError


def labelled_images(folder: Path) -> list[Labelled]:
    """The images of a folder, normal ones first: `normal/`, `abnormal/` and masks (`data.folder`), or as MVTec AD.

    A kind is the subfolder of an abnormal image; where it lies in none, the word that its name begins with, if all
    such words have two images at least.

    Raises:
        VqadError: the folder has neither layout, or lacks a class; see `read_folder` too.
    """
    folder = Path(folder)
    found = tested_images(folder) if (folder / "test").is_dir() else _own(folder)
    if not any(image.kind for image in found) or all(image.kind for image in found):
        raise VqadError(f"{folder}: evaluation takes normal and abnormal images, and one of these is missing")
    return sorted(found, key=lambda image: (image.kind, image.path))


def _own(folder: Path) -> list[Labelled]:
    if not is_folder(folder):
        raise VqadError(
            f"{folder} holds neither normal/ and abnormal/, nor test/good/ and test/<kind>/; sort the images so"
        )
    records = read_folder(folder).records
    abnormal = [record for record in records if record.label]
    kinds = dict(zip(abnormal, _kinds([(record.path, record.image_id) for record in abnormal]), strict=True))
    return [Labelled(record.path, kinds.get(record, ""), record.mask_path) for record in records]


def kinds_of(frames: FrameSet) -> NDArray[np.str_]:
    """The kind of defect of each frame, as above; "" for normal ones."""
    index = frames.index
    known = index["kind"].where(index["kind"] != "", "abnormal")
    if frames.paths and frames.dataset in ("folder", "mvtec_ad"):
        images = zip(frames.paths, index["image_id"], index["label"], strict=True)
        known.loc[index["label"] == 1] = _kinds([(path, image_id) for path, image_id, label in images if label])
    return np.where(index["label"] == 1, known, "").astype(str)


def _kinds(images: list[tuple[Path, str]]) -> list[str]:
    """The kinds of abnormal images, by path and image_id: see `labelled_images`."""
    inner = [image_id.split("/")[1:-1] for _, image_id in images]
    words = [re.match(r"[^\W\d_]*", path.stem)[0] or "abnormal" for path, _ in images]
    often = Counter(word for word, folders in zip(words, inner, strict=True) if not folders)
    told = min(often.values(), default=2) > 1
    return [folders[0] if folders else word if told else "abnormal" for word, folders in zip(words, inner, strict=True)]
