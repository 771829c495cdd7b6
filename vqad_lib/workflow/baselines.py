"""Scores of the baselines, made at first use and found again afterwards. Their table is made in `table_5`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from vqad_lib.baselines.anomalib_models import anomalib_version, dfkde_scores, ganomaly_scores
from vqad_lib.baselines.pixel_statistics import fit_pixel_statistics
from vqad_lib.config import section_digest_source
from vqad_lib.data.leak import nearest_training_frame
from vqad_lib.detectors.scoring import NO_THRESHOLD
from vqad_lib.errors import VqadError, printable
from vqad_lib.files import atomic_path, first_line
from vqad_lib.training.batches import seed_from
from vqad_lib.workflow.digests import code_digest, digest
from vqad_lib.workflow.run import Run

BY_ANOMALIB = ("ganomaly", "dfkde")
NOT_INSTALLED = "not run: anomalib is not installed"
WITHOUT_NETWORK = ("nearest_frame", "pixel_statistics")
# what shapes a score beside data and split: sections of the profile, parts of vqad_lib
_SHAPED_BY = {
    "ganomaly": (["baselines.ganomaly"], ["baselines/anomalib_models.py"]),
    "dfkde": (
        ["baselines.dfkde"],
        ["baselines/anomalib_models.py", "baselines/labels.py", "baselines/resnet.py", "losses/pretrained.py"],
    ),
    "nearest_frame": ([], ["data/leak.py"]),
    "pixel_statistics": (["baselines.pixel_variance_floor"], ["baselines/pixel_statistics.py"]),
}


def baseline_scores(run: Run, *, name: str, protocol: str) -> pd.DataFrame | str:
    """Tidy scores of one baseline on validation and test frames; found again where they have been computed before.

    They are written to reports/<profile>/<data set>/scores/<split>/baseline_<name>.parquet too.

    Args:
        name: "ganomaly", "dfkde", "nearest_frame" or "pixel_statistics".
        protocol: the split.

    Returns:
        As `score_frames`, detector being the name and threshold_percentile -1; of one by Anomalib that could not be
        run, why not, in words.

    Raises:
        VqadError: the scores cannot be written.
    """
    kept = _kept(run, name, protocol)
    if not kept.exists():
        if name in BY_ANOMALIB and not anomalib_version():
            return NOT_INSTALLED
        try:
            scored = _score(run, name, protocol)
        except Exception as error:  # a comparison with other people's code never stops a run, whatever happens in there
            if name not in BY_ANOMALIB:
                raise
            kind = "" if isinstance(error, VqadError) else f"{type(error).__name__}: "
            return f"not run: {kind}{printable(first_line(error))}"
        with atomic_path(kept) as temporary:
            scored.to_parquet(temporary, index=False)
    scores = pd.read_parquet(kept)
    with atomic_path(run.scores_path(protocol, "baseline", name)) as temporary:
        scores.to_parquet(temporary, index=False)
    return scores


def _kept(run: Run, name: str, protocol: str) -> Path:
    """Where finished scores are found again: a file named by a digest of all that shaped them."""
    sections, code = _SHAPED_BY[name]
    profile = section_digest_source(run.profile, [*sections, "data", "threads_per_stage"])
    code = code_digest(run.root, [*code, "data/splits.py", "data/survey.py"], alone=["workflow/baselines.py"])
    theirs = anomalib_version() if name in BY_ANOMALIB else ""
    key = digest(profile, code, run.frames.digest, protocol, theirs or "")
    return run.derived / protocol / f"baseline_{name}_{key[:12]}.parquet"


def _score(run: Run, name: str, protocol: str) -> pd.DataFrame:
    subsets, index = run.subsets(protocol), run.frames.index
    queried = np.concatenate([np.flatnonzero(subsets == subset) for subset in ("validation", "test")])
    training, queries = (np.asarray(run.frames.images[rows]) for rows in (np.flatnonzero(subsets == "train"), queried))
    order = ["image_id", "clip", "split", "label", "detector", "threshold_percentile", "threshold_nats", "score"]
    return (
        index.iloc[queried][["image_id", "clip", "label"]]
        .assign(
            split=subsets[queried],
            detector=name,
            threshold_percentile=NO_THRESHOLD,
            threshold_nats=float("nan"),
            score=_scorer(run, name, protocol)(training, queries),
        )[order]
        .reset_index(drop=True)
    )


def _scorer(run: Run, name: str, protocol: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """(training frames, frames to score) -> scores."""
    config = run.profile.baselines
    options = {"seed": seed_from(run.profile.seed, name, protocol), "device": run.device}
    if name == "ganomaly":
        return lambda training, queries: ganomaly_scores(training, queries, config=config.ganomaly, **options)
    if name == "dfkde":
        return lambda training, queries: dfkde_scores(training, queries, config=config.dfkde, **options)
    if name == "nearest_frame":
        return lambda training, queries: nearest_training_frame(queries, training)[0]
    floor = {"variance_floor": config.pixel_variance_floor}
    return lambda training, queries: fit_pixel_statistics(training, **floor).scores(queries)
