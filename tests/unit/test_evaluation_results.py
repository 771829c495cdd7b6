"""A result row: what is chosen on validation stays chosen, and point values are scikit-learn's own."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from vqad_lib.analysis.model_comparison import leak_row
from vqad_lib.config import EvaluationConfig
from vqad_lib.errors import VqadError
from vqad_lib.evaluation.bootstrap import result_row
from vqad_lib.evaluation.metrics import choose_threshold, paper_metrics, paper_row

CONFIG = EvaluationConfig(bootstrap_resamples=200, bootstrap_seed=0, normal_quantile=0.95, unsupervised_percentile=98)
KEYS = [f"{metric}{end}" for metric in ("f1", "auroc", "auprc") for end in ("", "_low", "_high")]


def split(n, seed, share=0.4):
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < share).astype(np.int64)
    score = (rng.normal(size=n) + 1.5 * label).astype(np.float32)
    clip = [f"Test{i // 25:03d}" for i in range(n)]
    return pd.DataFrame({"label": label, "score": score, "clip": clip})


@pytest.mark.parametrize("by_clip", [False, True])
def test_row_is_sklearns_at_the_threshold_of_validation(by_clip):
    validation, test = split(200, 1), split(300, 2)
    row = result_row(validation, test, config=CONFIG, by_clip=by_clip, what="sample-wise, official")
    assert list(row) == [*KEYS, "threshold_score"]
    threshold = choose_threshold(validation["label"], validation["score"], normal_quantile=0.95)
    label, score = test["label"], test["score"].astype(np.float64)
    assert row["threshold_score"] == threshold
    assert row["f1"] == f1_score(label, score >= threshold)
    assert row["auroc"] == roc_auc_score(label, score)
    assert row["auprc"] == average_precision_score(label, score)
    assert all(type(value) is float for value in row.values())
    for metric in ("f1", "auroc", "auprc"):
        assert row[f"{metric}_low"] < row[metric] < row[f"{metric}_high"]


def test_test_scores_do_not_move_the_threshold():
    validation = split(200, 1)
    thresholds = {
        result_row(validation, test, config=CONFIG, by_clip=False, what="x")["threshold_score"]
        for test in (split(100, 2), split(100, 3, share=0.8))
    }
    assert len(thresholds) == 1


def test_validation_of_normal_images_alone_will_do():
    validation = split(100, 1, share=0.0)
    row = result_row(validation, split(200, 2), config=CONFIG, by_clip=True, what="x")
    above = (validation["score"].astype(np.float64) >= row["threshold_score"]).mean()
    assert 0.03 <= above <= 0.05


def test_clip_is_not_asked_for_where_images_are_drawn():
    test = split(100, 2).drop(columns="clip")
    assert result_row(split(100, 1), test, config=CONFIG, by_clip=False, what="x")["auroc"] > 0.5


def test_paper_row_reads_the_reported_data():
    test = split(300, 2)
    best = paper_metrics(test["label"], test["score"])
    assert paper_row(test, "sample-wise, paper") == {"f1_paper_metrics": best["f1"], "auc_paper_metrics": best["auc"]}


def test_refusals_name_the_result_and_the_split():
    what = "sample-wise, official"
    normal, anomalous, mixed = split(50, 1, share=0.0), split(50, 1, share=1.1), split(50, 1)
    cases = [
        (lambda: result_row(mixed, normal, config=CONFIG, by_clip=False, what=what), "test split: all 50 images are"),
        (lambda: result_row(anomalous, mixed, config=CONFIG, by_clip=False, what=what), "validation split: all 50"),
        (lambda: result_row(mixed.iloc[:0], mixed, config=CONFIG, by_clip=False, what=what), "validation split: no"),
        (lambda: paper_row(normal, what), "test split: all 50 images are normal"),
    ]
    for measure, message in cases:
        with pytest.raises(VqadError) as caught:
            measure()
        assert str(caught.value).startswith(f"{what}: {message}")


def test_leak_looks_at_normal_test_frames_by_hand():
    test = pd.DataFrame({"label": [0, 0, 0, 0, 1, 1], "score": [1.0, 2.0, 3.0, 6.0, 5.0, 9.0]})
    away = np.array([1.0, 1.0, 3.0, np.nan, 40.0, 44.0])  # the anomalous frames, far from training, play no part
    assert leak_row(test, away, is_video=True, what="paper") == {
        "median_distance_normal": 2.5,
        "median_distance_anomalous": 7.0,
        "median_frames_to_training": 1.0,
        "test_frames_next_to_training": 0.5,
        "auroc": 7 / 8,
    }


def test_leak_of_unseen_clips_and_of_single_images():
    test = pd.DataFrame({"label": [0, 0, 1], "score": [1.0, 2.0, 3.0]})
    unseen = leak_row(test, np.full(3, np.nan), is_video=True, what="official")
    assert np.isnan(unseen["median_frames_to_training"])
    assert unseen["test_frames_next_to_training"] == 0.0
    images = leak_row(test, np.full(3, np.nan), is_video=False, what="paper")
    assert np.isnan(images["test_frames_next_to_training"])


def test_leak_of_one_class_is_named():
    with pytest.raises(VqadError, match="official: test split: all 2 images are normal"):
        leak_row(pd.DataFrame({"label": [0, 0], "score": [1.0, 2.0]}), np.ones(2), is_video=True, what="official")
