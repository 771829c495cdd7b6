"""A category of MVTec AD: Bergmann, Fauser, Sattlegger, Steger, "MVTec AD", CVPR 2019.

`train/good`, `test/good` and `test/<kind>`, whose masks lie in `ground_truth/<kind>`, named after their image.
"""

from pathlib import Path
from typing import NamedTuple

from vqad_lib.data.folder import list_images, plain_name
from vqad_lib.data.frames import FrameRecord, FrameSource
from vqad_lib.errors import VqadError

GOOD = ("good", "normal")


class Labelled(NamedTuple):
    """A path, the kind of defect ("" for normal images), and the mask where there is one."""

    path: Path
    kind: str
    mask: Path | None


def is_mvtec(folder: Path) -> bool:
    """Whether a folder has this layout."""
    return (folder / "train" / "good").is_dir() and (folder / "test" / "good").is_dir()


def read_mvtec(root: Path) -> FrameSource:
    """List a category: normal images of both parts, then those with a defect; there are no clips.

    Raises:
        VqadError: see `tested_images`.
        OSError: a folder cannot be listed.
    """
    images = [Labelled(path, "", None) for path in list_images(root / "train" / "good").images]
    images = sorted([*images, *tested_images(root)], key=lambda image: (image.kind != "", image.path))
    records = [
        FrameRecord(image.path, image.mask, plain_name(image.path, root), "", frame, "folder", int(image.kind != ""))
        for frame, image in enumerate(images)
    ]
    return FrameSource(root, records, has_masks=any(image.mask for image in images))


def tested_images(root: Path) -> list[Labelled]:
    """What lies in `test/`.

    Raises:
        VqadError: an image with a defect has no mask, but others have one.
        OSError: a folder cannot be listed.
    """
    found = []
    for place in sorted(path for path in (root / "test").iterdir() if path.is_dir()):
        kind, truth = "" if place.name.lower() in GOOD else place.name, root / "ground_truth" / place.name
        below = truth.rglob("[!.]*.*") if kind else ()
        masks = {place / path.relative_to(truth).parent / path.stem.removesuffix("_mask"): path for path in below}
        found += [Labelled(path, kind, masks.get(path.with_suffix(""))) for path in list_images(place).images]
    bare = [image for image in found if image.kind and not image.mask]
    if bare and any((root / "ground_truth").rglob("[!.]*.*")):
        raise VqadError(f"{bare[0].path} has no mask in ground_truth/{bare[0].kind}; add it, or remove all masks")
    return found
