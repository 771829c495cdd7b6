"""Prepared frames: every image decoded, reduced to one size, and kept in a cache that the content of the source names.

A second call hashes the source again, by content, and decodes nothing; how images are reduced is said in `decode`.
"""

import contextlib
import functools
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from vqad_lib.config import SyntheticConfig
from vqad_lib.cores import usable_cores
from vqad_lib.data import synthetic as walkway
from vqad_lib.data.decode import decode_frame, decode_mask
from vqad_lib.data.folder import read_folder
from vqad_lib.data.sources import FrameRecord, FrameSource, locate_source
from vqad_lib.data.survey import darkness, survey
from vqad_lib.data.ucsd import read_ucsd
from vqad_lib.errors import VqadError, printable
from vqad_lib.files import read_json, write_json
from vqad_lib.progress import progress

PREPARATION_VERSION = 2  # raise it when the same source would give other arrays
_BATCH_IMAGES = 256  # decoded and not yet written: bounds memory
_STALE_S = 24 * 3600


@dataclass(frozen=True)
class FrameSet:
    """A data set, ready to use.

    Attributes:
        dataset: "ucsd_ped2", "synthetic" or "folder".
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


def prepare_frames(
    *, dataset: str, data_root: Path | None, size_px: int, cache_dir: Path, synthetic: SyntheticConfig
) -> FrameSet:
    """Read a data set at one size, from the cache if the same content was prepared before.

    The cache is `cache_dir/<dataset>_<size>_<digest>`; it appears under that name only when it is whole.

    Args:
        dataset: "ucsd_ped2", "synthetic" or "folder".
        data_root: where the data set lies (see `locate_source`); ignored for "synthetic".
        size_px: width and height of the prepared images, >= 8.
        cache_dir: a folder for prepared frames; made if missing.
        synthetic: what to generate; ignored unless `dataset` is "synthetic".

    Raises:
        VqadError: the source is missing, damaged or contradicts itself (the file is named), or the cache cannot be
            written.
    """
    if size_px < 8:
        raise VqadError(f"data.image_size_px: must be at least 8, got {size_px}")
    source, title = None, "synthetic walkway"
    if dataset == "synthetic":
        digest = walkway.digest(synthetic)
    else:
        source, title = _open_source(dataset, data_root)
        digest = _digest_of_source(source)
    folder = Path(cache_dir) / f"{dataset}_{size_px}_{digest[:12]}"
    if not _is_complete(folder, digest):
        with _whole_folder(folder, digest) as (temporary, notes):
            if source is None:
                _store_synthetic(temporary, synthetic, size_px)
            else:
                notes += _store_source(temporary, source, size_px)
    frames = _load(folder, dataset=dataset, title=title, digest=digest)
    if source is None:
        return frames
    return replace(frames, notes=source.notes + frames.notes, paths=tuple(record.path for record in source.records))


def _open_source(dataset: str, data_root: Path | None) -> tuple[FrameSource, str]:
    if dataset not in ("ucsd_ped2", "folder"):
        raise VqadError(f"data set {dataset!r} is unknown; choose ucsd_ped2, synthetic or folder")
    if data_root is None:
        raise VqadError(f"data set {dataset} needs a folder; set DATA_ROOT=")
    layout, root = locate_source(data_root)
    if (layout == "folder") != (dataset == "folder"):
        raise VqadError(f"{root} has the layout {layout}, which is not data set {dataset}; set DATA_ROOT= accordingly")
    try:
        if layout == "folder":
            return read_folder(root), f"image folder {printable(root.name)}"
        return read_ucsd(root, layout), "UCSD Ped2"
    except OSError as error:
        raise VqadError(f"cannot read {error.filename or root}: {error.strerror}; make it readable") from error


def _digest_of_source(source: FrameSource) -> str:
    """As `vqad_lib.files.digest_of_files`, on all cores: hashing releases the interpreter lock."""
    paths = sorted(source.files())
    with ThreadPoolExecutor(_workers()) as pool:
        digests = pool.map(_digest_of_file, paths, chunksize=1)
        total = hashlib.sha256()
        for path, digest in zip(paths, digests, strict=True):
            total.update(os.fsencode(path.relative_to(source.root)) + b"\0" + digest)
    return total.hexdigest()


def _digest_of_file(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise VqadError(f"cannot read {path}: {error.strerror}; make it readable or restore it") from error


def _workers() -> int:
    return min(32, usable_cores())


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


def _prepared(source: FrameSource, whites: list[int], size_px: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    with ThreadPoolExecutor(_workers()) as pool:
        for start in range(0, len(source.records), _BATCH_IMAGES):
            batch = slice(start, start + _BATCH_IMAGES)
            prepare = functools.partial(_prepare_one, size_px=size_px, has_masks=source.has_masks)
            yield from pool.map(prepare, source.records[batch], whites[batch])


def _store_source(folder: Path, source: FrameSource, size_px: int) -> list[str]:
    """Write frames, masks and index; what a person should know of the values."""
    n = len(source.records)
    whites, notes = survey([record.path for record in source.records], workers=_workers())
    with contextlib.ExitStack() as stack:
        frames = stack.enter_context(_npy(folder / "frames.npy", (n, 3, size_px, size_px)))
        masks = stack.enter_context(_npy(folder / "masks.npy", (n, size_px, size_px))) if source.has_masks else None
        counts = np.zeros(256, dtype=np.int64)
        for frame, mask in progress(_prepared(source, whites, size_px), what="prepare frames", total=n, unit="image"):
            frames.write(frame.tobytes())
            counts += np.bincount(frame.ravel(), minlength=256)
            if masks is not None:
                masks.write(mask.tobytes())
    columns = ("image_id", "clip", "frame", "part", "label")
    index = pd.DataFrame({c: [getattr(record, c) for record in source.records] for c in columns}).assign(kind="")
    index.to_parquet(folder / "index.parquet")
    return notes + darkness(counts)


def _store_synthetic(folder: Path, config: SyntheticConfig, size_px: int) -> None:
    images, index, masks = walkway.generate(config, size_px)
    np.save(folder / "frames.npy", images)
    np.save(folder / "masks.npy", masks)
    index.to_parquet(folder / "index.parquet")


@contextlib.contextmanager
def _npy(path: Path, shape: tuple[int, ...]) -> Iterator:
    """A .npy file of bytes, written in order: unlike a mapped file, a full disk is an error here, not a crash."""
    with open(path, "wb") as handle:
        np.lib.format.write_array_header_1_0(handle, {"descr": "|u1", "fortran_order": False, "shape": shape})
        yield handle


@contextlib.contextmanager
def _whole_folder(folder: Path, digest: str) -> Iterator[tuple[Path, list[str]]]:
    """Yield a temporary folder that takes the name `folder`, with `meta.json`, only if the block ends well.

    What the block puts into the list is kept in `meta.json` as notes.
    """
    notes: list[str] = []
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for old in folder.parent.glob(f".{folder.name}.*.part"):
            if old == temporary or time.time() - old.stat().st_mtime > _STALE_S:  # left by a killed run
                shutil.rmtree(old, ignore_errors=True)
        temporary.mkdir()
        yield temporary, notes
        files = {path.name: _flushed_size(path) for path in temporary.iterdir()}
        meta = {"preparation": PREPARATION_VERSION, "digest": digest, "files": files, "notes": notes}
        write_json(temporary / "meta.json", meta)
        if not _is_complete(folder, digest):  # another process may have been faster
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
    except OSError as error:
        if _is_complete(folder, digest):
            return
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
    if not (folder / "meta.json").is_file():
        return False
    try:
        meta = read_json(folder / "meta.json")
        sizes = {name: (folder / name).stat().st_size for name in meta["files"]}
        return (meta["preparation"], meta["digest"], meta["files"]) == (PREPARATION_VERSION, digest, sizes)
    except (VqadError, OSError, KeyError, TypeError):
        return False


def _load(folder: Path, *, dataset: str, title: str, digest: str) -> FrameSet:
    masks = folder / "masks.npy"
    try:
        return FrameSet(
            dataset=dataset,
            title=title,
            images=np.load(folder / "frames.npy", mmap_mode="r"),
            index=pd.read_parquet(folder / "index.parquet"),
            masks=np.load(masks, mmap_mode="r") if masks.is_file() else None,
            digest=digest,
            notes=tuple(read_json(folder / "meta.json")["notes"]),
        )
    except (OSError, ValueError) as error:
        raise VqadError(f"cannot read prepared frames in {folder}: {error}; delete the folder and run again") from error
