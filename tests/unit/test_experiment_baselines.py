"""The rows of Table 5 and the leak in time, on a tiny synthetic run with scores that are made up."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from vqad_lib.analysis.detection import NEAREST
from vqad_lib.analysis.model_comparison import (
    BY_GAP,
    LEFT_OUT,
    OTHER_SCHEME,
    best_detector,
    gap_rows,
    left_out_rows,
    scores_behind,
    table_5,
)
from vqad_lib.config import profile_from_mapping
from vqad_lib.data.datasets import prepare_frames
from vqad_lib.data.nearest import WHOLE_CLIP, nearest_training_distances
from vqad_lib.errors import VqadError
from vqad_lib.experiment import scores as made
from vqad_lib.experiment.run import Run, configured
from vqad_lib.experiment.scores import BY_ANOMALIB, NOT_INSTALLED, baseline_scores
from vqad_lib.models.registry import COMBINATIONS
from vqad_lib.reporting.plots import leak_in_time_figure

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = list(COMBINATIONS.values())
TIDY = ["image_id", "clip", "split", "label", "detector", "threshold_percentile", "threshold_nats", "score"]


@pytest.fixture
def run(tmp_path, profile_mapping):
    """Six clips of eight frames."""
    profile_mapping["data"]["synthetic"] |= {"train_clips": 3, "test_clips": 3, "frames_per_clip": 8}
    profile = profile_from_mapping(profile_mapping, source="test")
    frames = prepare_frames(
        dataset="synthetic", data_root=None, size_px=16, cache_dir=tmp_path / "frames", synthetic=profile.data.synthetic
    )
    (tmp_path / "vqad_lib").symlink_to(REPOSITORY / "vqad_lib")
    return Run(tmp_path, profile, frames, torch.device("cpu"))


@pytest.fixture
def without_anomalib(monkeypatch):
    monkeypatch.setattr(made, "anomalib_version", lambda: "")


@pytest.mark.parametrize(
    ("profile", "perceptual", "weights"),
    [
        ("smoke", "", "random"),
        ("demo", "", "random"),
        ("paper", "", "imagenet"),
        ("demo", "imagenet", "imagenet"),
        ("paper", "random", "random"),
        ("paper", "vgg16.pth", "imagenet"),  # a file is one network's
        ("paper", "none", "imagenet"),
        ("demo", "hed", "random"),  # VGG16's, and the backbone is another
    ],
)
def test_weights_of_the_backbone_follow_the_rule_of_lpips(monkeypatch, profile, perceptual, weights):
    monkeypatch.setenv("VQAD_ROOT", str(REPOSITORY))
    assert configured(profile, perceptual=perceptual).baselines.dfkde.weights == weights


@pytest.mark.parametrize("perceptual", ["", "imagenet", "random"])
def test_a_file_that_the_profile_names_stays_and_is_found_from_the_repository(tmp_path, monkeypatch, perceptual):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "profiles").mkdir()
    text = (
        (REPOSITORY / "profiles" / "demo.yaml")
        .read_text()
        .replace("resnet50, weights: random", "resnet50, weights: w/a.pth")
    )
    (tmp_path / "profiles" / "demo.yaml").write_text(text)
    monkeypatch.setenv("VQAD_ROOT", str(tmp_path))
    loaded = configured("demo", perceptual=perceptual)
    assert loaded.baselines.dfkde.weights == str(tmp_path / "w" / "a.pth")
    # run.json hands the stages what was configured, and they configure again
    assert configured("demo", perceptual=loaded.gan.perceptual_weights) == loaded


@pytest.mark.parametrize("profile", ["smoke", "demo", "workstation", "paper"])
@pytest.mark.parametrize("perceptual", ["", "imagenet", "hed", "random", "none", "vgg16.pth"])
def test_stages_find_the_weights_that_were_chosen(monkeypatch, profile, perceptual):
    monkeypatch.setenv("VQAD_ROOT", str(REPOSITORY))
    chosen = configured(profile, perceptual=perceptual)
    assert configured(profile, perceptual=chosen.gan.perceptual_weights) == chosen
    assert (chosen.gan.perceptual_network == "vgg") == (profile in ("workstation", "paper") or perceptual == "hed")


def make_up_scores(run: Run, scheme: str) -> dict[str, pd.DataFrame]:
    """Every detector at percentiles 20 and 90; only pixel-wise detection of VT at 90 knows the labels."""
    splits, rng, found = run.splits(scheme), np.random.default_rng(0), {}
    for (autoencoder, prior), model in COMBINATIONS.items():
        blocks = []
        for detector in ("sample_wise", "pixel_wise", "light_pixel_wise"):
            for percentile in (20, 90):
                block = run.frames.index[["image_id", "clip", "label"]].assign(
                    split=splits, detector=detector, threshold_percentile=percentile, threshold_nats=1.0
                )
                noise = rng.random(len(block))
                knows = (model, detector, percentile) == ("VT", "pixel_wise", 90)
                blocks.append(block.assign(score=block["label"] + noise / 2 if knows else 0 * noise))
        tidy = pd.concat(blocks)
        found[model] = tidy[tidy["split"].isin(["validation", "test"])]
        made.write_scores(run.scores_path(scheme, autoencoder, prior), found[model])
    return found


def paper_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "schemes", ("paper",))
    make_up_scores(run, "paper")


def test_scores_are_tidy_and_found_again(run, monkeypatch):
    scores = baseline_scores(run, name="pixel_statistics", scheme="paper")
    assert list(scores) == TIDY
    assert set(scores["split"]) == {"validation", "test"}
    assert set(scores["detector"]) == {"pixel_statistics"}
    assert set(scores["threshold_percentile"]) == {-1}
    assert np.isfinite(scores["score"]).all()
    written = run.root / "reports" / "tiny" / "synthetic" / "scores" / "paper" / "baseline_pixel_statistics.parquet"
    pd.testing.assert_frame_equal(pd.read_parquet(written), scores)
    written.unlink()
    monkeypatch.setattr(made, "_score_baseline", lambda *_: pytest.fail("scored again"))
    pd.testing.assert_frame_equal(baseline_scores(run, name="pixel_statistics", scheme="paper"), scores)
    assert written.exists()


def test_nearest_frame_scores_each_test_frame(run):
    scores = baseline_scores(run, name="nearest_frame", scheme="official").set_index("image_id")["score"]
    splits, images = run.splits("official"), np.asarray(run.frames.images)
    test = np.flatnonzero(splits == "test")
    differences = images[test][:, None].astype(np.int64) - images[splits == "train"][None]
    expected = np.sqrt((differences**2).mean(axis=(2, 3, 4)).min(axis=1))
    np.testing.assert_allclose(scores[run.frames.index["image_id"].iloc[test]], expected, rtol=1e-14)


def test_best_detector_is_chosen_on_validation(run):
    best = {model: best_detector(tidy, what=model) for model, tidy in make_up_scores(run, "paper").items()}
    assert best == dict.fromkeys(MODELS, "sample_wise") | {"VT": "pixel_wise"}
    official = make_up_scores(run, "official")
    assert {best_detector(official[model], what=model) for model in MODELS} == {"sample_wise"}, "nothing to tell by"


@pytest.mark.usefixtures("without_anomalib")
def test_table_5_without_anomalib(run):
    for scheme in run.schemes:
        make_up_scores(run, scheme)
    tables = table_5(run)
    paper, official = (tables[p].set_index("model") for p in ("paper", "official"))
    assert list(paper.index) == [*MODELS, "Ganomaly", "DFKDE", NEAREST, "per-pixel mean and variance"]
    assert list(official.index) == list(paper.index)
    assert (paper.loc[["Ganomaly", "DFKDE"], "note"] == NOT_INSTALLED).all()
    assert paper.loc[["Ganomaly", "DFKDE"], ["detector", "f1_paper_metrics", "auroc"]].isna().all(axis=None)
    assert not [column for column in paper if column.startswith("reported_")], "the paper's are of other data"
    assert paper.at["VT", "detector"] == "pixel_wise"
    assert paper.at["VT", "auroc"] == 1.0
    assert paper.at["VP", "auroc"] == 0.5, "a score that is the same everywhere"
    assert paper.at[NEAREST, "auroc_official"] == official.at[NEAREST, "auroc"]
    behind = scores_behind(run, tables["paper"], scheme="paper")
    assert list(behind) == [*MODELS, NEAREST, "per-pixel mean and variance"]
    assert set(behind["VT"]["threshold_percentile"]) == {90}
    assert all(set(tidy["split"]) == {"test"} for tidy in behind.values())


def test_table_5_with_scores_of_anomalib(run, monkeypatch):
    monkeypatch.setattr(made, "anomalib_version", lambda: "1")
    for name in ("dfkde_scores", "ganomaly_scores"):
        monkeypatch.setattr(made, name, lambda _t, queries, **_o: np.arange(len(queries)) * 1.0)
    paper_alone(run, monkeypatch)
    table = table_5(run)["paper"].set_index("model")
    assert table.loc[["Ganomaly", "DFKDE"], "detector"].tolist() == list(BY_ANOMALIB)
    assert table.loc[["Ganomaly", "DFKDE"], "auroc"].between(0, 1).all()
    assert table["note"].tolist()[:6] == [""] * 5 + ["resnet18, random weights (not ImageNet)"]
    few = replace(run.profile.baselines.dfkde, pca_components=500)
    run = replace(run, profile=replace(run.profile, baselines=replace(run.profile.baselines, dfkde=few)))
    n = int((run.splits("paper") == "train").sum())
    note = table_5(run)["paper"].set_index("model").at["DFKDE", "note"]
    assert note.endswith(f"; {n - 1} principal components, for there are {n} training images")


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (
            ImportError("libGL.so.1: cannot open shared object file"),
            "not run: ImportError: libGL.so.1: cannot open shared",
        ),
        (OSError("no route to host"), "not run: OSError: no route to host"),
        (RuntimeError("two\nlines"), "not run: RuntimeError: two"),
        (VqadError("gan: /a/b.pth is no state dict"), "not run: gan: /a/b.pth is no state dict"),
        (EOFError(), "not run: EOFError: EOFError"),
    ],
)
def test_nothing_that_anomalib_does_stops_a_run(run, monkeypatch, error, note):
    def fail(*_args: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(made, "anomalib_version", lambda: "1")
    monkeypatch.setattr(made, "dfkde_scores", fail)
    monkeypatch.setattr(made, "ganomaly_scores", lambda _t, queries, **_o: np.arange(len(queries)) * 1.0)
    paper_alone(run, monkeypatch)
    tables = table_5(run)
    table = tables["paper"].set_index("model")
    assert table.at["DFKDE", "note"].startswith(note)
    assert table.loc["DFKDE", ["detector", "f1", "auroc"]].isna().all()
    assert np.isfinite(table.at["Ganomaly", "auroc"])
    assert "DFKDE" not in scores_behind(run, tables["paper"], scheme="paper")


def test_a_score_of_our_own_that_fails_is_an_error(run, monkeypatch):
    monkeypatch.setattr(made, "nearest_training_distances", lambda *_, **_options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        baseline_scores(run, name="nearest_frame", scheme="paper")


def test_weights_of_the_backbone_are_known_by_their_content(run, tmp_path, monkeypatch):
    path = tmp_path / "resnet.pth"
    dfkde = replace(run.profile.baselines.dfkde, weights=str(path))
    run = replace(run, profile=replace(run.profile, baselines=replace(run.profile.baselines, dfkde=dfkde)))
    monkeypatch.setattr(made, "anomalib_version", lambda: "1")
    scored = []
    monkeypatch.setattr(made, "dfkde_scores", lambda _t, q, **_o: scored.append(1) or np.arange(len(q)) * 1.0)
    for content in (b"first", b"first", b"other"):
        path.write_bytes(content)
        baseline_scores(run, name="dfkde", scheme="paper")
    assert len(scored) == 2, "found again while the file is the same, made anew when it is not"


# -- the leak in time ------------------------------------------------------------------------------------------------


def grey(levels: list[int]) -> np.ndarray:
    return np.array(levels, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 3, 2, 2), dtype=np.uint8)


def when(clips: str, numbers: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"clip": list(clips), "frame": numbers})


def test_nearest_beyond_gaps_by_hand():
    found = nearest_training_distances(
        grey([100, 50]),
        grey([101, 110, 130, 90]),
        query_index=when("ac", [5, 5]),
        training_index=when("aaab", [6, 8, 1, 5]),
        gaps=[1, 2, 4, WHOLE_CLIP],
    )
    # the first frame loses the one beside it (101), then 110 three frames on, then all of clip a but never clip b
    assert found.tolist() == [[1, 40], [10, 40], [10, 40], [10, 40]]
    alone = nearest_training_distances(
        grey([100]), grey([101, 130]), query_index=when("a", [5]), training_index=when("aa", [6, 1]), gaps=[1, 2, 4, 5]
    )
    assert alone.tolist() == [[1], [30], [30], [np.inf]]


def test_left_out_rows(run):
    rows = left_out_rows(run)
    assert rows["frames"].tolist() == ["1", "2", "4", "whole clip"]
    assert set(rows["view"]) == {LEFT_OUT}
    tidy = baseline_scores(run, name="nearest_frame", scheme="paper")
    tested = tidy[tidy["split"] == "test"]
    assert rows["normal_frames"].tolist() == [int((tested["label"] == 0).sum())] * 4
    behind = {"paper": {NEAREST: tested}}
    everything = gap_rows(run, behind)
    assert set(everything["view"]) == {BY_GAP}
    assert everything["normal_frames"].sum() == rows["normal_frames"].iloc[0], "each normal frame is in one group"


def test_figure_shows_every_model_and_group():
    bounds = {"auroc_low": 0.6, "auroc_high": 0.9, "normal_frames": 10}
    rows = [{"model": NEAREST, "view": LEFT_OUT, "frames": f, "auroc": 0.8, **bounds} for f in ("1", "2", "whole clip")]
    for model in (NEAREST, "VP"):
        rows += [{"model": model, "view": BY_GAP, "frames": f, "auroc": 0.8, **bounds} for f in ("1", "2 or more")]
        rows += [{"model": model, "view": OTHER_SCHEME, "frames": "", "auroc": 0.7, **bounds}]
    figure = leak_in_time_figure(pd.DataFrame(rows), left_out=LEFT_OUT)
    left, right = figure.axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["1\n(10)", "2\n(10)", "whole clip\n(10)"]
    assert left.lines[0].get_ydata().tolist() == [0.8] * 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [NEAREST, "VP"]
    assert len(right.get_xticklabels()) == 3
