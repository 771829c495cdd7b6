"""Files written so that nothing is ever half-written, read and hashed; and what this process runs in."""

import contextlib
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.events import AliasEvent

from vqad_lib.errors import VqadError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; it takes the name `path` only if the block ends without an error.

    The temporary name keeps the suffix, so writers that go by the suffix (matplotlib, Pillow) work on it.

    Raises:
        VqadError: the folder cannot be made or written, or the disk is full; what stood at `path` stays as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def flush(place: Path) -> None:
    """Have a file, or all files of a folder, on the disk, so that after a power cut no name stands for half a file."""
    for path in [place, *place.rglob("*")]:
        if path.is_file():
            with open(path, "rb") as handle:
                os.fsync(handle.fileno())


def _not_written(path: Path, error: OSError) -> VqadError:
    reason = error.strerror or str(error)
    return VqadError(f"cannot write {path}: {reason}; free space or make the folder writable, then run again")


def whole_files(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder with this ending, by name, but for what is being written there (see `atomic_path`)."""
    return sorted(path for path in folder.glob(f"*{suffix}") if not path.name.startswith("."))


@contextlib.contextmanager
def atomic_folder(folder: Path, *, first_wins: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; it takes that name, and an earlier one's place, if the block ends well.

    Args:
        first_wins: what another process has put there meanwhile stays.

    Raises:
        VqadError: as `atomic_path`.
    """
    folder = Path(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            made = Path(temporary, "made")
            made.mkdir()
            yield made
            flush(made)
            if folder.exists() and not first_wins:
                os.replace(folder, Path(temporary, "before"))
            if not folder.exists():
                os.replace(made, folder)
    except OSError as error:
        raise _not_written(folder, error) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, atomically."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` as indented JSON with sorted keys, atomically."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        VqadError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise VqadError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise VqadError(f"{path} is not valid JSON ({error}); delete it and run again") from error


def read_yaml(path: Path) -> Any:
    """Read a YAML 1.2 file, where 1e-4 is a number, 010 is ten, and no key stands twice.

    Raises:
        OSError, ruamel.yaml.error.YAMLError, ValueError, RecursionError: it cannot be read, is not YAML in UTF-8, or
            has so many aliases that what they stand for, each twice the one before, could fill any memory.
    """
    reader, text = YAML(typ="safe", pure=True), path.read_bytes()
    content = reader.load(text)
    if sum(isinstance(event, AliasEvent) for event in reader.parse(text)) > 20:
        raise ValueError("more than 20 aliases (*name)")
    return content


def first_line(error: Exception) -> str:
    """What an error says, on one line; its type's name where it says nothing, as an `EOFError` of torch.load."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def known_by_content(setting: str) -> str:
    """What stands for a setting in a digest: the SHA-256 of the file that it names by an absolute path, else itself."""
    path = Path(setting)
    if not path.is_absolute() or not os.path.isfile(path):  # False of names that no file system allows
        return setting
    status = path.stat()
    return _digest_of_weights(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=8)  # weights are half a gigabyte, and a stage asks several times
def _digest_of_weights(path: Path, _size: int, _mtime_ns: int) -> str:
    return sha256_of(path)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits, read piece by piece."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def repository_root() -> Path:
    """The folder that holds profiles/ and notebooks/: VQAD_ROOT, or the nearest one above the working folder.

    Raises:
        VqadError: there is none.
    """
    start = Path(os.environ.get("VQAD_ROOT") or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "profiles").is_dir() and (folder / "notebooks").is_dir():
            return folder
    raise VqadError(f"{start} is not inside the vqad repository; change into it or set VQAD_ROOT")


def usable_cores() -> int:
    """Cores that this process may use, often fewer than the machine has: by its affinity and its cgroup's quota."""
    import joblib  # takes a moment, which most commands need not wait for

    return joblib.cpu_count()
