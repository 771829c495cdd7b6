"""Two at a time in one checkout: the second is refused in one line, or both are safe."""

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from tests.stress.kills import DEADLINE_S, kill, paper, run_environment, start, write_images
from vqad_lib.progress import progress

REFUSED, SAFE = "refused in one line", "both end well"
_OWN = [sys.executable, "-m", "vqad_lib"]
# what is started beside a `make paper`, and how it must end
SECOND = {
    "make paper, the same": (["make", "paper", "PROFILE=smoke"], REFUSED),
    "make paper, another profile": (["make", "paper", "PROFILE=demo"], REFUSED),
    "make paper, another data set": (["make", "paper", "PROFILE=smoke", "DATA_ROOT=own"], REFUSED),
    "make beyond": (["make", "beyond", "PROFILE=smoke"], REFUSED),
    "make report": (["make", "report"], SAFE),
    "fit": ([*_OWN, "fit", "own/normal", "--out=model", "--epochs=1", "--image-size-px=32"], SAFE),
}


def rows(place: Path) -> pd.DataFrame:
    """Do all of it in `place`, an empty folder.

    Returns:
        second (what is started beside `make paper`), expected and found (`REFUSED`, `SAFE`, or what was said).
    """
    first = paper(place / "checkout", jobs=1)
    for name in ("normal", "abnormal"):
        write_images(first.root / "own" / name)
    running = start(first)
    while not (first.root / "data" / "derived" / "run.mk").exists():
        assert running.poll() is None, "the first run ended too soon"
        time.sleep(0.2)
    found = []
    try:
        for name, (line, expected) in progress(SECOND.items(), what="two at a time", unit="pair"):
            line = [*line, f"PYTHON={sys.executable}"] if line[0] == "make" else line
            done = subprocess.run(
                line, cwd=first.root, env=run_environment(first.root), capture_output=True, text=True, check=False
            )
            said = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
            refused = done.returncode and len(said) == 1 and "another run" in said[0]
            how = REFUSED if refused else SAFE if done.returncode == 0 else f"{done.returncode}: {done.stderr[-300:]}"
            assert running.poll() is None, f"the first run ended before {name}"
            found.append({"second": name, "expected": expected, "found": how})
        ended = running.wait(DEADLINE_S)
    finally:
        kill(first.root)
    found.append({"second": "the first of all these", "expected": SAFE, "found": SAFE if ended == 0 else f"{ended}"})
    return pd.DataFrame(found)
