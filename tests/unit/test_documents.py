"""What the documents say of profiles, code and committed results holds."""

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import torch

from vqad_lib.analysis.choice_list import choices
from vqad_lib.config import load_profile
from vqad_lib.models.gpt2 import Gpt2
from vqad_lib.models.pixelsnail import CausalAttention
from vqad_lib.paper import caption, reported
from vqad_lib.pipeline.graph import stages_by_target

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    "README.md",
    "data/README.md",
    "docs/architecture.md",
    "docs/extending.md",
    "docs/fidelity.md",
    "docs/reference.md",
    "docs/reliability.md",
]
PAPER = load_profile(REPOSITORY / "profiles" / "paper.yaml")
SECTIONS = {field.name for field in dataclasses.fields(PAPER) if dataclasses.is_dataclass(getattr(PAPER, field.name))}
THEIRS = {"helper.py"}  # of the published code
DEMO, WORKSTATION = (f"reports/{profile}/ucsd_ped2/tables" for profile in ("demo", "workstation"))


def text_of(document: str) -> str:
    return (REPOSITORY / document).read_text(encoding="utf-8")


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


def profile_keys(text: str) -> set[str]:
    """Everything in backticks that begins with a section of a profile and a dot, without a value behind it."""
    names = {name.split(":")[0] for name in quoted(text)}
    return {name for name in names if name.split(".")[0] in SECTIONS and not re.search(r"[/ (]|\.(py|csv)$", name)}


def committed(table: str, folder: str = DEMO) -> pd.DataFrame:
    """A table of the repository; the test does not apply to results of one's own in its place."""
    path = f"{folder}/{table}.csv"
    if (
        not shutil.which("git")
        or subprocess.run(["git", "diff", "--quiet", "HEAD", "--", path], cwd=REPOSITORY).returncode
    ):
        pytest.skip("these are not the committed results")
    return pd.read_csv(REPOSITORY / path)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_keys_are_keys_of_a_profile(document):
    whole = dataclasses.asdict(PAPER)
    for key in profile_keys(text_of(document)):
        values = [whole]
        for name in key.split("."):
            values = [v for value in values for v in (value.values() if name == "*" else [value[name]])]
        assert values, key


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_are_named_are_there(document):
    named = {n for n in quoted(text_of(document)) if re.fullmatch(r"[\w./-]+\.(py|ipynb|yaml|j2|css)", n)} - THEIRS
    places = (REPOSITORY, REPOSITORY / "vqad_lib", *(REPOSITORY / "vqad_lib").iterdir(), REPOSITORY / "notebooks")
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


def test_readme_is_short_and_shows_a_result():
    text = text_of("README.md")
    assert len(text.splitlines()) <= 150
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text.split("## Two commands")[0])
    assert (REPOSITORY / picture).is_file()


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md"])
def test_links_lead_somewhere(document):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text_of(document))
    assert [link for link in links if not (REPOSITORY / document).parent.joinpath(link).exists()] == []


def test_every_dependency_has_its_reason():
    text = text_of("README.md").split("Why each package is there")[1].split("\n## ")[0]
    for name in ("requirements.in", "requirements-extra.in", "requirements-stress.in"):
        packages = re.findall(r"^([\w.-]+)", text_of(name), re.MULTILINE)
        assert [package for package in packages if not re.search(rf"\b{re.escape(package)}\b", text)] == []


def test_fidelity_names_the_keys_that_nothing_measures():
    text = text_of("docs/fidelity.md")
    table = text.split("## Where the published code differs from the paper")[1].split("\n## ")[0]
    measured = {key for choice in choices(PAPER).values() for key in (*choice.changes, *choice.base)}
    assert profile_keys(table) - measured == {"gan.adaptive_max"}
    assert "that have a key, other than `gan.adaptive_max` (" in " ".join(text.split())


def test_number_of_parameters_of_the_transformer():
    with torch.device("meta"):
        network = Gpt2(PAPER.gpt2, codebook_size=PAPER.autoencoder.codebook_size, grid=(8, 8))
    assert f"{sum(p.numel() for p in network.parameters()):,} (notebook 01" in text_of("docs/fidelity.md")


def test_which_captions_say_five_restorations():
    assert [n for n in range(11, 19) if "N = 5" in caption("figure", n).text] == [12, 13, 14, 15]
    assert "five restorations in 11-15, as the captions of 12-15 say" in text_of("docs/fidelity.md")


def test_half_size_attention_shows_nothing_to_the_first_two_rows():
    torch.manual_seed(0)
    attention = CausalAttention(3, 3, heads=1, key_dim=2, half_size=True)
    seen = attention(torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4))
    assert torch.equal(seen[:, :, :2], torch.zeros(1, 2, 2, 4))
    assert (seen[:, :, 2:] != 0).all()


