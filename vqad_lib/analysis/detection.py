"""Rows of the result tables, from the scores alone (Tables 6-9, 11-24), for any split."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from vqad_lib.data.nearest import nearest_training_frame
from vqad_lib.evaluation.bootstrap import result_row
from vqad_lib.evaluation.metrics import paper_row
from vqad_lib.evaluation.selection import clip_auroc
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import at_selected_threshold, combination_scores
from vqad_lib.models.registry import AUTOENCODERS, COMBINATIONS, PRIORS

NEAREST = "nearest training frame"
OVER_SEEDS = ("f1_paper_protocol", "auc_paper_protocol", "f1", "auroc", "auprc")


def over_seeds(run: Run, rows: pd.DataFrame, rows_of: Callable[[Run], pd.DataFrame]) -> pd.DataFrame:
    """Add what further training seeds make of the same rows: seeds, and a mean and standard deviation per metric.

    Args:
        rows: of the run itself, which stay as they are.
        rows_of: makes the same rows of a replicate; lambda and threshold are chosen there anew.

    Returns:
        `rows`, as it is where there is one seed; else with seeds (how many), <metric>_mean and <metric>_sd (n - 1).
    """
    once = replace(run.profile.evaluation, bootstrap_resamples=1)  # only the points of the replicates are read
    others = [replace(r, profile=replace(r.profile, evaluation=once)) for r in run.replicates()[1:]]
    if not others:
        return rows
    all_rows = [rows, *(rows_of(other) for other in others)]
    result = rows.assign(seeds=len(all_rows))
    for metric in OVER_SEEDS:
        values = np.stack([found[metric].to_numpy() for found in all_rows])
        result[f"{metric}_mean"], result[f"{metric}_sd"] = values.mean(0), values.std(0, ddof=1)
    return result


def detector_rows(run: Run, scores: dict[str, pd.DataFrame], *, detector: str, scheme: str) -> pd.DataFrame:
    """Tables 6, 7 and 8: one row per combination, test images, percentiles selected on validation, then `over_seeds`.

    The paper's metrics and ours may select different percentiles: threshold_percentile and threshold_nats belong to the
    former, sound_percentile to the latter.

    Args:
        scores: see `combination_scores`.
        detector: "sample_wise", "pixel_wise" or "light_pixel_wise".
        scheme: how frames are split.
    """
    options = {"detector": detector, "scheme": scheme}
    rows = _detector_rows(run, scores, **options)
    return over_seeds(run, rows, lambda other: _detector_rows(other, combination_scores(other, scheme), **options))


def _detector_rows(run: Run, scores: dict[str, pd.DataFrame], *, detector: str, scheme: str) -> pd.DataFrame:
    rows = []
    for model, tidy in scores.items():
        what = f"{model}, {detector}, {scheme}"
        paper = at_selected_threshold(run, tidy, detector, metrics="paper")
        sound = at_selected_threshold(run, tidy, detector)
        rows.append(
            {"model": model, "threshold_percentile": paper.percentile, "threshold_nats": paper.nats}
            | paper_row(paper.test, what=what)
            | {"sound_percentile": sound.percentile}
            | sound_row(run, sound.validation, sound.test, scheme=scheme, what=what)
        )
    return pd.DataFrame(rows)


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


def regenerative_rows(run: Run, scores: dict[str, pd.DataFrame], *, scheme: str) -> pd.DataFrame:
    """Table 9: one row per autoencoder, test images. The prior plays no part; PixelSNAIL's files are read."""
    rows = _regenerative_rows(run, scores, scheme)
    return over_seeds(run, rows, lambda other: _regenerative_rows(other, combination_scores(other, scheme), scheme))


def _regenerative_rows(run: Run, scores: dict[str, pd.DataFrame], scheme: str) -> pd.DataFrame:
    rows = []
    for key, entry in AUTOENCODERS.items():
        at = at_selected_threshold(run, scores[COMBINATIONS[key, next(iter(PRIORS))]], "regenerative")
        what = f"{entry.title}, regenerative, {scheme}"
        sound = sound_row(run, at.validation, at.test, scheme=scheme, what=what)
        rows.append({"model": entry.title} | paper_row(at.test, what) | sound)
    return pd.DataFrame(rows)


def sweep_rows(run: Run, tidy: pd.DataFrame, *, model: str, detector: str) -> pd.DataFrame:
    """Tables 13-24: one row per percentile, on the validation images, as the paper has them.

    The decision threshold of f1 is chosen on the same images, so these rows choose, and Tables 6-8 report.
    """
    validation = tidy[(tidy["detector"] == detector) & (tidy["split"] == "validation")]
    rows = []
    for percentile, at in validation.groupby("threshold_percentile"):
        what = f"{model}, {detector}, validation at percentile {percentile}"
        names = {"model": model, "percentile": percentile, "threshold_nats": at["threshold_nats"].iloc[0]}
        rows.append(names | paper_row(at, what) | sound_row(run, at, at, scheme="paper", what=what))
    return pd.DataFrame(rows)


def nearest_frame_scores(run: Run, scheme: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Validation and test frames scored by the distance to the nearest training frame, no model at all.

    Returns:
        Two frames with image_id, clip, label, score (root mean squared grey-level difference, 0..255).
    """
    subsets, index, images = run.subsets(scheme), run.frames.index, run.frames.images
    training = np.asarray(images[subsets == "train"])
    found = []
    for subset in ("validation", "test"):
        rows = subsets == subset
        distance, _ = nearest_training_frame(np.asarray(images[rows]), training)
        found.append(index.loc[rows, ["image_id", "clip", "label"]].assign(score=distance))
    return found[0], found[1]


def nearest_frame_row(run: Run, scheme: str) -> dict[str, object]:
    """The row "nearest training frame", with the columns of the result tables that apply."""
    validation, test = nearest_frame_scores(run, scheme)
    what = f"{NEAREST}, {scheme}"
    return {"model": NEAREST} | paper_row(test, what) | sound_row(run, validation, test, scheme=scheme, what=what)


def clip_rows(run: Run, scores: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """AUROC on split "official" averaged in each of the ways in use: micro, micro after scaling per clip, macro."""
    rows = []
    for model, tidy in scores.items():
        for detector, per_detector in tidy[tidy["split"] == "test"].groupby("detector"):
            for percentile, at in per_detector.groupby("threshold_percentile"):
                names = {"model": model, "detector": detector, "threshold_percentile": percentile}
                what = f"{model}, {detector}, official"
                rows.append(names | clip_auroc(at["label"], at["score"], at["clip"], what=what))
    _, test = nearest_frame_scores(run, "official")
    names = {"model": NEAREST, "detector": NEAREST, "threshold_percentile": -1}
    rows.append(names | clip_auroc(test["label"], test["score"], test["clip"], what=NEAREST))
    return pd.DataFrame(rows)


def method_rows(full: pd.DataFrame, light: pd.DataFrame, models: tuple[str, str]) -> pd.DataFrame:
    """Tables 11 and 12: rows of Tables 7 and 8 for two combinations, named as the paper names them."""
    picked = []
    for table, method in ((full, "Pixel-wise"), (light, "Light-Pixel-wise")):
        rows = table[table["model"].isin(models)]
        picked.append(rows.assign(model=rows["model"] + f" ({method})"))
    return pd.concat(picked, ignore_index=True)


def sound_row(run: Run, validation: pd.DataFrame, test: pd.DataFrame, *, scheme: str, what: str) -> dict[str, float]:
    """`result_row` of a run: whole clips are drawn where they were split as such."""
    config = run.profile.evaluation
    return result_row(validation, test, config=config, by_clip=scheme == "official", what=what)
