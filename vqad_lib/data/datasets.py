"""The data sets there are, which one a run uses, and its frames. A new one is a reader and an entry in `DATASETS`.

What lies in a folder is told by its layout; data/README.md shows them.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vqad_lib.config import SyntheticConfig
from vqad_lib.data.clips import data_set_of_clips, read_clips
from vqad_lib.data.folder import is_folder, read_folder
from vqad_lib.data.frames import FrameSet, FrameSource, cached_frames
from vqad_lib.data.mvtec import is_mvtec, read_mvtec
from vqad_lib.data.splits import SCHEMES
from vqad_lib.data.synthetic import Walkway
from vqad_lib.errors import VqadError, printable

# where the data may lie below the folder that a user names, nearest first
_INNER = (".", "UCSDped2", "UCSD_Anomaly_Dataset.v1p2/UCSDped2", "ucsd_ped2", "ped2")
_GET_PED2 = "run `make data` to download it, or point DATA_ROOT= at a copy"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A kind of data set that lies in a folder.

    Attributes:
        title: what tables and figures call it; "{name}" stands for the folder's name.
        layout: how its folder is recognised, for error messages.
        detect: whether a folder has this layout.
        read: lists its frames; raises `VqadError` or `OSError`.
        schemes: the ways to split it; "official" needs clips, those of the parts "train" and "test".
    """

    title: str
    layout: str
    detect: Callable[[Path], bool]
    read: Callable[[Path], FrameSource]
    schemes: tuple[str, ...] = SCHEMES


_CLIPS = {
    "ucsd_ped2": (
        "UCSD Ped2",
        "Train/Train001/001.tif with Test/UCSDped2.m, or training/frames/01/000.jpg with ped2.mat",
    ),
    "ucsd_ped1": ("UCSD Ped1", "the same with UCSDped1.m or ped1.mat"),
    "cuhk_avenue": ("CUHK Avenue", "training/frames/01/0000.jpg with avenue.mat"),
    "shanghaitech": ("ShanghaiTech", "training/frames/01_001/000.jpg with testing/test_frame_mask/01_0014.npy"),
}
_OF_CLIPS = {
    name: Dataset(
        title=title,
        layout=f"{layout} ({title})",
        detect=lambda folder, name=name: data_set_of_clips(folder) == name,
        read=read_clips,
    )
    for name, (title, layout) in _CLIPS.items()
}
DATASETS = {
    **_OF_CLIPS,
    "mvtec_ad": Dataset(
        title="MVTec AD {name}",
        layout="train/good/, test/good/ and test/<kind>/ (a category of MVTec AD)",
        detect=is_mvtec,
        read=read_mvtec,
        schemes=("paper",),
    ),
    "folder": Dataset(
        title="image folder {name}",
        layout="normal/ and abnormal/ (image folder)",
        detect=is_folder,
        read=read_folder,
        schemes=("paper",),
    ),
}
SYNTHETIC = "synthetic"  # the one that is generated, and lies nowhere


def available_schemes(dataset: str) -> tuple[str, ...]:
    """The schemes by which a known data set can be split: an image folder has no clips, so no official split."""
    return SCHEMES if dataset == SYNTHETIC else DATASETS[dataset].schemes


def folder_in_title(frames: FrameSet) -> str:
    """The name of the folder, for data sets that are called after it; else ""."""
    title = DATASETS[frames.dataset].title if frames.dataset in DATASETS else ""
    return frames.title.removeprefix(title.removesuffix("{name}")) if title.endswith("{name}") else ""


def locate(root: Path) -> tuple[str, Path]:
    """Find a data set in `root` or in one of the usual folders below it.

    Returns:
        Its name, a key of `DATASETS`, and the folder that has its layout, resolved.

    Raises:
        VqadError: `root` is missing, is not a folder, cannot be read, or has no known layout.
    """
    layouts = "; ".join(dataset.layout for dataset in DATASETS.values())
    try:
        if not Path(root).is_dir():
            raise VqadError(f"no folder at {root}; set DATA_ROOT= to one that holds {layouts}")
        for folder in (Path(root) / inner for inner in _INNER):
            for name, dataset in DATASETS.items():
                if dataset.detect(folder):
                    return name, folder.resolve()
    except OSError as error:
        raise VqadError(f"cannot read {root}: {error.strerror}; make the folder readable") from error
    raise VqadError(f"{root} has no known layout; known are {layouts}; see data/README.md")


