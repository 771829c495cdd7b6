"""The last thing `make paper` does: provenance, executed notebooks as pages, the report."""

import re
from pathlib import Path

from vqad_lib.reporting.notebook_pages import convert_notebooks
from vqad_lib.reporting.report import build_report
from vqad_lib.workflow.notebooks import stage_table
from vqad_lib.workflow.provenance import write_provenance


def finish(root: Path, stages: list[str]) -> Path:
    """Write reports/<profile>/<data set>/provenance.json and index.html, and say where the page is.

    Args:
        stages: names of all stages of the run, in order.
    """
    provenance = write_provenance(root, stages)
    reports = root / "reports" / provenance["results"]
    convert_notebooks(reports / "notebooks")
    page = build_report(
        reports=reports,
        figures=root / "figures" / provenance["results"],
        notebooks=stages,
        provenance=facts_for_people(provenance),
        made_by=_made_by(root, stages),
    )
    print(f"report    {page.relative_to(root)}")
    return page


def facts_for_people(provenance: dict) -> dict[str, object]:
    """The run's facts as the page shows them; all of them stand in provenance.json."""
    hardware, sittings = provenance["hardware"], provenance["sittings"]
    time = f"{provenance['wall_seconds'] / 60:.1f} min"
    if sittings > 1:
        time += f" in which a notebook ran, put together from {sittings} sittings"
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


def _made_by(root: Path, stages: list[str]) -> dict[str, str]:
    """Name of a table or figure -> the executed notebook that made it, from `outputs` and `also` of stages.yaml.

    A notebook that runs once for each network is found by the values in the file's name:
    "training_vqgan_paper" -> "02_train_autoencoder_vqgan_paper".
    """
    pairs, table = {}, stage_table(root)
    # "10_capacity_train_d16_k32" begins with "10_capacity" too; the longest name is its notebook's
    notebook_of = {stage: max((name for name in table if stage.startswith(name)), key=len) for stage in stages}
    for notebook, entry in table.items():
        runs = [stage for stage in stages if notebook_of[stage] == notebook] or [notebook]
        for output in [*entry.get("outputs", []), *entry.get("also", [])]:
            name = Path(output).stem
            for stage in runs if "{" in name else runs[:1]:
                values = stage.removeprefix(notebook).strip("_")
                pairs[re.sub(r"\{.*\}", values, name)] = stage
    return pairs
