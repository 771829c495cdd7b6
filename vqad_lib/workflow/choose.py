"""The first thing `make paper` does: pick profile, data set and number of jobs, and say what was picked and why.

The choice is written to data/derived/run.json, which every stage depends on; it is rewritten only if it changes.
"""

import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from vqad_lib.baselines.labels import weights_file as backbone_file
from vqad_lib.config import Profile
from vqad_lib.data.sources import choose_dataset
from vqad_lib.data.splits import available_protocols, split_frames
from vqad_lib.errors import VqadError, printable
from vqad_lib.files import known_by_content, read_json, write_json, write_text
from vqad_lib.losses.labels import weights_file
from vqad_lib.workflow.fidelity_choices import measurements
from vqad_lib.workflow.launch import devices_to_start
from vqad_lib.workflow.settings import absolute, configured, load_frames, locate

# of the time of a run: what each further seed trains and scores; capacity and baselines are of the first alone
SHARE_OF_A_SEED = 0.55


def choose(
    root: Path, *, profile: str, dataset: str, data_root: str, seed: str, perceptual: str, jobs: str, seeds: str = ""
) -> dict[str, str]:
    """Decide and write data/derived/run.json and data/derived/run.mk.

    Args:
        profile: "" to pick "paper" where a CUDA device and UCSD Ped2 are there, else "demo".
        dataset, data_root, seed, perceptual: see `open_run`.
        jobs: notebooks at a time; "" for one per core up to 4 without CUDA (each stage then uses the profile's
            threads, in each of VQAD_DEVICES processes), one with CUDA.
        seeds: how many training seeds, counted from `seed`; "" for one.

    Raises:
        VqadError: the profile or the data are not usable.
    """
    seed_count, devices, asked_jobs = _count("SEEDS", seeds), devices_to_start(), jobs and _count("JOBS", jobs)
    cuda = _has_cuda()
    name, why = _profile(root, profile, dataset, data_root, cuda)
    loaded = configured(name, seed=seed, perceptual=perceptual)
    weights_file(loaded.gan.perceptual_weights)  # or an error, before anything is trained
    backbone_file(loaded.baselines.dfkde.weights)
    chosen, folder, reason = locate(root, loaded, dataset, data_root)
    for results in ("reports", "figures"):
        _check_writable(root / results / name)
    job_count = asked_jobs or (1 if cuda else max(min(os.cpu_count() or 1, 4) // devices, 1))
    print(f"profile   {name}: {why}")
    print(f"data      {chosen}: {printable(reason)}")
    shown = f"{loaded.seed}" if seed_count == 1 else f"{loaded.seed} to {loaded.seed + seed_count - 1}"
    minutes = loaded.expected_minutes * (1 + SHARE_OF_A_SEED * (seed_count - 1))
    print(f"seed      {shown}; {job_count} notebook(s) at a time; about {round(minutes, 1):g} min")
    if devices > 1:
        print(f"devices   {devices} processes for each network and its scores, one per {'GPU' if cuda else 'CPU core'}")
    _warn_of_other_data(root, name, chosen)
    settings = {
        "profile": name,
        "dataset": chosen,
        "data_root": os.path.relpath(folder, root) if folder else "",
        "seed": str(loaded.seed),
        "seeds": str(seed_count),
        "perceptual": loaded.gan.perceptual_weights,
        # so that make looks at the stages when another file lies at the same path
        "weights": " ".join(map(known_by_content, (loaded.gan.perceptual_weights, loaded.baselines.dfkde.weights))),
        "data_digest": _prepared_digest(root, loaded, chosen, str(folder or "")),
    }
    _forget_incomplete(root, name)
    variables = {"PROFILE": name, "PROTOCOLS": " ".join(available_protocols(chosen)), "JOBS": str(job_count)}
    variables["REPLICATES"] = " ".join(map(str, range(1, seed_count)))
    longest_first = sorted(loaded.capacity.variants, key=math.prod, reverse=True)  # so that no core idles at the end
    variables["CAPACITY"] = " ".join(f"{dim}/{size}" for dim, size in longest_first)
    variables["FIDELITY"] = " ".join(map("/".join, measurements(loaded, available_protocols(chosen))))
    _write(root / "data" / "derived", settings, variables)
    return settings


def _prepared_digest(root: Path, profile: Profile, dataset: str, folder: str) -> str:
    """Decode and split once, now: every stage then only maps a file, and what is wrong shows before any training."""
    frames, data = load_frames(root, profile, dataset, folder), profile.data
    for protocol in available_protocols(dataset):
        options = {"seed": data.split_seed, "validation_clips": data.official_validation_clips}
        split_frames(frames.index, protocol=protocol, **options)
    for note in frames.notes:
        print(f"images    {note}")
    return frames.digest


def _write(derived: Path, settings: dict[str, str], variables: dict[str, str]) -> None:
    """run.json, which every stage depends on, only if it changes; run.mk for make."""
    path = derived / "run.json"
    if not path.exists() or read_json(path) != settings:
        write_json(path, settings)
    write_text(derived / "run.mk", "".join(f"override {key} := {value}\n" for key, value in variables.items()))


def _count(name: str, value: str) -> int:
    if value and not (value.isdigit() and int(value)):
        raise VqadError(f"{name} must be a whole number of at least 1, got {value!r}")
    return int(value or 1)


def _forget_incomplete(root: Path, profile: str) -> None:
    """Drop the manifests of stages whose outputs somebody deleted, for make looks at manifests alone."""
    for manifest in (root / "data" / "derived" / profile / "manifests").glob("[0-9]*.json"):
        if not all((root / output).exists() for output in read_json(manifest)["outputs"]):
            manifest.unlink()


def _profile(root: Path, profile: str, dataset: str, data_root: str, cuda: bool) -> tuple[str, str]:
    if profile:
        return profile, "as asked for by PROFILE="
    try:
        found = choose_dataset(dataset or "auto", absolute(root, data_root), root)[0] == "ucsd_ped2"
    except VqadError:
        found = False  # the same call with the profile at hand reports it
    if cuda and found:
        return "paper", "a CUDA device and UCSD Ped2 are here; the small one: make paper PROFILE=demo"
    missing = " and ".join(w for w, there in (("CUDA device", cuda), ("UCSD Ped2", found)) if not there)
    return (
        "demo",
        f"no {missing} here, and both are needed for the paper's sizes; all the same: make paper PROFILE=paper",
    )


def _check_writable(folder: Path) -> None:
    """Find out before hours of training, and by trying: permissions do not tell all, least of all to root."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise VqadError(
            f"cannot write {folder}: {error.strerror}; make the folder writable or move away what is in its place"
        ) from error


def _has_cuda() -> bool:
    """Ask the driver, not torch: importing torch takes seconds, and this runs before every `make paper`."""
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listing.returncode == 0 and b"GPU" in listing.stdout


def _warn_of_other_data(root: Path, profile: str, dataset: str) -> None:
    path = root / "reports" / profile / "provenance.json"
    if path.exists() and (before := read_json(path).get("dataset")) not in (None, dataset):
        print(
            f"note      reports/{profile} and figures/{profile} hold results on {before}; they will be replaced",
            file=sys.stderr,
        )
