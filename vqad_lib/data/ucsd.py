"""UCSD Ped2 in its two layouts, read into the same list of frames.

Mahadevan, Li, Bhalodia, Vasconcelos, "Anomaly Detection in Crowded Scenes", CVPR 2010: 16 training clips, all normal,
and 12 test clips. Labels are intervals of 1-based, inclusive frame numbers, one row per test clip.
"""

import re
from pathlib import Path

import numpy as np
import scipy.io

from vqad_lib.data.sources import FrameRecord, FrameSource
from vqad_lib.errors import VqadError

Interval = tuple[int, int]

_AGAIN = "restore it or run `make data` again"


def read_ucsd(root: Path, layout: str) -> FrameSource:
    """List the frames, labels and masks of UCSD Ped2.

    Args:
        root: the folder that has the layout itself (see `locate_source`).
        layout: "ucsd_official" or "ucsd_frames".

    Returns:
        Training clips first, then test clips, each in the order of its frames; ids are the same in both layouts.

    Raises:
        VqadError: the label file is missing or cannot be read, its rows do not fit the clips, an interval is reversed
            or leaves its clip, or clips, frames or masks are missing.
    """
    root = Path(root)
    official = layout == "ucsd_official"
    train_folder = root / "Train" if official else root / "training" / "frames"
    test_folder = root / "Test" if official else root / "testing" / "frames"
    train = _clips(train_folder, prefix="Train" if official else "", official=official)
    test = _clips(test_folder, prefix="Test" if official else "", official=official)
    label_file = _official_label_file(root) if official else root / "ped2.mat"
    rows = parse_matlab_labels(label_file) if official else read_mat_labels(label_file)
    if len(rows) != len(test):
        odd = min(len(rows), len(test)) + 1
        raise VqadError(
            f"{label_file} labels {len(rows)} clips but {test_folder} holds {len(test)}: "
            f"Test{odd:03d} is the first without a counterpart; {_AGAIN}"
        )
    records = [
        _record(path, None, "Train", number, frame, 0)
        for number, frames in enumerate(train, start=1)
        for frame, path in enumerate(frames)
    ]
    masks = official and any(test_folder.glob("Test*_gt"))
    for number, (frames, intervals) in enumerate(zip(test, rows, strict=True), start=1):
        labels = interval_labels(intervals, n_frames=len(frames), where=f"{label_file}: clip Test{number:03d}")
        for frame, (path, label) in enumerate(zip(frames, labels.tolist(), strict=True)):
            mask = _mask_of(path, label) if masks else None
            records.append(_record(path, mask, "Test", number, frame, label))
    return FrameSource(root=root, records=records, label_file=label_file, has_masks=masks)


def _record(path: Path, mask: Path | None, part: str, number: int, frame: int, label: int) -> FrameRecord:
    clip = f"{part}{number:03d}"
    return FrameRecord(
        path=path,
        mask_path=mask,
        image_id=f"{clip}/{frame:03d}",
        clip=clip,
        frame=frame,
        part=part.lower(),
        label=label,
    )


def _clips(folder: Path, *, prefix: str, official: bool) -> list[list[Path]]:
    """The frames of every clip; clips and frames must be numbered without gaps, or labels would slip."""
    name = re.compile(rf"{prefix}(\d+)")
    numbered = {int(m[1]): p for p in folder.iterdir() if (m := name.fullmatch(p.name)) and p.is_dir()}
    if not numbered:
        raise VqadError(f"{folder} holds no clips; {_AGAIN}")
    missing = sorted(set(range(1, max(numbered) + 1)) - set(numbered))
    if missing or 0 in numbered:
        raise VqadError(
            f"{folder}: clips must be numbered 1, 2, 3 without gaps, {missing or [0]} does not fit; {_AGAIN}"
        )
    return [_frames(numbered[number], official=official) for number in sorted(numbered)]


def _frames(clip: Path, *, official: bool) -> list[Path]:
    suffixes = (".tif", ".tiff") if official else (".jpg", ".jpeg", ".png", ".tif", ".tiff")
    # a digits-only stem leaves out ._001.tif, .DS_Store, Thumbs.db and whatever else archives collect
    paths = [p for p in clip.iterdir() if p.suffix.lower() in suffixes and re.fullmatch(r"\d+", p.stem)]
    paths.sort(key=lambda path: int(path.stem))
    if not paths:
        raise VqadError(f"{clip} holds no frames; {_AGAIN}")
    numbers = [int(path.stem) for path in paths]
    first = 1 if official else min(numbers[0], 1)
    for expected, number in enumerate(numbers, start=first):
        if number != expected:
            raise VqadError(f"{clip}: frame {expected:03d} is missing or doubled; {_AGAIN}")
    return paths


def _mask_of(frame: Path, label: int) -> Path | None:
    mask = frame.parent.with_name(f"{frame.parent.name}_gt") / f"{frame.stem}.bmp"
    if mask.is_file():
        return mask
    if label:
        raise VqadError(f"{mask} is missing, but its frame is labelled anomalous; {_AGAIN}")
    return None  # a normal frame's mask is empty anyway


def _official_label_file(root: Path) -> Path:
    for path in (root / "Test" / "UCSDped2.m", root / "UCSDped2.m"):
        if path.is_file():
            return path
    other = next((p.name for p in (root / "Test").glob("UCSDped*.m")), None)
    hint = f" ({other} belongs to another data set)" if other else ""
    raise VqadError(f"{root / 'Test' / 'UCSDped2.m'} with the labels is missing{hint}; {_AGAIN}")


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
    text = re.sub(r"%[^\n]*", "", text)
    rows = []
    for number, match in enumerate(re.finditer(r"gt_frame\s*=\s*(?:\[([^\]]*)\]|([^;\n\[]*))", text), start=1):
        content = re.sub(r"\s*:\s*", ":", match[1] or match[2] or "")
        intervals = []
        for item in re.split(r"[,;\s]+", content.strip()):
            found = re.fullmatch(r"(\d+)(?::(\d+))?", item)
            if found:
                intervals.append((int(found[1]), int(found[2] or found[1])))
            elif item:
                raise VqadError(f"{path}: clip Test{number:03d}: cannot read {item!r} as a frame range; {_AGAIN}")
        rows.append(intervals)
    return rows


def read_mat_labels(path: Path) -> list[list[Interval]]:
    """Read `gt` of `ped2.mat`: a cell per test clip, whose columns are intervals.

    Returns:
        As `parse_matlab_labels`.

    Raises:
        VqadError: the file cannot be read, has no cell array `gt`, or a cell is not two rows of whole numbers.
    """
    if not Path(path).is_file():
        raise VqadError(f"{path} with the labels is missing; {_AGAIN}")
    try:
        cells = scipy.io.loadmat(path)["gt"]
    except Exception as error:  # a damaged file raises whatever the parser stumbled over
        raise VqadError(f"cannot read gt in {path} ({type(error).__name__}: {error}); {_AGAIN}") from error
    if cells.dtype != object:
        raise VqadError(f"{path}: gt must be a cell array with one cell per test clip; {_AGAIN}")
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
