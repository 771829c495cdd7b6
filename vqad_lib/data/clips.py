"""Clips in folders of numbered frames: UCSD Ped1 and Ped2, CUHK Avenue, ShanghaiTech; all training clips are normal.

Mahadevan, Li, Bhalodia, Vasconcelos, "Anomaly Detection in Crowded Scenes", CVPR 2010 (Ped2: 16 training and 12 test
clips); Lu, Shi, Jia, "Abnormal Event Detection at 150 FPS in MATLAB", ICCV 2013; Luo, Liu, Gao, "A Revisit of Sparse
Coding Based Anomaly Detection in Stacked RNN Framework", ICCV 2017. Labels are intervals of 1-based, inclusive frame
numbers, one row per test clip; ShanghaiTech has a file per test clip with a label per frame.
"""

import re
from pathlib import Path

import numpy as np

from vqad_lib.data.frames import FrameRecord, FrameSource
from vqad_lib.errors import VqadError
from vqad_lib.files import first_line

Interval = tuple[int, int]

# data set -> where its labels lie: in the official layout, and in the one of frames
LABELS = {
    "ucsd_ped2": ("Test/UCSDped2.m", "ped2.mat"),
    "ucsd_ped1": ("Test/UCSDped1.m", "ped1.mat"),
    "cuhk_avenue": ("avenue.mat", "avenue.mat"),
    "shanghaitech": ("testing/test_frame_mask", "testing/test_frame_mask"),
}
_AGAIN = "restore it or get the data set anew"


def data_set_of_clips(folder: Path) -> str:
    """Whose clips lie in a folder, a key of `LABELS`: the first where labels are missing; "" if there are no clips."""
    official = any((folder / "Train").glob("Train[0-9]*")) and (folder / "Test").is_dir()
    if not official and not ((folder / "training" / "frames").is_dir() and (folder / "testing" / "frames").is_dir()):
        return ""
    labelled = (name for name, places in LABELS.items() if any((folder / place).exists() for place in places))
    return next(labelled, next(iter(LABELS)))


def read_clips(root: Path) -> FrameSource:
    """List the frames, the labels and, in the official layout of UCSD, the masks.

    Args:
        root: the folder that has the layout itself (see `locate`).

    Returns:
        Training clips first, then test clips, each in the order of its frames; ids are the same in both layouts of
        UCSD. Masks of Ped1 are used if all test clips have them: the archive has those of ten.

    Raises:
        VqadError: labels are missing, cannot be read or do not fit the clips, an interval is reversed or leaves its
            clip, or clips, frames or masks are missing.
    """
    root = Path(root)
    data_set, official = data_set_of_clips(root), (root / "Train").is_dir()
    folders = ("Train", "Test") if official else ("training/frames", "testing/frames")
    train, test = (_clips(root / folder) for folder in folders)
    place = root / LABELS[data_set][not official]
    if not place.exists():
        known = ", ".join(dict.fromkeys(places[not official] for places in LABELS.values()))
        raise VqadError(f"{root} holds clips without labels: none of {known} is there; {_AGAIN}")
    labels, label_files = _labels(place, test)
    masked = [*(root / "Test").glob("Test*_gt")] if official else []
    has_masks = len(masked) == len(test) if data_set == "ucsd_ped1" else bool(masked)
    records = []
    for part, clips in (("Train", train), ("Test", test)):
        for name, frames in clips.items():
            clip = f"{part}{name}"
            for frame, path in enumerate(frames):
                label = int(labels[name][frame]) if part == "Test" else 0
                mask = _mask_of(path, label) if has_masks and part == "Test" else None
                records.append(FrameRecord(path, mask, f"{clip}/{frame:03d}", clip, frame, part.lower(), label))
    notes = () if has_masks or not masked else (f"masks of {len(masked)} of {len(test)} test clips are not used",)
    return FrameSource(root, records, has_masks, label_files, notes)


def _clips(folder: Path) -> dict[str, list[Path]]:
    """The frames of each clip, in order: clips are numbered, or named by camera and number as in ShanghaiTech.

    The patterns leave out ._001.tif, .DS_Store, Thumbs.db and whatever else archives collect.
    """
    clips = {path.name: path for path in sorted(folder.iterdir()) if re.fullmatch(r"\d+_\d+", path.name)}
    if not clips:
        numbered = enumerate(_numbered(folder, r"(?:train|test)?(\d+)"), start=1)
        clips = {f"{number:03d}": path for number, path in numbered}
    return {name: _numbered(path, r"(\d+)\.(?:jpe?g|png|tiff?)") for name, path in clips.items()}


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


def _labels(place: Path, clips: dict[str, list[Path]]) -> tuple[dict[str, np.ndarray], tuple[Path, ...]]:
    """Clip -> (n,) 0 or 1, for the test clips, and the files that say so."""
    if place.name == "test_frame_mask":
        files = {name: place / f"{name}.npy" for name in clips}
        return {name: _frame_labels(file, len(clips[name])) for name, file in files.items()}, tuple(files.values())
    rows = parse_matlab_labels(place) if place.suffix == ".m" else read_mat_labels(place)
    if len(rows) != len(clips):
        raise VqadError(
            f"{place} labels {len(rows)} clips but there are {len(clips)} for the test: "
            f"Test{min(len(rows), len(clips)) + 1:03d} is the first without a counterpart; {_AGAIN}"
        )
    options = [{"n_frames": len(frames), "where": f"{place}: clip Test{name}"} for name, frames in clips.items()]
    return dict(zip(clips, map(lambda row, at: interval_labels(row, **at), rows, options), strict=True)), (place,)


def _frame_labels(path: Path, n_frames: int) -> np.ndarray:
    try:
        labels = np.load(path)  # which unpickles nothing
    except Exception as error:  # a damaged header raises whatever Python's parser stumbled over
        raise VqadError(f"cannot read {path} ({first_line(error)}); {_AGAIN}") from error
    if labels.shape != (n_frames,) or not np.isin(labels, (0, 1)).all():
        raise VqadError(f"{path}: must be 0 or 1 for each of {n_frames} frames, got shape {labels.shape}; {_AGAIN}")
    return labels


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
    for number, match in enumerate(re.finditer(r"gt_frame\s*=\s*(\[[^\]]*\]|[^;\n]*)", text), start=1):
        listed = match[1][1:-1] if match[1].endswith("]") else match[1] or "nothing"
        items = re.findall(r"[^,;\s]+", listed)
        for item in items:
            if not re.fullmatch(r"[0-9]+(:[0-9]+)?", item):
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
    import scipy.io  # a quarter of a second, and most data sets have no such file

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
