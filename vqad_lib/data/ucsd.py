"""UCSD Ped2 in its two layouts, read into the same list of frames.

Mahadevan, Li, Bhalodia, Vasconcelos, "Anomaly Detection in Crowded Scenes", CVPR 2010: 16 training clips, all normal,
and 12 test clips. Labels are intervals of 1-based, inclusive frame numbers, one row per test clip.
"""

import re
from pathlib import Path

import numpy as np
import scipy.io

from vqad_lib.data.frames import FrameRecord, FrameSource
from vqad_lib.errors import VqadError

Interval = tuple[int, int]

_AGAIN = "restore it or run `make data` again"


def is_ucsd(folder: Path) -> bool:
    """Whether a folder has either layout of UCSD Ped2."""
    official = any((folder / "Train").glob("Train[0-9]*")) and (folder / "Test").is_dir()
    return official or ((folder / "training" / "frames").is_dir() and (folder / "testing" / "frames").is_dir())


def read_ucsd(root: Path) -> FrameSource:
    """List the frames, labels and masks of UCSD Ped2.

    Args:
        root: the folder that has the layout itself (see `locate`).

    Returns:
        Training clips first, then test clips, each in the order of its frames; ids are the same in both layouts.

    Raises:
        VqadError: the label file is missing or cannot be read, its rows do not fit the clips, an interval is reversed
            or leaves its clip, or clips, frames or masks are missing.
    """
    root = Path(root)
    official = (root / "Train").is_dir()
    folders = ("Train", "Test") if official else ("training/frames", "testing/frames")
    train, test = (_clips(root / folder) for folder in folders)
    label_file = root / "Test" / "UCSDped2.m" if official else root / "ped2.mat"
    rows = parse_matlab_labels(label_file) if official else read_mat_labels(label_file)
    if len(rows) != len(test):
        raise VqadError(
            f"{label_file} labels {len(rows)} clips but {root} holds {len(test)} for the test: "
            f"Test{min(len(rows), len(test)) + 1:03d} is the first without a counterpart; {_AGAIN}"
        )
    has_masks = official and any((root / "Test").glob("Test*_gt"))
    records = []
    for part, clips, labelled in (("Train", train, [[]] * len(train)), ("Test", test, rows)):
        for number, (frames, intervals) in enumerate(zip(clips, labelled, strict=True), start=1):
            clip = f"{part}{number:03d}"
            labels = interval_labels(intervals, n_frames=len(frames), where=f"{label_file}: clip {clip}")
            for frame, (path, label) in enumerate(zip(frames, labels.tolist(), strict=True)):
                mask = _mask_of(path, label) if has_masks and part == "Test" else None
                records.append(FrameRecord(path, mask, f"{clip}/{frame:03d}", clip, frame, part.lower(), label))
    return FrameSource(root, records, has_masks, label_file)


def _clips(folder: Path) -> list[list[Path]]:
    """The frames of each clip, in order.

    The patterns leave out ._001.tif, .DS_Store, Thumbs.db and whatever else archives collect.
    """
    return [_numbered(clip, r"(\d+)\.(?:jpe?g|png|tiff?)") for clip in _numbered(folder, r"(?:train|test)?(\d+)")]


def _numbered(folder: Path, pattern: str) -> list[Path]:
    """What is in a folder under numbered names, from 0 or 1 and without gaps, or labels would slip."""
    found = [(int(m[1]), path) for path in folder.iterdir() if (m := re.fullmatch(pattern, path.name, re.IGNORECASE))]
    found.sort()
    if not found:
        raise VqadError(f"{folder} holds no clips or frames; {_AGAIN}")
    for expected, (number, _) in enumerate(found, start=min(found[0][0], 1)):
        if number != expected:
            raise VqadError(f"{folder}: must be numbered without gaps, but {expected:03d} is missing; {_AGAIN}")
    return [path for _, path in found]


def _mask_of(frame: Path, label: int) -> Path | None:
    mask = frame.parent.with_name(f"{frame.parent.name}_gt") / f"{frame.stem}.bmp"
    if label and not mask.is_file():
        raise VqadError(f"{mask} is missing, but its frame is labelled anomalous; {_AGAIN}")
    return mask if mask.is_file() else None  # a normal frame's mask is empty anyway


def parse_matlab_labels(path: Path) -> list[list[Interval]]:
    """Read `TestVideoFile{end+1}.gt_frame = [1:2, 5, 7:9];` lines, one per test clip.

    Returns:
        For each clip its intervals (first, last), 1-based and inclusive; a single number is an interval of one.

    Raises:
        VqadError: the file cannot be read, or a line holds something else than numbers and ranges.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise VqadError(f"cannot read {path}: {error.strerror}; {_AGAIN}") from error
    text = re.sub(r"\s*:\s*", ":", re.sub(r"%[^\n]*", "", text))
    rows = []
    for number, match in enumerate(re.finditer(r"gt_frame\s*=\s*(?:\[([^\]]*)\]|([^;\n\[]*))", text), start=1):
        items = re.findall(r"[^,;\s]+", match[1] or match[2] or "")
        for item in items:
            if not re.fullmatch(r"\d+(:\d+)?", item):
                raise VqadError(f"{path}: clip Test{number:03d}: cannot read {item!r} as a frame range; {_AGAIN}")
        rows.append([(int(item.split(":")[0]), int(item.split(":")[-1])) for item in items])
    return rows


def read_mat_labels(path: Path) -> list[list[Interval]]:
    """Read `gt` of `ped2.mat`: a cell per test clip, whose columns are intervals.

    Returns:
        As `parse_matlab_labels`.

    Raises:
        VqadError: the file cannot be read, has no `gt`, or a cell of it is not two rows of whole numbers.
    """
    try:
        cells = scipy.io.loadmat(path)["gt"]
    except Exception as error:  # a damaged file raises whatever the parser stumbled over
        raise VqadError(f"cannot read gt in {path} ({type(error).__name__}: {error}); {_AGAIN}") from error
    return [_cell_intervals(cell, f"{path}: clip Test{i:03d}") for i, cell in enumerate(cells.ravel(), start=1)]


def _cell_intervals(cell: np.ndarray, where: str) -> list[Interval]:
    cell = np.asarray(cell)
    if cell.size == 0:
        return []
    if cell.size == 2:  # (2,), (1, 2) and (2, 1) all mean one interval
        cell = cell.reshape(2, 1)
    if cell.ndim != 2 or cell.shape[0] != 2 or cell.dtype.kind not in "uif" or np.any(cell != np.floor(cell)):
        raise VqadError(f"{where}: gt must be 2 rows of whole numbers, got shape {cell.shape} {cell.dtype}; {_AGAIN}")
    return [(int(first), int(last)) for first, last in cell.T]


def interval_labels(intervals: list[Interval], *, n_frames: int, where: str) -> np.ndarray:
    """Turn intervals into a label per frame.

    Args:
        intervals: (first, last), 1-based and inclusive.
        n_frames: length of the clip.
        where: what an error message calls the file and clip.

    Returns:
        (n_frames,) int64, 1 inside an interval.

    Raises:
        VqadError: an interval is reversed or not within 1..n_frames.
    """
    labels = np.zeros(n_frames, dtype=np.int64)
    for first, last in intervals:
        if not 1 <= first <= last <= n_frames:
            raise VqadError(f"{where}: interval {first}:{last} is reversed or not within 1:{n_frames}; {_AGAIN}")
        labels[first - 1 : last] = 1
    return labels