def test_numbers_of_stages():
    settings = {"profile": "demo", "seed": "", "seeds": "1", "perceptual": ""}
    found = [
        len(stages_by_target(REPOSITORY, settings | {"dataset": dataset})["paper"])
        for dataset in ("synthetic", "folder")
    ]
    text = " ".join(text_of("docs/architecture.md").split())
    said = f"that is {found[0]} stages with two schemes and one seed; an image folder has one scheme and {found[1]}."
    assert said in text


def test_readme_shows_the_committed_table_6():
    rows = committed("table_06", WORKSTATION)
    for row in rows.itertuples():
        paper = "" if pd.isna(row.reported_auc) else f"{row.reported_auc:.3f}"
        area = f"{row.auroc:.3f} [{row.auroc_low:.3f}, {row.auroc_high:.3f}]"
        line = f"| {row.model} | {paper} | {row.auc_paper_metrics:.3f} | {area} | {row.auroc_official:.3f} |"
        assert line in text_of("README.md")
    by_model = rows.set_index("model")["auroc"]
    nearest = by_model.pop("nearest training frame")
    assert nearest > by_model.max() - 0.005, "does as well as they do"


def test_readme_says_that_scheme_official_is_about_speed():
    rows = committed("official_frame_auroc", WORKSTATION).set_index("method")
    speed, codes = rows.loc["largest speed, no model"], rows.loc["codes of motion"]
    text = " ".join(text_of("README.md").split())
    assert f"has AUROC {speed['auroc_micro']:.3f}, and codes of motion" in text
    assert f"{codes['auroc_micro']:.3f} [{codes['low']:.3f}, {codes['high']:.3f}]" in text


def test_readme_counts_the_verdicts_on_the_claims():
    names = ("1_codebook", "2_spatial", "3_light")
    tables = [committed(f"claim_{name}", WORKSTATION) for name in names]
    codebook, spatial, light = (table[table["scheme"] == "official"] for table in tables)
    assert codebook["verdict"].value_counts().to_dict() == {"better": 4, "undecided": 2}
    better = codebook[codebook["verdict"] == "better"]
    assert not (better["detector"] == "sample_wise").any()
    gains = better.loc[better["detector"] == "pixel_wise"]
    assert set(tables[0].loc[tables[0]["detector"] == "pixel_wise", "verdict"]) == {"better"}, "as fidelity.md says"
    text = " ".join(text_of("README.md").split())
    assert (
        "better than a VQ-VAE in 4 of 6 comparisons, each of them by restoration, and the other 2 are undecided" in text
    )
    for row in gains.itertuples():
        assert f"+{row.difference:.3f} [{row.difference_low:+.3f}, {row.difference_high:+.3f}]" in text
    assert spatial["verdict"].value_counts().to_dict() == {"undecided": 4, "worse": 2}
    assert "PixelSNAIL is better than the transformer in none of 6, and worse in 2" in text
    assert light["verdict"].value_counts().to_dict() == {"undecided": 3, "as good": 1}
    assert "Light restoration is as good as the full one in 1 of 4 and undecided in 3" in text
    assert all(set(table["seeds"]) == {1} for table in tables)
    assert "This is one training seed" in text


def test_fidelity_says_how_demo_differs_on_claim_1():
    rows = committed("claim_1_codebook")
    found = rows[rows["detector"] == "pixel_wise"].set_index(["scheme", "comparison"])["verdict"]
    assert found[found != "undecided"].to_dict() == dict.fromkeys([("paper", "GP - VP"), ("paper", "GT - VT")], "worse")
    assert "worse with both priors under scheme `paper`, and under scheme `official` both are undecided" in " ".join(
        text_of("docs/fidelity.md").split()
    )


def test_what_came_out_otherwise_is_in_the_committed_tables():
    by_codebook = committed("table_04").set_index("codebook_size")
    by_dimension = committed("table_03").set_index("latent_dim")
    for ours in ("auc_paper_metrics", "auroc"):
        assert (by_codebook[ours].idxmin(), by_codebook[ours].idxmax()) == (128, 1024)
        assert by_dimension[ours].idxmax() == 512
    assert {by_dimension["auc_paper_metrics"].idxmin(), by_dimension["auroc"].idxmin()} == {2048, 256}
    assert reported(4)["auc"].idxmax() == 128
    assert reported(3)["auc"].is_monotonic_decreasing
    assert all(reported(table)["auc"].idxmax() == "GP" for table in (7, 8))
    ganomaly = committed("table_05").set_index("model").loc["Ganomaly"]
    assert ganomaly["auc_paper_metrics"] < ganomaly["reported_auc"] - 0.1


def test_readme_says_what_came_of_the_tiles():
    place = REPOSITORY / "reports" / "own_images" / "folder_magnetic_tile"
    row, text = pd.read_csv(place / "by_kind.csv").iloc[0], " ".join(text_of("README.md").split())
    assert row["kind"] == "all"
    image, pixels = f"{row['auroc']:.2f} [{row['auroc_low']:.2f}, {row['auroc_high']:.2f}]", f"{row['pixel_auroc']:.2f}"
    said = f"AUROC {image}, of pixels {pixels}"
    assert said in text
    assert json.loads((place / "provenance.json").read_text())["trained"] in text
