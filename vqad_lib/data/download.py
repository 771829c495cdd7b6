"""`make data`: fetch the official UCSD archive with pooch, check it, and unpack Ped2; nothing in it is trusted.

`python -m vqad_lib.data.download`, run in the repository.
"""

import gzip
import os
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath

import pooch
import requests

from vqad_lib.errors import VqadError
from vqad_lib.files import flush
from vqad_lib.progress import progress

URL = "http://www.svcl.ucsd.edu/projects/anomaly/UCSD_Anomaly_Dataset.tar.gz"
ARCHIVE_NAME, PED2_FOLDER = "UCSD_Anomaly_Dataset.tar.gz", "UCSDped2"
_RETRIES = 4
_ELSEWHERE = "or unpack a copy from elsewhere and set DATA_ROOT="


def download_ped2(raw_dir: Path, *, url: str = URL) -> Path:
    """Bring UCSD Ped2 to `raw_dir/UCSDped2`; nothing is fetched that is already there.

    Args:
        raw_dir: where the archive and the unpacked folder go; made if missing.
        url: http or https address of the archive. Nobody publishes its SHA-256, which is printed.

    Returns:
        The folder `raw_dir/UCSDped2`, in the official layout.

    Raises:
        VqadError: no connection, a page instead of the archive, a damaged archive or one with an unsafe member (it is
            renamed to `.rejected`), or the disk cannot be written. What has arrived of a broken-off download is kept,
            and the next call goes on there.
    """
    archive, target = Path(raw_dir) / ARCHIVE_NAME, Path(raw_dir) / PED2_FOLDER
    if target.is_dir():
        print(f"UCSD Ped2 is already in {target}; delete that folder to unpack it again")
        return target
    try:
        names = {"registry": {archive.name: None}, "urls": {archive.name: url}}
        pooch.create(raw_dir, "", retry_if_failed=_RETRIES, **names).fetch(archive.name, downloader=_go_on)
        print(f"{archive.name}: {archive.stat().st_size} bytes, SHA-256 {pooch.file_hash(archive)}")
        unpack(archive, target)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        aside = archive.with_name(f"{archive.name}.rejected")
        os.replace(archive, aside)
        again = f"it was renamed to {aside.name}; run again to download it anew, {_ELSEWHERE}"
        raise VqadError(f"{archive} is not the archive, or not all of it: {error}; {again}") from error
    except requests.RequestException as error:
        raise VqadError(f"download of {url} broke off ({error}); run again to go on, {_ELSEWHERE}") from error
    except OSError as error:
        raise VqadError(f"cannot write in {raw_dir}: {error.strerror or error}; free space, then run again") from error
    print(f"UCSD Ped2 is in {target}")
    return target


def _go_on(url: str, output_file: str, _pooch: pooch.Pooch) -> None:
    """A downloader for pooch that keeps what arrives in `<archive>.part` and asks for the rest of it only."""
    part = Path(output_file).with_name(f"{ARCHIVE_NAME}.part")
    with open(part, "ab") as file:
        offset = file.tell()

        def look(response: requests.Response, **_options: object) -> None:
            code, kind = response.status_code, response.headers.get("Content-Type", "")
            if 400 <= code < 500 and code != 416:
                raise VqadError(f"{url}: the server answered {code} {response.reason}; check the URL, {_ELSEWHERE}")
            if code == 200 and "html" in kind:
                raise VqadError(f"{url} gave a page ({kind}) and no archive; sign in to your network, {_ELSEWHERE}")
            if code in (200, 416):  # all of it, or nothing beyond what is here: begin anew
                file.truncate(0)

        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        options = {"headers": headers, "hooks": {"response": look}, "chunk_size": 2**14}
        pooch.HTTPDownloader(progressbar=True, **options)(url, file, None)
    flush(part)
    os.replace(part, output_file)


def unpack(archive: Path, target: Path) -> None:
    """Unpack the archive's `UCSDped2/` to `target`, which appears only when it is whole.

    Every member of the archive is checked, also those that are not unpacked.

    Raises:
        tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile: the archive is damaged, holds no `UCSDped2/`, or has a
            member that is a link or device, or whose path is absolute or has "..". Nothing is left behind.
        OSError: the disk cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        with tarfile.open(archive, "r:gz") as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.0 to 3.11.3 have none
            for member in progress(tar, what="unpack", unit="file"):
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
                    raise tarfile.TarError(f"unsafe member {member.name!r} (a link, a device, or a path outside)")
                junk = path.name.startswith("._") or path.name == ".DS_Store"  # left by macOS
                if member.isreg() and PED2_FOLDER in path.parts[:2] and not junk:
                    tar.extract(member, folder)
            while tar.fileobj.read(2**20):  # the checksum stands behind the end of the archive
                pass
        found = next((place for place in Path(folder).rglob(PED2_FOLDER) if place.is_dir()), None)
        if not found:
            raise tarfile.TarError(f"it holds no files under {PED2_FOLDER}/")
        flush(found)
        os.replace(found, target)


if __name__ == "__main__":
    try:
        download_ped2(Path("data/raw"))
    except VqadError as error:
        sys.exit(f"error: {error}")
