"""`make data`: fetch the official UCSD archive, resuming where it stopped, verify it, and unpack Ped2 safely."""

import argparse
import contextlib
import hashlib
import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from vqad_lib.data.unpack import PED2_FOLDER, DamagedArchiveError, extract_safely
from vqad_lib.errors import VqadError
from vqad_lib.files import read_json, write_json, write_text
from vqad_lib.progress import progress

ARCHIVE_NAME = "UCSD_Anomaly_Dataset.tar.gz"
_CHUNK_BYTES = 2**20
_ATTEMPTS = 5
_TIMEOUT_S = 60
_FIRST_PAUSE_S = 1.0  # doubles with every attempt
_PAGES = ("text/html", "application/xhtml+xml")
_ELSEWHERE = "or unpack a copy from elsewhere and set DATA_ROOT="


class _Interrupted(Exception):
    """The connection broke off; what has arrived is kept."""


def read_archive_description(path: Path) -> dict:
    """Read `data/ucsd_archive.json`.

    Returns:
        url (str), size_bytes (int or None), sha256 (str or None); None means not verified by the maintainers.

    Raises:
        VqadError: the file is missing, is not JSON, or a key is missing or of the wrong type.
    """
    content = read_json(path)
    kinds = {"url": str, "size_bytes": int | None, "sha256": str | None}
    for key, kind in kinds.items():
        if not isinstance(content, dict) or key not in content or not isinstance(content[key], kind):
            raise VqadError(f"{path}: {key}: missing or of the wrong type; restore the file")
    return {key: content[key] for key in kinds}


def download_ped2(raw_dir: Path, *, url: str, size_bytes: int | None, sha256: str | None) -> Path:
    """Bring UCSD Ped2 to `raw_dir/UCSDped2`; nothing is fetched that is already there.

    Args:
        raw_dir: where the archive and the unpacked folder go; made if missing.
        url: http or https address of the archive.
        size_bytes: its size; None if unknown, then the server's own Content-Length counts.
        sha256: its SHA-256; None if unknown, then that of the first download is recorded beside the archive
            (`.sha256`), and later downloads are compared with it.

    Returns:
        The folder `raw_dir/UCSDped2`, in the official layout.

    Raises:
        VqadError: no connection, size or digest differ, the archive is damaged or holds an unsafe member, or the disk
            cannot be written. A broken-off download is kept and goes on at the next call.
    """
    raw_dir = Path(raw_dir)
    target, archive = raw_dir / PED2_FOLDER, raw_dir / ARCHIVE_NAME
    if target.is_dir():
        print(f"UCSD Ped2 is already in {target}; delete that folder to unpack it again")
        return target
    try:
        raw_dir.mkdir(parents=True, exist_ok=True)
        if not archive.is_file():
            _fetch(url, archive, size_bytes)
        digest = _verify(archive, size_bytes, sha256)
        try:
            extract_safely(archive, target)
        except DamagedArchiveError as error:
            _record(archive).unlink(missing_ok=True)  # it was this one's
            _reject(archive, f"is not the archive, or not all of it: {error.__cause__ or error}")
        # only of what was the archive: else a page would be the first download, with which the true one is compared
        write_text(_record(archive), f"{digest}  {archive.name}\n")
    except OSError as error:
        raise VqadError(f"cannot write in {raw_dir}: {error.strerror or error}; free space, then run again") from error
    print(f"UCSD Ped2 is in {target}")
    return target


