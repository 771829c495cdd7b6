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
_NAME_LENGTH = 40


@dataclass
class _Listing:
    """The images below a folder, by name, and the files that are left out: reason -> paths from the folder."""

    folder: Path
    images: list[Path] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def note(self) -> str:
        """What a person is told, for example "normal: 12 images, 6 of them in subfolders; left out: 1 hidden (.x)"."""
        inner = sum(path.parent != self.folder for path in self.images)
        text = f"{self.folder.name}: {len(self.images)} images" + (f", {inner} of them in subfolders" if inner else "")
        reasons = [f"{len(names)} {reason} ({_some(names)})" for reason, names in sorted(self.left_out.items())]
        return text + (f"; left out: {', '.join(reasons)}" if reasons else "")


def is_folder(folder: Path) -> bool:
    """Whether a folder has this layout."""
    return (folder / "normal").is_dir() and (folder / "abnormal").is_dir()


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
    normal, abnormal, *masks = (_list(root / name) for name in ("normal", "abnormal", *MASK_FOLDERS))
    within = _take_masks(abnormal)
    of_normal = [(normal, _take_masks(normal))]
    if not (abnormal.folder / "normal").is_dir():
        of_normal += [(at, [path for path in at.images if at.folder / "normal" in path.parents]) for at in masks]
    for listing, paths in of_normal:
        listing.images = sorted({*listing.images} - {*paths})
        for path in paths:
            listing.left_out["masks of normal images"].append(str(path.relative_to(listing.folder)))
    for listing in (normal, abnormal):
        if not listing.images:
            raise VqadError(f"{listing.folder} holds no images that can be read; put some into it ({listing.note()})")
    mask_of = _match_masks(abnormal, within + [path for listing in masks for path in listing.images])
    records = [
        FrameRecord(
            path=path,
            mask_path=mask_of.get(path),
            image_id=f"{listing.folder.name}/{_name(path, listing.folder)}",
            clip=listing.folder.name,
            frame=frame,
            part="folder",
            label=int(listing is abnormal),
        )
        for listing in (normal, abnormal)
        for frame, path in enumerate(listing.images)
    ]
    notes = [listing.note() for listing in (normal, abnormal, *masks) if listing.images or listing.left_out]
    if within:
        notes.append(f"{len(within)} of the files in abnormal are masks ({_some([path.name for path in within])})")
    known = {"normal", "abnormal", *MASK_FOLDERS}
    if others := sorted(place.name for place in root.iterdir() if place.is_dir() and place.name not in known):
        notes.append(f"not looked into: {len(others)} other folders ({_some(others)})")
    if misspelt := [name for name in others if name.lower() in known]:
        notes.append(f"the known folders are in lower case: rename {_some(misspelt)} if it is one of them")
    if strays := [path.name for path in root.iterdir() if not path.name.startswith(".") and _is_image(path)]:
        notes.append(f"left out: {len(strays)} images beside the folders ({_some(strays)})")
    return FrameSource(root, records, has_masks=bool(mask_of), notes=tuple(notes))


def _list(folder: Path) -> _Listing:
    listing = _Listing(folder)
    for place, folders, names in os.walk(folder, onerror=_unless_absent):
        for name in [*folders, *names]:
            path, reason = Path(place, name), ""
            if name.startswith("."):
                reason = "hidden"
            elif path.is_symlink() and not path.exists():
                reason = "links to nothing"
            elif path.is_dir():
                reason = "links to folders" if path.is_symlink() else ""
            elif not path.is_file():
                reason = "not regular files"
            elif path.suffix.lower() not in image_suffixes():
                reason = "without an image's ending"
            else:
                listing.images.append(path)
            if reason:
                listing.left_out[reason].append(str(path.relative_to(folder)))
        folders[:] = [name for name in folders if not name.startswith(".")]
    listing.images.sort()
    return listing


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in image_suffixes()


def _unless_absent(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The endings of names that are taken for images, in lower case: those of all formats that Pillow decodes."""
    Image.init()
    readable = Image.OPEN.keys() - _NOT_DECODED
    return frozenset(suffix for suffix, form in Image.registered_extensions().items() if form in readable)


def _take_masks(listing: _Listing) -> list[Path]:
    """Take from the images the masks among them: in a folder of theirs, or beside the image they are named after."""
    keys = {_key(path, listing.folder) for path in listing.images}

    def is_mask(path: Path) -> bool:
        key = _key(path, listing.folder)
        in_folder = not {*path.relative_to(listing.folder).parts[:-1]}.isdisjoint(MASK_FOLDERS)
        return in_folder or (_bare(key) != key and _bare(key) in keys)

    masks = [path for path in listing.images if is_mask(path)]
    listing.images = sorted({*listing.images} - {*masks})
    return masks


def _match_masks(abnormal: _Listing, masks: list[Path]) -> dict[Path, Path]:
    """Image -> its mask, checked in both directions; empty if there are no masks.

    Names are compared with their subfolders first, then without where the mask or the image lies in none.
    """
    named = defaultdict(list)
    for path in abnormal.images:
        for key in {_key(path, abnormal.folder), path.stem}:
            named[key].append(path)
    mask_of: dict[Path, Path] = {}
    orphans = []
    for mask in masks:
        key = _key(mask, abnormal.folder.parent)
        stem = mask.stem if key == f"/{mask.stem}" else f"/{mask.stem}"  # "/" before it: of an image in no subfolder
        images = next((named[key] for key in (key, _bare(key), stem, _bare(stem)) if key in named), [])
        if len(images) > 1:
            raise VqadError(f"{images[1]} and {images[0].name} would share a mask; rename one image and its mask")
        if not images:
            orphans.append(mask)
        elif images[0] in mask_of:
            raise VqadError(f"{mask} and {mask_of[images[0]]} are masks of the same image; keep one")
        else:
            mask_of[images[0]] = mask
    for path in abnormal.images if masks else []:
        if path not in mask_of:
            place = abnormal.folder.with_name(MASK_FOLDERS[0])
            name = _key(path, abnormal.folder).removeprefix("/")
            raise VqadError(
                f"{path} has no mask in {place}; add {name}.* or {name}_mask.*, or remove all masks "
                "to go without pixels"
            )
    if orphans:
        image = f"{orphans[0].stem}.* in {abnormal.folder}"
        raise VqadError(f"{orphans[0]} is a mask without an image {image}; remove it or add the image")
    return mask_of


def _key(path: Path, folder: Path) -> str:
    """The path from the folder without suffix, and without the folders that only say what the file is."""
    parts = path.relative_to(folder).with_suffix("").parts
    return "/".join(part for part in parts[:-1] if part not in ("abnormal", *MASK_FOLDERS)) + "/" + parts[-1]


def _bare(key: str) -> str:
    return key[: -len("_mask")] if key.lower().endswith("_mask") else key


def _name(path: Path, folder: Path) -> str:
    r"""The path from the folder as text that any file can hold; `\` is doubled, so that no two names become one."""
    return printable(str(path.relative_to(folder)).replace("\\", "\\\\"))


def _some(names: list[str]) -> str:
    shown = [name if len(name) <= _NAME_LENGTH else f"{name[:_NAME_LENGTH]}…" for name in sorted(names)[:_NAMES_SHOWN]]
    return ", ".join([*map(printable, shown), *["..."] * (len(names) > _NAMES_SHOWN)])
