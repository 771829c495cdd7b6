"""Where results come from: git revision, versions, hardware, data digest, seed, seconds per stage."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from vqad_lib import __version__
from vqad_lib.files import read_json, write_json
from vqad_lib.losses.labels import perceptual_label
from vqad_lib.workflow.settings import configured

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
    """Collect what the manifests of a finished run say, and write reports/<profile>/provenance.json.

    Args:
        stages: names of all stages of the run.
    """
    settings = read_json(root / "data" / "derived" / "run.json")
    profile = configured(settings["profile"], seed=settings["seed"], perceptual=settings["perceptual"])
    manifests = root / "data" / "derived" / profile.name / "manifests"
    records = [read_json(manifests / f"{stage}.json") for stage in stages]
    seconds = {record["stage"]: {"seconds": record["seconds"]} for record in records}
    provenance = code_and_machine(root) | {
        "profile": profile.name,
        "dataset": settings["dataset"],
        "data_digest": settings["data_digest"],
        "seed": int(settings["seed"]),
        "perceptual": perceptual_label(network=profile.gan.perceptual_network, weights=profile.gan.perceptual_weights),
        "stages": seconds,
        "stage_seconds_total": round(sum(record["seconds"] for record in records), 1),
        "wall_seconds": _busy_seconds([(record["started_at"], record["finished_at"]) for record in records]),
    }
    write_json(root / "reports" / profile.name / "provenance.json", provenance)
    return provenance


def code_and_machine(root: Path) -> dict[str, object]:
    """What ran and on what: vqad, git_revision, git_changes, python, versions, hardware."""
    changes = _git(root, "status", "--porcelain", "--", "vqad_lib", "notebooks", "profiles")
    return {
        "vqad": __version__,
        "git_revision": _git(root, "rev-parse", "HEAD"),
        "git_changes": changes not in ("", "unknown"),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "hardware": _hardware(),
    }


def _busy_seconds(spans: list[tuple[int, int]]) -> int:
    """Seconds in which at least one stage ran; a pause of days between two runs does not count."""
    total = until = 0
    for started, finished in sorted(spans):
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
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"system": f"{platform.system()} {platform.machine()}", "cpu": model, "cores": os.cpu_count(), "gpus": gpus}
