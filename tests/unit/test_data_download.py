"""`make data` against a server on this machine, and archives that should not be trusted."""

import hashlib
import http.server
import io
import json
import re
import socket
import tarfile
import threading

import pytest

from vqad_lib.data import download
from vqad_lib.data.download import download_ped2, extract_safely, read_archive_description
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
        self.content, self.etag, self.cuts, self.ranges, self.status = content, '"v1"', 0, [], None
        self.kind = "application/gzip"
        self.url = f"http://127.0.0.1:{self.server_address[1]}/archive.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, start = self.server, 0
        server.ranges.append(self.headers.get("Range"))
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if server.status:
            self.send_error(server.status)
            return
        if asked and self.headers.get("If-Range") == server.etag:
            start = int(asked[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        body = server.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", server.kind)
        if server.etag:
            self.send_header("ETag", server.etag)
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
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0.0)
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
    with pytest.raises(
        VqadError, match=r"gave a page \(text/html\)" if "html" in kind else "is not the archive, or not"
    ):
        download_ped2(tmp_path / "raw", url=server.url, size_bytes=None, sha256=None)
    assert not list((tmp_path / "raw").glob("*.sha256")), "nothing is recorded that the true one would be held against"
    server.content, server.kind, server.etag = archive, "application/gzip", '"v2"'
    download_ped2(tmp_path / "raw", url=server.url, size_bytes=None, sha256=None)
    assert (tmp_path / "raw" / "UCSDped2" / "Train" / "Train001" / "001.tif").read_bytes() == RANDOM


def test_a_sign_in_page_leaves_what_has_arrived(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, "_ATTEMPTS", 1)
    server.cuts, archive = 1, server.content
    with pytest.raises(VqadError, match="broke off"):
        download_ped2(tmp_path, url=server.url, size_bytes=None, sha256=None)
    part = tmp_path / "UCSD_Anomaly_Dataset.tar.gz.part"
    arrived = part.read_bytes()
    server.content, server.kind, server.etag = PAGE, "text/html", None
    with pytest.raises(VqadError, match="gave a page"):
        download_ped2(tmp_path, url=server.url, size_bytes=None, sha256=None)
    assert part.read_bytes() == arrived
    server.content, server.kind, server.etag = archive, "application/gzip", '"v1"'
    download_ped2(tmp_path, url=server.url, size_bytes=None, sha256=digest(archive))
    assert server.ranges[-1] == f"bytes={len(arrived)}-"


@pytest.mark.parametrize("recorded", [False, True])
def test_a_page_saved_by_hand_is_put_aside_with_its_record(tmp_path, server, recorded):
    archive = tmp_path / "UCSD_Anomaly_Dataset.tar.gz"
    archive.write_bytes(PAGE)
    if recorded:  # by an earlier version
        archive.with_name(f"{archive.name}.sha256").write_text(digest(PAGE))
    with pytest.raises(VqadError, match=r"is not the archive, .*renamed to .*\.rejected"):
        download_ped2(tmp_path, url=server.url, size_bytes=None, sha256=None)
    download_ped2(tmp_path, url=server.url, size_bytes=None, sha256=None)
    assert archive.with_name(f"{archive.name}.sha256").read_text().split()[0] == digest(server.content)


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_download_verify_unpack(tmp_path, server, capsys):
    raw = tmp_path / "raw"
    target = download_ped2(raw, url=server.url, size_bytes=len(server.content), sha256=digest(server.content).upper())
    assert target == raw / "UCSDped2"
    found = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    assert found == ["Test/UCSDped2.m", "Train/Train001/001.tif"]
    assert (target / "Train/Train001/001.tif").read_bytes() == RANDOM
    assert digest(server.content) in capsys.readouterr().out
    assert (raw / "UCSD_Anomaly_Dataset.tar.gz.sha256").read_text().split()[0] == digest(server.content)
    assert not list(raw.glob("*.part*"))
    download_ped2(raw, url=server.url, size_bytes=None, sha256=None)
    assert len(server.ranges) == 1


def test_cut_connection_is_resumed(tmp_path, server):
    server.cuts = 2
    download_ped2(tmp_path / "raw", url=server.url, size_bytes=None, sha256=digest(server.content))
    n = len(server.content)
    assert server.ranges == [None, f"bytes={n // 2}-", f"bytes={n // 2 + (n - n // 2) // 2}-"]


def test_next_run_goes_on(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, "_ATTEMPTS", 1)
    server.cuts = 1
    with pytest.raises(VqadError, match=r"broke off \(\d+ of \d+ bytes arrived\); run again"):
        download_ped2(tmp_path / "raw", url=server.url, size_bytes=None, sha256=None)
    assert not (tmp_path / "raw" / "UCSD_Anomaly_Dataset.tar.gz").exists()
    download_ped2(tmp_path / "raw", url=server.url, size_bytes=None, sha256=digest(server.content))
    assert server.ranges[1] == f"bytes={len(server.content) // 2}-"


def test_changed_file_is_not_glued_to_the_old_part(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, "_ATTEMPTS", 1)
    server.cuts = 1
    with pytest.raises(VqadError, match="broke off"):
        download_ped2(tmp_path / "raw", url=server.url, size_bytes=None, sha256=None)
    server.etag, server.content = '"v2"', make_archive(tmp_path / "new.tar.gz", GOOD_MEMBERS[2:]).read_bytes()
    download_ped2(tmp_path / "raw", url=server.url, size_bytes=None, sha256=digest(server.content))


def test_without_a_validator_it_starts_over(tmp_path, server):
    server.etag, server.cuts = None, 1
    download_ped2(tmp_path / "raw", url=server.url, size_bytes=None, sha256=digest(server.content))
    assert server.ranges == [None, None]


def test_whole_part_is_not_fetched_again(tmp_path, server):
    (tmp_path / "UCSD_Anomaly_Dataset.tar.gz.part").write_bytes(server.content)
    state = {"url": server.url, "validator": server.etag, "total": len(server.content)}
    (tmp_path / "UCSD_Anomaly_Dataset.tar.gz.part.json").write_text(json.dumps(state))
    download_ped2(tmp_path, url=server.url, size_bytes=None, sha256=digest(server.content))
    assert server.ranges == []


def test_wrong_size_is_refused_before_the_download(tmp_path, server):
    with pytest.raises(VqadError, match=rf"has {len(server.content)} bytes but 5 are expected"):
        download_ped2(tmp_path / "raw", url=server.url, size_bytes=5, sha256=None)
    assert list((tmp_path / "raw").iterdir()) == []


def test_wrong_size_of_an_archive_that_is_here(tmp_path, server):
    (tmp_path / "UCSD_Anomaly_Dataset.tar.gz").write_bytes(b"12345678")
    with pytest.raises(VqadError, match="has 8 bytes but 5 are expected"):
        download_ped2(tmp_path, url=server.url, size_bytes=5, sha256=None)


def test_wrong_digest_is_put_aside(tmp_path, server):
    with pytest.raises(VqadError, match=rf"has SHA-256 {digest(server.content)} but 00 is expected.*\.rejected"):
        download_ped2(tmp_path / "raw", url=server.url, size_bytes=None, sha256="00")
    assert not (tmp_path / "raw" / "UCSDped2").exists()
    assert not (tmp_path / "raw" / "UCSD_Anomaly_Dataset.tar.gz").exists()


def test_later_download_must_equal_the_first(tmp_path, server):
    record = tmp_path / "UCSD_Anomaly_Dataset.tar.gz.sha256"
    record.write_text(f"{'1' * 64}  UCSD_Anomaly_Dataset.tar.gz\n")
    with pytest.raises(VqadError, match="but the first download had 1111"):
        download_ped2(tmp_path, url=server.url, size_bytes=None, sha256=None)


@pytest.mark.parametrize(("status", "message"), [(404, "answered 404 .*check the URL"), (503, "broke off .*503")])
def test_server_errors(tmp_path, server, status, message):
    server.status = status
    with pytest.raises(VqadError, match=message):
        download_ped2(tmp_path / "raw", url=server.url, size_bytes=None, sha256=None)
    assert len(server.ranges) == (1 if status == 404 else 5)


def test_no_server_and_no_http(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0.0)
    with socket.socket() as taken:  # a port that nobody else can have, and at which nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a.tar.gz"
        with pytest.raises(VqadError, match=r"broke off .*refused"):
            download_ped2(tmp_path, url=url, size_bytes=None, sha256=None)
    with pytest.raises(VqadError, match="not an http"):
        download_ped2(tmp_path, url="file:///etc/hostname", size_bytes=None, sha256=None)


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
        (f"{PREFIX}\\UCSDped2\\evil", b"x"),
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
    with pytest.raises(VqadError, match="unsafe member"):
        extract_safely(archive, box / "UCSDped2")
    assert [path.name for path in box.iterdir()] == ["a.tar.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["box"]


def test_damaged_or_foreign_archives(tmp_path):
    good = make_archive(tmp_path / "a.tar.gz", GOOD_MEMBERS).read_bytes()
    for content in (good[: len(good) // 2], good[:-400] + bytes(400), b"not an archive"):
        (tmp_path / "b.tar.gz").write_bytes(content)
        with pytest.raises(VqadError, match="damaged"):
            extract_safely(tmp_path / "b.tar.gz", tmp_path / "UCSDped2")
    make_archive(tmp_path / "c.tar.gz", GOOD_MEMBERS[:2])
    with pytest.raises(VqadError, match="holds no files under UCSDped2"):
        extract_safely(tmp_path / "c.tar.gz", tmp_path / "UCSDped2")
    with pytest.raises(VqadError, match="would land outside"):
        extract_safely(make_archive(tmp_path / "d.tar.gz", [("UCSDped2", b"x")]), tmp_path / "UCSDped2")
    (tmp_path / "UCSDped2").mkdir()
    with pytest.raises(VqadError, match="exists already"):
        extract_safely(tmp_path / "a.tar.gz", tmp_path / "UCSDped2")


def test_archive_description(tmp_path):
    path = tmp_path / "archive.json"
    path.write_text(json.dumps({"url": "http://a", "size_bytes": None, "sha256": None, "note": "x"}))
    assert read_archive_description(path) == {"url": "http://a", "size_bytes": None, "sha256": None}
    path.write_text(json.dumps({"url": "http://a", "size_bytes": "5", "sha256": None}))
    with pytest.raises(VqadError, match=r"archive\.json: size_bytes"):
        read_archive_description(path)