def _fetch(url: str, archive: Path, size_bytes: int | None) -> None:
    """Download to `archive`.part, over several attempts and runs, and rename it when it is whole."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise VqadError(f"{url!r} is not an http or https address; correct the URL")
    part, pause_s = archive.with_name(archive.name + ".part"), _FIRST_PAUSE_S
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _fetch_once(url, part, size_bytes)
            break
        except _Interrupted as reason:
            if attempt == _ATTEMPTS:
                raise VqadError(f"download of {url} broke off ({reason}); run again to go on, {_ELSEWHERE}") from reason
            time.sleep(pause_s)
            pause_s *= 2
    os.replace(part, archive)
    _state_file(part).unlink(missing_ok=True)


def _state_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _fetch_once(url: str, part: Path, size_bytes: int | None) -> None:
    offset, headers = _resume_point(url, part)
    if headers is None:
        return
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # what is here is longer than what is there
            part.unlink(missing_ok=True)
            raise _Interrupted("the server has nothing to add to the partial file, starting over") from error
        if error.code >= 500:
            raise _Interrupted(f"the server answered {error.code} {error.reason}") from error
        raise VqadError(
            f"{url}: the server answered {error.code} {error.reason}; check the URL, {_ELSEWHERE}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(str(getattr(error, "reason", error))) from error
    with response:
        if (kind := response.headers.get_content_type()) in _PAGES:  # before it takes the place of what is here
            raise VqadError(f"{url} gave a page ({kind}) and no archive; sign in to your network first, {_ELSEWHERE}")
        resumed = response.status == 206 and _range_start(response) == offset
        if response.status != 200 and not resumed:
            part.unlink(missing_ok=True)
            raise _Interrupted(f"the server answered {response.status} with an unexpected range")
        offset = offset if resumed else 0
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length and length.isdigit() else None
        if size_bytes is not None and total is not None and total != size_bytes:
            raise VqadError(f"{url} has {total} bytes but {size_bytes} are expected; check the URL, {_ELSEWHERE}")
        if not resumed:
            write_json(_state_file(part), {"url": url, "validator": _validator(response), "total": total})
        _receive(response, part, offset=offset, total=total)


def _resume_point(url: str, part: Path) -> tuple[int, dict[str, str] | None]:
    """How much is here already, and the headers that ask for the rest of the very same file; None if that is all."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "vqad"}
    offset = part.stat().st_size if part.is_file() else 0
    state = {}
    with contextlib.suppress(VqadError):
        state = read_json(_state_file(part))
    # without a validator the rest could come from another version of the file
    if not offset or state.get("url") != url or not state.get("validator"):
        return 0, headers
    if offset == state.get("total"):
        return offset, None
    return offset, headers | {"Range": f"bytes={offset}-", "If-Range": state["validator"]}


def _validator(response: http.client.HTTPResponse) -> str | None:
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _range_start(response: http.client.HTTPResponse) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _receive(response: http.client.HTTPResponse, part: Path, *, offset: int, total: int | None) -> None:
    chunks = None if total is None else -(-(total - offset) // _CHUNK_BYTES)
    what = f"download, resumed at {offset / 2**20:.0f} MiB" if offset else "download"
    with open(part, "ab" if offset else "wb") as file:
        try:
            for chunk in progress(iter(lambda: response.read(_CHUNK_BYTES), b""), what=what, total=chunks, unit="MiB"):
                file.write(chunk)
        except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
            raise _Interrupted(str(error) or type(error).__name__) from error
        received = file.tell()
    if total is not None and received < total:
        raise _Interrupted(f"{received} of {total} bytes arrived")


def _record(archive: Path) -> Path:
    return archive.with_name(archive.name + ".sha256")


def _verify(archive: Path, size_bytes: int | None, sha256: str | None) -> str:
    """Compare with what is expected, or else with what the first download was; the SHA-256."""
    record = _record(archive)
    size = archive.stat().st_size
    if size_bytes is not None and size != size_bytes:
        _reject(archive, f"has {size} bytes but {size_bytes} are expected")
    digest = _digest(archive)
    print(f"{archive.name}: {size} bytes, SHA-256 {digest}")
    if sha256 is not None:
        if digest != sha256.lower():
            _reject(archive, f"has SHA-256 {digest} but {sha256} is expected")
    elif record.is_file():
        first = (record.read_text(encoding="utf-8").split() or [""])[0]
        if digest != first:
            _reject(archive, f"has SHA-256 {digest} but the first download had {first} (delete {record} to accept it)")
    return digest


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    with open(path, "rb") as file:
        chunks = -(-path.stat().st_size // _CHUNK_BYTES)
        for chunk in progress(iter(lambda: file.read(_CHUNK_BYTES), b""), what="verify", total=chunks, unit="MiB"):
            total.update(chunk)
    return total.hexdigest()


def _reject(archive: Path, reason: str) -> None:
    """Put the archive aside, so that the next run fetches it anew, and say so."""
    aside = archive.with_name(archive.name + ".rejected")
    os.replace(archive, aside)
    raise VqadError(f"{archive} {reason}; it was renamed to {aside.name}; run again to download it anew, {_ELSEWHERE}")


def main() -> int:
    """`python -m vqad_lib.data.download [--url URL]`, run in the repository."""
    parser = argparse.ArgumentParser(description="Download UCSD Ped2 to data/raw.")
    parser.add_argument("--url", help="another address of the same archive")
    parser.add_argument("--raw-dir", type=Path, default=Path("data/raw"))
    parser.add_argument("--description", type=Path, default=Path("data/ucsd_archive.json"))
    options = parser.parse_args()
    try:
        expected = read_archive_description(options.description)
        download_ped2(options.raw_dir, **(expected | ({"url": options.url} if options.url else {})))
    except VqadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
