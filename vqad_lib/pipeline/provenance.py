"""The last thing `make paper` does: where its results come from, and the page that shows them."""

import itertools
import platform
import re
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from vqad_lib import __version__
from vqad_lib.distributed.process import gpu_trouble
from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import configured, last_run
from vqad_lib.files import known_by_content, read_json, usable_cores, write_json
from vqad_lib.losses.pretrained import HED_FILE, weights_label
from vqad_lib.pipeline.graph import Stage, notebook_table, stages_by_target
from vqad_lib.pipeline.notebooks import how_far, manifest
from vqad_lib.reporting.report import build_report

PACKAGES = (
    *("torch", "torchvision", "transformers", "lpips", "safetensors", "numpy", "scipy", "scikit-learn"),
    *("pandas", "pillow", "matplotlib", "papermill"),
)
_SECONDS_BETWEEN_PAGES = 60  # a page takes seconds itself


def report(root: Path) -> Path:
    """Write reports/<profile>/<data set>/provenance.json and index.html of the last run, and say where the page is.

    Raises:
        VqadError: there was no run, or a stage of it has not ended.
    """
    stages = stages_by_target(root, last_run(root))
    facts = write_provenance(root, [stage.name for stage in stages["paper"]])
    page = _write_page(root, stages, facts)
    print(f"report    {page.relative_to(root)}")
    return page


def report_so_far(root: Path) -> None:
    """Write index.html of a run that goes on, if a table or figure is there; its provenance.json is not written.

    The machine is left out, for to ask torch about it takes seconds. A page less than a minute after the run's last one
    is not written either.
    """
    settings = last_run(root)
    page = root / "reports" / settings["results"] / "index.html"
    written = page.stat().st_mtime if page.exists() else 0.0
    if written > float(settings["started"]) and time.time() - written < _SECONDS_BETWEEN_PAGES:
        return
    stages = stages_by_target(root, settings)
    ended = [stage.name for stage in stages["paper"] if manifest(root, settings, stage.name).exists()]
    if set(ended).intersection(made_by(stages["paper"], notebook_table(root)).values()):
        count, rest = how_far(root, settings, stages["paper"]).split(maxsplit=1)
        facts = _facts(root, ended, {}) | {"so_far": f"{count.replace('/', ' of ')} notebooks after {rest} (min:s)"}
        _write_page(root, stages, facts, to_come=[stage for stage in stages["paper"] if stage.name not in ended])


def _write_page(root: Path, stages: dict[str, list[Stage]], facts: dict, *, to_come: Sequence[Stage] = ()) -> Path:
    """The page; what has not been made by this run is left out, though an earlier one may have left it."""
    settings, table, everything = last_run(root), notebook_table(root), list(itertools.chain(*stages.values()))
    made = made_by([stage for stage in everything if manifest(root, settings, stage.name).exists()], table)
    # of notebooks that the profile leaves out too
    makers = made_by([Stage(notebook, {}) for notebook in table if not table[notebook].get("grid")], table)
    makers |= made_by(everything, table)
    return build_report(
        reports=root / "reports" / settings["results"],
        figures=root / "figures" / settings["results"],
        notebooks=[stage.name for stage in stages["paper"] if not stage.replicate and stage not in to_come],
        provenance={key: value for key, value in facts.items() if key != "stages"},
        made_by=makers,
        left_out=makers.keys() - made.keys(),
        to_come=[stage.name for stage in to_come],
    )


def write_provenance(root: Path, stages: list[str]) -> dict:
    """Collect what the manifests of a finished run say, and write reports/<profile>/<data set>/provenance.json.

    Its facts are for people, too: the page shows all but the seconds of each stage. `code` has every git revision that
    a stage was executed with.

    Args:
        stages: names of all stages of the run.

    Returns:
        What was written.

    Raises:
        VqadError: a stage has no manifest, or the file cannot be written.
    """
    settings = last_run(root)
    if missing := [stage for stage in stages if not manifest(root, settings, stage).exists()]:
        raise VqadError(
            f"of the last run {missing[0]} has not ended, nor {len(missing) - 1} others; go on with make paper"
        )
    provenance = _facts(root, stages, machine())
    write_json(root / "reports" / settings["results"] / "provenance.json", provenance)
    return provenance


def _facts(root: Path, stages: list[str], of_machine: dict[str, object]) -> dict:
    settings = last_run(root)
    profile = configured(settings["profile"], seed=settings["seed"], perceptual=settings["perceptual"])
    weights = profile.gan.perceptual_weights
    records = {stage: read_json(manifest(root, settings, stage)) for stage in stages}
    revisions, runs = ({record[key] for record in records.values()} for key in ("code", "run"))
    minutes = sum(record["seconds"] for record in records.values()) / 60
    return {
        **{key: settings[key] for key in ("profile", "dataset")},
        "perceptual": weights_label(f"LPIPS {profile.gan.perceptual_network}", weights),
        "perceptual_weights": HED_FILE if weights == "hed" else known_by_content(weights),  # a file's SHA-256
        "seeds": [profile.seed + i for i in range(int(settings.get("seeds", 1)))],
        **of_machine,
        "time": f"{minutes:.1f} min for all notebooks together, in {len(runs)} run(s)",
        "code": f"vqad {__version__}, revision {', '.join(sorted(revisions))}",
        "data_digest": settings["data_digest"],
        "stages": {stage: {"seconds": record["seconds"]} for stage, record in records.items()},
    }


def machine() -> dict[str, object]:
    """python, versions of what matters, and hardware: CPU, cores, GPUs and system in a line."""
    import torch  # only here: the rest of the module is quick

    cpuinfo = Path("/proc/cpuinfo")
    cpu = re.search(r"^model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    gpus = [] if gpu_trouble() else [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    hardware = [cpu[1].strip() if cpu else platform.processor() or platform.machine(), f"{usable_cores()} cores"]
    hardware += [*(gpus or ["no GPU"]), f"{platform.system()} {platform.machine()}"]
    versions = {package: version(package) for package in PACKAGES}
    return {"versions": versions, "python": platform.python_version(), "hardware": ", ".join(hardware)}


def made_by(stages: list[Stage], table: dict[str, dict]) -> dict[str, str]:
    """Name of a table or figure -> the executed notebook of the first seed that made it: "table_06" -> "06_results"."""
    known = {"results": "", "replicate_folder": ""}
    return {
        Path(output.format(**known, **stage.parameters)).stem: stage.name
        for stage in stages
        for output in table[stage.notebook].get("outputs", []) + table[stage.notebook].get("also", [])
        if not stage.replicate
    }
