"""Rows of the result tables, from the scores alone (Tables 6-9, 11-24), for any split."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from vqad_lib.evaluation.bootstrap import paired_auroc_difference, result_row
from vqad_lib.evaluation.metrics import paper_row
from vqad_lib.evaluation.selection import clip_auroc
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import at_selected_threshold, baseline_scores, combination_scores
from vqad_lib.models.registry import AUTOENCODERS, COMBINATIONS, PRIORS

NEAREST = "nearest training frame"
OVER_SEEDS = ("f1_paper_metrics", "auc_paper_metrics", "f1", "auroc", "auprc")


# -- one row ---------------------------------------------------------------------------------------------------------


def held_out_row(run: Run, validation: pd.DataFrame, test: pd.DataFrame, *, scheme: str, what: str) -> dict[str, float]:
    """`result_row` of a run: whole clips are drawn where they were split as such."""
    config = run.profile.evaluation
    return result_row(validation, test, config=config, by_clip=scheme == "official", what=what)


def metrics_row(run: Run, validation: pd.DataFrame, test: pd.DataFrame, *, scheme: str, what: str) -> dict[str, float]:
    """The paper's metrics of a detector without lambda, or at a given one, and ours: `paper_row` and `held_out_row`."""
    return paper_row(test, what) | held_out_row(run, validation, test, scheme=scheme, what=what)


def selected_row(
    run: Run, tidy: pd.DataFrame, detector: str, *, scheme: str, what: str, reported: str = "test"
) -> dict[str, float]:
    """The same, each at the lambda that validation selects by the same metrics.

    The two may select different percentiles: threshold_percentile and threshold_nats belong to the paper's metrics,
    held_out_percentile to ours.

    Args:
        tidy: the scores of a combination, see `score_frames`.
        reported: the split whose metrics are given, "test" or "validation".
    """
    paper, held_out = (at_selected_threshold(run, tidy, detector, metrics=metrics) for metrics in ("paper", "held_out"))
    return (
        {"threshold_percentile": paper.percentile, "threshold_nats": paper.nats}
        | paper_row(getattr(paper, reported), what)
        | {"held_out_percentile": held_out.percentile}
        | held_out_row(run, held_out.validation, getattr(held_out, reported), scheme=scheme, what=what)
    )


def paired_row(
    run: Run, test: pd.DataFrame, first: np.ndarray, second: np.ndarray, *, scheme: str, what: str
) -> dict[str, float | int]:
    """`paired_auroc_difference` of a run: first minus second, both of the images in `test`, whole clips as above."""
    return paired_auroc_difference(
        test["label"],
        first,
        second,
        groups=test["clip"] if scheme == "official" else None,
        resamples=run.profile.evaluation.bootstrap_resamples,
        seed=run.profile.evaluation.bootstrap_seed,
        what=what,
    )


def baseline_row(run: Run, title: str, tidy: pd.DataFrame, *, scheme: str) -> dict[str, object]:
    """A row of a baseline: model and `metrics_row`."""
    validation, test = (tidy[tidy["split"] == split] for split in ("validation", "test"))
    return {"model": title} | metrics_row(run, validation, test, scheme=scheme, what=f"{title}, {scheme}")


# -- the tables ------------------------------------------------------------------------------------------------------


def over_seeds(run: Run, rows_of: Callable[[Run], pd.DataFrame]) -> pd.DataFrame:
    """Rows of a run, and what further training seeds make of them: seeds, and mean and spread of each metric.

    Args:
        rows_of: makes the rows of the run, and the same ones of a replicate, where lambda and threshold are chosen
            anew.

    Returns:
        The run's rows, as they are where there is one seed; else with seeds (how many), <metric>_mean and <metric>_sd
        (n - 1).
    """
    once = replace(run.profile.evaluation, bootstrap_resamples=1)  # only the points of the replicates are read
    others = [replace(r, profile=replace(r.profile, evaluation=once)) for r in run.replicates()[1:]]
    all_rows = [rows_of(one) for one in (run, *others)]
    if not others:
        return all_rows[0]
    result = all_rows[0].assign(seeds=len(all_rows))
    for metric in OVER_SEEDS:
        values = np.stack([rows[metric].to_numpy() for rows in all_rows])
        result[f"{metric}_mean"], result[f"{metric}_sd"] = values.mean(0), values.std(0, ddof=1)
    return result


