"""Measure what each choice of docs/fidelity.md does to the numbers: the default against the other, all else equal."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vqad_lib.config import DetectorConfig
from vqad_lib.detectors.chunks import load_ahead
from vqad_lib.detectors.residuals import anomaly_map
from vqad_lib.detectors.scoring import RESTORATIONS, Detectors
from vqad_lib.errors import VqadError
from vqad_lib.progress import progress
from vqad_lib.training.batches import to_unit_range
from vqad_lib.workflow import stages
from vqad_lib.workflow.fidelity_choices import RESTORATION, Choice, restoration_choices, trained_choices
from vqad_lib.workflow.run import Run
from vqad_lib.workflow.scores import chosen_percentiles, load_scores
from vqad_lib.workflow.variants import Combination, changed, in_this_process, save_scores, variant_scores

DEFAULT, OTHER = "default", "other"  # the two sides of a choice


def scores_path(run: Run, *, choice: str, protocol: str) -> Path:
    """scores/fidelity/<choice>_<split>.parquet of the reports."""
    return run.reports / "scores" / "fidelity" / f"{choice}_{protocol}.parquet"


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
        scores = _trained_scores(run, trained_choice(run, choice), protocol)
    save_scores(scores_path(run, choice=choice, protocol=protocol), scores)
    return scores


def measured(run: Run, *, choice: str, protocol: str) -> pd.DataFrame:
    """The parquet of `measure`, made if it is not there."""
    path = scores_path(run, choice=choice, protocol=protocol)
    return pd.read_parquet(path) if path.exists() else measure(run, choice=choice, protocol=protocol)


def trained_choice(run: Run, name: str) -> Choice:
    """The choice of that name.

    Raises:
        VqadError: there is none.
    """
    by_name = {choice.name: choice for choice in trained_choices(run.profile)}
    if name not in by_name:
        raise VqadError(f"no choice {name!r} to measure; there are {RESTORATION}, {', '.join(by_name)}")
    return by_name[name]


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
        percentile, threshold_nats = sound_lambda(run, tidy, detector)
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
        name -> (B,) float64 in [0, 1].
    """
    found = {}
    for name, (config, reduction) in choices.items():
        heatmap = anomaly_map(images, restorations[:, : config.n_restorations], config)
        score = heatmap.mean((1, 2)) if reduction == "mean" else heatmap.amax((1, 2))
        found[name] = score.double().cpu().numpy()
    return found


def sound_lambda(run: Run, tidy: pd.DataFrame, detector: str) -> tuple[int, float]:
    """The percentile that validation chose by the sound protocol, and its threshold in nats."""
    fallback = run.profile.evaluation.unsupervised_percentile
    rows = tidy[tidy["detector"] == detector]
    chosen = chosen_percentiles(rows[rows["split"] == "validation"], detector, fallback)["sound"]
    return chosen, float(rows.loc[rows["threshold_percentile"] == chosen, "threshold_nats"].iloc[0])
