"""Unpacking an archive that came from the network: nothing in it is trusted."""

import gzip
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from vqad_lib.errors import VqadError
from vqad_lib.progress import progress

PED2_FOLDER = "UCSDped2"


class DamagedArchiveError(VqadError):
    """The archive is cut off, is no archive, or holds something else."""


def extract_safely(archive: Path, target: Path) -> None:
    """Unpack the archive's `UCSDped2/` to `target`, which appears only when it is whole.

    Every member of the archive is checked, also those that are not unpacked.

    Raises:
        DamagedArchiveError: the archive is damaged or holds no `UCSDped2/`.
        VqadError: `target` exists, or a member is a link or device, has an absolute path or one with ".." or would land
            outside `target`. Nothing is left behind.
    """
    if target.exists():
        raise VqadError(f"{target} exists already; delete it to unpack {archive} again")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        with tarfile.open(archive, "r:gz") as tar:
            files = sum(_extract_member(tar, m, temporary, archive) for m in progress(tar, what="unpack", unit="file"))
        if not files:
            raise DamagedArchiveError(f"{archive} holds no files under {PED2_FOLDER}/; check its origin")
        os.replace(temporary, target)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DamagedArchiveError(f"{archive} is damaged ({error}); delete it and run again") from error
    except OSError as error:
        raise VqadError(f"cannot unpack {archive}: {error.strerror or error}; free space, then run again") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _extract_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, archive: Path) -> bool:
    """Check one member; write it if it is a file of Ped2, and say whether it was."""
    path = PurePosixPath(member.name)
    unsafe = path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name
    if unsafe or not (member.isreg() or member.isdir()):
        raise VqadError(
            f"{archive}: unsafe member {member.name!r} (link, device or path outside); do not use this archive"
        )
    junk = path.name.startswith("._") or path.name == ".DS_Store"  # left by macOS
    if PED2_FOLDER not in path.parts[:2] or junk or not member.isreg():
        return False
    inner = path.parts[path.parts.index(PED2_FOLDER) + 1 :]
    destination = folder.joinpath(*inner)
    if not inner or not destination.resolve().is_relative_to(folder.resolve()):
        raise VqadError(f"{archive}: member {member.name!r} would land outside {folder}; do not use this archive")
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tar.extractfile(member) as source, open(destination, "wb") as file:
        shutil.copyfileobj(source, file)
    return True
