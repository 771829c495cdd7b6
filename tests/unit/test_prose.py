"""No number in the notebooks' prose goes stale, and no computed sentence says other than the tables.

Numbers stand in prose as references (eq. 7, Table 6), or as facts that come from somewhere: a profile, the paper's
tables, a constant of the code, a committed run. Here each fact is written with the values from there. What is left over
is a result that was typed, which belongs into a code cell.
"""

import json
import re
from math import log2

import nbformat
import pandas as pd
import pytest
from conftest import REPOSITORY

from beyond.motion_codes import Settings
from vqad_lib.analysis.claims import AS_GOOD_AS
from vqad_lib.config import load_profile
from vqad_lib.evaluation.localisation import HIGHEST_FPR
from vqad_lib.paper import reported

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("[0-9]*.ipynb"))
PAPER = load_profile(REPOSITORY / "profiles" / "paper.yaml")
K, GRID = PAPER.autoencoder.codebook_size, PAPER.data.image_size_px // 2 ** (len(PAPER.autoencoder.channels) - 1)
PERCENTILES = [f"{p}th" for p in PAPER.detectors.threshold_percentiles]
SECONDS = reported(10)["seconds_per_image"]
STAGES = json.loads((REPOSITORY / "reports" / "demo" / "ucsd_ped2" / "provenance.json").read_text())["stages"]
MINUTES = {
    "seconds": (0, 1),
    "half a minute": (0, 1),
    "under a minute": (0, 1),
    "about a minute": (0.5, 1.5),
    "a minute": (0.5, 1.5),
    "one to two minutes": (1, 2.5),
}
# an equation, a table, a figure, a section, a claim, a notebook; several of them; and headings
_NUMBER = r"\d+(?:\.\d+)?"
REFERENCE = re.compile(
    rf"(?:eq\.|[Tt]ables?|[Ff]igures?|[Ss]ections?|[Cc]laims?|[Nn]otebooks?|captions of) {_NUMBER}(?:_\w+)?"
    rf"(?:(?:, | and | to |-|, and ){_NUMBER})*"
    rf"|^#+ {_NUMBER} ·|^{_NUMBER}\. |(?:VQ|GPT)-2|\(\d\)|\(\d{{1,2}}\b(?=[ )])|\b\d\d_\w+"
)
RANGES = ("0 to 1", "[0, 1]", "0/1 decisions", "0 to 255", "100%", "near 0", "towards 1", "at 10 hardly more")
FACTS = {
    "00_data": ["80% of all normal frames"],  # section 3.8
    "01_architecture": [
        f"{GRID} x {GRID} codes out of {K}, an image is {GRID**2} times {log2(K):.0f} bits",
    ],
    "02_train_autoencoder": [
        f"more than {PAPER.training.vqvae.patience} times",
        "1 if one code does it all",
        "above 1",
    ],
    "03_train_prior": ["would pay 0"],
    "05_threshold_sweeps": [
        f"the {', '.join(PERCENTILES[:-1])} and {PERCENTILES[-1]} percentile",
        "17-20",
        "21-24",
        "0 and 99",
        "At 0 a",
        "at 99 only",
    ],
    "06_results": ["95% percentile bootstrap"],
    "07_regenerations": [f"{GRID}x{GRID} grid"],
    "08_seconds_per_image": [
        f"{SECONDS['Pixel-wise']:.0f} seconds against {SECONDS['Light Pixel-wise']:.2f}",
        f"an {GRID} x {GRID} grid",
    ],
    "09_localisation": [f"up to {HIGHEST_FPR}", f"has 0.5, the share of anomalous pixels, and {HIGHEST_FPR / 2}"],
    "09_restorations": [
        "10, 20 and 30 replaced codes",
        "in 12 (pixel-wise) and 13 (light)",
        "in 14 and 15",
        "out of 14 and 15",
    ],
    "10_capacity": ["codebook size 1048 where its table says 1024; 1024 is what", "16 codes", "1 if the autoencoder"],
    "11_baselines": ["95% bootstrap intervals"],
    "12_claims": ["the middle 95%", f"above {-AS_GOOD_AS}", f"at {-AS_GOOD_AS}"],
    "13_fidelity": ["95% interval", "the 2.5th to the 97.5th percentile", "left of 0", "crosses 0"],
    "14_ablation": ["95% interval", "hold 0"],
    "14_ablation_train": ["between 1 (one code"],
    "15_official": [f"from 1 to {Settings().coverage}", "flow, 1 for normal", "95% interval"],
    "16_two_pass": ["95% interval", "(Chang et al. 2022)"],
    "17_restorations": [
        "fifty restorations cost less than fifty times one",
        "four in five are above it at percentile 20",
        "one in ten at 90",
        "95% interval",
        "one pass of the prior",
    ],
    "40_own_images": ["et al. 2021", "a 95% interval", "up to 0.3"],
    "20_benchmarks": [f"restoration: {GRID**2} passes", "below 1 means", "exponent of 1"],
}


