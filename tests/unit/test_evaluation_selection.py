"""The percentile that validation chooses, and the AUROC averages over clips, by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from vqad_lib.errors import VqadError
from vqad_lib.evaluation.metrics import paper_metrics
from vqad_lib.evaluation.selection import choose_percentile, clip_auroc

LABELS = [0, 0, 0, 1, 1, 1]


def scored(scores_of, labels=LABELS):
    """A validation table from {percentile: scores}."""
    return pd.DataFrame(
        [
            {"threshold_percentile": percentile, "label": label, "score": score}
            for percentile, scores in scores_of.items()
            for label, score in zip(labels, scores, strict=True)
        ]
    )


# A: AUROC 8/9, balanced accuracy 5/6; B: AUROC 6/9, balanced accuracy 5/6; C: AUROC 1/2
A, B, C = [1, 2, 4, 3, 5, 6], [1, 2, 6, 3, 4, 5], [1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("scores_of", "metrics", "chosen"),
    [
        ({20: C, 60: B, 90: A}, "held_out", 90),
        ({20: C, 90: A, 60: A}, "held_out", 60),
        ({20: C, 60: B, 90: B}, "paper", 60),
        ({90: B, 20: C}, "paper", 90),
    ],
)
def test_best_percentile_and_the_lowest_of_equals(scores_of, metrics, chosen):
    assert choose_percentile(scored(scores_of), metrics=metrics, fallback=10) == chosen


def test_the_two_kinds_of_metrics_can_disagree():
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    # one threshold splits B at 3/4 and 1; A ranks more pairs but splits worse
    a, b = [1, 2, 4, 6, 3, 5, 7, 8], [2, 3, 4, 5, 1, 6, 7, 8]
    assert roc_auc_score(labels, a) > roc_auc_score(labels, b)
    assert paper_metrics(labels, a)["auc"] < paper_metrics(labels, b)["auc"]
    table = scored({30: a, 70: b}, labels)
    assert choose_percentile(table, metrics="held_out", fallback=10) == 30
    assert choose_percentile(table, metrics="paper", fallback=10) == 70


def test_equal_areas_of_the_paper_leave_the_lowest_percentile_whatever_their_f1():
    labels = [0, 0, 0, 0, 1, 1]
    # both have balanced accuracy 3/4: all normal and one anomalous right, or half the normal and all anomalous right
    cautious, eager = [1, 1, 1, 1, 1, 2], [1, 1, 2, 2, 2, 2]
    first, second = paper_metrics(labels, cautious), paper_metrics(labels, eager)
    assert first["auc"] == second["auc"] == 0.75
    assert first["f1"] > second["f1"]
    assert choose_percentile(scored({10: eager, 50: cautious}, labels), metrics="paper", fallback=10) == 10


def test_row_order_does_not_matter():
    table = scored({20: B, 60: A, 90: A})
    shuffled = table.sample(frac=1, random_state=0)
    assert choose_percentile(shuffled, metrics="held_out", fallback=10) == 60


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("metrics", ["paper", "held_out"])
def test_one_class_falls_back(label, metrics):
    table = scored({20: A, 98: A}, [label] * 6)
    assert choose_percentile(table, metrics=metrics, fallback=98) == 98


def test_percentile_refusals():
    with pytest.raises(VqadError, match=r"^validation of official: no scores"):
        choose_percentile(scored({20: A}).iloc[:0], metrics="held_out", fallback=20, what="validation of official")
    with pytest.raises(VqadError, match=r"^validation split, percentile 60: 1 of 6 scores are NaN"):
        choose_percentile(scored({20: A, 60: [np.nan, *A[1:]]}), metrics="held_out", fallback=20)


def test_clip_averages_by_hand():
    # clip a: perfectly ranked, low scores; clip b: the anomalous frame below one of two normal ones, high scores
    labels = [0, 1, 0, 1, 0, 0]
    scores = [0.0, 1.0, 10.0, 15.0, 20.0, 5.0]
    clips = ["a", "a", "b", "b", "b", "c"]
    result = clip_auroc(labels, scores, clips)
    assert list(result) == ["micro_auroc", "micro_auroc_normalised", "macro_auroc", "clips_in_macro"]
    assert result["micro_auroc"] == pytest.approx((1 + 3) / 8)
    # normalised: a 0 1, b 0 1/2 1, c (one frame) 0
    assert result["micro_auroc_normalised"] == pytest.approx((3.5 + 3) / 8)
    assert result["micro_auroc_normalised"] == roc_auc_score(labels, [0, 1, 0, 0.5, 1, 0])
    assert result["macro_auroc"] == pytest.approx((1 + 0.5) / 2)
    assert result["clips_in_macro"] == 2


def test_scaling_each_clip_changes_the_micro_average_only():
    rng = np.random.default_rng(0)
    clips = np.repeat(np.arange(5), 20)
    labels = np.tile([0, 0, 0, 1], 25)
    scores = rng.normal(size=100) + labels
    plain, scaled = (clip_auroc(labels, values, clips) for values in (scores, scores * (1 + clips) + 9 * clips))
    assert scaled["micro_auroc"] != pytest.approx(plain["micro_auroc"], abs=1e-3)
    for key in ("micro_auroc_normalised", "macro_auroc", "clips_in_macro"):
        assert scaled[key] == pytest.approx(plain[key], abs=1e-12)


def test_clips_of_one_class_each_have_no_macro_average():
    result = clip_auroc([0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0], ["a", "a", "b", "b"])
    assert result["clips_in_macro"] == 0
    assert np.isnan(result["macro_auroc"])
    assert result["micro_auroc"] == 1


def test_clip_refusals():
    with pytest.raises(VqadError, match=r"^test of official: all 2 images are normal"):
        clip_auroc([0, 0], [1.0, 2.0], ["a", "a"], what="test of official")
