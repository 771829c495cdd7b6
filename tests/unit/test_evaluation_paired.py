"""The paired bootstrap: points by scikit-learn, what is paired cancels, seeds and clips count as units."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vqad_lib.errors import VqadError
from vqad_lib.evaluation.bootstrap import paired_auroc_difference, resample_weights

OPTIONS = {"groups": None, "resamples": 2000, "seed": 0}


def sample(n: int = 300, seeds: int = 3, gain: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(7)
    labels = generator.integers(0, 2, n)
    hard = generator.normal(0, 2, n)  # what makes an image hard for both models
    first = labels * (1 + gain) + hard + generator.normal(0, 0.3, (seeds, n))
    return labels, first, labels * 1.0 + hard + generator.normal(0, 0.3, (seeds, n))


def test_difference_is_that_of_scikit_learn_averaged_over_seeds() -> None:
    labels, first, second = sample()
    found = paired_auroc_difference(labels, first, second, **OPTIONS)
    each = [roc_auc_score(labels, a) - roc_auc_score(labels, b) for a, b in zip(first, second, strict=True)]
    assert found["difference"] == pytest.approx(np.mean(each), abs=1e-12)
    assert (found["seeds"], found["seeds_agreeing"]) == (3, 3)
    assert found["difference_low"] < found["difference"] < found["difference_high"]


def test_seeds_are_drawn_by_numbers_of_their_own() -> None:
    """Not by those that draw the images: the stream of (seed, 0) is that of seed."""
    labels, first, second = sample(n=40)
    found = paired_auroc_difference(labels, first, second, groups=None, resamples=50, seed=5)
    weights = np.concatenate(list(resample_weights(40, None, resamples=50, seed=5)))
    each = [
        [roc_auc_score(labels, a, sample_weight=w) - roc_auc_score(labels, b, sample_weight=w) for w in weights]
        for a, b in zip(first, second, strict=True)
    ]
    drawn = np.random.default_rng((5, 1)).integers(3, size=(3, 50))
    averages = np.take_along_axis(np.array(each), drawn, axis=0).mean(0)
    assert found["difference_low"] == pytest.approx(np.quantile(averages, 0.025), abs=1e-12)


def test_pairing_finds_what_separate_intervals_hide() -> None:
    labels, first, second = sample()
    found = paired_auroc_difference(labels, first, second, **OPTIONS)
    assert found["difference_low"] > 0
    assert found["p_value"] == pytest.approx(2 / 2001, rel=1e-9)  # none of 2,000 resamples lies beyond
    generator = np.random.default_rng(1)
    unpaired = []
    for _ in range(300):
        rows, others = generator.integers(0, 300, (2, 300))
        unpaired.append(roc_auc_score(labels[rows], first[0][rows]) - roc_auc_score(labels[others], second[0][others]))
    assert np.quantile(unpaired, 0.025) < 0


def test_equal_models_do_not_differ_and_swapping_turns_the_sign() -> None:
    labels, first, second = sample()
    same = paired_auroc_difference(labels, first, first, **OPTIONS)
    assert (same["difference"], same["difference_low"], same["difference_high"], same["p_value"]) == (0, 0, 0, 1)
    there = paired_auroc_difference(labels, first, second, **OPTIONS)
    back = paired_auroc_difference(labels, second, first, **OPTIONS)
    assert back["difference"] == pytest.approx(-there["difference"])
    assert back["difference_low"] == pytest.approx(-there["difference_high"])
    assert back["p_value"] == pytest.approx(there["p_value"])


def test_seeds_that_disagree_widen_the_interval() -> None:
    labels, first, second = sample(gain=0.0)
    first = second + np.array([[0.8], [0.8], [-0.8]]) * labels  # better, better, worse
    found = paired_auroc_difference(labels, first, second, **OPTIONS)
    assert found["seeds_agreeing"] == 2
    assert found["difference_low"] < 0 < found["difference_high"]
    alone = paired_auroc_difference(labels, first[:1], second[:1], **OPTIONS)
    assert alone["difference_low"] > 0


def test_clips_are_drawn_whole() -> None:
    labels, first, second = sample()
    clips = np.repeat(np.arange(6), 50)
    by_clip = paired_auroc_difference(labels, first, second, **(OPTIONS | {"groups": clips}))
    assert by_clip["difference"] == pytest.approx(
        paired_auroc_difference(labels, first, second, **OPTIONS)["difference"]
    )
    one = paired_auroc_difference(labels, first, second, **(OPTIONS | {"groups": np.zeros(300)}))
    assert np.isnan([one["difference_low"], one["difference_high"], one["p_value"]]).all()


def test_under_no_difference_p_values_are_uniform_enough() -> None:
    generator, found = np.random.default_rng(3), []
    for trial in range(60):
        labels, noise = generator.integers(0, 2, 120), generator.normal(0, 1, (2, 120))
        scores = labels + noise
        options = {"groups": None, "resamples": 200, "seed": trial}
        found.append(paired_auroc_difference(labels, scores[:1], scores[1:], **options)["p_value"])
    assert 0 <= np.mean(np.array(found) < 0.05) < 0.15
    assert 0.25 < np.median(found) < 0.75


def test_other_shapes_and_one_class_are_refused() -> None:
    labels, first, second = sample()
    with pytest.raises(VqadError, match=r"GP - VP: scores of shape \(3, 300\) and \(2, 300\)"):
        paired_auroc_difference(labels, first, second[:2], what="GP - VP", **OPTIONS)
    with pytest.raises(VqadError, match="all 300 images are anomalous"):
        paired_auroc_difference(np.ones(300), first, second, **OPTIONS)
