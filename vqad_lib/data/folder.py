"""A user's own images: `normal/`, `abnormal/` and, if pixels are known, `masks/`."""

from pathlib import Path

from vqad_lib.data.sources import FrameRecord, FrameSource
from vqad_lib.errors import VqadError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def read_folder(root: Path) -> FrameSource:
    """List the images of an image folder: normal ones first, each class sorted by name.

    A mask has the name of its abnormal image up to the suffix; where there are masks, every abnormal image needs one,
    because a missing one would count its anomalous pixels as normal. Subfolders and hidden files are ignored.

    Raises:
        VqadError: a class is empty, a mask has no image, or an abnormal image has no mask or shares it with another.
    """
    root = Path(root)
    normal, abnormal = _images(root / "normal"), _images(root / "abnormal")
    for name, images in (("normal", normal), ("abnormal", abnormal)):
        if not images:
            raise VqadError(f"{root / name} holds no images ({', '.join(IMAGE_SUFFIXES)}); put some directly into it")
    masks = _match_masks(root, abnormal)
    records = [
        FrameRecord(
            path=path,
            mask_path=masks.get(path.stem) if clip == "abnormal" else None,
            image_id=f"{clip}/{path.name}",
            clip=clip,
            frame=frame,
            part="folder",
            label=int(clip == "abnormal"),
        )
        for clip, images in (("normal", normal), ("abnormal", abnormal))
        for frame, path in enumerate(images)
    ]
    return FrameSource(root=root, records=records, label_file=None, has_masks=bool(masks))


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _match_masks(root: Path, abnormal: list[Path]) -> dict[str, Path]:
    """Masks by stem, checked against the abnormal images in both directions; empty if there are no masks."""
    masks: dict[str, Path] = {}
    for path in _images(root / "masks"):
        if path.stem in masks:
            raise VqadError(f"{path} and {masks[path.stem].name} are masks of the same image; keep one")
        masks[path.stem] = path
    if not masks:
        return {}
    by_stem: dict[str, Path] = {}
    for path in abnormal:
        if path.stem in by_stem:
            raise VqadError(f"{path} and {by_stem[path.stem].name} would share a mask; rename one image and its mask")
        by_stem[path.stem] = path
        if path.stem not in masks:
            raise VqadError(f"{path} has no mask in {root / 'masks'}; add one, or remove masks/ to go without pixels")
    for stem, path in masks.items():
        if stem not in by_stem:
            raise VqadError(
                f"{path} is a mask without an image {stem}.* in {root / 'abnormal'}; remove it or add the image"
            )
    return masks
