"""What the committed notebooks show, and what nbval compares them with; `make notebooks` calls it.

    python tests/store_outputs.py compared FOLDER    FOLDER: the notebooks, executed with profile smoke
    python tests/store_outputs.py shown RESULTS ...  RESULTS: reports/<profile>/<data set> of real runs, the first wins

nbval compares the cells that say NBVAL_CHECK_OUTPUT with `tests/stored_outputs`. What readers see in `notebooks/` is of
the first of the RESULTS that has executed the same code; a notebook that none has executed keeps what it shows.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat

from vqad_lib.pipeline.contents import contents

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))
STORED = REPOSITORY / "tests" / "stored_outputs"
COMPARED = "# NBVAL_CHECK_OUTPUT"
OF_A_RUN = {"profile", "dataset", "data_root", "seed", "perceptual", "latent_dim", "codebook_size"}
OF_A_RUN |= {"results", "minutes", "flips"}
SAYS = "The outputs below are of a run with"


def store_compared(folder: Path) -> None:
    """Outputs of the cells that nbval compares, by the id of the cell."""
    STORED.mkdir(exist_ok=True)
    for path in NOTEBOOKS:
        outputs = {cell.id: cell.outputs for cell in code_cells(folder / path.name) if COMPARED in cell.source}
        (STORED / f"{path.stem}.json").write_text(json.dumps(outputs, indent=1, sort_keys=True) + "\n")


def store_shown(results: list[Path]) -> None:
    """Outputs of the executed notebooks of real runs, in the committed notebooks, and a line that says which run."""
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        own = [cell for cell in notebook.cells if cell.cell_type == "code"]
        found = next(executed_like(own, path.stem, results), None)
        if not found:
            print(f"kept      {path.name}: no executed notebook with the same code and parameters")
            continue
        place, executed = found
        run = json.loads((place / "provenance.json").read_text())
        how = run.get("trained") or run["perceptual"]
        said = f"{SAYS} profile = {run['profile']!r}, dataset = {run['dataset']!r}; {how}.\n"
        for i, (cell, other) in enumerate(zip(own, executed, strict=True), start=1):
            line = nbformat.v4.new_output("stream", name="stdout", text=said)
            cell.outputs = [line] if "parameters" in tags(cell) else other.outputs
            cell.execution_count = i
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = i
        nbformat.write(notebook, path)
        print(f"stored    {path.name}: {place.relative_to(REPOSITORY)}")
    best = results[0].relative_to(REPOSITORY / "reports").as_posix()
    nbformat.write(contents(REPOSITORY, best, FOLDER), FOLDER / "index.ipynb")


def executed_like(own: list[nbformat.NotebookNode], stem: str, results: list[Path]) -> Iterator[tuple[Path, list]]:
    """The results, and the code cells, of executions of the notebook as it is and with its parameters.

    Those that every run sets may differ; the cell that papermill adds is left out.
    """
    defaults, longer = parameters(own), [path.stem for path in NOTEBOOKS if path.stem.startswith(f"{stem}_")]
    for place in results:
        for path in sorted((place / "notebooks").glob(f"{stem}*.ipynb")):
            if path.stem.startswith(tuple(longer)):
                continue
            cells = code_cells(path)
            given = parameters(cells, tag="injected-parameters")
            cells = [cell for cell in cells if "injected-parameters" not in tags(cell)]
            differ = {key for key, value in given.items() if str(value) != str(defaults.get(key))}
            if [cell.source for cell in cells] == [cell.source for cell in own] and differ <= OF_A_RUN:
                yield place, cells


def parameters(cells: list[nbformat.NotebookNode], *, tag: str = "parameters") -> dict[str, object]:
    """Names and values in the cells with a tag."""
    values: dict[str, object] = {}
    exec("\n".join(cell.source for cell in cells if tag in tags(cell)), {}, values)
    return values


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


if __name__ == "__main__":
    if sys.argv[1] == "compared":
        store_compared(Path(sys.argv[2]))
    else:
        store_shown([REPOSITORY / folder for folder in sys.argv[2:]])
