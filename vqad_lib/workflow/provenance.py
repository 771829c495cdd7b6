"""Where results come from: git revision, versions, hardware, data digest, seed, seconds per stage."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from vqad_lib import __version__
from vqad_lib.cores import usable_cores
from vqad_lib.distributed import gpu_trouble
from vqad_lib.files import read_json, write_json
from vqad_lib.losses.labels import perceptual_label
from vqad_lib.workflow.settings import configured, last_run

PACKAGES = [
    "torch",
    "torchvision",
    "transformers",
    "lpips",
    "safetensors",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "pillow",
    "matplotlib",
    "papermill",
]


def write_provenance(root: Path, stages: list[str]) -> dict:
    """Collect what the manifests of a finished run say, and write reports/<profile>/<data set>/provenance.json.

    A sitting is one `make paper`. Where one sitting made all results, wall_seconds is its time, from its start to the
    end of its last stage. Where results were put together from several, it is the time in which at least one stage ran;
    a stage that an earlier sitting began counts with the rest that was left to do. The git revision is that of the
    stage that ended last; git_changes says whether any stage ran with code that was not committed.

    Args:
        stages: names of all stages of the run.

    Returns:
        What was written.

    Raises:
        VqadError: a stage has no manifest, or the file cannot be written.
    """
    settings = last_run(root)
    profile = configured(settings["profile"], seed=settings["seed"], perceptual=settings["perceptual"])
    manifests = root / "data" / "derived" / settings["results"] / "manifests"
    records = [read_json(manifests / f"{stage}.json") for stage in stages]
    newest = max(records, key=lambda record: record["finished_at"])
    sittings = sorted({record["sitting"] for record in records})
    seconds = {
        record["stage"]: {"seconds": record["seconds"], "sitting": sittings.index(record["sitting"]) + 1}
        for record in records
    }
    provenance = {
        "vqad": __version__,
        "git_revision": newest["git_revision"],
        "git_changes": any(record["git_changes"] for record in records),
        "profile": profile.name,
        "dataset": settings["dataset"],
        "results": settings["results"],
        "data_digest": settings["data_digest"],
        "seed": int(settings["seed"]),
        "seeds": [int(settings["seed"]) + i for i in range(int(settings.get("seeds", 1)))],
        "perceptual": perceptual_label(network=profile.gan.perceptual_network, weights=profile.gan.perceptual_weights),
        **machine(),
        "stages": seconds,
        "stage_seconds_total": round(sum(record["seconds"] for record in records), 1),
        "sittings": len(sittings),
        "wall_seconds": _wall_seconds(records, sittings),
    }
    write_json(root / "reports" / settings["results"] / "provenance.json", provenance)
    return provenance


def code_revision(root: Path) -> dict[str, object]:
    """git_revision ("unknown" outside git), and git_changes: whether code, notebooks or profiles differ from it."""
    changes = _git(root, "status", "--porcelain", "--untracked-files=normal", "--", "vqad_lib", "notebooks", "profiles")
    return {"git_revision": _git(root, "rev-parse", "HEAD"), "git_changes": changes not in ("", "unknown")}


def machine() -> dict[str, object]:
    """python, versions of what matters, and hardware (system, cpu, cores, gpus)."""
    versions = {package: version(package) for package in PACKAGES}
    return {"python": platform.python_version(), "versions": versions, "hardware": _hardware()}


def _wall_seconds(records: list[dict], sittings: list[int]) -> int:
    if len(sittings) == 1:
        return max(record["finished_at"] for record in records) - sittings[0]
    total = until = 0
    for started, finished in sorted((record["started_at"], record["finished_at"]) for record in records):
        total += max(finished - max(started, until), 0)
        until = max(until, finished)
    return total


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _hardware() -> dict[str, object]:
    import torch  # only here: the rest of the module is quick

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    gpus = [] if gpu_trouble() else [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    system = f"{platform.system()} {platform.machine()}"
    return {"system": system, "cpu": model, "cores": usable_cores(), "gpus": gpus}
