"""The paper's three claims, each as a set of comparisons of AUROC between models that differ in one thing alone.

lambda is the percentile that validation selects for each model, method and seed.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from vqad_lib.evaluation.bootstrap import paired_auroc_difference
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import at_selected_threshold, combination_scores
from vqad_lib.models.registry import AUTOENCODERS, COMBINATIONS, PRIORS
from vqad_lib.paper import reported

AS_GOOD_AS = 0.02  # an AUROC lower by less than this still counts as "as good"
_TABLES = {"sample_wise": 6, "pixel_wise": 7, "light_pixel_wise": 8}
_LIGHT = "light_pixel_wise"


def codebook_rows(run: Run, scheme: str) -> pd.DataFrame:
    """Claim 1, "a perceptually rich codebook helps": VQ-GAN minus VQ-VAE, for each prior and detector.

    Returns:
        One row per comparison: detector, comparison, reported_difference (of the paper's AUC), difference of AUROC with
        difference_low, difference_high, p_value, seeds, seeds_agreeing (see `paired_auroc_difference`), verdict.
    """
    pairs = [
        (detector, (COMBINATIONS["vqgan", prior], detector), (COMBINATIONS["vqvae", prior], detector))
        for detector in _TABLES
        for prior in PRIORS
    ]
    return _rows(run, scheme, pairs, better_or_worse)


def spatial_rows(run: Run, scheme: str) -> pd.DataFrame:
    """Claim 2, "local spatial dependencies matter for restoration": PixelSNAIL minus GPT-2; columns as above."""
    pairs = [
        (detector, (COMBINATIONS[coder, "pixelsnail"], detector), (COMBINATIONS[coder, "gpt2"], detector))
        for detector in _TABLES
        for coder in AUTOENCODERS
    ]
    return _rows(run, scheme, pairs, better_or_worse)


def light_rows(run: Run, scheme: str) -> pd.DataFrame:
    """Claim 3, "light pixel-wise detection is as good as pixel-wise": the one minus the other, for each combination."""
    pairs = [("light less full", (model, _LIGHT), (model, "pixel_wise")) for model in COMBINATIONS.values()]
    return _rows(run, scheme, pairs, as_good)


def better_or_worse(row: dict[str, float]) -> str:
    """ "better" or "worse" where the 95% interval lies on one side of 0, else "undecided"."""
    if row["difference_low"] > 0:
        return "better"
    return "worse" if row["difference_high"] < 0 else "undecided"


def as_good(row: dict[str, float]) -> str:
    """ "as good" where the interval lies above -0.02, "worse" where it lies below, else "undecided"."""
    if row["difference_low"] > -AS_GOOD_AS:
        return "as good"
    return "worse" if row["difference_high"] < -AS_GOOD_AS else "undecided"


def tally(rows: pd.DataFrame) -> str:
    """How often each verdict was reached, in words, for example "better 3 of 6, undecided 3 of 6"."""
    counts = rows["verdict"].value_counts()
    return ", ".join(f"{verdict} {count} of {len(rows)}" for verdict, count in counts.items())


def _rows(run: Run, scheme: str, pairs: list, verdict: Callable[[dict[str, float]], str]) -> pd.DataFrame:
    scores = [(replicate, combination_scores(replicate, scheme)) for replicate in run.replicates()]
    evaluation, found = run.profile.evaluation, []
    for detector, first, second in pairs:
        arms = [[_test_scores(one, by_model, *arm) for one, by_model in scores] for arm in (first, second)]
        test = arms[0][0]
        options = {"resamples": evaluation.bootstrap_resamples, "seed": evaluation.bootstrap_seed}
        name = f"{first[0]} - {second[0]}" if first[0] != second[0] else first[0]
        measured = paired_auroc_difference(
            test["label"],
            *(np.stack([seed["score"].to_numpy() for seed in arm]) for arm in arms),
            groups=test["clip"] if scheme == "official" else None,
            what=f"{name}, {detector}, {scheme}",
            **options,
        )
        theirs = _reported_auc(*first) - _reported_auc(*second)
        found.append(
            {"detector": detector, "comparison": name, "reported_difference": theirs}
            | measured
            | {"verdict": verdict(measured)}
        )
    return pd.DataFrame(found)


def _test_scores(run: Run, by_model: dict[str, pd.DataFrame], model: str, detector: str) -> pd.DataFrame:
    """label, clip and score of the test images, by image_id, so that two models' rows are the same images."""
    test = at_selected_threshold(run, by_model[model], detector).test
    return test.set_index("image_id")[["label", "clip", "score"]].sort_index()


def _reported_auc(model: str, detector: str) -> float:
    return float(reported(_TABLES[detector]).at[model, "auc"])
