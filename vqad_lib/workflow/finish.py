"""The last thing `make paper` does: provenance, executed notebooks as pages, the report."""

import re
from pathlib import Path

from vqad_lib.reporting.report import build_report, convert_notebooks
from vqad_lib.workflow.notebooks import stage_table
from vqad_lib.workflow.provenance import write_provenance


def finish(root: Path, stages: list[str]) -> Path:
    """Write reports/<profile>/provenance.json and index.html, and say where the page is.

    Args:
        stages: names of all stages of the run, in order.
    """
    provenance = write_provenance(root, stages)
    reports = root / "reports" / provenance["profile"]
    convert_notebooks(reports / "notebooks")
    shown = provenance | {"minutes": round(provenance["wall_seconds"] / 60, 1)}
    for detail in ("stages", "wall_seconds", "stage_seconds_total"):
        shown.pop(detail)
    page = build_report(
        reports=reports,
        figures=root / "figures" / provenance["profile"],
        notebooks=stages,
        provenance=shown,
        made_by=_made_by(root),
    )
    print(f"report    {page.relative_to(root)}")
    return page


def _made_by(root: Path) -> dict[str, str]:
    """ "table_06" -> "06_results", from the outputs that notebooks/stages.yaml declares."""
    pairs = {}
    for notebook, entry in stage_table(root).items():
        for output in entry.get("outputs", []):
            if found := re.search(r"((?:table|figure)_\d\d)\.(?:csv|png)$", output):
                pairs[found.group(1)] = notebook
    return pairs
