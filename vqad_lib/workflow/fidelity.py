"""Measure what each choice of docs/fidelity.md does to the numbers: the default against the other, all else equal."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vqad_lib.config import DetectorConfig
from vqad_lib.detectors.chunks import load_ahead
from vqad_lib.detectors.residuals import anomaly_map, image_score
from vqad_lib.detectors.scoring import RESTORATIONS, Detectors
from vqad_lib.errors import VqadError
from vqad_lib.evaluation.metrics import choose_threshold, paper_protocol, sound_metrics
from vqad_lib.evaluation.paired import paired_auroc_difference
from vqad_lib.progress import progress
from vqad_lib.reporting.tables import load_table, table_path
from vqad_lib.training.batches import to_unit_range
from vqad_lib.workflow import stages
from vqad_lib.workflow.fidelity_choices import (
    AUC_FROM_PREDICTIONS,
    RESTORATION,
    TEST_SET_THRESHOLD,
    Choice,
    measurements,
    restoration_choices,
    trained_choices,
)
from vqad_lib.workflow.results import combination_scores
from vqad_lib.workflow.run import Run
from vqad_lib.workflow.scores import chosen_percentiles, load_scores
from vqad_lib.workflow.variants import Combination, changed, in_this_process, save_scores, variant_scores

DEFAULT, OTHER = "default", "other"
NUMBERED = {"sample_wise": 6, "pixel_wise": 7, "light_pixel_wise": 8, "regenerative": 9}  # detector -> its table


def scores_path(run: Run, *, choice: str, protocol: str) -> Path:
    """reports/<profile>/scores/fidelity/<choice>_<split>.parquet."""
    return run.root / "reports" / run.profile.name / "scores" / "fidelity" / f"{choice}_{protocol}.parquet"


def measure(run: Run, *, choice: str, protocol: str) -> pd.DataFrame:
    """Train what a choice needs, score images both ways, and write the parquet of the two.

    Args:
        choice: a name of `trained_choices`, or `RESTORATION`.
        protocol: the split.

    Returns:
        Tidy scores (see `score_frames`) with another column, side: `DEFAULT`, or `OTHER`, or a choice's name.

    Raises:
        VqadError: there is no such choice, or nothing has been scored yet.
    """
    if choice == RESTORATION:
        scores = _restoration_scores(run, protocol)
    else:
        scores = _trained_scores(run, _by_name(run)[choice], protocol)
    save_scores(scores_path(run, choice=choice, protocol=protocol), scores)
    return scores


def measured(run: Run, *, choice: str, protocol: str) -> pd.DataFrame:
    """The parquet of `measure`, made if it is not there."""
    path = scores_path(run, choice=choice, protocol=protocol)
    return pd.read_parquet(path) if path.exists() else measure(run, choice=choice, protocol=protocol)


def fidelity_rows(run: Run) -> pd.DataFrame:
    """One row per choice, split, model and detector: what the default gives, what the other gives, the difference.

    Returns:
        choice, matter, paper, published, key, default_value, other_value, model, split, detector, metric, default,
        other, difference (other - default) with 95% bounds where the metric is AUROC (paired, over images; over whole
        clips on split "official"), and seed_sd: the standard deviation of the default over training seeds, where
        `make paper SEEDS=` has made some. Metrics lie in [0, 1].
    """
    rows = [row for split in run.protocols for row in _evaluation_rows(run, split)]
    for name, split in measurements(run.profile, run.protocols):
        scores = measured(run, choice=name, protocol=split)
        choices = restoration_choices(run.profile) if name == RESTORATION else [_by_name(run)[name]]
        for choice in choices:
            sides = scores[scores["side"].isin([DEFAULT, choice.name if name == RESTORATION else OTHER])]
            rows += _score_rows(run, choice, sides, split)
    return pd.DataFrame(rows)


def _by_name(run: Run) -> dict[str, Choice]:
    return {choice.name: choice for choice in trained_choices(run.profile)}


def _trained_scores(run: Run, choice: Choice, protocol: str) -> pd.DataFrame:
    combination = Combination(choice.autoencoder, choice.prior, protocol)
    detectors = {"validation": ("sample_wise",), "test": ("sample_wise", "light_pixel_wise", "regenerative")}
    base = changed(run, choice.base)
    sides = {DEFAULT: base, OTHER: changed(base, choice.changes)}
    found = [variant_scores(side, combination, detectors).assign(side=name) for name, side in sides.items()]
    return pd.concat(found, ignore_index=True)


def _restoration_scores(run: Run, protocol: str) -> pd.DataFrame:
    """Test images of VQ-GAN + Transformer, restored once with the most restorations, scored by each choice."""
    choices = {DEFAULT: (run.profile.detectors, "mean")}
    for choice in restoration_choices(run.profile):
        reduction = "max" if choice.name == "largest_residual" else "mean"
        choices[choice.name] = (changed(run, choice.changes).profile.detectors, reduction)
    most = max(config.n_restorations for config, _ in choices.values())
    with in_this_process():
        scorer = stages.detectors(
            changed(run, {"detectors.n_restorations": most}), **Combination("vqgan", "gpt2", protocol).kinds
        )
    index = run.frames.index[run.subsets(protocol) == "test"]
    tidy = load_scores(run, autoencoder="vqgan", prior="gpt2", protocol=protocol)
    found = []
    for detector in RESTORATIONS:
        percentile, threshold_nats = _sound_lambda(run, tidy, detector)
        names = {"split": "test", "detector": detector, "threshold_percentile": percentile}
        chunks = _chunks(scorer, run.frames.images, index, what=f"restore {protocol} images, {detector}")
        for rows, images in chunks:
            restored = scorer.restored_codes(
                scorer.encode(images),
                rows["image_id"].tolist(),
                detector=detector,
                thresholds_nats=[threshold_nats],
            )
            scores = restoration_scores(images, scorer.decode(restored[:, 0]), choices)
            block = rows[["image_id", "clip", "label"]].assign(**names, threshold_nats=threshold_nats)
            found += [block.assign(score=values, side=side) for side, values in scores.items()]
    return pd.concat(found, ignore_index=True)


def _chunks(
    scorer: Detectors, images: np.ndarray, index: pd.DataFrame, *, what: str
) -> Iterator[tuple[pd.DataFrame, Tensor]]:
    size = scorer.config.chunk_images
    rows = [index.iloc[start : start + size] for start in range(0, len(index), size)]
    loaded = load_ahead(images, [chunk.index.to_numpy() for chunk in rows], scorer.device)
    for chunk, frames in progress(zip(rows, loaded, strict=True), what=what, total=len(rows), unit="chunk"):
        yield chunk, to_unit_range(frames)


@torch.no_grad()
def restoration_scores(
    images: Tensor, restorations: Tensor, choices: dict[str, tuple[DetectorConfig, str]]
) -> dict[str, np.ndarray]:
    """Scores of the same restorations by several rules.

    Args:
        images: (B, 3, H, W) float in [-1, 1].
        restorations: (B, N, 3, H, W) float in [-1, 1]; a rule takes its first `n_restorations`.
        choices: name -> (its detector section, "mean" or "max": what of the map is the score).

    Returns:
        name -> (B,) float64 in [0, 2].
    """
    found = {}
    for name, (config, reduction) in choices.items():
        heatmap = anomaly_map(
            images,
            restorations[:, : config.n_restorations],
            temperature=config.weight_temperature,
            weights_over=config.weights_over,
            min_pool_px=config.min_pool_px,
            average_pool_px=config.average_pool_px,
        )
        score = image_score(heatmap) if reduction == "mean" else heatmap.amax((1, 2))
        found[name] = score.double().cpu().numpy()
    return found


def _sound_lambda(run: Run, tidy: pd.DataFrame, detector: str) -> tuple[int, float]:
    """The percentile that validation chose by the sound protocol, and its threshold in nats."""
    fallback = run.profile.evaluation.unsupervised_percentile
    rows = tidy[tidy["detector"] == detector]
    chosen = chosen_percentiles(rows[rows["split"] == "validation"], detector, fallback)["sound"]
    return chosen, float(rows.loc[rows["threshold_percentile"] == chosen, "threshold_nats"].iloc[0])


def _score_rows(run: Run, choice: Choice, scores: pd.DataFrame, split: str) -> list[dict]:
    """One row per detector: AUROC on test images of both sides."""
    model = stages.COMBINATIONS[choice.autoencoder, choice.prior]
    if not {"autoencoder", "gan"} & {key.split(".")[0] for key in choice.changes}:
        scores = scores[scores["detector"] != "regenerative"]  # which only an autoencoder changes
    rows = []
    for detector, of_detector in scores.groupby("detector", sort=False):
        default, other = (_test_scores(run, side, detector) for _, side in of_detector.groupby(_side_order))
        names = _names(choice, model, split, detector, "AUROC")
        what = f"{choice.name}, {detector}, {split}"
        compared = paired_auroc_difference(
            default["label"],
            other["score"],
            default["score"],
            groups=default["clip"] if split == "official" else None,
            resamples=run.profile.evaluation.bootstrap_resamples,
            seed=run.profile.evaluation.bootstrap_seed,
            what=what,
        )
        values = [_auroc(side, what) for side in (default, other)]
        rows.append(
            names
            | dict(zip((DEFAULT, OTHER), values, strict=True))
            | {key: compared[key] for key in ("difference", "difference_low", "difference_high")}
            | {"seed_sd": np.nan if choice.base else _seed_sd(run, detector, model, split, "auroc")}
        )
    return rows
