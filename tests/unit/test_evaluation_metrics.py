"""Point values by hand, against scikit-learn and against the plain scan; every refusal by its message."""

import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score

from vqad_lib.errors import VqadError
from vqad_lib.evaluation.metrics import check_scores, choose_threshold, held_out_metrics, paper_metrics

# normal 1 2 3, anomalous 2 4: many ties when drawn by hypothesis
LABELS, SCORES = [0, 0, 0, 1, 1], [1.0, 2.0, 3.0, 2.0, 4.0]
LABELLED = st.lists(st.tuples(st.integers(0, 1), st.integers(-5, 5)), min_size=2, max_size=40).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


def test_paper_metrics_by_hand():
    # >= 4: tpr 1/2, fpr 0, 0.75; >= 3: 7/12; >= 2: tpr 1, fpr 2/3, 2/3
    result = paper_metrics(LABELS, SCORES)
    assert result["threshold"] == 4
    assert result["auc"] == 0.75
    # anomalous: precision 1, recall 1/2, F1 2/3; normal: precision 3/4, recall 1, F1 6/7
    assert result["f1"] == pytest.approx((2 / 3 + 6 / 7) / 2, abs=1e-15)


def test_paper_metrics_keeps_the_lowest_of_equally_good_thresholds():
    """Both 2 and 4 split at 3/4: the published scan goes upwards and meets 2, half of the normal images, first."""
    result = paper_metrics([0, 0, 0, 0, 1, 1], [1.0, 1.0, 3.0, 3.0, 2.0, 4.0])
    assert (result["auc"], result["threshold"]) == (0.75, 2)
    # >= 2: anomalous precision 1/2, recall 1, F1 2/3; normal precision 1, recall 1/2, F1 2/3 (at 4 it is .778)
    assert result["f1"] == pytest.approx(2 / 3, abs=1e-15)


def test_paper_metrics_of_worthless_scores_calls_all_anomalous():
    result = paper_metrics([0, 0, 1], [3.0, 3.0, 3.0])
    assert (result["auc"], result["threshold"]) == (0.5, 3)
    assert result["f1"] == pytest.approx(0.25)


@settings(max_examples=50, deadline=None)
@example([(0, 4), (1, 5), (0, 3), (0, 1), (0, 5), (1, 2)])
@given(LABELLED)
def test_paper_metrics_is_the_plain_scan(rows):
    labels, scores = np.array(rows).T
    scan = sorted(set(scores.tolist()))
    balanced = [balanced_accuracy_score(labels, (scores >= threshold).astype(int)) for threshold in scan]
    first = next(i for i, value in enumerate(balanced) if value > max(balanced) - 1e-12)
    result = paper_metrics(labels, scores)
    assert result["threshold"] == scan[first]
    assert result["auc"] == pytest.approx(balanced[first], abs=1e-12)
    assert result["f1"] == f1_score(labels, (scores >= scan[first]).astype(int), average="macro", zero_division=0)


def test_held_out_metrics_by_hand():
    result = held_out_metrics(LABELS, SCORES, threshold=2.0)
    assert result["f1"] == pytest.approx(2 * 2 / (4 + 2))
    assert result["auroc"] == pytest.approx((1 + 0.5 + 0 + 3) / 6)
    assert result["auprc"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)
    assert held_out_metrics(LABELS, SCORES, threshold=9.0)["f1"] == 0


def test_scores_outside_zero_to_one_are_ranked_as_they_are():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    scores = rng.normal(size=60) * 300 + 100 * labels
    result = held_out_metrics(labels, scores, threshold=50.0)
    assert result["auroc"] == roc_auc_score(labels, scores)
    assert result["auprc"] == average_precision_score(labels, scores)
    assert result["f1"] == f1_score(labels, scores >= 50.0)


