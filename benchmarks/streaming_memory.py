"""Peak memory of `vqad score` as the number of images grows: a list of so many files, each call a process of its own.

    python -m benchmarks.streaming_memory

writes reports/own_images/score_memory.csv. The detector is a tiny one, and the files are the same hundred over and
over: what is measured is whether anything is kept for each image.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from vqad.estimator import VQAnomalyDetector
from vqad.model import save_model
from vqad_lib.errors import VqadError
from vqad_lib.files import repository_root, write_text

NUMBERS = (100, 10_000, 100_000)
_DIFFERENT = 100


def memory_rows(numbers: tuple[int, ...] = NUMBERS) -> pd.DataFrame:
    """images, peak_mib (the most memory that the process had, libraries included), seconds.

    Raises:
        VqadError: a call failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        pixels = np.random.default_rng(0).integers(0, 256, (_DIFFERENT, 64, 64), dtype=np.uint8)
        files = [f"{folder}/{number}.png" for number in range(_DIFFERENT)]
        for image, file in zip(pixels, files, strict=True):
            Image.fromarray(image).save(file)
        tiny = VQAnomalyDetector(image_size_px=16, channels=(8, 16), codebook_size=16, epochs=1).fit(pixels)
        save_model(tiny, Path(folder) / "model", data="noise", images=_DIFFERENT)
        return pd.DataFrame([_in_a_process(folder, files, n) for n in numbers])


def _in_a_process(folder: str, files: list[str], n: int) -> dict[str, float]:
    command = [sys.executable, "-m", "vqad_lib", "score", f"{folder}/model", "-", f"--out={folder}/scores.csv"]
    started, listed = time.monotonic(), Path(folder) / "list.txt"
    listed.write_text("".join(f"{files[i % _DIFFERENT]}\n" for i in range(n)))
    with (
        open(listed, encoding="utf-8") as lines,
        subprocess.Popen(command, stdin=lines, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,
    ):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise VqadError(f"scoring {n} images ended with status {process.returncode}")
    return {"images": n, "peak_mib": round(usage.ru_maxrss / 1024, 1), "seconds": round(time.monotonic() - started, 1)}


if __name__ == "__main__":
    found = memory_rows()
    write_text(repository_root() / "reports" / "own_images" / "score_memory.csv", found.to_csv(index=False))
    print(found.to_string(index=False))
