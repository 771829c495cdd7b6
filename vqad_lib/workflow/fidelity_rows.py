"""The table of `make fidelity`: for each choice, what the default gives, what the other gives, and the difference."""

from typing import Literal

import numpy as np
import pandas as pd

from vqad_lib.detectors.scoring import NO_THRESHOLD
from vqad_lib.evaluation.metrics import choose_threshold, paper_protocol, sound_metrics
from vqad_lib.evaluation.paired import paired_auroc_difference
from vqad_lib.reporting.tables import load_table, table_path
from vqad_lib.workflow.fidelity import DEFAULT, OTHER, measured, scores_path, sound_lambda, trained_choice
from vqad_lib.workflow.fidelity_choices import (
    AUC_FROM_PREDICTIONS,
    RESTORATION,
    TEST_SET_THRESHOLD,
    Choice,
    measurements,
    restoration_choices,
)
from vqad_lib.workflow.results import combination_scores
from vqad_lib.workflow.run import Run
from vqad_lib.workflow.stages import AUTOENCODERS, COMBINATIONS

TABLES = {"sample_wise": 6, "pixel_wise": 7, "light_pixel_wise": 8, "regenerative": 9}  # where a detector's seeds are


def fidelity_rows(run: Run, *, missing: Literal["measure", "leave out"] = "measure") -> pd.DataFrame:
    """One row per choice, split, model and detector, on test images.

    Args:
        missing: what to do about a choice of which there is no measurement; to measure may take minutes.

    Returns:
        choice, matter, paper, published, key, default_value, other_value, model, split, detector, percentile (of
        lambda, the default's and the other's where they are not the same; "" where there is none), metric, default,
        other, difference (other - default), its 95% bounds where the metric is AUROC (paired, over images; over whole
        clips on split "official"), seed_sd: the standard deviation of the default over training seeds, where
        `make paper SEEDS=` has made some; and, where the metric is F1, default_fpr and other_fpr: the shares of normal
        images called anomalous. Metrics lie in [0, 1].
    """
    rows = []
    for split in run.protocols:
        for model, tidy in combination_scores(run, split).items():
            rows += evaluation_rows(run, tidy, model=model, split=split)
    for name, split in measurements(run.profile, run.protocols):
        if missing == "leave out" and not scores_path(run, choice=name, protocol=split).exists():
            continue
        scores = measured(run, choice=name, protocol=split)
        if name == RESTORATION:
            for choice in restoration_choices(run.profile):
                rows += score_rows(run, choice, scores, split=split, other=choice.name)
        else:
            rows += score_rows(run, trained_choice(run, name), scores, split=split, other=OTHER)
    return pd.DataFrame(rows)


def evaluation_rows(run: Run, tidy: pd.DataFrame, *, model: str, split: str) -> list[dict]:
    """What is read off the same sample-wise scores, and in which way.

    Args:
        tidy: scores of a combination, see `score_frames`.
    """
    percentile, _ = sound_lambda(run, tidy, "sample_wise")
    rows = tidy[(tidy["detector"] == "sample_wise") & (tidy["threshold_percentile"] == percentile)]
    validation, test = (rows[rows["split"] == subset] for subset in ("validation", "test"))
    what, quantile = f"{model}, sample_wise, {split}", run.profile.evaluation.normal_quantile
    thresholds = [choose_threshold(r["label"], r["score"], normal_quantile=quantile) for r in (validation, test)]
    at = [sound_metrics(test["label"], test["score"], threshold=t, what=what) for t in thresholds]
    predictions = paper_protocol(test["label"], test["score"], what=what).auc
    found = []
    for choice, metric, default, other, column in (
        (AUC_FROM_PREDICTIONS, "AUC", at[0]["auroc"], predictions, "auroc"),
        (TEST_SET_THRESHOLD, "F1", at[0]["f1"], at[1]["f1"], "f1"),
    ):
        values = {"default": default, "other": other, "difference": other - default}
        values |= {"difference_low": np.nan, "difference_high": np.nan}
        values["seed_sd"] = _seed_sd(run, "sample_wise", model, split, column, default)
        if metric == "F1":
            normal = test.loc[test["label"] == 0, "score"]
            sides = zip(("default_fpr", "other_fpr"), thresholds, strict=True)
            values |= {name: float((normal >= threshold).mean()) for name, threshold in sides}
        found.append(_names(choice, model, split, "sample_wise", metric, percentile=f"{percentile}") | values)
    return found


