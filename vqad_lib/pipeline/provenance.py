"""The last thing `make paper` does: where its results come from, and the page that shows them."""

import platform
from importlib.metadata import version
from pathlib import Path

from vqad_lib import __version__
from vqad_lib.cores import usable_cores
from vqad_lib.distributed.process import gpu_trouble
from vqad_lib.experiment.run import configured, last_run
from vqad_lib.files import read_json, write_json
from vqad_lib.losses.pretrained import perceptual_label
from vqad_lib.pipeline.graph import Stage, notebook_table, stages_by_target
from vqad_lib.reporting.report import build_report

SCIENCE = ("torch", "torchvision", "transformers", "lpips", "safetensors", "numpy", "scipy", "scikit-learn")
PACKAGES = (*SCIENCE, "pandas", "pillow", "matplotlib", "papermill")


def report(root: Path) -> Path:
    """Write reports/<profile>/<data set>/provenance.json and index.html of the last run, and say where the page is.

    Raises:
        VqadError: there was no run, or a stage of it has not ended.
    """
    settings = last_run(root)
    stages = stages_by_target(root, settings)
    first_seed = [stage for stage in (*stages["paper"], *stages.get("fidelity", ())) if not stage.replicate]
    provenance = write_provenance(root, [stage.name for stage in stages["paper"]])
    page = build_report(
        reports=root / "reports" / settings["results"],
        figures=root / "figures" / settings["results"],
        notebooks=[stage.name for stage in stages["paper"] if not stage.replicate],
        provenance=facts_for_people(provenance),
        made_by=made_by(first_seed, notebook_table(root)),
    )
    print(f"report    {page.relative_to(root)}")
    return page


def write_provenance(root: Path, stages: list[str]) -> dict:
    """Collect what the manifests of a finished run say, and write reports/<profile>/<data set>/provenance.json.

    runs: how many `make paper` the results were put together from. wall_seconds: the time in which at least one stage
    ran. The git revision is that of the stage that ended last; git_changes says whether any stage ran with code that
    was not committed.

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
    wall_seconds = until = 0
    for started, finished in sorted((record["started_at"], record["finished_at"]) for record in records):
        wall_seconds += max(finished - max(started, until), 0)
        until = max(until, finished)
    provenance = {
        "vqad": __version__,
        "git_revision": max(records, key=lambda record: record["finished_at"])["git_revision"],
        "git_changes": any(record["git_changes"] for record in records),
        "profile": profile.name,
        "dataset": settings["dataset"],
        "results": settings["results"],
        "data_digest": settings["data_digest"],
        "seed": profile.seed,
        "seeds": [profile.seed + i for i in range(int(settings.get("seeds", 1)))],
        "perceptual": perceptual_label(network=profile.gan.perceptual_network, weights=profile.gan.perceptual_weights),
        **machine(),
        "stages": {record["stage"]: {"seconds": record["seconds"]} for record in records},
        "stage_seconds_total": round(sum(record["seconds"] for record in records), 1),
        "runs": len({record["run"] for record in records}),
        "wall_seconds": wall_seconds,
    }
    write_json(root / "reports" / settings["results"] / "provenance.json", provenance)
    return provenance


def machine() -> dict[str, object]:
    """python, versions of what matters, and hardware (system, cpu, cores, gpus)."""
    import torch  # only here: the rest of the module is quick

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    hardware = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "gpus": [] if gpu_trouble() else [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }
    versions = {package: version(package) for package in PACKAGES}
    return {"python": platform.python_version(), "versions": versions, "hardware": hardware}


def facts_for_people(provenance: dict) -> dict[str, object]:
    """The run's facts as the page shows them; all of them stand in provenance.json."""
    hardware = provenance["hardware"]
    time = f"{provenance['wall_seconds'] / 60:.1f} min"
    if provenance["runs"] > 1:
        time += f" in which a notebook ran, put together from {provenance['runs']} runs"
    changes = ", with changes that are not committed" if provenance["git_changes"] else ""
    gpus = ", ".join(hardware["gpus"]) or "no GPU"
    seeds = "seeds" if len(provenance.get("seeds", ())) > 1 else "seed"
    return {
        **{key: provenance[key] for key in ("profile", "dataset", "perceptual", seeds, "versions", "python")},
        "hardware": f"{hardware['cpu']}, {hardware['cores']} cores, {gpus}, {hardware['system']}",
        "time": time,
        "code": f"vqad {provenance['vqad']}, revision {provenance['git_revision']}{changes}",
        "data_digest": provenance["data_digest"],
    }


def made_by(stages: list[Stage], table: dict[str, dict]) -> dict[str, str]:
    """Name of a table or figure -> the executed notebook that made it: "table_06" -> "06_results"."""
    known = {"results": "", "replicate_folder": ""}
    return {
        Path(output.format(**known, **stage.parameters)).stem: stage.name
        for stage in stages
        for output in table[stage.notebook].get("outputs", []) + table[stage.notebook].get("also", [])
    }
