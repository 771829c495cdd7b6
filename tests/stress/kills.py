"""SIGKILL at forty random moments; what was going on is started again, and must end with the bytes of an unbroken run.

The moments are drawn from a seed and logged. `make paper` is killed with everything it started; its unbroken run has
two notebooks at a time and the killed one has one, so that this is compared too.
"""

import contextlib
import http.server
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from vqad_lib.progress import progress

REPOSITORY = Path(__file__).resolve().parents[2]
KILLS = {"make paper": 24, "fit": 8, "score": 4, "make data": 4}
TIMES = ("table_10", "table_25", "table_26", "table_27")  # running times, which no two runs share
WORKING = (".", "tmp")  # what a file is called as long as it is not all there
SOON_S, LATE_S = 1.0, 22.0  # a stage takes some seconds
DEADLINE_S = 1200  # for what goes on after the last kill


@dataclass(frozen=True)
class Work:
    """Something to kill.

    Attributes:
        line: the command.
        root: where it is started, and where it writes.
        results: what must be equal, by path.
        moments: (rng) -> seconds after which to kill.
    """

    line: list[str]
    root: Path
    results: Callable[[Path], dict[str, bytes]]
    moments: Callable[[np.random.Generator], float]


def rows(place: Path, *, seed: int = 0) -> pd.DataFrame:
    """Do all of it in `place`, an empty folder.

    Returns:
        kind, kill, after_s, running (whether it still ran then), equal (whether all results were, in the end), files
        (how many), left (files under working names that kills left behind, of the kind as a whole), executed_again
        (notebooks that the same command executes once more when all is done).
    """
    found, rng = [], np.random.default_rng(seed)
    for kind, pairs in _works(place):
        unbroken, killed = pairs
        assert start(unbroken).wait(DEADLINE_S) == 0, f"{kind}: the unbroken run failed"
        expected = unbroken.results(unbroken.root)
        assert expected, f"{kind}: no results"
        of_kind = []
        for number in progress(range(1, KILLS[kind] + 1), what=f"kill {kind}", unit="kill"):
            after = killed.moments(rng)
            process = start(killed)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(after)
            running = process.poll() is None
            kill(killed.root)
            process.wait()
            of_kind.append({"kind": kind, "kill": number, "after_s": round(after, 3), "running": running})
        ended = start(killed).wait(DEADLINE_S) == 0
        equal = ended and killed.results(killed.root) == expected
        left = sum(path.is_file() and path.name.startswith(WORKING) for path in killed.root.rglob("*"))
        before = _executed(killed.root)
        if before:
            start(killed).wait(DEADLINE_S)
        again = len(_executed(killed.root) - before)
        facts = {"equal": equal, "files": len(expected), "left": left, "executed_again": again}
        found += [row | facts for row in of_kind]
        if ended and not equal:
            results = killed.results(killed.root)
            print(
                f"{kind}: {sorted(name for name in {*expected, *results} if expected.get(name) != results.get(name))}"
            )
    return pd.DataFrame(found)


def _executed(root: Path) -> set[tuple[Path, int]]:
    """Executed notebooks, each with the time of its last change."""
    return {(path, path.stat().st_mtime_ns) for path in (root / "reports").rglob("notebooks/*.ipynb")}


def start(work: Work) -> subprocess.Popen:
    """Start it, in a session of its own, silent."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(work.line, cwd=work.root, env=run_environment(work.root), start_new_session=True, **quiet)


def run_environment(root: Path) -> dict[str, str]:
    """What a command in a folder is started with: nothing of the make that started this, and the folder's own code."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "VQAD_"))}
    code = root if (root / "vqad_lib").is_dir() else REPOSITORY
    return kept | {"PYTHONPATH": str(code), "VQAD_ROOT": str(root)}


def kill(root: Path) -> None:
    """SIGKILL for everything that was started there, until nothing is left."""
    while found := _started_by(root):
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)


def _started_by(root: Path) -> list[int]:
    """Kernels have sessions of their own, so processes are told by VQAD_ROOT in their environment."""
    mark, found = f"VQAD_ROOT={root}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            zombie = (process / "stat").read_text().rsplit(")", 1)[-1].split()[0] == "Z"
            if not zombie and mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def _works(place: Path) -> Iterator[tuple[str, tuple[Work, Work]]]:
    """Kind, the work that is not killed and the one that is."""
    yield "make paper", tuple(paper(place / name, jobs) for name, jobs in (("unbroken", 2), ("killed", 1)))
    images = write_images(place / "images")
    yield "fit", tuple(_fit(place / f"fit_{name}", images) for name in ("unbroken", "killed"))
    model = place / "fit_unbroken" / "model"
    yield "score", tuple(_score(place / f"score_{name}", model, images) for name in ("unbroken", "killed"))
    with _slow_server() as url:
        yield "make data", tuple(_data(place / f"data_{name}", url) for name in ("unbroken", "killed"))


