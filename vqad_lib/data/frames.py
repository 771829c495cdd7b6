"""Frames as a reader lists them, and prepared: decoded, reduced to one size, kept under a name made of their content.

A second call hashes the source again, by content, and decodes nothing; how images are reduced is said in `decode`.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd

from vqad_lib.data.decode import darkness, decode_frame, decode_mask, survey, unmarked
from vqad_lib.errors import VqadError
from vqad_lib.files import atomic_folder, first_line, read_json, sha256_of, usable_cores, write_json
from vqad_lib.progress import progress

PREPARATION_VERSION = 2  # raise it when the same source would give other arrays
_COLUMNS = ["image_id", "clip", "frame", "part", "label"]


class FrameRecord(NamedTuple):
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
    """What a reader returns: all frames of a data set, in order.

    Attributes:
        root: the folder; frames and further files lie below it.
        records: the frames.
        has_masks: whether anomalous pixels are known.
        label_files: further files whose content matters.
        notes: what a person should know of the files, a line each.
    """

    root: Path
    records: list[FrameRecord]
    has_masks: bool
    label_files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def digest(self) -> str:
        """SHA-256 of the names and contents of all files, on all cores: hashing releases the interpreter lock.

        Raises:
            OSError: a file cannot be read.
        """
        places = [place for record in self.records for place in (record.path, record.mask_path)]
        paths = sorted(place for place in (*places, *self.label_files) if place is not None)
        total = hashlib.sha256()
        with ThreadPoolExecutor(usable_cores()) as pool:
            for path, digest in zip(paths, pool.map(sha256_of, paths), strict=True):
                total.update(os.fsencode(path.relative_to(self.root)) + b"\0" + bytes.fromhex(digest))
        return total.hexdigest()

    def store(self, folder: Path, size_px: int) -> list[str]:
        """Write frames, masks and index; what a person should know of the values."""
        n, workers, counts, empty = len(self.records), usable_cores(), np.zeros(256, dtype=np.int64), []
        whites, notes = survey([record.path for record in self.records], workers=workers)
        tasks = map(joblib.delayed(_prepared), self.records, whites, [size_px] * n)
        prepared = joblib.Parallel(workers, prefer="threads", return_as="generator")(tasks)
        with (
            array_file(folder / "frames.npy", (n, 3, size_px, size_px)) as frames,
            array_file(folder / "masks.npy", (n, size_px, size_px)) as masks,
        ):
            shown = progress(prepared, what="prepare frames", total=n, unit="image")
            for record, (frame, mask) in zip(self.records, shown, strict=True):
                frames.write(frame.tobytes())
                masks.write(mask.tobytes())
                empty += [record.mask_path] if record.label and record.mask_path and not mask.any() else []
                counts += np.bincount(frame.ravel(), minlength=256)
        if not self.has_masks:
            (folder / "masks.npy").unlink()
        pd.DataFrame(self.records)[_COLUMNS].assign(kind="").to_parquet(folder / "index.parquet")
        return notes + darkness(counts) + unmarked(empty)


@dataclass(frozen=True)
class FrameSet:
    """A data set, ready to use.

    Attributes:
        dataset: "synthetic" or a key of `DATASETS`.
        title: what tables and figures call it, for example "UCSD Ped2".
        images: (n, 3, size, size) uint8, RGB, read-only, mapped from disk.
        index: n rows in the order of `images`: image_id (unique), clip, frame (from 0), part ("train", "test" or
            "folder"), label (0 normal, 1 anomalous), kind ("normal", "cart", "bike", "skater" if synthetic, else "").
        masks: (n, size, size) uint8, 1 where a pixel is anomalous; None if the source does not know.
        digest: SHA-256 of what the frames were made from, 64 hexadecimal digits.
        notes: what a person should know of the files, a line each: how many of an image folder are used and why others
            are not, and what had to be found out about their values.
        paths: n files, in the order of `images`; empty where frames are generated.
    """

    dataset: str
    title: str
    images: np.ndarray
    index: pd.DataFrame
    masks: np.ndarray | None
    digest: str
    notes: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()


def cached_frames(source: FrameSource, cache_dir: Path, *, dataset: str, title: str, size_px: int) -> FrameSet:
    """The frames of a source, from the cache if the same content was prepared before.

    Args:
        source: `FrameSource`, or what has its `digest`, `store`, `notes` and `records`.
        cache_dir: their folder `<dataset>_<size>_<digest>_v<version>` appears here, only when it is whole.
        dataset, title, size_px: see `FrameSet`.

    Raises:
        OSError: a file of the source cannot be read.
        VqadError: a file cannot be decoded, or the cache cannot be written or read.
    """
    digest = source.digest()
    folder = Path(cache_dir) / f"{dataset}_{size_px}_{digest[:12]}_v{PREPARATION_VERSION}"
    if not folder.is_dir():
        with atomic_folder(folder, first_wins=True) as made:
            write_json(made / "notes.json", source.store(made, size_px))
    masks = folder / "masks.npy"
    with readable(folder):
        return FrameSet(
            dataset=dataset,
            title=title,
            images=np.load(folder / "frames.npy", mmap_mode="r"),
            index=pd.read_parquet(folder / "index.parquet"),
            masks=np.load(masks, mmap_mode="r") if masks.is_file() else None,
            digest=digest,
            notes=(*source.notes, *read_json(folder / "notes.json")),
            paths=tuple(record.path for record in source.records),
        )


@contextlib.contextmanager
def readable(folder: Path) -> Iterator[None]:
    """What is damaged in a folder of prepared frames becomes one line.

    Raises:
        VqadError: it was.
    """
    try:
        yield
    except Exception as error:  # a damaged header raises whatever a parser stumbled over
        problem = f"cannot read prepared frames in {folder}: {first_line(error)}"
        raise VqadError(f"{problem}; delete the folder and run again") from error


def _prepared(record: FrameRecord, white: int, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    frame, size = decode_frame(record.path, size_px, white=white)
    if record.mask_path is None:
        return frame, np.zeros((size_px, size_px), dtype=np.uint8)
    mask, mask_size = decode_mask(record.mask_path, size_px)
    if mask_size != size:
        raise VqadError(f"{record.mask_path} is {mask_size} px but {record.path} is {size} px; make them the same size")
    return frame, mask


@contextlib.contextmanager
def array_file(path: Path, shape: tuple[int, ...]) -> Iterator:
    """A .npy file of bytes, written in order: unlike a mapped file, a full disk is an error here, not a crash."""
    with open(path, "wb") as handle:
        np.lib.format.write_array_header_1_0(handle, {"descr": "|u1", "fortran_order": False, "shape": shape})
        yield handle
