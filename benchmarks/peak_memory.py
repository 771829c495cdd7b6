"""Peak memory of scoring as the number of images grows, each number of images in a process of its own.

The frames are a file that is mapped, not read; what of it lies in memory is the system's to drop, so only memory that
the process itself took counts. Scoring a single chunk comes first, unmeasured: what the libraries keep for themselves
is then already there.

    python -m benchmarks.peak_memory FRAMES.npy N
"""

import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.cases import random_autoencoder, random_prior
from vqad_lib.detectors.chunks import nll_of_frames, score_frames
from vqad_lib.detectors.sample_wise import thresholds_at
from vqad_lib.detectors.scoring import NO_THRESHOLD, Detectors
from vqad_lib.distributed.process import process
from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import configured
from vqad_lib.files import first_line, repository_root
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.progress import progress

PROFILE = "smoke"  # whose small networks and frames are measured: many images must not take many minutes
PERCENTILE = 90
MIB = 2**20
_SAMPLE_EVERY_S = 0.01
_STATUS = Path("/proc/self/status")


def can_measure() -> bool:
    """Whether the system tells a process how much memory it has taken (Linux does)."""
    return _STATUS.exists()


def memory_rows(images: tuple[int, ...]) -> pd.DataFrame:
    """Score so many random frames, each count in a process of its own.

    Returns:
        images, device, before_mib (taken before scoring), peak_increase_mib (the most taken during it, beyond that;
        on a GPU both are torch's count of its memory), host_increase_mib, seconds.

    Raises:
        VqadError: a process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder) / "frames.npy"
        size_px = configured(PROFILE).data.image_size_px
        mapped = np.lib.format.open_memmap(frames, "w+", np.uint8, (max(images), 3, size_px, size_px))
        generator = np.random.default_rng(0)
        for start in range(0, len(mapped), 1000):
            part = mapped[start : start + 1000]
            part[:] = generator.integers(0, 256, part.shape, dtype=np.uint8)
        mapped.flush()
        return pd.DataFrame([_in_a_process(frames, n) for n in progress(images, what="peak memory", unit="size")])


def _in_a_process(frames: Path, n: int) -> dict[str, object]:
    command = [sys.executable, "-m", "benchmarks.peak_memory", str(frames), str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=repository_root())
    if done.returncode:
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise VqadError(f"measuring the memory of {n} images failed: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def measure_here(frames: Path, n: int) -> dict[str, object]:
    """What one of the processes does: score the first n frames, and watch the memory meanwhile."""
    profile = configured(PROFILE)
    torch.set_num_threads(1)
    device = process().device
    images = np.load(frames, mmap_mode="r")[:n]
    names = [f"frame {i:06d}" for i in range(n)]
    index = pd.DataFrame({"image_id": names, "clip": "none", "label": 0})
    scorer, jobs = _scorer(profile, images, device)
    with tempfile.TemporaryDirectory() as folder:
        chunk = profile.detectors.chunk_images
        score_frames(scorer, images, index[:chunk], jobs, split="test", folder=Path(folder) / "first")
        before = _taken_mib(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with HostPeak() as host:
            started = time.perf_counter()
            score_frames(scorer, images, index, jobs, split="test", folder=Path(folder) / "all")
            seconds = time.perf_counter() - started
    on_gpu = torch.cuda.max_memory_allocated() / MIB - before if device.type == "cuda" else host.increase_mib
    return {
        "images": n,
        "device": device.type,
        "before_mib": before,
        "peak_increase_mib": on_gpu,
        "host_increase_mib": host.increase_mib,
        "seconds": seconds,
    }


def _scorer(profile, images: np.ndarray, device: torch.device) -> tuple[Detectors]:
    size_px, halvings = profile.data.image_size_px, len(profile.autoencoder.channels) - 1
    side = size_px // 2**halvings
    few = to_unit_range(torch.from_numpy(np.array(images[:16])).to(device))
    coder = random_autoencoder(profile, few)
    prior = random_prior(profile, "pixelsnail", grid=(side, side)).to(device)
    scorer = Detectors(coder, prior, profile.detectors, profile.seed)
    thresholds = thresholds_at(nll_of_frames(scorer, images, np.arange(min(16, len(images)))), (PERCENTILE,))
    detectors = ("sample_wise", "pixel_wise", "light_pixel_wise")
    return scorer, dict.fromkeys(detectors, thresholds) | {"regenerative": {NO_THRESHOLD: math.nan}}


def _taken_mib(device: torch.device) -> float:
    return torch.cuda.memory_allocated() / MIB if device.type == "cuda" else _anonymous_mib()


def _anonymous_mib() -> float:
    """Memory that this process took for itself; pages of mapped files are not among it."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024  # given in KiB
    return math.nan


class HostPeak:
    """The most memory taken while the block runs, beyond what was taken before, looked up every few milliseconds.

    The system's own high-water mark would count the pages of mapped files too.
    """

    def __enter__(self) -> "HostPeak":
        self.before = self.highest = _anonymous_mib()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.ended.wait(_SAMPLE_EVERY_S):
            self.highest = max(self.highest, _anonymous_mib())

    @property
    def increase_mib(self) -> float:
        """MiB; 0 where nothing was taken."""
        return self.highest - self.before


if __name__ == "__main__":
    try:
        print(json.dumps(measure_here(Path(sys.argv[1]), int(sys.argv[2]))))
    except VqadError as error:
        sys.exit(f"error: {first_line(error)}")