def prose_of(notebook: nbformat.NotebookNode) -> str:
    """Markdown cells without formulas, code, and where links lead."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for left_out in (r"\$\$.*?\$\$", r"\$[^$]*\$", r"```.*?```", r"`[^`]*`", r"(?<=\])\([^)]*\)"):
        text = re.sub(left_out, "", text, flags=re.DOTALL)
    return text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_numbers_in_prose_come_from_somewhere(path):
    text = prose_of(nbformat.read(path, as_version=4))
    text = re.sub(r"^Time\b.*?$", "", text, flags=re.MULTILINE)  # held by the next test
    for fact in FACTS.get(path.stem, []):
        assert fact in text, "a fact that is not told any more, or not so"
        text = text.replace(fact, "")
    for said in RANGES:
        text = text.replace(said, "")
    text = re.sub(REFERENCE.pattern, "", text, flags=re.MULTILINE)
    left = [text[max(m.start() - 40, 0) : m.end() + 20] for m in re.finditer(rf"(?<![\w.]){_NUMBER}", text)]
    assert left == [], "results belong into code cells, which compute them"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_minutes_are_those_of_the_committed_run(path):
    stages = [
        s["seconds"] / 60 for name, s in STAGES.items() if re.fullmatch(rf"{path.stem}(_(vq|\d|paper|off).*)?", name)
    ]
    text = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
    (line,) = re.findall(r"^Time\b[^:\n]*: (.*)$", text, flags=re.MULTILINE) or [""]
    said = re.search(r"([\w ]+?)(?: on one core)?(?:, by [\w ]+)? \(demo", line) or re.fullmatch(r"(seconds).*", line)
    if not (said and stages):
        return
    words = said[1].strip()
    low, high = MINUTES.get(words) or map(float, re.fullmatch(r"(\d+) to (\d+) minutes", words).groups())
    assert low - 0.5 <= min(stages)
    assert max(stages) <= high + 0.5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_notebooks_show_is_what_the_named_run_has(path):
    """Tables in the outputs, and verdicts counted from them, against the committed files of that run."""
    notebook = nbformat.read(path, as_version=4)
    found = re.search(r"run with profile = '(\w+)', dataset = '(\w+)'", json.dumps(notebook))
    if not found:
        return
    tables = REPOSITORY.joinpath("reports", *found.groups(), "tables")
    for text in computed(notebook):
        for number, scheme, table in re.findall(r"\*\*Table (\d+)(?:, scheme (\w+))?\*\*\n\n((?:\|.*\n?)+)", text):
            name = f"table_{int(number):02}{'_official' if scheme == 'official' else ''}.csv"
            check_table(table, pd.read_csv(tables / name))
        for claim, scheme, counts in re.findall(r"(\d)\. Scheme (\w+): ((?:[\w ]+ \d of \d(?:, )?)+)", text):
            (file,) = tables.glob(f"claim_{claim}_*.csv")
            verdicts = pd.read_csv(file).query("scheme == @scheme")["verdict"].value_counts()
            said = {word.strip(): int(n) for word, n in re.findall(r"([a-z ]+) (\d) of \d", counts)}
            assert said == verdicts.to_dict(), (claim, scheme)


def computed(notebook: nbformat.NotebookNode) -> list[str]:
    """Markdown that code cells put out."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output["data"]["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {})]


def check_table(shown: str, committed: pd.DataFrame) -> None:
    """Each number of a Markdown table is that of the CSV file, rounded as it is shown."""
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in shown.splitlines())
    assert len(rows) == len(committed)
    for cells, (_, row) in zip(rows, committed.iterrows(), strict=True):
        for column, cell in zip(header, cells, strict=True):
            number = re.match(r"-?\d+(?:\.(\d+))?$", cell.split(" ")[0])
            if number and column in committed:
                digits = len(number[1] or "")
                assert abs(float(number[0]) - float(row[column])) <= 0.51 * 10**-digits, (column, cell, row[column])
