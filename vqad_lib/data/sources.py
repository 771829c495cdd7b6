"""Which data set a run uses, where it lies, and what a reader says about each frame.

Three layouts are known (data/README.md shows them): the official UCSD Ped2 archive, the same clips as numbered frames
with `ped2.mat`, and a user's own `normal/` and `abnormal/` images.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from vqad_lib.errors import VqadError

KNOWN_LAYOUTS = (
    "UCSDped2/Train/Train001/001.tif with Test/UCSDped2.m (official)",
    "training/frames/01/000.jpg with ped2.mat (frames)",
    "normal/ and abnormal/ (image folder)",
)
# where the data may lie below the folder that a user names, nearest first
_INNER = (".", "UCSDped2", "UCSD_Anomaly_Dataset.v1p2/UCSDped2", "ucsd_ped2", "ped2")
_DATASET_OF_LAYOUT = {"ucsd_official": "ucsd_ped2", "ucsd_frames": "ucsd_ped2", "folder": "folder"}
_GET_PED2 = "run `make data` to download it, or point DATA_ROOT= at a copy"


@dataclass(frozen=True)
class FrameRecord:
    """One frame of a source: where it lies and what is known of it; `frame` counts from 0, `label` is 0 or 1."""

    path: Path
    mask_path: Path | None
    image_id: str
    clip: str
    frame: int
    part: str
    label: int


@dataclass(frozen=True)
class FrameSource:
    """All frames of one source, in order, and the label file beside them.

    `has_masks` if it knows anomalous pixels; `notes` is what a person should know of the files, a line each.
    """

    root: Path
    records: list[FrameRecord]
    label_file: Path | None
    has_masks: bool
    notes: tuple[str, ...] = ()

    def files(self) -> list[Path]:
        """Every file whose content matters: frames, masks, labels."""
        masks = [record.mask_path for record in self.records if record.mask_path is not None]
        labels = [] if self.label_file is None else [self.label_file]
        return [record.path for record in self.records] + masks + labels


def locate_source(root: Path) -> tuple[str, Path]:
    """Find the data in `root` or in one of the usual folders below it.

    Returns:
        The layout, "ucsd_official", "ucsd_frames" or "folder", and the folder that has that layout.

    Raises:
        VqadError: `root` is missing, is not a folder, cannot be read, or has no known layout.
    """
    root = Path(root)
    try:
        if not root.is_dir():
            raise VqadError(f"no folder at {root}; set DATA_ROOT= to a folder with {' or '.join(KNOWN_LAYOUTS)}")
        for inner in _INNER:
            folder = root / inner
            layout = _layout_of(folder)
            if layout:
                return layout, folder.resolve()
    except OSError as error:
        raise VqadError(f"cannot read {root}: {error.strerror}; make the folder readable") from error
    raise VqadError(f"{root} has no known layout; known are {', '.join(KNOWN_LAYOUTS)}; see data/README.md")


def detect_layout(root: Path) -> str:
    """The layout of `root`, or of the data set that it contains.

    Returns:
        "ucsd_official", "ucsd_frames" or "folder".

    Raises:
        VqadError: as `locate_source`.
    """
    return locate_source(root)[0]


def _layout_of(folder: Path) -> str | None:
    if any((folder / "Train").glob("Train[0-9]*")) and (folder / "Test").is_dir():
        return "ucsd_official"
    if (folder / "training" / "frames").is_dir() and (folder / "testing" / "frames").is_dir():
        return "ucsd_frames"
    if (folder / "normal").is_dir() and (folder / "abnormal").is_dir():
        return "folder"
    return None


def choose_dataset(preference: str, data_root: str, repository: Path) -> tuple[str, Path | None, str]:
    """Decide which data set a run uses.

    Args:
        preference: "auto", "ucsd_ped2", "synthetic" or "folder".
        data_root: what the user gave as DATA_ROOT, "" if nothing; a relative path is taken from `repository`.
        repository: the project's own folder; `data/raw` below it is where `make data` puts UCSD Ped2.

    Returns:
        The data set ("ucsd_ped2", "synthetic" or "folder"), its resolved folder (None for "synthetic"), and one
        sentence that says why.

    Raises:
        VqadError: unknown preference; `data_root` is unusable or is another data set than the preference; Ped2 is
            asked for and is not found; "folder" without `data_root`.
    """
    if preference not in ("auto", "ucsd_ped2", "synthetic", "folder"):
        raise VqadError(f"data set {preference!r} is unknown; choose auto, ucsd_ped2, synthetic or folder")
    if preference == "synthetic":
        ignored = f"; DATA_ROOT={data_root} is ignored" if data_root else ""
        return "synthetic", None, f"the synthetic walkway was asked for{ignored}."
    if data_root:
        return _from_data_root(preference, Path(repository) / os.path.expanduser(data_root))
    if preference == "folder":
        raise VqadError("data set folder needs DATA_ROOT= set to a folder with normal/ and abnormal/")
    return _from_repository(preference, Path(repository) / "data" / "raw")


def _from_data_root(preference: str, root: Path) -> tuple[str, Path, str]:
    layout, found = locate_source(root)
    dataset = _DATASET_OF_LAYOUT[layout]
    if preference not in ("auto", dataset):
        raise VqadError(f"DATA_ROOT={root} holds data set {dataset}, not {preference}; change one of the two")
    try:
        str(found).encode()  # notebooks carry it as text
    except UnicodeEncodeError as error:
        raise VqadError(f"DATA_ROOT={found} is not UTF-8; rename that folder") from error
    what = "an image folder" if dataset == "folder" else "UCSD Ped2"
    return dataset, found, f"DATA_ROOT={root} holds {what}."


def _from_repository(preference: str, raw: Path) -> tuple[str, Path | None, str]:
    try:
        layout, found = locate_source(raw)
    except VqadError:
        layout, found = "", None
    if _DATASET_OF_LAYOUT.get(layout) == "ucsd_ped2":
        return "ucsd_ped2", found, f"UCSD Ped2 was found in {found}."
    if preference == "ucsd_ped2":
        raise VqadError(f"UCSD Ped2 is not in {raw}; {_GET_PED2}")
    return "synthetic", None, f"no UCSD Ped2 was found in {raw}, so the synthetic walkway is used; {_GET_PED2}."
