"""Several training seeds: which runs belong together, what tables say of them, and what the claims make of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from vqad_lib.analysis.claims import AS_GOOD_AS, codebook_rows, light_rows, spatial_rows, tally, verdict
from vqad_lib.analysis.detection import detector_rows, regenerative_rows
from vqad_lib.config import profile_from_mapping
from vqad_lib.data.datasets import prepare_frames
from vqad_lib.evaluation.metrics import held_out_metrics
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import combination_scores
from vqad_lib.files import write_json
from vqad_lib.models.registry import COMBINATIONS
from vqad_lib.reporting.tables import markdown_table

GAIN = {"VP": 0.5, "VT": 0.5, "GP": 2.0, "GT": 2.0}  # how well each combination tells the classes apart


@pytest.fixture
def run(tmp_path: Path, profile_mapping: dict) -> Run:
    """Synthetic frames, no networks."""
    profile_mapping["seed"] = 5
    profile = profile_from_mapping(profile_mapping, source="test")
    options = {"size_px": 16, "cache_dir": tmp_path / "frames", "synthetic": profile.data.synthetic}
    frames = prepare_frames(dataset="synthetic", data_root=None, **options)
    return Run(tmp_path, profile, frames, torch.device("cpu"))


def ask_for_seeds(run: Run, seeds: int, **changed: str) -> None:
    settings = {"profile": run.profile.name, "seed": "5", "seeds": str(seeds), "data_digest": run.frames.digest}
    write_json(run.root / "data" / "derived" / "run.json", settings | changed)


def write_scores(run: Run, scheme: str) -> None:
    """Made-up scores of 120 test images in 6 clips; light detection is a bit worse than the full one."""
    labels = np.arange(120) % 2
    hard = np.random.default_rng(0).normal(0, 1, 120)
    for number, ((autoencoder, prior), model) in enumerate(COMBINATIONS.items()):
        blocks = []
        for split in ("validation", "test"):
            generator = np.random.default_rng([run.profile.seed, number, len(split)])
            for detector in ("sample_wise", "pixel_wise", "light_pixel_wise", "regenerative"):
                gain = GAIN[model] - 0.1 * (detector == "light_pixel_wise")
                blocks.append(
                    pd.DataFrame(
                        {
                            "image_id": [f"{split} {i:03d}" for i in range(120)],
                            "clip": [f"clip {i // 20}" for i in range(120)],
                            "split": split,
                            "label": labels,
                            "detector": detector,
                            "threshold_percentile": -1 if detector == "regenerative" else 90,
                            "threshold_nats": 1.0,
                            "score": gain * labels + hard + generator.normal(0, 0.2, 120),
                        }
                    )
                )
        path = run.scores_path(scheme, autoencoder, prior)
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.concat(blocks).to_parquet(path)


def test_one_seed_is_a_run_by_itself(run: Run) -> None:
    assert run.replicates() == [run]
    for other in ({"profile": "other"}, {"seed": "6"}, {"data_digest": "0"}):
        ask_for_seeds(run, 3, **other)
        assert run.replicates() == [run], "what another run asked for"


def test_replicates_have_the_seeds_after_and_folders_of_their_own(run: Run) -> None:
    ask_for_seeds(run, 3)
    first, *others = run.replicates()
    assert first == run
    assert [other.profile.seed for other in others] == [6, 7]
    assert replace(others[0].profile, seed=5) == run.profile
    scores = run.root / "reports" / run.profile.name / "synthetic" / "scores"
    assert run.scores_path("paper", "vqvae", "gpt2") == scores / "paper" / "vqvae_gpt2.parquet"
    assert others[0].scores_path("paper", "vqvae", "gpt2") == scores / "seed_6" / "paper" / "vqvae_gpt2.parquet"
    assert others[1].figures == run.figures / "seed_7"
    assert others[0].replicates() == [others[0]]


def test_tables_hold_mean_and_spread_over_seeds(run: Run) -> None:
    ask_for_seeds(run, 3)
    for replicate in run.replicates():
        write_scores(replicate, "paper")
    table = detector_rows(run, detector="sample_wise", scheme="paper")
    areas = []
    for replicate in run.replicates():
        tidy = combination_scores(replicate, "paper")["GP"]
        test = tidy[(tidy["split"] == "test") & (tidy["detector"] == "sample_wise")]
        areas.append(held_out_metrics(test["label"], test["score"], threshold=0.0)["auroc"])
    row = table.set_index("model").loc["GP"]
    assert len(set(areas)) == 3
    assert row["auroc"] == pytest.approx(areas[0])
    assert row["auroc_mean"] == pytest.approx(np.mean(areas))
    assert row["auroc_sd"] == pytest.approx(np.std(areas, ddof=1))
    assert row["seeds"] == 3
    assert f"{np.mean(areas):.3f} ± {np.std(areas, ddof=1):.3f}" in markdown_table(table)
    regenerative = regenerative_rows(run, scheme="paper")
    assert (regenerative["seeds"] == 3).all()
    assert (regenerative["auroc_sd"] > 0).all()


def test_tables_of_one_seed_have_no_such_columns(run: Run) -> None:
    write_scores(run, "paper")
    table = detector_rows(run, detector="pixel_wise", scheme="paper")
    assert not [column for column in table if column.endswith(("_mean", "_sd")) or column == "seeds"]


@pytest.mark.parametrize("scheme", ["paper", "official"])
def test_claims_find_what_was_put_in(run: Run, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask_for_seeds(run, 3)
    for replicate in run.replicates():
        write_scores(replicate, scheme)
    run = replace(
        run, profile=replace(run.profile, evaluation=replace(run.profile.evaluation, bootstrap_resamples=500))
    )
    codebook = codebook_rows(run, scheme)
    assert codebook["comparison"].tolist() == ["GP - VP", "GT - VT"] * 3
    assert "reported_difference" not in codebook, "the paper's are of other data"
    monkeypatch.setattr("vqad_lib.analysis.claims.DATA", run.frames.dataset)
    assert codebook_rows(run, scheme)["reported_difference"].iloc[0] == pytest.approx(0.997 - 0.942)  # Table 6
    assert codebook["verdict"].unique().tolist() == ["better"]
    assert tally(codebook) == "better 6 of 6"
    assert (codebook["seeds_agreeing"] == 3).all()
    spatial = spatial_rows(run, scheme)
    assert spatial["comparison"].tolist() == ["VP - VT", "GP - GT"] * 3
    assert set(spatial["verdict"]) == {"undecided"}
    light = light_rows(run, scheme)
    assert light["comparison"].tolist() == ["VP", "VT", "GP", "GT"]
    assert (light["difference"] < 0).all()


@pytest.mark.parametrize(
    ("low", "high", "direction", "equal"),
    [
        (0.01, 0.05, "better", "as good"),
        (-0.05, -0.03, "worse", "worse"),
        (-0.01, 0.05, "undecided", "as good"),
        (-0.05, 0.01, "undecided", "undecided"),
        (float("nan"), float("nan"), "undecided", "undecided"),
    ],
)
def test_verdicts_by_hand(low: float, high: float, direction: str, equal: str) -> None:
    assert verdict(low, high) == direction
    assert verdict(low, high, margin=AS_GOOD_AS, good="as good") == equal
