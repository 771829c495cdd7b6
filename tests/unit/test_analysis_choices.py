"""What the choices do: equal sides differ by nothing, each rule gives its own score."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from vqad_lib.analysis import choices
from vqad_lib.analysis.choice_list import LIST, Choice, measurements
from vqad_lib.analysis.choices import restoration_scores
from vqad_lib.config import DetectorConfig, Profile, load_profile, profile_from_mapping
from vqad_lib.detectors.residuals import anomaly_map
from vqad_lib.experiment.digests import imported_files
from vqad_lib.experiment.run import Run, RunInfo
from vqad_lib.reporting.tables import save_table

REPOSITORY = Path(__file__).resolve().parents[2]
LABELS = RunInfo(profile="tiny", dataset="synthetic", perceptual="", seed=0)


@pytest.fixture
def run(tmp_path, profile_mapping) -> Run:
    """A run without frames, but for the name of their data set: nothing here looks at one."""
    frames = SimpleNamespace(dataset="synthetic")
    return Run(tmp_path, profile_from_mapping(profile_mapping, source="test"), frames, torch.device("cpu"))


def scores(values: dict[str, list[float]], *, detector="light_pixel_wise", labels=(0, 0, 1, 1)) -> pd.DataFrame:
    """Test images a, b, ... with scores by side."""
    n = len(labels)
    return pd.concat(
        pd.DataFrame(
            {
                "image_id": [f"{i:03d}" for i in range(n)],
                "clip": [f"clip{i % 2}" for i in range(n)],
                "label": labels,
                "split": "test",
                "detector": detector,
                "threshold_percentile": 90,
                "threshold_nats": 1.0,
                "score": side,
                "side": name,
            }
        )
        for name, side in values.items()
    )


@pytest.mark.parametrize("profile", ["smoke", "demo", "workstation", "paper"])
def test_choices_are_possible_in_every_profile(profile, run):
    """Each changes something, in keys that exist, to values that a network can be built from."""
    loaded: Profile = load_profile(REPOSITORY / "profiles" / f"{profile}.yaml")
    run = replace(run, profile=loaded)
    for choice in choices.choices(loaded).values():
        base = run.changed(choice.base)
        other = base.changed(choice.changes)
        assert bool(choice.changes) == (other.profile != base.profile), choice.name
        heads = other.profile.gpt2
        assert heads.width % heads.heads == 0
        assert choice.default != choice.other


def test_expensive_choices_are_measured_on_the_clip_disjoint_split(run):
    both = measurements(run.profile, ("paper", "official"))
    assert {("random_second_half", "paper"), ("restoration", "paper")} <= set(both)
    assert {split for name, split in both if name not in ("random_second_half", "restoration")} == {"official"}
    assert {split for _, split in measurements(run.profile, ("paper",))} == {"paper"}
    assert len(set(both)) == len(both)


def test_difference_of_two_sides(run):
    """AUROC 0.5 against 1; equal sides differ by 0 with an interval of no width."""
    choice = Choice(name="x", matter="m", paper="", published="", default="a", other="b")
    sides = scores({"default": [1.0, 3.0, 2.0, 2.0], "other": [1.0, 2.0, 3.0, 4.0]})
    (row,) = choices.score_rows(run, choice, sides, scheme="paper", other="other")
    assert (row["default"], row["other"], row["difference"]) == (0.5, 1.0, 0.5)
    assert (row["model"], row["detector"], row["metric"]) == ("GT", "light_pixel_wise", "AUROC")
    assert row["difference_low"] <= 0.5 <= row["difference_high"]
    assert row["percentile"] == "90"
    same = scores({"default": [1.0, 3.0, 2.0, 2.0], "other": [2.0, 6.0, 4.0, 4.0]})
    (row,) = choices.score_rows(run, choice, same, scheme="paper", other="other")
    assert (row["difference"], row["difference_low"], row["difference_high"]) == (0, 0, 0)


def test_images_are_paired_by_name(run):
    """The order of the rows of either side plays no part."""
    choice = Choice(name="x", matter="m", paper="", published="", default="a", other="b")
    sides = scores({"default": [1.0, 3.0, 2.0, 2.0], "other": [1.0, 2.0, 3.0, 4.0]})
    shuffled = sides.sample(frac=1, random_state=1)
    options = {"scheme": "paper", "other": "other"}
    pd.testing.assert_frame_equal(
        pd.DataFrame(choices.score_rows(run, choice, shuffled, **options)),
        pd.DataFrame(choices.score_rows(run, choice, sides, **options)),
    )


def test_regenerative_rows_only_where_an_autoencoder_changes(run):
    sides = scores({"default": [1.0, 3.0, 2.0, 2.0], "other": [1.0, 2.0, 3.0, 4.0]}, detector="regenerative")
    by_name = choices.choices(run.profile, "trained")
    options = {"scheme": "paper", "other": "other"}
    assert choices.score_rows(run, by_name["random_second_half"], sides, **options) == []
    (row,) = choices.score_rows(run, by_name["hinge"], sides.assign(threshold_percentile=-1), **options)
    assert row["percentile"] == "", "no lambda"


def test_readings_of_the_same_scores(run):
    """By hand: AUROC and best balanced accuracy are 3/4; F1 is 2/3 at the validation threshold, 0.8 at the best."""
    test = scores({"x": [1.0, 3.0, 2.0, 4.0]}, detector="sample_wise")
    validation = scores({"x": [1.0, 2.0, 3.5, 5.0]}, detector="sample_wise").assign(split="validation")
    rows = choices.evaluation_rows(run, pd.concat([validation, test]), model="VP", scheme="paper")
    area, threshold = rows
    assert (area["choice"], area["default"], area["other"]) == ("auc_from_predictions", 0.75, 0.75)
    assert threshold["choice"] == "test_set_threshold"
    np.testing.assert_allclose([threshold["default"], threshold["other"]], [2 / 3, 0.8])
    np.testing.assert_allclose(threshold["difference"], 0.8 - 2 / 3)
    # at 3.5 no normal image of 1 and 3 is called anomalous, at 2 one of the two; lambda at the one percentile there is
    assert (threshold["default_fpr"], threshold["other_fpr"], threshold["percentile"]) == (0, 0.5, "90")
    assert "default_fpr" not in area


def test_seeds_come_from_the_result_tables(run):
    table = pd.DataFrame({"model": ["GT", "VP"], "auroc": [0.5, 0.8], "auroc_sd": [0.01, 0.02]})
    save_table(table, "table_08", labels=LABELS, folder=run.tables)
    choice = Choice(name="x", matter="m", paper="", published="", default="a", other="b")
    same, another = [1.0, 3.0, 2.0, 2.0], [1.0, 2.0, 3.0, 4.0]
    options = {"scheme": "paper", "other": "other"}
    (row,) = choices.score_rows(run, choice, scores({"default": same, "other": another}), **options)
    assert (row["default"], row["seed_sd"]) == (0.5, 0.01)
    (row,) = choices.score_rows(run, choice, scores({"default": another, "other": same}), **options)
    assert row["default"] == 1
    assert np.isnan(row["seed_sd"]), "not the number that the table has, so its seeds say nothing"


def test_restoration_rules(run):
    """The first n restorations of all, the mean or the maximum of the map, with or without smoothing."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 9, 9, generator=generator) * 2 - 1
    restorations = torch.rand(2, 5, 3, 9, 9, generator=generator) * 2 - 1
    config: DetectorConfig = run.profile.detectors
    rules = {
        "default": (config, "mean"),
        "maximum": (config, "max"),
        "five": (replace(config, n_restorations=5), "mean"),
        "neighbours": (replace(config, n_restorations=5, smooth_over="pixels_and_restorations"), "mean"),
        "clamped": (replace(config, map_limit=0.05), "mean"),
        "unsmoothed": (replace(config, min_pool_px=1, average_pool_px=1), "mean"),
    }
    found = restoration_scores(images, restorations, rules)
    expected = anomaly_map(images, restorations[:, :2], config)
    np.testing.assert_allclose(found["default"], expected.mean((1, 2)))
    np.testing.assert_allclose(found["maximum"], expected.amax((1, 2)))
    np.testing.assert_allclose(found["five"], anomaly_map(images, restorations, config).mean((1, 2)))
    assert (found["clamped"] < found["default"]).all()
    mixed = anomaly_map(images, restorations, replace(config, smooth_over="pixels_and_restorations"))
    np.testing.assert_allclose(found["neighbours"], mixed.mean((1, 2)))
    assert (found["neighbours"] < found["five"]).all(), "the minimum runs over neighbours too"
    residual = (images[:, None] - restorations[:, :2]).abs() / 2
    weights = (1 / residual.mean((2, 3, 4))).softmax(1)
    np.testing.assert_allclose(found["unsmoothed"], (weights * residual.mean((2, 3, 4))).sum(1), rtol=1e-5)


