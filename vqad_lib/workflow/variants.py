"""A run with some numbers of its profile changed: trained into folders of its own, scored like the run itself."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from vqad_lib.detectors.chunks import score_frames, surprise
from vqad_lib.detectors.sample_wise import thresholds_at
from vqad_lib.detectors.scoring import NO_THRESHOLD, RESTORATIONS
from vqad_lib.errors import VqadError
from vqad_lib.files import atomic_path
from vqad_lib.workflow import stages
from vqad_lib.workflow.run import Run


@dataclass(frozen=True)
class Combination:
    """Which networks on which split: "vqvae" or "vqgan", "pixelsnail" or "gpt2", "paper" or "official"."""

    autoencoder: str
    prior: str
    protocol: str

    @property
    def model(self) -> str:
        """VP, VT, GP or GT."""
        return stages.COMBINATIONS[self.autoencoder, self.prior]

    @property
    def kinds(self) -> dict[str, str]:
        """As `stages.detectors` takes it."""
        return {"autoencoder_kind": self.autoencoder, "prior_kind": self.prior, "protocol": self.protocol}


def changed(run: Run, changes: Mapping[str, Any]) -> Run:
    """The run with other values in its profile, for example {"autoencoder.latent_dim": 512}.

    Networks and scores of a changed run lie beside those of the run, named by what shaped them.

    Raises:
        VqadError: the profile has no such key.
    """
    profile = run.profile
    for key, value in changes.items():
        profile = _with(profile, key.split("."), value, key)
    return replace(run, profile=profile)


def _with(config: Any, path: list[str], value: Any, key: str) -> Any:
    name, *rest = path
    if name not in {field.name for field in dataclasses.fields(config)}:
        raise VqadError(f"a profile has no {key}; compare with profiles/demo.yaml")
    return replace(config, **{name: _with(getattr(config, name), rest, value, key) if rest else value})


@contextlib.contextmanager
def in_this_process() -> Iterator[None]:
    """Train here even under DEVICES=: processes that are started read the profile's file, which has no changes."""
    asked = os.environ.pop("VQAD_DEVICES", None)
    try:
        yield
    finally:
        if asked is not None:
            os.environ["VQAD_DEVICES"] = asked


def variant_scores(run: Run, combination: Combination, detectors: Mapping[str, tuple[str, ...]]) -> pd.DataFrame:
    """Train what is not there yet, and score images; finished chunks are read, not computed again.

    Sample-wise scores come at every percentile of lambda that validation allows, restorations at
    `evaluation.unsupervised_percentile` alone: choosing for them would take as many restorations more.

    Args:
        detectors: subset ("validation" or "test") -> names of detectors.

    Returns:
        The tidy scores, see `score_frames`.
    """
    with in_this_process():
        scorer = stages.detectors(run, **combination.kinds)
        parts = stages.parts_folder(run, **combination.kinds)
    index, subsets = run.frames.index, run.subsets(combination.protocol)
    validation = index[subsets == "validation"]
    fixed = run.profile.evaluation.unsupervised_percentile
    percentiles = scorer.config.threshold_percentiles if validation["label"].any() else (fixed,)
    thresholds = thresholds_at(surprise(scorer, run.frames.images, validation.index.to_numpy()), percentiles)
    found = []
    for subset, names in detectors.items():
        jobs = {name: _thresholds_for(name, thresholds, fixed) for name in names}
        folder = parts.with_name(f"{parts.name}_{'_'.join(names)}")  # the run's own chunks hold other detectors
        found.append(
            score_frames(scorer, run.frames.images, index[subsets == subset], jobs, subset=subset, folder=folder)
        )
    return pd.concat(found, ignore_index=True)


def _thresholds_for(detector: str, thresholds: dict[int, float], fixed: int) -> dict[int, float]:
    if detector == "regenerative":
        return {NO_THRESHOLD: math.nan}
    return {fixed: thresholds[fixed]} if detector in RESTORATIONS else thresholds


def save_scores(path: Path, scores: pd.DataFrame) -> None:
    """Write a parquet of scores whole or not at all."""
    with atomic_path(path) as temporary:
        scores.to_parquet(temporary, index=False)