def choose_dataset(preference: str, data_root: str, repository: Path) -> tuple[str, Path | None, str]:
    """Decide which data set a run uses.

    Args:
        preference: "auto", "synthetic" or a key of `DATASETS`.
        data_root: what the user gave as DATA_ROOT, "" if nothing; a relative path is taken from `repository`.
        repository: the project's own folder; `data/raw` below it is where `make data` puts UCSD Ped2.

    Returns:
        The data set, its resolved folder (None for "synthetic"), and one sentence that says why.

    Raises:
        VqadError: unknown preference; `data_root` is unusable or is another data set than the preference; no
            `data_root` and nothing fitting in `data/raw`.
    """
    if preference == SYNTHETIC:
        ignored = f"; DATA_ROOT={data_root} is ignored" if data_root else ""
        return SYNTHETIC, None, f"the synthetic walkway was asked for{ignored}."
    if preference not in ("auto", *DATASETS):
        raise VqadError(f"data set {preference!r} is unknown; choose auto, {', '.join(DATASETS)} or {SYNTHETIC}")
    if data_root:
        root = Path(repository) / os.path.expanduser(data_root)
        dataset, found = locate(root)
        if preference not in ("auto", dataset):
            raise VqadError(f"DATA_ROOT={root} holds data set {dataset}, not {preference}; change one of the two")
        try:
            str(found).encode()  # notebooks carry it as text
        except UnicodeEncodeError as error:
            raise VqadError(f"DATA_ROOT={found} is not UTF-8; rename that folder") from error
        return dataset, found, f"DATA_ROOT={root} holds {DATASETS[dataset].title.format(name=found.name)}."
    raw = Path(repository) / "data" / "raw"
    with contextlib.suppress(VqadError):
        dataset, found = locate(raw)
        if dataset == "ucsd_ped2" and preference in ("auto", dataset):
            return dataset, found, f"UCSD Ped2 was found in {found}."
    if preference == "ucsd_ped2":
        raise VqadError(f"UCSD Ped2 is not in {raw}; {_GET_PED2}")
    if preference != "auto":
        raise VqadError(f"data set {preference} needs DATA_ROOT= set to a folder with {DATASETS[preference].layout}")
    return SYNTHETIC, None, f"no UCSD Ped2 was found in {raw}, so the synthetic walkway is used; {_GET_PED2}."


def prepare_frames(
    *, dataset: str, data_root: Path | None, size_px: int, cache_dir: Path, synthetic: SyntheticConfig
) -> FrameSet:
    """Read a data set at one size, from the cache if the same content was prepared before.

    The cache is a folder below `cache_dir` (see `cached_frames`), which appears only when it is whole.

    Args:
        dataset, data_root: as `choose_dataset` returns them; the folder may also be one that `locate` finds it below.
        size_px: width and height of the prepared images.
        cache_dir: a folder for prepared frames; made if missing.
        synthetic: what to generate; ignored unless `dataset` is "synthetic".

    Raises:
        VqadError: the source is missing, damaged or contradicts itself (the file is named), or the cache cannot be
            written.
    """
    keep = {"dataset": dataset, "size_px": size_px}
    if dataset == SYNTHETIC:
        return cached_frames(Walkway(synthetic), cache_dir, title="synthetic walkway", **keep)
    root = locate(data_root)[1]
    title = DATASETS[dataset].title.format(name=printable(root.name))
    try:
        return cached_frames(DATASETS[dataset].read(root), cache_dir, title=title, **keep)
    except OSError as error:
        raise VqadError(f"cannot read {error.filename or root}: {error.strerror}; make it readable") from error
