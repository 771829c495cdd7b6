"""docs/extending.md, followed literally in a copy of the package: what it adds trains, scores and stands in a table."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = {
    recipe.split("\n", 1)[0]: re.findall(r"^   ```(\w+)\n   # (.+?)\n(.*?)^   ```$", recipe, re.DOTALL | re.MULTILINE)
    for recipe in (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8").split("\n## ")[1:]
}
NOTEBOOKS = ("05_threshold_sweeps", "06_results", "12_claims")
MOST = {"A prior": 4, "A detector": 3, "A data set": 2}  # places to edit
SCRIPT = """
import json
import sys

from vqad_lib.analysis.detection import detector_rows
from vqad_lib.experiment.networks import train_combination
from vqad_lib.experiment.run import open_run
from vqad_lib.experiment.scores import score_combination, write_scores
from vqad_lib.models.registry import COMBINATIONS
from vqad_lib.reporting.tables import load_table, save_table

run = open_run("smoke", dataset="named", data_root="mine")
names = {"autoencoder": "vqvae", "prior": "bigram", "scheme": "paper"}
train_combination(run, **names)
scores = score_combination(run, **names)
for autoencoder, prior in COMBINATIONS:  # the others would take as long, and the table is of all
    write_scores(run.scores_path("paper", autoencoder, prior), scores)
exec(sys.argv[1])
for path in sys.argv[2:]:  # notebooks, cell by cell
    space = {"__name__": "notebook", "display": lambda *_: None}
    for cell in json.loads(open(path).read())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), space)
        if "parameters" in cell["metadata"].get("tags", []):
            space |= {"dataset": "named", "data_root": "mine"}
print(json.dumps({
    "title": run.frames.title,
    "schemes": run.schemes,
    "models": list(COMBINATIONS.values()),
    "detectors": sorted(scores["detector"].unique()),
    "rows": rows.to_dict("records"),
    "table": (run.tables / "count_wise.csv").is_file(),
    "made": sorted(path.stem for path in run.tables.glob("*.csv")),
    "sweep": load_table(run.tables, "table_15")["model"].unique().tolist(),
    "claim": load_table(run.tables, "claim_1_codebook")["comparison"].unique().tolist(),
}))
"""


def without_margin(text: str) -> str:
    return "".join(line[3:] if line.strip() else line for line in text.splitlines(keepends=True))


def follow(root: Path, language: str, head: str, text: str) -> None:
    """Make the edit of one block of the page."""
    body = without_margin(text)
    if language == "python":
        place = root / head.removeprefix("new file: ")
        assert not place.exists(), head
        place.write_text(body, encoding="utf-8")
        return
    lines = (root / head).read_text(encoding="utf-8").splitlines()
    for hunk in body.split("@@\n"):
        written = [line[1:] for line in hunk.splitlines()]
        (known,) = (line[1:] for line in hunk.splitlines() if line[0] == " ")
        assert lines.count(known) == 1, f"{head}: {known}"
        at = lines.index(known)
        lines[at : at + 1] = written
    (root / head).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("recipe", MOST)
def test_places_to_edit_are_few(recipe):
    assert len(RECIPES[recipe]) <= MOST[recipe]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a run with a new prior and a new detector says of a new data set."""
    root = tmp_path_factory.mktemp("extended")
    (root / "notebooks").mkdir()
    for name in ("vqad_lib", "profiles", "data/paper"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "mine" / "camera").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for n in range(60):
        frame = generator.integers(0, 255 if n % 3 == 0 else 60, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(frame).save(root / "mine" / "camera" / f"{n:04d}{'_odd' if n % 3 == 0 else ''}.png")
    cells = []
    for language, head, text in (block for blocks in RECIPES.values() for block in blocks):
        if head.startswith("cell: "):
            cells.append(without_margin(text))
        else:
            follow(root, language, head, text)
    environment = os.environ | {
        "MPLBACKEND": "Agg",
        "VQAD_ROOT": str(root),
        "PYTHONPATH": str(root),
        "CUDA_VISIBLE_DEVICES": "",
    }
    paths = [str(REPOSITORY / "notebooks" / f"{name}.ipynb") for name in NOTEBOOKS]
    command = [sys.executable, "-c", SCRIPT, *cells, *paths]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_prior_with_logits_alone_is_trained_and_scores_by_every_detector(found):
    assert found["models"] == ["VP", "VT", "VB", "GP", "GT", "GB"]
    assert found["detectors"] == ["count_wise", "light_pixel_wise", "pixel_wise", "regenerative", "sample_wise"]


def test_the_papers_tables_stay_its_own(found):
    """Notebooks run with six combinations, and no number moves."""
    assert {*(f"table_{n:02d}" for n in (6, 7, 8, 9, 11, 12, *range(13, 25)))} <= {*found["made"]}
    assert found["sweep"] == ["GP"]
    assert found["claim"] == ["GP - VP", "GT - VT", "GB - VB"]


def test_a_detector_stands_in_a_table(found):
    (row,) = (row for row in found["rows"] if row["model"] == "VB")
    assert 0 <= row["auroc_low"] <= row["auroc"] <= row["auroc_high"] <= 1
    assert row["threshold_percentile"] in (20, 40, 60, 80, 90)
    assert found["table"]


def test_a_data_set_is_found_by_its_layout(found):
    assert (found["title"], found["schemes"]) == ("camera of mine", ["paper"])
