"""Every resample against scikit-learn, the draws against their definition, the bounds against a known case."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from vqad_lib.errors import VqadError
from vqad_lib.evaluation import bootstrap
from vqad_lib.evaluation.bootstrap import bootstrap_intervals, resampled_metrics
from vqad_lib.evaluation.metrics import held_out_metrics

BOUNDS = ["f1_low", "f1_high", "auroc_low", "auroc_high", "auprc_low", "auprc_high"]


def plain_case(n=400, seed=0, decimals=3):
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 3 == 0).astype(np.int64)
    return labels, np.round(rng.normal(size=n) + 1.2 * labels, decimals)


def highest_first(labels, scores):
    order = np.argsort(-scores, kind="stable")
    return labels[order], scores[order]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), decimals=st.sampled_from([0, 1, 6]), threshold=st.floats(-3, 4))
def test_each_resample_equals_sklearn_with_sample_weight(seed, decimals, threshold):
    labels, scores = highest_first(*plain_case(n=40, seed=seed, decimals=decimals))
    weights = np.random.default_rng(seed).multinomial(40, np.full(40, 1 / 40), size=5)
    for row, weight in zip(resampled_metrics(labels, scores, weights, threshold=threshold), weights, strict=True):
        expected = [
            f1_score(labels, scores >= threshold, sample_weight=weight, zero_division=0),
            roc_auc_score(labels, scores, sample_weight=weight),
            average_precision_score(labels, scores, sample_weight=weight),
        ]
        np.testing.assert_allclose(row, expected, atol=1e-12)


def test_resample_by_hand():
    # highest first: an anomalous image drawn twice, a normal one tied with an anomalous one, a normal one not drawn
    labels, scores = np.array([1, 0, 1, 0]), np.array([3.0, 2.0, 2.0, 1.0])
    f1, auroc, auprc = resampled_metrics(labels, scores, np.array([[2, 1, 1, 0]]), threshold=2.0)[0]
    assert f1 == pytest.approx(2 * 3 / (4 + 3))
    assert auroc == pytest.approx((2 * 1 + 0.5) / 3)
    assert auprc == pytest.approx(2 / 3 * 1 + 1 / 3 * 3 / 4)


def test_resamples_of_one_class_are_nan_and_the_others_are_not():
    labels, scores = np.array([1, 0]), np.array([2.0, 1.0])
    values = resampled_metrics(labels, scores, np.array([[2, 0], [0, 2], [1, 1]]), threshold=2.0)
    assert np.isnan(values[:2]).all()
    assert values[2].tolist() == [1, 1, 1]


def test_image_draws_are_the_size_of_the_data_and_follow_the_seed():
    draw = [np.concatenate(list(bootstrap.resample_weights(50, None, resamples=300, seed=s))) for s in (1, 1, 2)]
    assert draw[0].shape == (300, 50)
    assert (draw[0].sum(axis=1) == 50).all()
    assert (draw[0] == draw[1]).all()
    assert (draw[0] != draw[2]).any()
    # a multinomial count has mean 1 and variance 1 - 1/50
    assert draw[0].mean() == 1
    assert draw[0].var() == pytest.approx(0.98, abs=0.05)


def test_clips_are_drawn_whole():
    clip = np.array([0, 0, 0, 1, 2, 2])
    weights = np.concatenate(list(bootstrap.resample_weights(6, clip, resamples=200, seed=0)))
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 4] == weights[:, 5]).all()
    # as many clips as there are, so the number of images varies
    assert (weights[:, 0] + weights[:, 3] + weights[:, 4] == 3).all()
    assert len(np.unique(weights.sum(axis=1))) > 1


def test_chunks_do_not_change_the_draws(monkeypatch):
    labels, scores = plain_case(n=51)
    settings_ = {"threshold": 1.0, "groups": None, "resamples": 70, "seed": 4}
    whole = bootstrap_intervals(labels, scores, **settings_)
    for elements in (51 * 3, 10):  # three rows at a time; fewer elements than a row has
        monkeypatch.setattr(bootstrap, "_CHUNK_ELEMENTS", elements)
        assert bootstrap_intervals(labels, scores, **settings_) == whole


@pytest.mark.parametrize("by_clip", [False, True])
def test_bounds_follow_the_seed_and_not_the_row_order(by_clip):
    labels, scores = plain_case(decimals=1)
    clips = np.array([f"clip{i // 25:02d}" for i in range(len(labels))])
    rows = np.random.default_rng(9).permutation(len(labels))

    def bounds(order, seed):
        groups = clips[order] if by_clip else None
        return bootstrap_intervals(labels[order], scores[order], threshold=0.8, groups=groups, resamples=200, seed=seed)

    in_order = np.arange(len(labels))
    assert bounds(rows, seed=3) == bounds(in_order, seed=3)
    assert bounds(in_order, seed=4) != bounds(in_order, seed=3)


@pytest.mark.parametrize("by_clip", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bounds_hold_the_point_values(by_clip, seed):
    labels, scores = plain_case(seed=seed)
    groups = np.arange(len(labels)) // 20 if by_clip else None
    points = held_out_metrics(labels, scores, threshold=0.8)
    bounds = bootstrap_intervals(labels, scores, threshold=0.8, groups=groups, resamples=500, seed=seed)
    assert list(bounds) == BOUNDS
    for metric, value in points.items():
        assert 0 <= bounds[f"{metric}_low"] < value < bounds[f"{metric}_high"] <= 1


def test_bounds_have_the_width_of_the_normal_approximation():
    labels, scores = plain_case(n=2000)
    # DeLong's standard error, from the share of the other class that each image outranks
    anomalous, normal = scores[labels == 1], scores[labels == 0]
    wins = (anomalous[:, None] > normal) + 0.5 * (anomalous[:, None] == normal)
    error = np.sqrt(wins.mean(1).var(ddof=1) / len(anomalous) + wins.mean(0).var(ddof=1) / len(normal))
    bounds = bootstrap_intervals(labels, scores, threshold=0.8, groups=None, resamples=2000, seed=0)
    assert bounds["auroc_high"] - bounds["auroc_low"] == pytest.approx(2 * 1.96 * error, rel=0.08)


def test_clips_that_are_alike_within_have_wider_bounds_than_images():
    rng = np.random.default_rng(0)
    clips = np.repeat(np.arange(20), 30)
    labels = np.tile([0, 0, 1], 200)
    # how far an anomalous frame stands out depends on its clip
    scores = labels * (1 + 1.5 * rng.normal(size=20)[clips]) + 0.3 * rng.normal(size=600)
    by_image, by_clip = (
        bootstrap_intervals(labels, scores, threshold=0.5, groups=groups, resamples=400, seed=0)
        for groups in (None, clips)
    )
    for metric in ("f1", "auroc", "auprc"):
        width = [bounds[f"{metric}_high"] - bounds[f"{metric}_low"] for bounds in (by_image, by_clip)]
        assert width[1] > 1.5 * width[0]


def test_perfect_scores_have_bounds_of_one():
    labels = np.arange(40) % 2
    bounds = bootstrap_intervals(labels, labels * 1.0, threshold=1.0, groups=None, resamples=100, seed=0)
    assert set(bounds.values()) == {1.0}


def test_one_clip_has_no_bounds():
    bounds = bootstrap_intervals([0, 1], [1.0, 2.0], threshold=2.0, groups=["a", "a"], resamples=10, seed=0)
    assert list(bounds) == BOUNDS
    assert np.isnan(list(bounds.values())).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": [0, 0]}, "test of official: all 2 images are normal"),
        ({"scores": [0.0, np.nan]}, "test of official: 1 of 2 scores are NaN"),
        # the first draw of seed 0 takes one image twice
        ({"resamples": 1, "seed": 0}, "test of official: no bootstrap resample drew both classes"),
    ],
)
def test_refusals_name_what(changed, message):
    given_ = {"labels": [0, 1], "scores": [0.0, 1.0], "groups": None, "resamples": 10, "seed": 0} | changed
    with pytest.raises(VqadError) as caught:
        bootstrap_intervals(
            given_.pop("labels"), given_.pop("scores"), threshold=0.5, what="test of official", **given_
        )
    assert str(caught.value).startswith(message)
