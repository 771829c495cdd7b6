"""Scores of a run's combinations and baselines, kept where they were made, and those at the selected threshold."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from vqad_lib.baselines.anomalib_models import anomalib_version, dfkde_scores, ganomaly_scores
from vqad_lib.baselines.pixel_statistics import pixel_statistics_scores
from vqad_lib.data.nearest import nearest_training_distances
from vqad_lib.detectors.chunks import nll_of_frames, score_frames
from vqad_lib.detectors.sample_wise import thresholds_at
from vqad_lib.detectors.scoring import DETECTORS, NO_THRESHOLD, RESTORATIONS, Detectors, ThresholdsByDetector
from vqad_lib.distributed.launch import devices_to_start, run_distributed
from vqad_lib.distributed.process import first_process_first, process
from vqad_lib.errors import VqadError, printable
from vqad_lib.evaluation.selection import choose_percentile
from vqad_lib.experiment.networks import load_detectors, network_folder
from vqad_lib.experiment.run import Run
from vqad_lib.files import atomic_path, first_line, read_json, write_json
from vqad_lib.models.registry import COMBINATIONS
from vqad_lib.seeds import seed_from

Metrics = Literal["paper", "held_out"]
BY_ANOMALIB = ("ganomaly", "dfkde")
WITHOUT_NETWORK = ("nearest_frame", "pixel_statistics")
NOT_INSTALLED = "not run: anomalib is not installed"


def score_combination(run: Run, *, autoencoder: str, prior: str, scheme: str) -> pd.DataFrame:
    """Score validation and test images of a trained combination, and write them to its parquet.

    The thresholds are percentiles of the NLL of all codes of the whole validation set (section 4.3). Restoration is
    expensive, so test images are restored at the percentiles that validation selects, by the paper's metrics and by
    ours; where validation has no anomalies (scheme "official") that is the profile's
    `evaluation.unsupervised_percentile`, and no other is swept.

    Args:
        autoencoder, prior: keys of `AUTOENCODERS` and `PRIORS`.
        scheme: how frames are split, "paper" or "official".

    Returns:
        The tidy scores, see `score_frames`.

    Raises:
        VqadError: a network has not been trained yet.
    """
    names = {"autoencoder": autoencoder, "prior": prior, "scheme": scheme}
    if devices_to_start() > 1:  # they leave the parts behind that are put together here
        run_distributed(["score-split", *run.options, *(f"--{key}={value}" for key, value in names.items())])
    scorer, folder = load_detectors(run, **names), parts_folder(run, **names)
    with first_process_first():  # all processes, and a run that is resumed, must use the very same thresholds
        path = folder / "thresholds.json"
        if not path.exists():
            write_json(path, {str(percentile): nats for percentile, nats in _thresholds(run, scorer, scheme).items()})
    thresholds = {int(percentile): nats for percentile, nats in read_json(path).items()}

    def scored(split: str, by_detector: ThresholdsByDetector) -> pd.DataFrame:
        return score_frames(
            scorer, run.frames.images, _rows_of(run, scheme, split), by_detector, split=split, folder=folder
        )

    first = sorted(DETECTORS, key=RESTORATIONS.__contains__)  # what needs no restoration
    by_detector = {detector: _thresholds_of(detector, thresholds) for detector in first}
    validation = scored("validation", by_detector)
    for detector in RESTORATIONS:
        selected = {selected_percentile(run, validation, detector, metrics=m) for m in ("paper", "held_out")}
        by_detector[detector] = {percentile: thresholds[percentile] for percentile in sorted(selected)}
    scores = pd.concat([validation, scored("test", by_detector)], ignore_index=True)
    if process().is_first:
        write_scores(run.scores_path(scheme, autoencoder, prior), scores)
    return scores


def parts_folder(run: Run, *, autoencoder: str, prior: str, scheme: str) -> Path:
    """Where the scores of a combination are kept as they come, chunk by chunk."""
    learnt = network_folder(run, autoencoder=autoencoder, prior=prior, scheme=scheme).name
    shaping = {"sections": ["detectors", "evaluation"], "code": ["detectors", "evaluation/selection.py"]}
    return run.place(scheme, f"scores_{autoencoder}_{prior}", learnt, **shaping, alone="experiment/scores.py")


def variant_scores(
    run: Run, detectors: Mapping[str, tuple[str, ...]], *, autoencoder: str, prior: str, scheme: str
) -> pd.DataFrame:
    """Score images of a trained combination of a run that was `changed`; finished chunks are read, not computed again.

    Sample-wise scores come at every percentile of lambda that validation allows, restorations at
    `evaluation.unsupervised_percentile` alone: selecting for them would take as many restorations more.

    Args:
        detectors: split ("validation" or "test") -> names of detectors.

    Returns:
        The tidy scores, see `score_frames`.

    Raises:
        VqadError: a network has not been trained yet.
    """
    names = {"autoencoder": autoencoder, "prior": prior, "scheme": scheme}
    scorer, parts = load_detectors(run, **names), parts_folder(run, **names)
    thresholds, fixed = _thresholds(run, scorer, scheme), run.profile.evaluation.unsupervised_percentile
    found = []
    for split, keys in detectors.items():
        by_detector = {key: _thresholds_of(key, thresholds) for key in keys}
        by_detector |= {key: {fixed: thresholds[fixed]} for key in keys if key in RESTORATIONS}
        folder = parts.with_name(f"{parts.name}_{'_'.join(keys)}")  # the run's own chunks hold other detectors
        rows = _rows_of(run, scheme, split)
        found.append(score_frames(scorer, run.frames.images, rows, by_detector, split=split, folder=folder))
    return pd.concat(found, ignore_index=True)


def variant_test_rows(run: Run, tidy: pd.DataFrame, detector: str) -> pd.DataFrame:
    """Test images of `variant_scores`, by name; sample-wise at the selected lambda, others have but one."""
    if DETECTORS[detector].score_codes:
        return at_selected_threshold(run, tidy, detector).test.sort_values("image_id")
    return tidy[(tidy["detector"] == detector) & (tidy["split"] == "test")].sort_values("image_id")


def _rows_of(run: Run, scheme: str, split: str) -> pd.DataFrame:
    return run.frames.index[run.splits(scheme) == split]


def _thresholds(run: Run, scorer: Detectors, scheme: str) -> dict[int, float]:
    """The lambdas, percentile -> nats; one alone where validation has no anomalies to select by."""
    validation = _rows_of(run, scheme, "validation")
    fixed = run.profile.evaluation.unsupervised_percentile
    percentiles = scorer.config.threshold_percentiles if validation["label"].any() else (fixed,)
    return thresholds_at(nll_of_frames(scorer, run.frames.images, validation.index.to_numpy()), percentiles)


def _thresholds_of(detector: str, thresholds: dict[int, float]) -> dict[int, float]:
    return thresholds if DETECTORS[detector].letter else {NO_THRESHOLD: math.nan}


def load_scores(run: Run, *, autoencoder: str, prior: str, scheme: str) -> pd.DataFrame:
    """The parquet of a combination.

    Raises:
        VqadError: it has not been scored yet.
    """
    return read_scores(run.scores_path(scheme, autoencoder, prior), "04_score")


def combination_scores(run: Run, scheme: str) -> dict[str, pd.DataFrame]:
    """Tidy scores of all combinations: "VP", "VT", "GP", "GT" -> `load_scores`."""
    return {
        model: load_scores(run, autoencoder=autoencoder, prior=prior, scheme=scheme)
        for (autoencoder, prior), model in COMBINATIONS.items()
    }


def read_scores(path: Path, notebook: str) -> pd.DataFrame:
    """A parquet of scores.

    Raises:
        VqadError: it is not there; the message names the notebook that makes it.
    """
    if not path.exists():
        raise VqadError(f"no scores at {path}; run notebook {notebook} first, or `make paper`")
    return pd.read_parquet(path)


def write_scores(path: Path, scores: pd.DataFrame) -> None:
    """Write a parquet of scores whole or not at all."""
    with atomic_path(path) as temporary:
        scores.to_parquet(temporary, index=False)


# -- the scores at the selected threshold ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Selected:
    """Scores of a detector at the percentile of lambda that validation selected.

    Attributes:
        percentile: 0..100, or `NO_THRESHOLD`.
        nats: lambda; NaN where there is none.
        validation, test: tidy scores there, a row per image.
    """

    percentile: int
    nats: float
    validation: pd.DataFrame
    test: pd.DataFrame


def at_selected_threshold(run: Run, tidy: pd.DataFrame, detector: str, *, metrics: Metrics = "held_out") -> Selected:
    """The scores of a detector at the threshold that validation selects.

    Args:
        tidy: see `score_frames`.
        metrics: what validation selects by; see `choose_percentile`.

    Raises:
        VqadError: see `choose_percentile`.
    """
    percentile = selected_percentile(run, tidy, detector, metrics=metrics)
    at = tidy[(tidy["detector"] == detector) & (tidy["threshold_percentile"] == percentile)]
    validation, test = (at[at["split"] == split] for split in ("validation", "test"))
    return Selected(percentile, float(at["threshold_nats"].iloc[0]), validation, test)


def selected_percentile(run: Run, tidy: pd.DataFrame, detector: str, *, metrics: Metrics) -> int:
    """The percentile that validation selects; the only one there is where the detector has no lambda."""
    if detector in DETECTORS and not DETECTORS[detector].letter:
        return NO_THRESHOLD
    validation = tidy[(tidy["detector"] == detector) & (tidy["split"] == "validation")]
    return choose_percentile(validation, metrics=metrics, fallback=run.profile.evaluation.unsupervised_percentile)


# -- scores without a trained combination ----------------------------------------------------------------------------


def baseline_scores(run: Run, *, name: str, scheme: str) -> pd.DataFrame | str:
    """Tidy scores of one baseline on validation and test frames; found again where they have been computed before.

    They are written to reports/<profile>/<data set>/scores/<scheme>/baseline_<name>.parquet too.

    Args:
        name: "ganomaly", "dfkde", "nearest_frame" or "pixel_statistics".
        scheme: how frames are split.

    Returns:
        As `score_frames`, detector being the name and threshold_percentile -1; of one by Anomalib that could not be
        run, why not, in words.

    Raises:
        VqadError: the scores cannot be written.
    """
    theirs = anomalib_version() if name in BY_ANOMALIB else ""
    code = ["baselines", "data/nearest.py", "data/splits.py", "data/decode.py"]
    shaping = {"sections": ["baselines", "data", "threads_per_stage"], "code": code, "alone": "experiment/scores.py"}
    kept = run.place(scheme, f"baseline_{name}", theirs, **shaping).with_suffix(".parquet")
    if name in BY_ANOMALIB and not theirs:
        return NOT_INSTALLED
    if not kept.exists():
        try:
            scored = _score_baseline(run, name, scheme)
        except Exception as error:  # a comparison with other people's code never stops a run, whatever happens in there
            if name not in BY_ANOMALIB:
                raise
            kind = "" if isinstance(error, VqadError) else f"{type(error).__name__}: "
            return f"not run: {kind}{printable(first_line(error))}"
        write_scores(kept, scored)
    scores = pd.read_parquet(kept)
    write_scores(run.scores_path(scheme, "baseline", name), scores)
    return scores


def _score_baseline(run: Run, name: str, scheme: str) -> pd.DataFrame:
    splits, config, index = run.splits(scheme), run.profile.baselines, run.frames.index
    queried = np.concatenate([np.flatnonzero(splits == split) for split in ("validation", "test")])
    training, queries = (np.asarray(run.frames.images[rows]) for rows in (np.flatnonzero(splits == "train"), queried))
    options = {"seed": seed_from(run.profile.seed, name, scheme), "device": run.device}
    if name == "ganomaly":
        scores = ganomaly_scores(training, queries, config=config.ganomaly, **options)
    elif name == "dfkde":
        scores = dfkde_scores(training, queries, config=config.dfkde, **options)
    elif name == "nearest_frame":
        known = {"query_index": index.iloc[queried], "training_index": index[splits == "train"]}
        (scores,) = nearest_training_distances(queries, training, **known)
    else:
        scores = pixel_statistics_scores(training, queries, variance_floor=config.pixel_variance_floor)
    tidy = index.iloc[queried][["image_id", "clip", "label"]].reset_index(drop=True)
    tidy.insert(2, "split", splits[queried])
    return tidy.assign(detector=name, threshold_percentile=NO_THRESHOLD, threshold_nats=float("nan"), score=scores)
