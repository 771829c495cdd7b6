"""One run at a time in a checkout: a second one would change what the first goes on with.

The holder is the process that called `python -m vqad_lib configure`, which is `make paper`. It holds for as long as it
lives and something is going on: every stage keeps the file fresh.
"""

import contextlib
import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from vqad_lib.errors import VqadError
from vqad_lib.files import read_json, write_json

STALE_S = 120.0
_KEEP_EVERY_S = 20.0


def take(root: Path, what: str) -> None:
    """Let this process's parent hold the lock.

    Args:
        root: of the repository.
        what: the run, for the message that another one gets: profile and data set as they were asked for.

    Raises:
        VqadError: another process holds it.
    """
    path, parent = _path(root), os.getppid()
    mine = {"host": socket.gethostname(), "process": parent, "started": _started(parent)}
    with _one_at_a_time(path):
        holder = _holder(path)
        if holder and {key: holder.get(key) for key in mine} != mine and _lives(holder):
            raise VqadError(
                f"another run ({holder.get('what')}) is going on in this checkout, process {holder.get('process')} on "
                f"{holder.get('host')}; wait for it, stop it, or use another checkout"
            )
        write_json(path, mine | {"what": what})


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Nobody else looks and takes in between; two runs that start in one moment would both find the lock free."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        guard = os.open(path.parent, os.O_RDONLY)  # a folder can be locked too, and leaves no file behind
    except OSError as error:
        raise VqadError(f"cannot write {path}: {error.strerror}; make the folder writable") from error
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield
    finally:
        os.close(guard)


def _holder(path: Path) -> dict:
    """What the lock says, {} where there is none, or it is old or not readable."""
    try:
        return read_json(path) if time.time() - path.stat().st_mtime < STALE_S else {}
    except (OSError, VqadError):
        return {}


def keep_until_exit(root: Path) -> None:
    """Say that the run is going on, as long as this process lives: decoding a folder or training takes a while."""

    def keep() -> None:
        while True:
            with contextlib.suppress(OSError):
                os.utime(_path(root))
            time.sleep(_KEEP_EVERY_S)

    threading.Thread(target=keep, daemon=True).start()


def _path(root: Path) -> Path:
    return root / "data" / "derived" / "run.lock"


def _lives(holder: dict) -> bool:
    """Whether the holder's process still runs, as far as this machine can tell: another's is believed."""
    return holder.get("host") != socket.gethostname() or _started(holder.get("process")) == holder.get("started") != ""


def _started(process: object) -> str:
    """When a process of this machine began, in the system's own count; "" if it does not run or that is not known."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]
