"""The paper's three claims, each as a set of comparisons of AUROC between models that differ in one thing alone.

lambda is the percentile that validation selects for each model, method and seed.
"""

from itertools import product

import numpy as np
import pandas as pd

from vqad_lib.analysis.detection import paired_row
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import at_selected_threshold, combination_scores
from vqad_lib.models.registry import AUTOENCODERS, COMBINATIONS, PRIORS
from vqad_lib.paper import DATA, reported

AS_GOOD_AS = 0.02  # an AUROC lower by less than this still counts as "as good"
_TABLES = {"sample_wise": 6, "pixel_wise": 7, "light_pixel_wise": 8}

Arm = tuple[str, str]  # a side of a comparison: a combination, VP, VT, GP or GT, and a detector


def codebook_rows(run: Run, scheme: str) -> pd.DataFrame:
    """Claim 1, "a perceptually rich codebook helps": VQ-GAN minus VQ-VAE, for each prior and detector.

    Returns:
        One row per comparison: detector, comparison, reported_difference (of the paper's AUC), difference of AUROC with
        difference_low, difference_high, p_value, seeds, seeds_agreeing (see `paired_auroc_difference`), verdict.
    """
    pairs = [
        ((COMBINATIONS["vqgan", prior], detector), (COMBINATIONS["vqvae", prior], detector))
        for detector, prior in product(_TABLES, PRIORS)
    ]
    return _rows(run, scheme, pairs)


def spatial_rows(run: Run, scheme: str) -> pd.DataFrame:
    """Claim 2, "local spatial dependencies matter for restoration": PixelSNAIL minus GPT-2; columns as above."""
    pairs = [
        ((COMBINATIONS[coder, "pixelsnail"], detector), (COMBINATIONS[coder, "gpt2"], detector))
        for detector, coder in product(_TABLES, AUTOENCODERS)
    ]
    return _rows(run, scheme, pairs)


def light_rows(run: Run, scheme: str) -> pd.DataFrame:
    """Claim 3, "light pixel-wise detection is as good as pixel-wise": the one minus the other, for each combination."""
    pairs = [((model, "light_pixel_wise"), (model, "pixel_wise")) for model in COMBINATIONS.values()]
    rows = _rows(run, scheme, pairs, margin=AS_GOOD_AS, good="as good")
    return rows.assign(detector="light minus full")


def verdict(low: float, high: float, *, margin: float = 0.0, good: str = "better") -> str:
    """What the 95% interval of a difference says.

    Args:
        low, high: its bounds, NaN where it has none.
        margin: a difference above minus this much counts as `good`.

    Returns:
        `good` where the interval lies above -margin, "worse" where it lies below, else "undecided".
    """
    if low > -margin:
        return good
    return "worse" if high < -margin else "undecided"


def tally(rows: pd.DataFrame) -> str:
    """How often each verdict was reached, in words, for example "better 3 of 6, undecided 3 of 6"."""
    counts = rows["verdict"].value_counts()
    return ", ".join(f"{name} {count} of {len(rows)}" for name, count in counts.items())


def _rows(run: Run, scheme: str, pairs: list[tuple[Arm, Arm]], **by: float | str) -> pd.DataFrame:
    scores = [(replicate, combination_scores(replicate, scheme)) for replicate in run.replicates()]

    def tests(model: str, detector: str) -> list[pd.DataFrame]:
        """Of each seed; by image_id, so that two models' rows are the same images."""
        chosen = [at_selected_threshold(one, by_model[model], detector).test for one, by_model in scores]
        return [test.set_index("image_id").sort_index() for test in chosen]

    found = []
    for arms in pairs:
        (first, detector), (second, _) = arms
        name = f"{first} - {second}" if first != second else first
        tested = [tests(*arm) for arm in arms]
        sides = [np.stack([test["score"].to_numpy() for test in of_arm]) for of_arm in tested]
        measured = paired_row(run, tested[0][0], *sides, scheme=scheme, what=f"{name}, {detector}, {scheme}")
        names = {"detector": detector, "comparison": name}
        if run.frames.dataset == DATA:  # NaN of combinations that the paper lacks
            theirs = [float(reported(_TABLES[detector])["auc"].get(model, np.nan)) for model, detector in arms]
            names["reported_difference"] = theirs[0] - theirs[1]
        found.append(
            names | measured | {"verdict": verdict(measured["difference_low"], measured["difference_high"], **by)}
        )
    return pd.DataFrame(found)