@settings(max_examples=30, deadline=None)
@given(LABELLED)
def test_areas_do_not_change_under_a_monotone_map(rows):
    labels, scores = np.array(rows).T
    plain = held_out_metrics(labels, scores, threshold=0.0)
    mapped = held_out_metrics(labels, np.exp(scores / 3) - 7, threshold=0.0)
    assert mapped["auroc"] == plain["auroc"]
    assert mapped["auprc"] == plain["auprc"]
    assert paper_metrics(labels, np.exp(scores / 3))["auc"] == paper_metrics(labels, scores)["auc"]


@settings(max_examples=30, deadline=None)
@given(LABELLED)
def test_reversed_scores_mirror_the_auroc(rows):
    labels, scores = np.array(rows).T
    there, back = (held_out_metrics(labels, sign * scores, threshold=0.0)["auroc"] for sign in (1, -1))
    assert there + back == pytest.approx(1, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(LABELLED)
def test_chosen_threshold_is_the_best_f1_of_the_plain_scan(rows):
    labels, scores = np.array(rows).T
    scan = sorted(set(scores.tolist()), reverse=True)
    f1 = [f1_score(labels, (scores >= threshold).astype(int), zero_division=0) for threshold in scan]
    first = next(i for i, value in enumerate(f1) if value > max(f1) - 1e-12)
    assert choose_threshold(labels, scores, normal_quantile=0.5) == scan[first]


def test_chosen_threshold_of_equals_is_the_highest():
    # >= 3: tp 1 of 1, F1 2/3; >= 1: tp 2 of 4, F1 2/3
    assert choose_threshold([0, 0, 1, 1], [1.0, 2.0, 1.0, 3.0], normal_quantile=0.9) == 3


def test_normal_images_alone_give_a_threshold_strictly_above_their_quantile():
    scores = np.arange(10.0)
    threshold = choose_threshold(np.zeros(10), scores, normal_quantile=0.75)
    assert 7.0 < threshold < 7.0 + 1e-12
    assert (scores >= threshold).sum() == (scores > 7.0).sum() == 2


def test_float32_scores_meet_the_threshold_without_rounding():
    validation = np.array([0.1, 0.2, 0.3], dtype=np.float32)
    threshold = choose_threshold([0, 0, 0], validation, normal_quantile=1.0)
    test = np.array([0.3, 0.4], dtype=np.float32)
    assert held_out_metrics([0, 1], test, threshold=threshold)["f1"] == 1


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0], [1.0], "test split of official: all 1 images are normal; add anomalous images"),
        ([0, 0], [1.0, 2.0], "test split of official: all 2 images are normal; add anomalous images"),
        ([1, 1], [1.0, 2.0], "test split of official: all 2 images are anomalous; add normal images"),
        ([0, 1], [1.0, np.nan], "test split of official: 1 of 2 scores are NaN or infinite"),
        ([0, 1], [1.0, np.inf], "test split of official: 1 of 2 scores are NaN or infinite"),
        ([], [], "test split of official: no scores"),
        ([0, 2], [1.0, 2.0], "test split of official: labels must be 0"),
        ([0, np.nan], [1.0, 2.0], "test split of official: labels must be 0"),
    ],
)
def test_what_has_no_metric_is_refused_by_name(labels, scores, message):
    what = "test split of official"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for measure in (
            lambda: check_scores(labels, scores, what=what),
            lambda: paper_metrics(labels, scores, what=what),
            lambda: held_out_metrics(labels, scores, threshold=0.0, what=what),
        ):
            with pytest.raises(VqadError) as caught:
                measure()
            assert str(caught.value).startswith(message)
            assert "\n" not in str(caught.value)


def test_a_threshold_cannot_be_chosen_from_anomalous_images_alone():
    with pytest.raises(VqadError, match=r"^validation of official: all 2 images are anomalous"):
        choose_threshold([1, 1], [1.0, 2.0], normal_quantile=0.9, what="validation of official")
    with pytest.raises(VqadError, match=r"^validation of official: no scores"):
        choose_threshold([], [], normal_quantile=0.9, what="validation of official")
    with pytest.raises(VqadError, match=r"1 of 2 scores are NaN"):
        choose_threshold([0, 0], [1.0, np.nan], normal_quantile=0.9)