def paper(root: Path, jobs: int) -> Work:
    """The smoke profile with fewer frames, in a copy of the repository in which every epoch is saved."""
    root.mkdir(parents=True)
    for name in ("beyond", "notebooks", "profiles", "vqad", "vqad_lib"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "data" / "paper", root / "data" / "paper")
    shutil.copy(REPOSITORY / "Makefile", root)
    profile = root / "profiles" / "smoke.yaml"
    content = yaml.safe_load(profile.read_text(encoding="utf-8"))
    content["data"]["synthetic"] |= {"train_clips": 4, "test_clips": 2, "frames_per_clip": 16}
    content["detectors"]["chunk_images"] = 8
    profile.write_text(yaml.safe_dump(content), encoding="utf-8")
    loop = root / "vqad_lib" / "training" / "loop.py"
    before = loop.read_text(encoding="utf-8")
    after = before.replace("CHECKPOINT_EVERY_S = 30.0", "CHECKPOINT_EVERY_S = 0.0")
    assert after != before
    loop.write_text(after, encoding="utf-8")
    line = ["make", "paper", "PROFILE=smoke", f"PYTHON={sys.executable}", f"JOBS={jobs}"]
    return Work(line, root, _of_paper, lambda rng: rng.uniform(SOON_S, LATE_S))


def _of_paper(root: Path) -> dict[str, bytes]:
    reports, figures, derived = (root / kind for kind in ("reports", "figures", "data/derived"))
    here = "smoke/synthetic"
    paths = [*(reports / here).glob("tables/*"), *(reports / here).glob("scores/*/*"), *(figures / here).glob("*")]
    paths += derived.rglob("*.safetensors")
    whole = (path for path in paths if path.stem not in TIMES and not path.name.startswith(WORKING))
    return {relative(path, root): _without_seconds(path) for path in whole}


def _without_seconds(path: Path) -> bytes:
    """What a file holds, without the columns of a table that hold running times."""
    if path.suffix != ".csv" or b"seconds" not in path.read_bytes().split(b"\n")[0]:
        return path.read_bytes()
    table = pd.read_csv(path, dtype=str)
    return table.drop(columns=[name for name in table if "seconds" in name]).to_csv(index=False).encode()


def relative(path: Path, root: Path) -> str:
    """The path from the root, with slashes."""
    return path.relative_to(root).as_posix()


def write_images(folder: Path) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(60):
        Image.fromarray(rng.integers(90, 166, (48, 48), dtype=np.uint8)).save(folder / f"{i:02d}.png")
    return folder


def _fit(root: Path, images: Path) -> Work:
    root.mkdir()
    line = [sys.executable, "-m", "vqad_lib", "fit", str(images), "--out=model", "--epochs=3", "--image-size-px=64"]
    return Work(line, root, lambda place: _files(place / "model"), lambda rng: rng.uniform(SOON_S, 14.0))


def _files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(WORKING))
    return {relative(path, folder): path.read_bytes() for path in paths}


def _score(root: Path, model: Path, images: Path) -> Work:
    root.mkdir()
    line = [sys.executable, "-m", "vqad_lib", "score", str(model), str(images), "--out=scores.csv", "--heatmaps=maps"]
    return Work(line, root, _files, lambda rng: rng.uniform(SOON_S, 7.0))


def _data(root: Path, url: str) -> Work:
    root.mkdir()
    script = "from pathlib import Path; from vqad_lib.data.download import download_ped2; "
    script += f"download_ped2(Path('raw'), url={url!r})"
    return Work(
        [sys.executable, "-c", script], root, lambda place: _files(place / "raw"), lambda rng: rng.uniform(2.0, 5.0)
    )


@contextlib.contextmanager
def _slow_server() -> Iterator[str]:
    """Serves an archive at loopback, slowly; every third answer breaks off in the middle."""
    stream, rng = io.BytesIO(), np.random.default_rng(0)
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for i in range(40):
            member = tarfile.TarInfo(f"UCSD_Anomaly_Dataset.v1p2/UCSDped2/Train/Train001/{i:03d}.tif")
            member.size = 20_000
            tar.addfile(member, io.BytesIO(rng.bytes(member.size)))
    content = stream.getvalue()

    class Handler(http.server.BaseHTTPRequestHandler):
        answers = 0

        def do_GET(self) -> None:
            Handler.answers += 1
            asked = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
            start = int(asked[1]) if asked else 0
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("Content-Type", "application/gzip")
            self.end_headers()
            end = (start + len(content)) // 2 if Handler.answers % 3 == 0 else len(content)
            with contextlib.suppress(OSError):
                for at in range(start, end, 20_000):
                    self.wfile.write(content[at : min(at + 20_000, end)])
                    time.sleep(0.3)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/archive.tar.gz"
        server.shutdown()
