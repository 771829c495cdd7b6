"""How long `make paper` will still take: from the seconds per stage that an earlier run of the profile recorded."""

import os
import time
from pathlib import Path

from vqad_lib.files import read_json


def announce(root: Path, name: str, results: str, *, ended: bool) -> str:
    """One line for the terminal: which stage of how many, time since the start, and an estimate of what is left.

    The stages of the run and its start come from the environment that the Makefile sets: VQAD_STAGES (names) and
    VQAD_STARTED (seconds since the epoch).
    """
    stages = os.environ.get("VQAD_STAGES", name).split()
    started = float(os.environ.get("VQAD_STARTED") or time.time())
    jobs = max(int(os.environ.get("VQAD_JOBS") or 1), 1)
    manifests = root / "data" / "derived" / results / "manifests"
    done = {s for s in stages if (m := manifests / f"{s}.json").exists() and m.stat().st_mtime >= started - 1}
    recorded = _recorded_seconds(root, results)
    elapsed = time.time() - started
    left = [recorded.get(stage) for stage in stages if stage not in done]
    known = [seconds for seconds in left if seconds is not None]
    if known:
        average = sum(known) / len(known)
        remaining = f"about {_clock((sum(known) + average * (len(left) - len(known))) / jobs)} left"
    elif left and done:
        remaining = f"about {_clock(elapsed / len(done) * len(left))} left"
    else:
        remaining = "no estimate yet" if left else "last stage"
    verb = "done " if ended else "start"
    return f"[{len(done):2d}/{len(stages)} {_clock(elapsed)}, {remaining}] {verb} {name}"


def _recorded_seconds(root: Path, results: str) -> dict[str, float]:
    path = root / "reports" / results / "provenance.json"
    if not path.exists():
        return {}
    return {name: stage["seconds"] for name, stage in read_json(path).get("stages", {}).items()}


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
