"""The scores of a combination: every percentile on validation images, the chosen ones on test images."""

import math
from pathlib import Path

import pandas as pd

from vqad_lib.detectors.chunks import score_frames, surprise
from vqad_lib.detectors.sample_wise import thresholds_at
from vqad_lib.detectors.scoring import NO_THRESHOLD, RESTORATIONS, Detectors, Jobs
from vqad_lib.distributed import first_process_first, process
from vqad_lib.errors import VqadError
from vqad_lib.evaluation.selection import choose_percentile
from vqad_lib.files import atomic_path, read_json, write_json
from vqad_lib.workflow.launch import devices_to_start, run_distributed
from vqad_lib.workflow.run import Run
from vqad_lib.workflow.stages import detectors, parts_folder


def score_combination(run: Run, *, autoencoder: str, prior: str, protocol: str) -> pd.DataFrame:
    """Score validation and test images of a trained combination, and write them to its parquet.

    The thresholds are percentiles of the surprise of all codes of the whole validation set (section 4.3). Restoration
    is dear, so test images are restored at the percentiles that validation chose, by the paper's and by the sound
    protocol; where validation has no anomalies (split "official") that is the profile's
    `evaluation.unsupervised_percentile`, and no other is swept.

    Args:
        autoencoder: "vqvae" or "vqgan".
        prior: "pixelsnail" or "gpt2".
        protocol: "paper" or "official".

    Returns:
        The tidy scores, see `score_frames`.
    """
    if devices_to_start() > 1:  # they leave the parts behind that are put together here
        run_distributed(
            ["score", *run.options, f"--autoencoder={autoencoder}", f"--prior={prior}", f"--protocol={protocol}"]
        )
    names = {"autoencoder_kind": autoencoder, "prior_kind": prior, "protocol": protocol}
    scorer, folder, index = detectors(run, **names), parts_folder(run, **names), run.frames.index
    of = {subset: index[run.subsets(protocol) == subset] for subset in ("validation", "test")}
    fallback = run.profile.evaluation.unsupervised_percentile
    thresholds = _thresholds(run, scorer, of["validation"], fallback, folder / "thresholds.json")

    unchanged: Jobs = {"sample_wise": thresholds, "regenerative": {NO_THRESHOLD: math.nan}}
    jobs = unchanged | dict.fromkeys(RESTORATIONS, thresholds)
    options = {"folder": folder}
    validation = score_frames(scorer, run.frames.images, of["validation"], jobs, subset="validation", **options)
    jobs = unchanged | {
        detector: {p: thresholds[p] for p in sorted(chosen_percentiles(validation, detector, fallback).values())}
        for detector in RESTORATIONS
    }
    test = score_frames(scorer, run.frames.images, of["test"], jobs, subset="test", **options)
    scores = pd.concat([validation, test], ignore_index=True)
    if process().is_first:
        with atomic_path(run.scores_path(protocol, autoencoder, prior)) as temporary:
            scores.to_parquet(temporary, index=False)
    return scores


def _thresholds(run: Run, scorer: Detectors, validation: pd.DataFrame, fallback: int, path: Path) -> dict[int, float]:
    """The lambdas, computed once and kept: all processes, and a run that goes on, must use the very same."""
    with first_process_first():
        if not path.exists():
            percentiles = scorer.config.threshold_percentiles if validation["label"].any() else (fallback,)
            found = thresholds_at(surprise(scorer, run.frames.images, validation.index.to_numpy()), percentiles)
            write_json(path, {str(percentile): value for percentile, value in found.items()})
    return {int(percentile): value for percentile, value in read_json(path).items()}


def chosen_percentiles(validation: pd.DataFrame, detector: str, fallback: int) -> dict[str, int]:
    """The threshold percentile that validation scores choose for a detector, by protocol ("paper", "sound")."""
    rows = validation[validation["detector"] == detector]
    return {p: choose_percentile(rows, protocol=p, fallback=fallback) for p in ("paper", "sound")}


def load_scores(run: Run, *, autoencoder: str, prior: str, protocol: str) -> pd.DataFrame:
    """The parquet of a combination.

    Raises:
        VqadError: it has not been scored yet.
    """
    path = run.scores_path(protocol, autoencoder, prior)
    if not path.exists():
        raise VqadError(f"no scores at {path}; run `make paper PROFILE={run.profile.name}` or notebook 04_score first")
    return pd.read_parquet(path)
