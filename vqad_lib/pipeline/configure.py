"""The first thing `make paper` does: pick profile, data set and number of jobs, and say what was picked and why.

What was picked is written to data/derived/run.json, which every stage depends on; it is rewritten only if it changes.
The rules of all stages go to data/derived/run.mk.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from vqad_lib.baselines.backbone import weights_file as backbone_file
from vqad_lib.config import Profile
from vqad_lib.cores import usable_cores
from vqad_lib.data.datasets import available_schemes, choose_dataset
from vqad_lib.data.frames import FrameSet
from vqad_lib.data.splits import split_frames
from vqad_lib.distributed.launch import devices_to_start
from vqad_lib.distributed.process import gpu_trouble
from vqad_lib.errors import VqadError, printable
from vqad_lib.experiment.run import absolute, configured, load_frames, locate, results_name
from vqad_lib.files import known_by_content, read_json, write_json, write_text
from vqad_lib.losses.pretrained import weights_file
from vqad_lib.pipeline import lock
from vqad_lib.pipeline.graph import make_rules, notebook_table, stages_by_target

# of the time of a run: what each further seed trains and scores; capacity and baselines are of the first alone
SHARE_OF_A_SEED = 0.55


def configure(
    root: Path, *, profile: str, dataset: str, data_root: str, seed: str, perceptual: str, jobs: str, seeds: str = ""
) -> dict[str, str]:
    """Decide, and write data/derived/run.json and data/derived/run.mk.

    Args:
        profile: "" to pick "paper" where a CUDA device that torch can use and UCSD Ped2 are there, else "demo".
        dataset, data_root, seed, perceptual: see `open_run`.
        jobs: notebooks at a time; "" for one per core up to 4 without CUDA (each stage then uses the profile's
            threads, in each of VQAD_DEVICES processes), one with CUDA.
        seeds: how many training seeds, counted from `seed`; "" for one.

    Raises:
        VqadError: the profile or the data are not usable.
    """
    lock.take(root, " ".join(filter(None, (profile or "profile to be picked", dataset, data_root))))
    seed_count, devices, asked_jobs = _count("SEEDS", seeds), devices_to_start(), jobs and _count("JOBS", jobs)
    trouble = _gpu_trouble()
    cuda = trouble == ""
    name, why = _profile(root, profile, dataset, data_root, trouble)
    loaded = configured(name, seed=seed, perceptual=perceptual)
    weights_file(loaded.gan.perceptual_weights)  # or an error, before anything is trained
    backbone_file(loaded.baselines.dfkde.weights)
    chosen, folder, reason = locate(root, loaded, dataset, data_root)
    job_count = asked_jobs or (1 if cuda else max(min(usable_cores(), 4) // devices, 1))
    print(f"profile   {name}: {why}")
    print(f"data      {chosen}: {printable(reason)}")
    shown = f"{loaded.seed}" if seed_count == 1 else f"{loaded.seed} to {loaded.seed + seed_count - 1}"
    minutes = loaded.expected_minutes * (1 + SHARE_OF_A_SEED * (seed_count - 1))
    print(f"seed      {shown}; {job_count} notebook(s) at a time; about {round(minutes, 1):g} min")
    if devices > 1:
        print(f"devices   {devices} processes for each network and its scores, one per {'GPU' if cuda else 'CPU core'}")
    frames = _prepared(root, loaded, chosen, str(folder or ""))
    results = results_name(loaded, frames)
    for place in ("reports", "figures"):
        _check_writable(root / place / results)
    _check_other_data(root, results, frames.digest, folder)
    settings = {
        "profile": name,
        "dataset": chosen,
        "data_root": os.path.relpath(folder, root) if folder else "",
        "seed": str(loaded.seed),
        "seeds": str(seed_count),
        "perceptual": loaded.gan.perceptual_weights,
        # so that make looks at the stages when another file lies at the same path, or figures are wanted as PDF too
        "weights": " ".join(map(known_by_content, (loaded.gan.perceptual_weights, loaded.baselines.dfkde.weights))),
        "formats": os.environ.get("VQAD_FIGURE_FORMATS", ""),
        "data_digest": frames.digest,
        "results": results,
    }
    _forget_incomplete(root, results)
    derived = root / "data" / "derived"
    if not (derived / "run.json").exists() or read_json(derived / "run.json") != settings:
        write_json(derived / "run.json", settings)
    write_json(derived / results / "run.json", settings)  # for make lab
    write_text(derived / "run.mk", _for_make(root, settings, job_count))
    return settings


def _for_make(root: Path, settings: dict[str, str], jobs: int) -> str:
    """Variables and rules: what `make paper` and `make fidelity` execute, and how."""
    table, stages = notebook_table(root), stages_by_target(root, settings)
    every = [stage for of_target in stages.values() for stage in of_target]
    lines = {"PROFILE": settings["profile"], "RESULTS": settings["results"], "JOBS": jobs}
    lines |= {f"STAGES_OF_{target.upper()}": " ".join(stage.name for stage in stages[target]) for target in stages}
    return "".join(f"override {key} := {value}\n" for key, value in lines.items()) + make_rules(every, table)


def _prepared(root: Path, profile: Profile, dataset: str, folder: str) -> FrameSet:
    """Decode and split once, now: every stage then only maps a file, and what is wrong shows before any training."""
    frames, data = load_frames(root, profile, dataset, folder), profile.data
    for protocol in available_schemes(dataset):
        options = {"seed": data.split_seed, "validation_clips": data.official_validation_clips}
        split_frames(frames.index, scheme=protocol, **options)
    for note in frames.notes:
        print(f"images    {note}")
    return frames


def _count(name: str, value: str) -> int:
    if value and not (value.isdigit() and int(value)):
        raise VqadError(f"{name} must be a whole number of at least 1, got {value!r}")
    return int(value or 1)


def _forget_incomplete(root: Path, results: str) -> None:
    """Drop the manifests of stages whose outputs somebody deleted, for make looks at manifests alone."""
    for manifest in (root / "data" / "derived" / results / "manifests").glob("[0-9]*.json"):
        if not all((root / output).exists() for output in read_json(manifest)["outputs"]):
            manifest.unlink()


def _profile(root: Path, profile: str, dataset: str, data_root: str, trouble: str | None) -> tuple[str, str]:
    but = f" (nvidia-smi lists one, but {trouble})" if trouble else ""
    if profile:
        return profile, "as asked for by PROFILE=" + (f"; no usable CUDA device{but}" if trouble else "")
    try:
        found = choose_dataset(dataset or "auto", absolute(root, data_root), root)[0] == "ucsd_ped2"
    except VqadError:
        found = False  # the same call with the profile at hand reports it
    if found and trouble == "":
        return "paper", "a CUDA device and UCSD Ped2 are here; the small one: make paper PROFILE=demo"
    missing = [] if trouble == "" else [f"usable CUDA device{but}" if trouble else "CUDA device"]
    missing += [] if found else ["UCSD Ped2"]
    return (
        "demo",
        f"no {' and '.join(missing)} here, and both are needed for the paper's sizes; "
        "all the same: make paper PROFILE=paper",
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


def _gpu_trouble() -> str | None:
    """Why torch cannot use the GPU that the driver lists; "" where it can, None where none is listed.

    The driver is asked first: importing torch takes seconds, and this runs before every `make paper`.
    """
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return gpu_trouble() if listing.returncode == 0 and b"GPU" in listing.stdout else None


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
