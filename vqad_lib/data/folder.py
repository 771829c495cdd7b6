"""A user's own images: `normal/`, `abnormal/` and, if pixels are known, their masks; what is left out is said."""

import functools
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from vqad_lib.data.frames import FrameRecord, FrameSource
from vqad_lib.errors import VqadError, printable

MASK_FOLDERS = ("masks", "ground_truth")
# formats that Pillow has a name for but cannot decode, or not without another program
_NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
_NAMES_SHOWN = 2


@dataclass
class Listing:
    """The images below a folder, by name, and the files that are left out: reason -> paths."""

    folder: Path
    images: list[Path] = field(default_factory=list)
    left_out: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))

    def take(self, paths: list[Path], *, reason: str = "") -> list[Path]:
        """Take paths out of the images, and note them as left out where there is a reason."""
        self.images = sorted({*self.images} - {*paths})
        if reason and paths:
            self.left_out[reason] += paths
        return paths

    def note(self) -> str:
        """What a person is told, for example "normal: 12 images; left out: 1 hidden (.x)"."""
        reasons = [f"{len(paths)} {why} ({_some(paths, self.folder)})" for why, paths in sorted(self.left_out.items())]
        said = f"{printable(self.folder.name)}: {len(self.images)} images"
        return said + "; left out: " * bool(reasons) + ", ".join(reasons)


def is_folder(folder: Path) -> bool:
    """Whether a folder has this layout."""
    return {"normal", "abnormal"} <= _known_folders(folder).keys()


def read_folder(root: Path) -> FrameSource:
    """List the images of an image folder, subfolders included: normal ones first, each class sorted by name.

    An image is what has a name that Pillow decodes. A mask has the name of its abnormal image up to the suffix, with or
    without `_mask` behind it (in any case), and lies in `masks/` or `ground_truth/` beside or within `abnormal/`, or
    beside its image. Where there are masks, every abnormal image needs one, because a missing one would count its
    anomalous pixels as normal. Masks of normal images are left out.

    Raises:
        VqadError: a class is empty, a mask has no image, or an abnormal image has no mask or shares it with another.
        OSError: a folder cannot be listed.
    """
    root = Path(root)
    folders = _known_folders(root)
    listings = {name: list_images(folder) for name, folder in folders.items()}
    normal, abnormal = listings.pop("normal"), listings.pop("abnormal")
    of_normal = {"reason": "masks of normal images"}
    normal.take(_masks_among(normal), **of_normal)
    within = abnormal.take(_masks_among(abnormal))
    for beside in [] if (abnormal.folder / "normal").is_dir() else listings.values():
        beside.take([path for path in beside.images if beside.folder / "normal" in path.parents], **of_normal)
    for listing in (normal, abnormal):
        if not listing.images:
            raise VqadError(f"{listing.folder} holds no images that can be read; put some into it ({listing.note()})")
    mask_of = _match_masks(abnormal, sum((beside.images for beside in listings.values()), within))
    records = [
        FrameRecord(
            path=path,
            mask_path=mask_of.get(path),
            image_id=f"{name}/{plain_name(path, listing.folder)}",
            clip=name,
            frame=frame,
            part="folder",
            label=int(listing is abnormal),
        )
        for name, listing in (("normal", normal), ("abnormal", abnormal))
        for frame, path in enumerate(listing.images)
    ]
    notes = [listing.note() for listing in (normal, abnormal, *listings.values())]
    if within:
        notes.append(f"{len(within)} of the files in abnormal are masks ({_some(within, abnormal.folder)})")
    if others := [path for path in root.iterdir() if path not in folders.values() and not path.name.startswith(".")]:
        notes.append(f"not looked into: {len(others)} beside the folders ({_some(others, root)})")
    return FrameSource(root, records, has_masks=bool(mask_of), notes=tuple(notes))


def _known_folders(root: Path) -> dict[str, Path]:
    """The folders that the layout knows, by name, in which capital letters do not matter."""
    known = ("normal", "abnormal", *MASK_FOLDERS)
    places = sorted(root.iterdir()) if root.is_dir() else []
    return {place.name.lower(): place for place in places if place.name.lower() in known and place.is_dir()}


