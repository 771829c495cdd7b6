"""What every committed notebook has to be, read without executing it; nbval executes them."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from vqad_lib.config import load_profile, section_digest_source
from vqad_lib.models.registry import AUTOENCODERS, PRIORS
from vqad_lib.pipeline.contents import contents
from vqad_lib.pipeline.graph import expand, make_rules, notebook_table
from vqad_lib.reporting.report import described

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "notebooks"
STAGES = notebook_table(REPOSITORY)
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))  # but for the list of them
COMMON = ["profile", "dataset", "data_root", "seed", "perceptual"]
CHOICES = {
    "autoencoder": set(AUTOENCODERS),
    "prior": set(PRIORS),
    "latent_dim": {"8", "16", "32"},
    "codebook_size": {"16", "32", "64"},
    "choice": {"restoration", "random_second_half", "hinge"},
    "variant": {"vqvae", "vqgan", "hinge"},
    "scheme": {"paper", "official"},
    "networks": {"auto", "trained", "random"},
    "results": {"smoke/bench", "smoke/own_images"},  # nbval must not write where make bench does
    "replicate": {0},
    "minutes": {0.2},
    "flips": {False},
}
ALONE = ["20_benchmarks", "30_explore", "40_own_images"]  # no stage of make paper
CODE_LINES_AT_MOST = 85  # what one notebook alone does stands in it, to be read there
WRITTEN_OUT = {"04_one_frame": 130}  # what the library does, step by step
MACHINE_PATH = re.compile(r"(?<![\w.:/}<])/[A-Za-z][\w.-]*/[\w.-]+|\b[A-Z]:\\\w")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_stage = pytest.mark.parametrize("name", STAGES)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def parsed(path: Path) -> ast.Module:
    return ast.parse("\n".join(cell.source for cell in code_cells(path)))


def parameters(path: Path) -> dict[str, object]:
    """Names and defaults in the cell tagged `parameters`."""
    (cell,) = (cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", []))
    body = ast.parse(cell.source).body
    assert all(isinstance(statement, ast.Assign) for statement in body), "parameters are plain assignments"
    return {statement.targets[0].id: ast.literal_eval(statement.value) for statement in body}


def shown_text(path: Path) -> list[str]:
    """Sources and textual outputs; base64 of images may hold anything."""
    texts = [cell.source for cell in read(path).cells]
    for cell in code_cells(path):
        for output in cell.get("outputs", []):
            texts += [output.get("text", ""), *output.get("traceback", [])]
            texts += [value for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
    return texts


def test_notebooks_and_stages_are_the_same():
    assert [path.stem for path in NOTEBOOKS] == sorted([*STAGES, *ALONE])
    numbers = [path.stem[:2] for path in NOTEBOOKS]
    assert [number for number in numbers if not number.isdigit()] == []


@each_notebook
def test_valid_and_opens_with_its_question(path):
    notebook = read(path)
    nbformat.validate(notebook)
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert re.match(rf"# {path.stem[:2]} · \S", first.source)
    assert re.search(r"^Time\b", first.source, re.MULTILINE), "how long it takes"


@each_notebook
def test_language_is_known_to_papermill(path):
    metadata = read(path).metadata
    assert metadata.kernelspec.name == "python3"
    assert "python" in (metadata.kernelspec.get("language"), metadata.get("language_info", {}).get("name"))


@each_notebook
def test_parameters(path):
    found = parameters(path)
    assert list(found)[: len(COMMON)] == COMMON
    assert found["profile"] == "smoke"
    assert [found[name] for name in COMMON[1:]] == [""] * (len(COMMON) - 1)
    others = {name: value for name, value in found.items() if name not in COMMON}
    for name, value in others.items():
        assert value in CHOICES[name]
    assert list(others) == [name for name in CHOICES if name in others], "the order that file names have"


@each_notebook
def test_every_parameter_has_a_comment(path):
    (cell,) = (cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", []))
    for line in cell.source.splitlines():
        assert re.search(r"\S  # \S", line), line


@each_notebook
def test_every_parameter_is_used(path):
    read_names = {
        node.id for node in ast.walk(parsed(path)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    assert set(parameters(path)) <= read_names


@each_notebook
def test_notebook_is_thin(path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    assert [node for node in ast.walk(parsed(path)) if isinstance(node, kinds)] == []
    lines = [line for cell in code_cells(path) for line in cell.source.splitlines()]
    code = [line for line in lines if line.strip() and not line.strip().startswith("#")]
    assert len(code) <= WRITTEN_OUT.get(path.stem, CODE_LINES_AT_MOST)


def test_notebooks_are_to_be_read():
    words = [
        sum(len(cell.source.split()) for cell in read(path).cells if cell.cell_type == "markdown") for path in NOTEBOOKS
    ]
    assert sorted(words)[len(words) // 2] >= 500, "the median"


def test_index_lists_all_and_its_links_lead_somewhere():
    """It is what `contents` writes; minutes and pictures are of whatever run it was written for."""
    index = read(FOLDER / "index.ipynb")
    assert {cell.cell_type for cell in index.cells} == {"markdown"}
    text = "\n".join(cell.source for cell in index.cells)
    links = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    assert [link for link in links if not (FOLDER / link).exists()] == []
    assert {path.name for path in NOTEBOOKS} <= set(links)
    fresh = contents(REPOSITORY, "none/none", FOLDER)
    questions = [re.findall(r"\) \| ([^|]+) \|", cells[1].source) for cells in (index.cells, fresh.cells)]
    assert questions[0] == questions[1]
    assert len(questions[0]) == len(NOTEBOOKS)


@each_notebook
def test_no_failure_is_stored(path):
    outputs = [output for cell in code_cells(path) for output in cell.get("outputs", [])]
    assert [output.ename for output in outputs if output.output_type == "error"] == []


@each_notebook
def test_no_path_of_a_machine(path):
    assert [text for text in shown_text(path) if MACHINE_PATH.search(text)] == []


def test_the_search_for_paths_finds_some():
    for text in ("in ~home~a~b", "'~tmp~x.png'", "(~srv~project~data)", r"C:\Users\a"):
        assert MACHINE_PATH.search(text.replace("~", "/")), text
    for text in ("data/derived/run.json", "https://example.org/data/x", "../reports/tmp/", "a/tmp/b", "{root}/data/x"):
        assert not MACHINE_PATH.search(text), text


def figures_of_stages() -> list[str]:
    paths = [Path(path) for stage in STAGES.values() for key in ("outputs", "also") for path in stage.get(key, [])]
    return sorted(path.stem.removeprefix("{replicate_folder}") for path in paths if path.suffix == ".png")


@pytest.mark.parametrize("stem", figures_of_stages())
def test_every_figure_has_words_of_its_own(stem):
    assert described(stem).alt_text not in ("", described(stem).title)


@pytest.mark.parametrize("number", [12, 13, 16, 18])
def test_words_explain_test_frames_of_training_clips(number):
    assert "Frames named Train are test frames of scheme paper" in described(f"figure_{number}").alt_text


# -- notebooks.yaml ---------------------------------------------------------------------------------------------------


@each_stage
def test_named_sections_exist(name):
    profile = load_profile(REPOSITORY / "profiles" / "smoke.yaml")
    defaults = {key: value for key, value in parameters(FOLDER / f"{name}.ipynb").items() if key not in COMMON}
    sections = [section.format(**defaults) for section in STAGES[name]["profile"]]
    assert sections
    section_digest_source(profile, sections)  # a KeyError names the section


@each_stage
def test_declared_outputs_follow_the_contracts(name):
    """Each placeholder is a parameter, each stage of a notebook writes files of its own, in the agreed folders."""
    own = [one for one in parameters(FOLDER / f"{name}.ipynb") if one not in COMMON]
    templates = [
        r"figures/\{results\}/(\{replicate_folder\})?(figure_\d\d(_[a-z]+)?|[a-z][a-z\d_{}]+)\.png",
        r"reports/\{results\}/tables/(table_\d\d|[a-z][a-z\d_{}]+)\.csv",
        r"reports/\{results\}/scores/\{replicate_folder\}\{scheme\}/\{autoencoder\}_\{prior\}\.parquet",
        r"reports/\{results\}/scores/(\{replicate_folder\})?[a-z]+/[a-z_{}]+\.parquet",
    ]
    assert STAGES[name]["outputs"] or STAGES[name]["also"]
    for output in [*STAGES[name]["outputs"], *STAGES[name].get("also", [])]:
        assert any(re.fullmatch(template, output) for template in templates), output
        found = [name.removesuffix("_folder") for name in re.findall(r"\{(\w+)\}", output)]
        assert sorted(found) == sorted(["results", *own]), output


def test_each_output_has_one_maker():
    outputs = [output for entry in STAGES.values() for output in entry["outputs"]]
    assert len(outputs) == len(set(outputs))


@each_stage
def test_grid_is_what_the_notebook_is_parametrised_by(name):
    own = [one for one in parameters(FOLDER / f"{name}.ipynb") if one not in COMMON]
    assert "/".join(STAGES[name].get("grid", [])).split("/") == (own or [""])


# -- the graph and the Makefile --------------------------------------------------------------------------------------

VALUES = {
    "autoencoder": list(AUTOENCODERS),
    "prior": list(PRIORS),
    "latent_dim/codebook_size": ["8/32", "16/32"],
    "variant": ["vqvae", "vqgan"],
}


def graph(schemes: list[str], *, seeds: int = 1, table: dict = STAGES) -> dict:
    """Target -> name -> stage, where make fidelity measures restorations alone."""
    values = VALUES | {"scheme": schemes, "replicate": [str(n) for n in range(seeds)]}
    found = expand(table, values | {"choice/scheme": [f"restoration/{scheme}" for scheme in schemes]})
    return {target: {stage.name: stage for stage in stages} for target, stages in found.items()}


@pytest.mark.parametrize("schemes", [["paper", "official"], ["paper"]])
def test_stages_of_a_run(schemes):
    found = graph(schemes)
    assert len(found["paper"]) == 13 + 10 * len(schemes) + 2 + 1
    assert len(found["fidelity"]) == len(schemes) + 1
    with_seeds = graph(schemes, seeds=3)["paper"]
    assert len(with_seeds) == len(found["paper"]) + 2 * 10 * len(schemes)
    assert [*with_seeds][: len(found["paper"])] == [*found["paper"]], "all of the first seed comes first"


def test_what_stages_need():
    paper, fidelity, ablation, beyond = graph(["paper", "official"], seeds=2).values()
    of_paper = ("04_score_vqvae_pixelsnail_paper", "04_score_vqgan_pixelsnail_paper")
    of_paper += ("04_score_vqvae_gpt2_paper", "04_score_vqgan_gpt2_paper")
    scored = {name for name in paper if name.startswith("04_score")}
    first_seed = {name for name in scored if "replicate" not in name}
    score = paper["04_score_vqgan_gpt2_official_replicate1"]
    assert score.needs == ("03_train_prior_vqgan_gpt2_official_replicate1",)
    assert paper[score.needs[0]].needs == ("02_train_autoencoder_vqgan_official_replicate1",)
    assert paper["05_threshold_sweeps"].needs == of_paper
    assert set(paper["06_results"].needs) == scored
    assert set(paper["10_capacity_train_8_32"].after) == first_seed, "and nobody waits for it to see the scores"
    alone = paper["08_seconds_per_image"]
    assert {*alone.after, alone.name} == set(paper), "times are taken when nothing else runs"
    assert fidelity["13_fidelity_measure_restoration_paper"].needs == of_paper
    assert len(fidelity["13_fidelity"].needs) == 2
    assert len(ablation["14_ablation"].needs) == 8
    assert set(beyond["16_two_pass"].needs) == set(beyond["17_restorations"].needs) == first_seed
    assert ablation["14_ablation_train_vqgan_paper_replicate1"].needs == (), "it trains what is not there"


def test_new_prior_needs_no_edit_here(monkeypatch):
    monkeypatch.setitem(VALUES, "prior", [*PRIORS, "another"])
    assert "04_score_vqgan_another_paper" in graph(["paper"])["paper"]["06_results"].needs


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("goal", "target"),
    [("results", "paper"), ("measured", "fidelity"), ("ablated", "ablation"), ("extended", "beyond")],
)
def test_make_executes_each_stage_once_after_what_it_needs(tmp_path, goal, target):
    for name in ("notebooks", "profiles", "vqad_lib", "beyond"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    derived = tmp_path / "data" / "derived"
    derived.mkdir(parents=True)
    found = graph(["paper", "official"])
    every = found["paper"] | found["fidelity"] | found["ablation"] | found["beyond"]
    stages = {target: list(of_target.values()) for target, of_target in found.items()}
    (derived / "run.mk").write_text(
        make_rules(stages, STAGES, {"profile": "smoke", "results": "smoke/synthetic", "started": "0"})
    )
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", "PYTHON=python3", goal],
        cwd=tmp_path,
        # the tests themselves may run under make, whose flags and level would reach this one
        env={key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    seen = []
    for line in (line for line in done.stdout.splitlines() if " stage " in line):
        seen.append(line.split("-m vqad_lib stage ")[1])
        before = {*every[seen[-1]].needs, *every[seen[-1]].after}
        assert before <= set(seen), f"{seen[-1]} comes before what it needs"
    assert len(seen) == len(set(seen))
    assert set(seen) >= set(found[target])
    *_, report, last = done.stdout.splitlines()
    assert "finished" in last
    assert ("-m vqad_lib report" in report) is (goal == "results")
    shown = {"paper": "index.html", "beyond": "tables/two_pass.csv"}.get(target, f"tables/{target}.csv")
    assert f"reports/smoke/synthetic/{shown}" in last


ODD = 'it\'s $HOME $(HOME) $(shell echo ran) $(b ${c `id` "q" \\ ~ #; & <b> '


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("goal", ["paper", "bench"])
@pytest.mark.parametrize("by", ["command line", "environment"])
def test_settings_reach_python_as_they_were_typed(tmp_path, goal, by):
    """Neither make nor the shell takes a $, a quote or a backtick in a folder's name for its own."""
    stub, told = tmp_path / "python", tmp_path / "told.json"
    stub.write_text(
        f"#!{sys.executable}\nimport json, sys\nif 'vqad_lib' in sys.argv:\n"
        f"    json.dump(sys.argv[3:], open({str(told)!r}, 'w'))\n    sys.exit(1)\n"
    )
    stub.chmod(0o755)
    given = {"DATA_ROOT": ODD, "PERCEPTUAL": "-x/$$y.pth", "SEED": ""}
    words = [f"{key}={value}" for key, value in given.items()] if by == "command line" else []
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "VQAD_"))}
    subprocess.run(
        ["make", goal, f"PYTHON={stub}", *words],
        cwd=REPOSITORY,
        env=environment | ({} if words else given),
        capture_output=True,
        check=False,
        timeout=600,
    )
    command, *options = json.loads(told.read_text())
    assert command == ("configure" if goal == "paper" else "bench")
    found = dict(option.split("=", 1) for option in options if option.startswith("--") and "=" in option)
    assert [found[f"--{key}"] for key in ("data-root", "perceptual", "seed")] == list(given.values())
