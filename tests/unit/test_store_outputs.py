"""Which executed notebook's outputs readers are shown: that of the same code, with the same parameters."""

import sys
from pathlib import Path

import nbformat
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import store_outputs


def notebook(path: Path, *, answer: str, given: str = "", code: str = "show(a)") -> None:
    """Parameters, those that papermill put in, and a cell that shows something."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [nbformat.v4.new_code_cell("profile = 'smoke'\na = 1", metadata={"tags": ["parameters"]})]
    if given:
        cells.append(nbformat.v4.new_code_cell(given, metadata={"tags": ["injected-parameters"]}))
    output = nbformat.v4.new_output("stream", name="stdout", text=answer)
    cells.append(nbformat.v4.new_code_cell(code, outputs=[output]))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def test_same_code_and_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, results = tmp_path / "notebooks", tmp_path / "reports" / "demo" / "ucsd_ped2"
    for name in ("10_capacity", "10_capacity_train"):
        notebook(folder / f"{name}.ipynb", answer="of smoke")
    executed = results / "notebooks"
    notebook(executed / "10_capacity.ipynb", answer="right", given="profile = 'demo'")
    notebook(executed / "10_capacity_2.ipynb", answer="other parameter", given="a = 2")
    notebook(executed / "10_capacity_3.ipynb", answer="other code", code="show(2 * a)")
    notebook(executed / "10_capacity_train_8.ipynb", answer="another notebook", given="b = 8")
    monkeypatch.setattr(store_outputs, "NOTEBOOKS", sorted(folder.glob("*.ipynb")))
    own = store_outputs.code_cells(folder / "10_capacity.ipynb")
    found = list(store_outputs.executed_like(own, "10_capacity", [results]))
    assert [cells[-1].outputs[0].text for _, cells in found] == ["right"]
    assert len(found[0][1]) == len(own)
