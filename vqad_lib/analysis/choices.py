"""Measure what each choice of docs/fidelity.md does to the numbers: the default against the other, all else equal.

`measure` makes the scores of both sides, `fidelity_rows` their table.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vqad_lib.analysis.choice_list import RESTORATION, Choice, choices, measurements
from vqad_lib.analysis.detection import paired_row
from vqad_lib.config import DetectorConfig
from vqad_lib.detectors.residuals import anomaly_map
from vqad_lib.detectors.scoring import NO_THRESHOLD, RESTORATIONS
from vqad_lib.errors import VqadError
from vqad_lib.evaluation.metrics import choose_threshold, held_out_metrics, paper_metrics
from vqad_lib.experiment.networks import load_detectors, train_combination
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import (
    at_selected_threshold,
    combination_scores,
    load_scores,
    variant_scores,
    variant_test_rows,
    write_scores,
)
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.registry import AUTOENCODERS, COMBINATIONS
from vqad_lib.progress import progress
from vqad_lib.reporting.tables import load_table

DEFAULT, OTHER = "default", "other"  # the two sides of a choice
TABLES = {"sample_wise": 6, "pixel_wise": 7, "light_pixel_wise": 8, "regenerative": 9}  # where a detector's seeds are


def scores_path(run: Run, *, choice: str, scheme: str) -> Path:
    """scores/fidelity/<choice>_<scheme>.parquet of the reports."""
    return run.reports / "scores" / "fidelity" / f"{choice}_{scheme}.parquet"


def measure(run: Run, *, choice: str, scheme: str) -> pd.DataFrame:
    """Train what a choice needs, score images both ways, and write the parquet of the two.

    Args:
        choice: a name of the "trained" ones of `choices`, or `RESTORATION`.
        scheme: how frames are split.

    Returns:
        Tidy scores (see `score_frames`) with another column, side: `DEFAULT`, or `OTHER`, or a choice's name.

    Raises:
        VqadError: there is no such choice, or nothing has been scored yet.
    """
    trained = choices(run.profile, "trained")
    if choice not in (RESTORATION, *trained):
        raise VqadError(f"no choice {choice!r} to measure; there are {RESTORATION}, {', '.join(trained)}")
    scores = (
        _restoration_scores(run, scheme) if choice == RESTORATION else _trained_scores(run, trained[choice], scheme)
    )
    write_scores(scores_path(run, choice=choice, scheme=scheme), scores)
    return scores


def _trained_scores(run: Run, choice: Choice, scheme: str) -> pd.DataFrame:
    names = {**dict(zip(("autoencoder", "prior"), choice.networks, strict=True)), "scheme": scheme}
    detectors = {"validation": ("sample_wise",), "test": ("sample_wise", "light_pixel_wise", "regenerative")}
    base, found = run.changed(choice.base), []
    for side, of_side in {DEFAULT: base, OTHER: base.changed(choice.changes)}.items():
        train_combination(of_side, **names)
        found.append(variant_scores(of_side, detectors, **names).assign(side=side))
    return pd.concat(found, ignore_index=True)


def _restoration_scores(run: Run, scheme: str) -> pd.DataFrame:
    """Test images of VQ-GAN + Transformer, restored once with the most restorations, scored by each choice."""
    rules = {DEFAULT: (run.profile.detectors, "mean")}
    for name, choice in choices(run.profile, "restorations").items():
        reduction = "max" if name == "largest_residual" else "mean"
        rules[name] = (run.changed(choice.changes).profile.detectors, reduction)
    most = max(config.n_restorations for config, _ in rules.values())
    names = {"autoencoder": "vqgan", "prior": "gpt2", "scheme": scheme}
    scorer, tidy = load_detectors(run.changed({"detectors.n_restorations": most}), **names), load_scores(run, **names)
    index, size = run.frames.index[run.splits(scheme) == "test"], run.profile.detectors.chunk_images
    found = []
    for detector in RESTORATIONS:
        at = at_selected_threshold(run, tidy, detector)
        names = {"split": "test", "detector": detector, "threshold_percentile": at.percentile}
        starts = range(0, len(index), size)
        for start in progress(starts, what=f"restore {scheme} images, {detector}", unit="chunk"):
            rows = index.iloc[start : start + size]
            images, ids = to_unit_range(run.images(rows.index.to_numpy())), rows["image_id"].tolist()
            codes = scorer.encode(images)
            restored = scorer.restored_codes(codes, ids, detector=detector, thresholds_nats=[at.nats])
            scores = restoration_scores(images, scorer.decode(restored[:, 0]), rules)
            block = rows[["image_id", "clip", "label"]].assign(**names, threshold_nats=at.nats)
            found += [block.assign(score=values, side=side) for side, values in scores.items()]
    return pd.concat(found, ignore_index=True)


@torch.no_grad()
def restoration_scores(
    images: Tensor, restorations: Tensor, rules: Mapping[str, tuple[DetectorConfig, str]]
) -> dict[str, np.ndarray]:
    """Scores of the same restorations by several rules.

    Args:
        images: (B, 3, H, W) float in [-1, 1].
        restorations: (B, N, 3, H, W) float in [-1, 1]; a rule takes its first `n_restorations`.
        rules: name -> (its detector section, "mean" or "max": what of the map is the score).

    Returns:
        name -> (B,) float64 in [0, 1].
    """
    found = {}
    for name, (config, reduction) in rules.items():
        heatmap = anomaly_map(images, restorations[:, : config.n_restorations], config)
        score = heatmap.mean((1, 2)) if reduction == "mean" else heatmap.amax((1, 2))
        found[name] = score.double().cpu().numpy()
    return found


def fidelity_rows(run: Run) -> pd.DataFrame:
    """One row per choice, scheme, model and detector, on test images. Choices that were not measured yet have none.

    Returns:
        choice, matter, paper, published, key, default_value, other_value, model, scheme, detector, percentile (of
        lambda, the default's and the other's where they are not the same; "" where there is none), metric, default,
        other, difference (other - default), its 95% bounds where the metric is AUROC (paired, over images; over whole
        clips on scheme "official"), seed_sd: the standard deviation of the default over training seeds, where
        `make paper SEEDS=` has made some; and, where the metric is F1, default_fpr and other_fpr: the shares of normal
        images called anomalous. Metrics lie in [0, 1].

    Raises:
        VqadError: a combination has not been scored yet.
    """
    rows = []
    for scheme in run.schemes:
        for model, tidy in combination_scores(run, scheme).items():
            rows += evaluation_rows(run, tidy, model=model, scheme=scheme)
    trained, restorations = (choices(run.profile, kind) for kind in ("trained", "restorations"))
    for name, scheme in measurements(run.profile, run.schemes):
        path = scores_path(run, choice=name, scheme=scheme)
        if path.exists():
            sides = restorations if name == RESTORATION else {OTHER: trained[name]}
            for other, choice in sides.items():
                rows += score_rows(run, choice, pd.read_parquet(path), scheme=scheme, other=other)
    return pd.DataFrame(rows)


def evaluation_rows(run: Run, tidy: pd.DataFrame, *, model: str, scheme: str) -> list[dict]:
    """What is read off the same sample-wise scores, and in which way.

    Args:
        tidy: scores of a combination, see `score_frames`.
    """
    at = at_selected_threshold(run, tidy, "sample_wise")
    test, normal = at.test, at.test.loc[at.test["label"] == 0, "score"]
    what, quantile = f"{model}, sample_wise, {scheme}", run.profile.evaluation.normal_quantile
    thresholds = [choose_threshold(r["label"], r["score"], normal_quantile=quantile) for r in (at.validation, test)]
    ours, best = (held_out_metrics(test["label"], test["score"], threshold=t, what=what) for t in thresholds)
    predictions = paper_metrics(test["label"], test["score"], what=what)["auc"]
    alarms = [float((normal >= threshold).mean()) for threshold in thresholds]
    area, f1 = choices(run.profile, "readings").values()
    place = {"model": model, "scheme": scheme, "detector": "sample_wise", "percentile": f"{at.percentile}"}
    return [
        _row(run, area, place | {"metric": "AUC"}, ours["auroc"], predictions),
        _row(run, f1, place | {"metric": "F1"}, ours["f1"], best["f1"])
        | dict(zip(("default_fpr", "other_fpr"), alarms, strict=True)),
    ]


def score_rows(run: Run, choice: Choice, scores: pd.DataFrame, *, scheme: str, other: str) -> list[dict]:
    """AUROC of both sides of a choice, one row per detector.

    Args:
        scores: see `measure`.
        other: what the other side is called there.
    """
    sections, rows = {key.split(".")[0] for key in choice.changes}, []
    for detector in scores["detector"].unique():
        if detector == "regenerative" and not sections & {"autoencoder", "gan"}:
            continue  # only another autoencoder changes it
        sides = [variant_test_rows(run, scores[scores["side"] == side], detector) for side in (DEFAULT, other)]
        what = f"{choice.name}, {detector}, {scheme}"
        values = [
            held_out_metrics(rows["label"], rows["score"], threshold=np.inf, what=what)["auroc"] for rows in sides
        ]
        compared = paired_row(run, sides[0], sides[1]["score"], sides[0]["score"], scheme=scheme, what=what)
        found = [int(rows["threshold_percentile"].iloc[0]) for rows in sides]
        place = {"model": COMBINATIONS[tuple(choice.networks)], "scheme": scheme, "detector": detector}
        place["percentile"] = "" if NO_THRESHOLD in found else " / ".join(map(str, dict.fromkeys(found)))
        row = _row(run, choice, place | {"metric": "AUROC"}, *values)
        rows.append(row | {key: compared[key] for key in ("difference", "difference_low", "difference_high")})
    return rows


def _row(run: Run, choice: Choice, place: dict[str, str], default: float, other: float) -> dict:
    """One row, without the bounds of the difference."""
    bounds = dict.fromkeys(("difference_low", "difference_high"), np.nan)
    values = {"default": default, "other": other, "difference": other - default}
    about = {"choice": choice.name, "matter": choice.matter, "paper": choice.paper, "published": choice.published}
    about |= {"key": ", ".join(choice.changes), "default_value": choice.default, "other_value": choice.other}
    return about | place | values | bounds | {"seed_sd": _seed_sd(run, default, **place)}


def _seed_sd(run: Run, value: float, *, model: str, scheme: str, detector: str, metric: str, **_: str) -> float:
    """The standard deviation over training seeds beside this value in the result tables, NaN where there is none.

    A value that the tables do not have, for it was measured at another lambda or from another default, has no seeds.
    """
    column, suffix = "f1" if metric == "F1" else "auroc", "_official" if scheme == "official" else ""
    name = f"table_{TABLES[detector]:02d}{suffix}"
    if not (run.tables / f"{name}.csv").exists():
        return float("nan")
    table = load_table(run.tables, name)
    if detector == "regenerative":
        model = next(entry.title for entry in AUTOENCODERS.values() if entry.letter == model[0])
    same = table[(table["model"] == model) & np.isclose(table[column], value, atol=1e-5)]
    return float(same[f"{column}_sd"].iloc[0]) if len(same) and f"{column}_sd" in table else float("nan")