def list_images(folder: Path) -> Listing:
    """What lies below a folder, subfolders included.

    Raises:
        OSError: a folder cannot be listed.
    """
    listing = Listing(folder)
    for place, folders, names in os.walk(folder, onerror=_raise):
        for path in (Path(place, name) for name in [*folders, *names]):
            if path.name.startswith("."):
                listing.left_out["hidden"].append(path)
            elif path.is_dir():
                if path.is_symlink():
                    listing.left_out["links to folders"].append(path)
            elif not path.is_file():
                listing.left_out["not regular files"].append(path)
            elif not is_image_name(path.name):
                listing.left_out["without an image's ending"].append(path)
            else:
                listing.images.append(path)
        folders[:] = [name for name in folders if not name.startswith(".")]
    listing.images.sort()
    return listing


def _raise(error: OSError) -> None:
    raise error


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image: its ending is of a format that Pillow decodes."""
    return Path(name).suffix.lower() in _image_suffixes()


@functools.cache
def _image_suffixes() -> frozenset[str]:
    """The endings of names that are taken for images, in lower case: those of all formats that Pillow decodes."""
    Image.init()
    readable = Image.OPEN.keys() - _NOT_DECODED
    return frozenset(suffix for suffix, form in Image.registered_extensions().items() if form in readable)


def _masks_among(listing: Listing) -> list[Path]:
    """The masks among the images: in a folder of theirs, or beside the image that they are named after."""
    keys = {_key(path, listing.folder) for path in listing.images}

    def is_mask(path: Path) -> bool:
        key, inner = _key(path, listing.folder), str(path.parent.relative_to(listing.folder)).lower().split("/")
        return not {*inner}.isdisjoint(MASK_FOLDERS) or (_bare(key) != key and _bare(key) in keys)

    return [path for path in listing.images if is_mask(path)]


def _match_masks(abnormal: Listing, masks: list[Path]) -> dict[Path, Path]:
    """Image -> its mask, checked in both directions; empty if there are no masks.

    Names are compared with their subfolders first, then without where the mask or the image lies in none.
    """
    named = defaultdict(list)
    for path in abnormal.images:
        for key in {_key(path, abnormal.folder), path.stem}:
            named[key].append(path)
    mask_of: dict[Path, Path] = {}
    for mask in masks:
        key = _key(mask, abnormal.folder.parent)
        stem = mask.stem if key == f"/{mask.stem}" else f"/{mask.stem}"  # "/" before it: of an image in no subfolder
        images = next((named[key] for key in (key, _bare(key), stem, _bare(stem)) if key in named), [])
        if not images:
            image = f"{mask.stem}.* in {abnormal.folder}"
            raise VqadError(f"{mask} is a mask without an image {image}; remove it or add the image")
        if len(images) > 1:
            raise VqadError(f"{images[1]} and {images[0].name} would share a mask; rename one image and its mask")
        if images[0] in mask_of:
            raise VqadError(f"{mask} and {mask_of[images[0]]} are masks of the same image; keep one")
        mask_of[images[0]] = mask
    if masks and (bare := [path for path in abnormal.images if path not in mask_of]):
        name = _key(bare[0], abnormal.folder).removeprefix("/")
        raise VqadError(
            f"{bare[0]} has no mask in {abnormal.folder.with_name(MASK_FOLDERS[0])}; add {name}.* or {name}_mask.*, or "
            "remove all masks to go without pixels"
        )
    return mask_of


def _key(path: Path, folder: Path) -> str:
    """The path from the folder without suffix, and without the folders that only say what the file is."""
    parts = path.relative_to(folder).with_suffix("").parts
    return "/".join(part for part in parts[:-1] if part.lower() not in ("abnormal", *MASK_FOLDERS)) + "/" + parts[-1]


def _bare(key: str) -> str:
    return key[: -len("_mask")] if key.lower().endswith("_mask") else key


def plain_name(path: Path, folder: Path) -> str:
    r"""The path from the folder as text that any file can hold; `\` is doubled, so that no two names become one."""
    return printable(str(path.relative_to(folder)).replace("\\", "\\\\"))


def _some(paths: list[Path], folder: Path) -> str:
    names = sorted(printable(str(path.relative_to(folder))) for path in paths)
    return ", ".join(names[:_NAMES_SHOWN] + ["..."] * (len(names) > _NAMES_SHOWN))
