"""`make data` against a server on this machine, and archives that should not be trusted."""

import gzip
import hashlib
import http.server
import io
import re
import socket
import tarfile
import threading
import time

import pytest

from vqad_lib.data import download
from vqad_lib.data.download import download_ped2, unpack
from vqad_lib.errors import VqadError

PREFIX = "UCSD_Anomaly_Dataset.v1p2"
RANDOM = bytes(hashlib.sha256(str(i).encode()).digest()[i % 32] for i in range(300_000))


def make_archive(path, members, *, mode="w:gz"):
    """`members`: (name, content) for files, or TarInfo for anything else."""
    with tarfile.open(path, mode) as tar:
        for member in members:
            info, content = (
                (member, b"") if isinstance(member, tarfile.TarInfo) else (tarfile.TarInfo(member[0]), member[1])
            )
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


GOOD_MEMBERS = [
    (f"{PREFIX}/README", b"read me"),
    (f"{PREFIX}/UCSDped1/Train/Train001/001.tif", b"ped1"),
    (f"{PREFIX}/UCSDped2/Train/Train001/001.tif", RANDOM),
    (f"{PREFIX}/UCSDped2/Train/Train001/._001.tif", b"junk"),
    (f"{PREFIX}/UCSDped2/Test/UCSDped2.m", b"labels"),
]


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; cuts the first `cuts` answers short; records the Range headers that it was sent."""

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.resumes, self.cuts, self.asked, self.status = content, True, 0, [], None
        self.kind = "application/gzip"
        self.url = f"http://127.0.0.1:{self.server_address[1]}/archive.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, start = self.server, 0
        server.asked.append(self.headers.get("Range"))
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if server.status:
            self.send_error(server.status)
            return
        if asked and server.resumes:
            start = int(asked[1])
            if start >= len(server.content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        body = server.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", server.kind)
        self.end_headers()
        if server.cuts:
            server.cuts -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    server = Server(make_archive(tmp_path / "source.tar.gz", GOOD_MEMBERS).read_bytes())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


PAGE = b"<!DOCTYPE html><title>Sign in</title>"


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/gzip"])
def test_a_sign_in_page_does_not_block_the_archive(tmp_path, server, kind):
    archive, server.content, server.kind = server.content, PAGE, kind
    with pytest.raises(VqadError, match=r"gave a page \(text/html" if "html" in kind else "is not the archive, or not"):
        download_ped2(tmp_path / "raw", url=server.url)
    server.content, server.kind = archive, "application/gzip"
    download_ped2(tmp_path / "raw", url=server.url)
    assert (tmp_path / "raw" / "UCSDped2" / "Train" / "Train001" / "001.tif").read_bytes() == RANDOM


def test_a_sign_in_page_leaves_what_has_arrived(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, "_RETRIES", 0)
    server.cuts, archive = 1, server.content
    with pytest.raises(VqadError, match="broke off"):
        download_ped2(tmp_path, url=server.url)
    part = tmp_path / "UCSD_Anomaly_Dataset.tar.gz.part"
    arrived = part.read_bytes()
    server.content, server.kind, server.resumes = PAGE, "text/html", False
    with pytest.raises(VqadError, match="gave a page"):
        download_ped2(tmp_path, url=server.url)
    assert part.read_bytes() == arrived
    server.content, server.kind, server.resumes = archive, "application/gzip", True
    download_ped2(tmp_path, url=server.url)
    assert server.asked[-1] == f"bytes={len(arrived)}-"


def test_a_page_saved_by_hand_is_put_aside(tmp_path, server):
    (tmp_path / "UCSD_Anomaly_Dataset.tar.gz").write_bytes(PAGE)
    with pytest.raises(VqadError, match=r"is not the archive, .*renamed to .*\.rejected"):
        download_ped2(tmp_path, url=server.url)
    assert download_ped2(tmp_path, url=server.url).is_dir()


def test_download_verify_unpack(tmp_path, server, capsys):
    raw = tmp_path / "raw"
    target = download_ped2(raw, url=server.url)
    assert target == raw / "UCSDped2"
    found = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    assert found == ["Test/UCSDped2.m", "Train/Train001/001.tif"]
    assert (target / "Train/Train001/001.tif").read_bytes() == RANDOM
    assert hashlib.sha256(server.content).hexdigest() in capsys.readouterr().out
    assert len(list(raw.iterdir())) == 2, "archive, folder"
    download_ped2(raw, url=server.url)
    assert len(server.asked) == 1


def test_cut_connection_is_resumed(tmp_path, server):
    server.cuts = 2
    download_ped2(tmp_path / "raw", url=server.url)
    starts = [int(asked[6:-1]) for asked in server.asked[1:]]
    n = len(server.content)
    assert n / 3 < starts[0] <= n / 2
    assert n * 2 / 3 < starts[1] <= n * 3 / 4


def test_next_run_goes_on(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, "_RETRIES", 0)
    server.cuts = 1
    with pytest.raises(VqadError, match=r"broke off .*; run again to go on"):
        download_ped2(tmp_path / "raw", url=server.url)
    (part,) = (tmp_path / "raw").iterdir()
    arrived = part.stat().st_size
    assert arrived > len(server.content) / 3
    download_ped2(tmp_path / "raw", url=server.url)
    assert server.asked[1] == f"bytes={arrived}-"


@pytest.mark.parametrize("resumes", [True, False])
def test_a_part_of_another_file_does_not_block_the_archive(tmp_path, server, resumes):
    """Glued together it is no archive; a server that sends all of it, or has nothing to add, begins anew."""
    server.resumes, part = resumes, tmp_path / "UCSD_Anomaly_Dataset.tar.gz.part"
    part.write_bytes(b"x" * 1000)
    if resumes:
        with pytest.raises(VqadError, match="is not the archive"):
            download_ped2(tmp_path, url=server.url)
        part.write_bytes(b"x" * 2 * len(server.content))
    download_ped2(tmp_path, url=server.url)


@pytest.mark.parametrize(("status", "message"), [(404, "answered 404 .*check the URL"), (503, "broke off .*503")])
def test_server_errors(tmp_path, server, status, message):
    server.status = status
    with pytest.raises(VqadError, match=message) as caught:
        download_ped2(tmp_path / "raw", url=server.url)
    assert "\n" not in str(caught.value)
    assert len(server.asked) == (1 if status == 404 else 5)


def test_no_server_and_no_http(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with socket.socket() as taken:  # a port that nobody else can have, and at which nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a.tar.gz"
        with pytest.raises(VqadError, match=r"broke off .*refused"):
            download_ped2(tmp_path, url=url)
    with pytest.raises(VqadError, match=r"broke off .*file:///etc/hostname"):
        download_ped2(tmp_path, url="file:///etc/hostname")


def special(name, kind, linkname=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info


@pytest.mark.parametrize(
    "member",
    [
        ("../UCSDped2/evil", b"x"),
        (f"{PREFIX}/UCSDped2/../../../evil", b"x"),
        ("/UCSDped2/evil", b"x"),
        special(f"{PREFIX}/UCSDped2/link", tarfile.SYMTYPE, "/etc"),
        special(f"{PREFIX}/UCSDped1/link", tarfile.SYMTYPE, "/etc"),
        special(f"{PREFIX}/UCSDped2/hard", tarfile.LNKTYPE, f"{PREFIX}/UCSDped2/Test/UCSDped2.m"),
        special(f"{PREFIX}/UCSDped2/device", tarfile.CHRTYPE),
        special(f"{PREFIX}/UCSDped2/pipe", tarfile.FIFOTYPE),
    ],
)
def test_unsafe_members_are_refused(tmp_path, member):
    box = tmp_path / "box"
    box.mkdir()
    archive = make_archive(box / "a.tar.gz", [*GOOD_MEMBERS, member])
    with pytest.raises(tarfile.TarError, match="unsafe member"):
        unpack(archive, box / "UCSDped2")
    assert [path.name for path in box.iterdir()] == ["a.tar.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["box"]


def test_damaged_or_foreign_archives_are_put_aside_in_one_line(tmp_path):
    good = make_archive(tmp_path / "a.tar.gz", GOOD_MEMBERS).read_bytes()
    foreign = make_archive(tmp_path / "c.tar.gz", GOOD_MEMBERS[:2]).read_bytes()
    flat = make_archive(tmp_path / "d.tar.gz", [("UCSDped2", b"x")]).read_bytes()
    raw = tmp_path / "raw"
    raw.mkdir()
    flipped = bytearray(gzip.compress(gzip.decompress(good), compresslevel=0))
    flipped[flipped.index(RANDOM[:16])] ^= 1  # a bit of a frame: the archive's own checksum knows
    spoilt = good[: len(good) // 2], good[:-400] + bytes(400), b"not an archive", b"", foreign, flat, bytes(flipped)
    for content in spoilt:
        (raw / "UCSD_Anomaly_Dataset.tar.gz").write_bytes(content)
        with pytest.raises(VqadError, match=r"is not the archive, or not all of it: .*renamed to") as caught:
            download_ped2(raw, url="http://127.0.0.1:1")
        assert "\n" not in str(caught.value)
        assert [path.name for path in raw.iterdir()] == ["UCSD_Anomaly_Dataset.tar.gz.rejected"]
