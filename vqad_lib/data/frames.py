"""Frames as a reader lists them, and prepared: decoded, reduced to one size, kept under a name made of their content.

A second call hashes the source again, by content, and decodes nothing; how images are reduced is said in `decode`.
"""

import contextlib
import functools
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vqad_lib.cores import usable_cores
from vqad_lib.data.decode import darkness, decode_frame, decode_mask, survey
from vqad_lib.errors import VqadError
from vqad_lib.files import read_json, write_json
from vqad_lib.progress import progress

PREPARATION_VERSION = 2  # raise it when the same source would give other arrays
_COLUMNS = ["image_id", "clip", "frame", "part", "label"]
_BATCH_IMAGES = 256  # decoded and not yet written: bounds memory
_STALE_S = 24 * 3600


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
    """What a reader returns: all frames of a data set, in order.

    Attributes:
        root: the folder; frames and further files lie below it.
        records: the frames.
        has_masks: whether anomalous pixels are known.
        label_file: a further file whose content matters.
        notes: what a person should know of the files, a line each.
    """

    root: Path
    records: list[FrameRecord]
    has_masks: bool
    label_file: Path | None = None
    notes: tuple[str, ...] = ()

    def digest(self) -> str:
        """SHA-256 of the names and contents of all files, on all cores: hashing releases the interpreter lock."""
        places = [place for record in self.records for place in (record.path, record.mask_path)]
        paths = sorted(place for place in (*places, self.label_file) if place is not None)
        total = hashlib.sha256()
        with ThreadPoolExecutor(_workers()) as pool:
            for path, digest in zip(paths, pool.map(_digest_of_file, paths), strict=True):
                total.update(os.fsencode(path.relative_to(self.root)) + b"\0" + digest)
        return total.hexdigest()

    def store(self, folder: Path, size_px: int) -> list[str]:
        """Write frames, masks and index; what a person should know of the values."""
        n = len(self.records)
        whites, notes = survey([record.path for record in self.records], workers=_workers())
        with contextlib.ExitStack() as stack:
            frames = stack.enter_context(_npy(folder / "frames.npy", (n, 3, size_px, size_px)))
            masks = stack.enter_context(_npy(folder / "masks.npy", (n, size_px, size_px))) if self.has_masks else None
            prepared, counts = _prepared(self, whites, size_px), np.zeros(256, dtype=np.int64)
            for frame, mask in progress(prepared, what="prepare frames", total=n, unit="image"):
                frames.write(frame.tobytes())
                counts += np.bincount(frame.ravel(), minlength=256)
                if masks is not None:
                    masks.write(mask.tobytes())
        index = pd.DataFrame({name: [getattr(record, name) for record in self.records] for name in _COLUMNS})
        index.assign(kind="").to_parquet(folder / "index.parquet")
        return notes + darkness(counts)


@dataclass(frozen=True)
class FrameSet:
    """A data set, ready to use.

    Attributes:
        dataset: "ucsd_ped2", "synthetic", "folder" or another key of `DATASETS`.
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


def cached_frames(folder: Path, store: Callable[[Path], list[str]], *, digest: str, **known: object) -> FrameSet:
    """The frames in `folder`, which appears, made by `store`, only when it is whole.

    Args:
        store: writes frames.npy, index.parquet and, if there are any, masks.npy to a folder; returns notes.
        digest: of what the frames are made from.
        known: what else a `FrameSet` says of itself: dataset, title, notes, paths.

    Raises:
        VqadError: the folder cannot be written or read.
    """
    if not _is_complete(folder, digest):
        _make_whole(folder, digest, store)
    masks, notes = folder / "masks.npy", known.pop("notes", ())
    try:
        return FrameSet(
            images=np.load(folder / "frames.npy", mmap_mode="r"),
            index=pd.read_parquet(folder / "index.parquet"),
            masks=np.load(masks, mmap_mode="r") if masks.is_file() else None,
            digest=digest,
            notes=(*notes, *read_json(folder / "meta.json")["notes"]),
            **known,
        )
    except (OSError, ValueError) as error:
        raise VqadError(f"cannot read prepared frames in {folder}: {error}; delete the folder and run again") from error


def _workers() -> int:
    return min(32, usable_cores())


def _digest_of_file(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise VqadError(f"cannot read {path}: {error.strerror}; make it readable or restore it") from error


def _prepared(source: FrameSource, whites: list[int], size_px: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    prepare = functools.partial(_prepare_one, size_px=size_px, has_masks=source.has_masks)
    with ThreadPoolExecutor(_workers()) as pool:
        for start in range(0, len(source.records), _BATCH_IMAGES):
            batch = slice(start, start + _BATCH_IMAGES)
            yield from pool.map(prepare, source.records[batch], whites[batch])


def _prepare_one(
    record: FrameRecord, white: int, size_px: int, has_masks: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    frame, size = decode_frame(record.path, size_px, white=white)
    if record.mask_path is None:
        return frame, np.zeros((size_px, size_px), dtype=np.uint8) if has_masks else None
    mask, mask_size = decode_mask(record.mask_path, size_px)
    if mask_size != size:
        raise VqadError(f"{record.mask_path} is {mask_size} px but {record.path} is {size} px; make them the same size")
    return frame, mask


@contextlib.contextmanager
def _npy(path: Path, shape: tuple[int, ...]) -> Iterator:
    """A .npy file of bytes, written in order: unlike a mapped file, a full disk is an error here, not a crash."""
    with open(path, "wb") as handle:
        np.lib.format.write_array_header_1_0(handle, {"descr": "|u1", "fortran_order": False, "shape": shape})
        yield handle


def _make_whole(folder: Path, digest: str, store: Callable[[Path], list[str]]) -> None:
    """Have `store` fill a temporary folder, which takes the name `folder`, with meta.json, only if that ends well."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for old in folder.parent.glob(f".{folder.name}.*.part"):
            if old == temporary or time.time() - old.stat().st_mtime > _STALE_S:  # left by a killed run
                shutil.rmtree(old, ignore_errors=True)
        temporary.mkdir()
        meta = {"notes": store(temporary), "preparation": PREPARATION_VERSION, "digest": digest}
        write_json(temporary / "meta.json", meta | {"files": {p.name: _flushed_size(p) for p in temporary.iterdir()}})
        if not _is_complete(folder, digest):  # another process may have been faster
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
    except OSError as error:
        if not _is_complete(folder, digest):
            reason = error.strerror or str(error)
            raise VqadError(
                f"cannot write {folder}: {reason}; free space or make the folder writable, then run again"
            ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _flushed_size(path: Path) -> int:
    with open(path, "rb+") as handle:
        os.fsync(handle.fileno())
    return path.stat().st_size


def _is_complete(folder: Path, digest: str) -> bool:
    try:
        meta = read_json(folder / "meta.json")
        sizes = {name: (folder / name).stat().st_size for name in meta["files"]}
        return (meta["preparation"], meta["digest"], meta["files"]) == (PREPARATION_VERSION, digest, sizes)
    except (VqadError, OSError, KeyError, TypeError):
        return False