def score_rows(run: Run, choice: Choice, scores: pd.DataFrame, *, split: str, other: str) -> list[dict]:
    """AUROC of both sides of a choice, one row per detector.

    Args:
        scores: see `fidelity.measure`.
        other: what the other side is called there.
    """
    model = COMBINATIONS[choice.autoencoder, choice.prior]
    sections = {key.split(".")[0] for key in choice.changes}
    rows = []
    for detector in scores["detector"].unique():
        if detector == "regenerative" and not sections & {"autoencoder", "gan"}:
            continue  # only another autoencoder changes it
        sides = [_test_rows(run, scores[scores["side"] == side], detector) for side in (DEFAULT, other)]
        what = f"{choice.name}, {detector}, {split}"
        values = [sound_metrics(rows["label"], rows["score"], threshold=np.inf, what=what)["auroc"] for rows in sides]
        compared = paired_auroc_difference(
            sides[0]["label"],
            sides[1]["score"],
            sides[0]["score"],
            groups=sides[0]["clip"] if split == "official" else None,
            resamples=run.profile.evaluation.bootstrap_resamples,
            seed=run.profile.evaluation.bootstrap_seed,
            what=what,
        )
        rows.append(
            _names(choice, model, split, detector, "AUROC", percentile=_percentile(sides))
            | {"default": values[0], "other": values[1]}
            | {key: compared[key] for key in ("difference", "difference_low", "difference_high")}
            | {"seed_sd": _seed_sd(run, detector, model, split, "auroc", values[0])}
        )
    return rows


def _test_rows(run: Run, scores: pd.DataFrame, detector: str) -> pd.DataFrame:
    """Test images of one side, at the lambda of the sound protocol, in the order of their names."""
    rows = scores[scores["detector"] == detector]
    if detector == "sample_wise":
        rows = rows[rows["threshold_percentile"] == sound_lambda(run, rows, detector)[0]]
    return rows[rows["split"] == "test"].sort_values("image_id")


def _percentile(sides: list[pd.DataFrame]) -> str:
    """Where lambda stands on the two sides, in words."""
    found = [int(rows["threshold_percentile"].iloc[0]) for rows in sides]
    return "" if NO_THRESHOLD in found else " / ".join(map(str, dict.fromkeys(found)))


def _names(choice: Choice, model: str, split: str, detector: str, metric: str, *, percentile: str) -> dict[str, str]:
    return {
        "choice": choice.name,
        "matter": choice.matter,
        "paper": choice.paper,
        "published": choice.published,
        "key": choice.key,
        "default_value": choice.default,
        "other_value": choice.other,
        "model": model,
        "split": split,
        "detector": detector,
        "percentile": percentile,
        "metric": metric,
    }


def _seed_sd(run: Run, detector: str, model: str, split: str, column: str, value: float) -> float:
    """The standard deviation over training seeds beside this value in the result tables, NaN where there is none.

    A value that the tables do not have, for it was measured at another lambda or from another default, has no seeds.
    """
    suffix = "_official" if split == "official" else ""
    if not table_path(run.tables, TABLES[detector], suffix).exists():
        return float("nan")
    table = load_table(run.tables, TABLES[detector], suffix).set_index("model")
    autoencoder = next(AUTOENCODERS[kind] for (kind, _), name in COMBINATIONS.items() if name == model)
    row = autoencoder if detector == "regenerative" else model
    if f"{column}_sd" not in table or row not in table.index or not np.isclose(table.at[row, column], value, atol=1e-5):
        return float("nan")
    return float(table.at[row, f"{column}_sd"])