@pytest.mark.parametrize("profile", ["smoke", "demo", "workstation", "paper"])
def test_each_choice_about_restorations_changes_the_scores(profile, run):
    """Two sides that both do nothing would be no measurement; so each differs by more than rounding."""
    loaded = load_profile(REPOSITORY / "profiles" / f"{profile}.yaml")
    run = replace(run, profile=loaded)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1
    strength = torch.rand(2, 15, 3, 1, 1, generator=generator) * 0.2 + 0.1
    restorations = images[:, None] + strength * (torch.rand(2, 15, 3, 64, 64, generator=generator) - 0.5)
    every = [c for c in choices.choices(loaded, "restorations").values() if c.changes]
    rules = {choice.name: (run.changed(choice.changes).profile.detectors, "mean") for choice in every}
    found = restoration_scores(images, restorations, {"default": (loaded.detectors, "mean")} | rules)
    for choice in every:
        assert np.abs(found[choice.name] / found["default"] - 1).max() > 1e-3, choice.name
    numbers = [c.other for c in every if "detectors.n_restorations" in c.changes]
    assert "15" in numbers


def test_what_was_not_measured_is_left_out(run, monkeypatch):
    monkeypatch.setattr(Run, "schemes", ("paper", "official"))
    monkeypatch.setattr(choices, "combination_scores", lambda *_: {})
    assert choices.fidelity_rows(run).empty


def test_digests_see_the_list_of_choices():
    files = imported_files(REPOSITORY, REPOSITORY / "notebooks" / "13_fidelity_measure.ipynb")
    assert LIST in files
