"""The page that `make lab` opens: each notebook's question, a picture of what it makes, its minutes, links to all.

It is a notebook without code, so that JupyterLab and code hosts show it alike, and nothing has to run first.
"""

import os
import re
from pathlib import Path

import nbformat

from vqad_lib.files import read_json
from vqad_lib.pipeline.graph import notebook_table

_ABOUT = """# vqad: what the notebooks answer

An autoencoder turns each frame into a small grid of codes, a prior learns which codes follow which, and four detectors
score what does not fit. [04_one_frame]({one_frame}) goes through all of it with a single frame; [30_explore]({explore})
lets you choose the frame and move λ. All tables and figures beside the paper's are on [one page]({page}).

Pictures and minutes: profile `{profile}`, data `{dataset}`, {hardware}."""
COMMITTED = ("workstation/ucsd_ped2", "demo/ucsd_ped2")  # the best first
_SHOWN = {"autoencoder": "vqgan", "prior": "gpt2", "scheme": "official"}  # of what is made for each
_WIDTH_PX = 240


def contents(root: Path, results: str, place: Path, *, explore: Path | None = None) -> nbformat.NotebookNode:
    """The notebook, with links for a file in `place`.

    Args:
        root: of the repository.
        results: "<profile>/<data set>", whose pictures and minutes it shows.
        place: the folder that it will lie in.
        explore: the explorer's notebook, if not the one in notebooks/.
    """
    path = root / "reports" / results / "provenance.json"
    run = read_json(path) if path.exists() else {}
    profile, dataset = results.split("/")

    def link(target: Path) -> str:
        return Path(os.path.relpath(target, place)).as_posix()

    about = _ABOUT.format(
        one_frame=link(root / "notebooks" / "04_one_frame.ipynb"),
        explore=link(explore or root / "notebooks" / "30_explore.ipynb"),
        page=link(root / "reports" / results / "index.html"),
        profile=profile,
        dataset=dataset,
        hardware=run.get("hardware", "not yet at an end"),
    )
    rows = ["| notebook | question | a picture of it | minutes |", "| --- | --- | --- | ---: |"]
    table = notebook_table(root)
    for notebook in sorted((root / "notebooks").glob("[0-9]*.ipynb")):
        heading = nbformat.read(notebook, as_version=4).cells[0].source.splitlines()[0]
        entry = table.get(notebook.stem, {})
        names = [*entry.get("outputs", []), *entry.get("also", [])]
        pictures = [found for name in names if (found := _picture(root, name, results))]
        image = f'<img src="{link(pictures[0])}" width="{_WIDTH_PX}" alt="">' if pictures else ""
        question = heading.split("·", 1)[-1].strip()
        minutes = _minutes(notebook.stem, run.get("stages", {}), set(table))
        rows.append(f"| [{notebook.stem}]({link(notebook)}) | {question} | {image} | {minutes} |")
    cells = [nbformat.v4.new_markdown_cell(text, id=f"cell-{i:02d}") for i, text in enumerate([about, "\n".join(rows)])]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def _picture(root: Path, template: str, results: str) -> Path | None:
    """The file that an output of notebooks.yaml stands for, if it is a picture and there."""
    path = root / template.format_map(
        dict.fromkeys(re.findall(r"{(\w+)}", template), "") | _SHOWN | {"results": results}
    )
    return path if path.suffix == ".png" and path.exists() else None


def _minutes(notebook: str, stages: dict[str, dict[str, float]], others: set[str]) -> str:
    """Of all its executions together, and how many those were."""
    longer = [other for other in others if other.startswith(f"{notebook}_")]
    own = [
        stage["seconds"]
        for name, stage in stages.items()
        if re.match(rf"{notebook}(_|$)", name) and not any(name.startswith(other) for other in longer)
    ]
    return f"{sum(own) / 60:.1f}" + (f" in {len(own)} runs" if len(own) > 1 else "") if own else ""