def detector_rows(run: Run, *, detector: str, scheme: str) -> pd.DataFrame:
    """Tables 6, 7 and 8: one row per combination, test images, see `selected_row` and `over_seeds`.

    Args:
        detector: "sample_wise", "pixel_wise" or "light_pixel_wise".
        scheme: how frames are split.
    """
    return over_seeds(
        run,
        lambda one: pd.DataFrame(
            {"model": model} | selected_row(one, tidy, detector, scheme=scheme, what=f"{model}, {detector}, {scheme}")
            for model, tidy in combination_scores(one, scheme).items()
        ),
    )


def regenerative_rows(run: Run, *, scheme: str) -> pd.DataFrame:
    """Table 9: one row per autoencoder, test images. The prior plays no part; PixelSNAIL's files are read."""

    def rows_of(one: Run) -> pd.DataFrame:
        scores, rows = combination_scores(one, scheme), []
        for key, entry in AUTOENCODERS.items():
            at = at_selected_threshold(one, scores[COMBINATIONS[key, next(iter(PRIORS))]], "regenerative")
            what = f"{entry.title}, regenerative, {scheme}"
            rows.append({"model": entry.title} | metrics_row(one, at.validation, at.test, scheme=scheme, what=what))
        return pd.DataFrame(rows)

    return over_seeds(run, rows_of)


def sweep_rows(run: Run, tidy: pd.DataFrame, *, model: str, detector: str) -> pd.DataFrame:
    """Tables 13-24: one row per percentile, on the validation images, as the paper has them.

    The decision threshold of f1 is chosen on the same images, so these rows choose, and Tables 6-8 report.
    """
    validation = tidy[(tidy["detector"] == detector) & (tidy["split"] == "validation")]
    rows = []
    for percentile, at in validation.groupby("threshold_percentile"):
        what = f"{model}, {detector}, validation at percentile {percentile}"
        names = {"model": model, "percentile": percentile, "threshold_nats": at["threshold_nats"].iloc[0]}
        rows.append(names | metrics_row(run, at, at, scheme="paper", what=what))
    return pd.DataFrame(rows)


def method_rows(full: pd.DataFrame, light: pd.DataFrame, models: tuple[str, str]) -> pd.DataFrame:
    """Tables 11 and 12: rows of Tables 7 and 8 for two combinations, named as the paper names them."""
    tables = {"Pixel-wise": full, "Light-Pixel-wise": light}
    named = [rows.assign(model=rows["model"] + f" ({method})") for method, rows in tables.items()]
    return pd.concat([rows[rows["model"].str.startswith(models)] for rows in named], ignore_index=True)


def chosen_scores(run: Run, scores: dict[str, pd.DataFrame], *, detector: str) -> pd.DataFrame:
    """Figures 6-8: test scores of each combination at the percentile that validation selects.

    Args:
        scores: see `combination_scores`.

    Returns:
        The tidy scores with one more column, model.
    """
    return pd.concat(
        at_selected_threshold(run, tidy, detector).test.assign(model=model) for model, tidy in scores.items()
    )


def nearest_frame_scores(run: Run, scheme: str) -> pd.DataFrame:
    """Test frames scored by the distance to the nearest training frame, no model at all; see `baseline_scores`."""
    tidy = baseline_scores(run, name="nearest_frame", scheme=scheme)
    return tidy[tidy["split"] == "test"]


def clip_rows(run: Run, scores: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """AUROC on scheme "official" averaged in each of the ways in use: micro, micro after scaling per clip, macro."""
    nearest = nearest_frame_scores(run, "official").assign(detector=NEAREST)
    rows = []
    for model, tidy in (scores | {NEAREST: nearest}).items():
        at_each = tidy[tidy["split"] == "test"].groupby(["detector", "threshold_percentile"])
        for (detector, percentile), at in at_each:
            names = {"model": model, "detector": detector, "threshold_percentile": percentile}
            what = f"{model}, {detector}, official"
            rows.append(names | clip_auroc(at["label"], at["score"], at["clip"], what=what))
    return pd.DataFrame(rows)
