"""The first thing `make paper` does: pick profile, data set and number of jobs, and say what was picked and why.

What was picked is written to data/derived/run.json, the rules of all stages to data/derived/run.mk. What has been made
from something else before is forgotten, so that make executes just those stages.
"""

import fcntl
import os
import re
import socket
import sys
import time
from itertools import chain
from pathlib import Path

from vqad_lib.data.datasets import choose_dataset
from vqad_lib.distributed.launch import devices_to_start
from vqad_lib.distributed.process import gpu_trouble
from vqad_lib.errors import VqadError, printable
from vqad_lib.experiment.run import Run, absolute, configured, load_frames, locate
from vqad_lib.files import read_json, usable_cores, write_json, write_text
from vqad_lib.losses.pretrained import DFKDE, PERCEPTUAL, check_weights
from vqad_lib.pipeline.graph import make_rules, notebook_table, stages_by_target
from vqad_lib.pipeline.notebooks import forget_stale, how_far


def start_run(root: Path, command: list[str], **asked: str) -> None:
    """Configure, then become the command that executes the stages: the only run in this checkout until it ends.

    Stages go on with what run.json says, so a second run would change what the first one goes on with. The lock is on
    an open file, which whatever this program becomes or starts inherits: it lasts as long as anything of the run does.

    Args:
        root: of the repository.
        command: program and arguments, in which "{jobs}" stands for the number of notebooks at a time; [] for none.
        asked: see `configure`.

    Raises:
        VqadError: another run is going on, or as `configure`.
    """
    path = root / "data" / "derived" / "run.lock"
    who = [f"process {os.getpid()} on {socket.gethostname()}", *(f"{key}={asked[key]}" for key in asked if asked[key])]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise VqadError(
            f"another run ({path.read_text(encoding='utf-8')}) is going on in this checkout; "
            "wait for it, stop it, or use another checkout"
        ) from error
    except OSError as error:
        raise VqadError(f"cannot write {path}: {error.strerror}; make the folder writable") from error
    os.set_inheritable(lock, True)
    os.truncate(lock, 0)
    os.write(lock, printable(", ".join(who)).encode())
    jobs = configure(root, **asked)["jobs"]
    if command:
        sys.stdout.flush()
        os.execvp(command[0], [word.replace("{jobs}", jobs) for word in command])


def configure(
    root: Path, *, profile: str, dataset: str, data_root: str, seed: str, perceptual: str, jobs: str, seeds: str = ""
) -> dict[str, str]:
    """Decide, write data/derived/run.json and data/derived/run.mk, and delete the manifests that do not hold any more.

    Args:
        profile: "" to pick "paper" where a CUDA device that torch can use and UCSD Ped2 are there, else "demo".
        dataset, data_root, seed, perceptual: see `open_run`.
        jobs: notebooks at a time; "" for one per core up to 4 without CUDA (each stage then uses the profile's
            threads, in each of VQAD_DEVICES processes), one with CUDA.
        seeds: how many training seeds, counted from `seed`; "" for one.

    Returns:
        What run.json says, see `last_run`.

    Raises:
        VqadError: the profile or the data are not usable.
    """
    started, devices = int(time.time()), devices_to_start()
    seed_count, asked_jobs = _count("SEEDS", seeds), jobs and _count("JOBS", jobs)
    cuda = not gpu_trouble()
    name, why = _profile(root, profile, dataset, data_root)
    loaded = configured(name, seed=seed, perceptual=perceptual)
    check_weights(loaded.gan.perceptual_weights, PERCEPTUAL)
    check_weights(loaded.baselines.dfkde.weights, DFKDE)
    chosen, folder, reason = locate(root, loaded, dataset, data_root)
    job_count = asked_jobs or (1 if cuda else max(min(usable_cores(), 4) // devices, 1))
    print(f"profile   {name}: {why}")
    print(f"data      {chosen}: {printable(reason)}")
    shown = f"{loaded.seed}" if seed_count == 1 else f"{loaded.seed} to {loaded.seed + seed_count - 1}"
    print(f"seed      {shown}; {job_count} notebook(s) at a time")
    if devices > 1:
        print(f"devices   {devices} processes for each network and its scores, one per {'GPU' if cuda else 'CPU core'}")
    # decoded once, now: every stage then only maps a file, and what is wrong shows before any training
    run = Run(root, loaded, load_frames(root, loaded, chosen, str(folder or "")), device=None)
    for scheme in run.schemes:
        run.splits(scheme)
    for note in run.frames.notes:
        print(f"images    {note}")
    results, digest, derived = run.results, run.frames.digest, root / "data" / "derived"
    _check_other_data(root, results, digest, folder)
    settings = {
        "started": str(started),
        "jobs": str(job_count),
        "profile": name,
        "dataset": chosen,
        "data_root": os.path.relpath(folder, root) if folder else "",
        "seed": str(loaded.seed),
        "seeds": str(seed_count),
        "perceptual": loaded.gan.perceptual_weights,
        "data_digest": digest,
        "results": results,
    }
    stages = stages_by_target(root, settings)
    forget_stale(root, [*chain(*stages.values())], settings)
    print(f"stages    {how_far(root, settings, stages['paper'])}")
    for place in (derived, derived / results):  # the latter for make lab
        write_json(place / "run.json", settings)
    write_text(derived / "run.mk", make_rules(stages, notebook_table(root), settings))
    return settings


def _count(name: str, value: str) -> int:
    if value and not re.fullmatch("0*[1-9][0-9]{0,5}", value):
        raise VqadError(f"{name} must be a whole number of at least 1, got {value!r}")
    return int(value or 1)


def _profile(root: Path, profile: str, dataset: str, data_root: str) -> tuple[str, str]:
    """The profile, and why."""
    trouble = gpu_trouble()
    missing = [f"usable CUDA device ({trouble})"] if trouble else []
    if profile:
        return profile, "as asked for by PROFILE=" + "".join(f"; no {what}" for what in missing)
    try:
        found = choose_dataset(dataset or "auto", absolute(root, data_root), root)[0] == "ucsd_ped2"
    except VqadError:
        found = False  # the same call with the profile at hand reports it
    missing += [] if found else ["UCSD Ped2"]
    if not missing:
        return "paper", "a CUDA device and UCSD Ped2 are here; the small one: make paper PROFILE=demo"
    why = f"no {' and '.join(missing)} here, and the paper's sizes need both"
    return "demo", f"{why}; all the same: make paper PROFILE=paper"


def _check_other_data(root: Path, results: str, digest: str, folder: Path | None) -> None:
    """Refuse another folder of the same name; say so where the same folder holds other images."""
    path, earlier = root / "reports" / results / "provenance.json", root / "data" / "derived" / results / "run.json"
    before = read_json(earlier) if earlier.exists() else {}
    if folder and before.get("data_root") and before.get("data_digest") != digest:
        other = Path(absolute(root, before["data_root"]))
        if other != folder.resolve() and other.is_dir():
            raise VqadError(
                f"reports/{results} holds results on another folder of this name, {printable(str(other))}; "
                f"rename {printable(str(folder))}, or delete reports/{results} and data/derived/{results}"
            )
    if path.exists() and read_json(path).get("data_digest") not in (None, digest):
        print(f"note      reports/{results} holds results on other images; they will be replaced", file=sys.stderr)
