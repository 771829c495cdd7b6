"""Table 5: our models at their best detector, Anomalib's two, and scores without a network; and the leak in time.

The leak is what scheme "paper" owes to test frames that lie between training frames. Most normal ones have a training
frame right beside them, so trained models cannot be shown at larger gaps without training them anew. The distance to
the nearest training frame can: training frames are left out.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vqad_lib.analysis.detection import NEAREST, OVER_SEEDS, baseline_row, detector_rows, held_out_row, over_seeds
from vqad_lib.baselines.anomalib_models import pca_components
from vqad_lib.data.nearest import WHOLE_CLIP, frames_to_nearest_training, nearest_training_distances
from vqad_lib.evaluation.metrics import held_out_metrics, paper_metrics
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import (
    BY_ANOMALIB,
    WITHOUT_NETWORK,
    at_selected_threshold,
    baseline_scores,
    combination_scores,
)
from vqad_lib.losses.pretrained import weights_label
from vqad_lib.reporting.tables import beside_paper

# what a row of the leak in time is about
LEFT_OUT = "training frames of the same clip that are closer are left out"
BY_GAP = "normal test frames whose nearest training frame is so far"
OTHER_SCHEME = "scheme official"
WHOLE_CLIP_NAME, ONE_FRAME, FARTHER = "whole clip", "1", "2 or more"

ROW_NAMES = {
    "ganomaly": "Ganomaly",
    "dfkde": "DFKDE",
    "nearest_frame": NEAREST,
    "pixel_statistics": "per-pixel mean and variance",
}
# the detectors that use both networks; ties: first
_CANDIDATES = ("sample_wise", "light_pixel_wise", "pixel_wise")


def best_detector(tidy: pd.DataFrame, *, what: str) -> str:
    """Which detector of a combination does best on validation, by the paper's metrics, at its best percentile.

    Where validation holds one class only, as on scheme "official", nothing can be compared, and it is sample-wise, the
    paper's best.

    Args:
        tidy: the scores of a combination, see `score_frames`.
        what: what an error message calls it.

    Returns:
        "sample_wise", "light_pixel_wise" or "pixel_wise".
    """
    validation = tidy[tidy["split"] == "validation"]
    if validation["label"].nunique() == 1:
        return _CANDIDATES[0]
    merits = {}
    for detector in _CANDIDATES:
        rows = validation[validation["detector"] == detector].groupby("threshold_percentile")
        found = [paper_metrics(at["label"], at["score"], what=f"{what}, {detector}") for _, at in rows]
        merits[detector] = max((round(best["auc"], 12), round(best["f1"], 12)) for best in found)
    return max(merits, key=merits.__getitem__)


def model_rows(run: Run, *, scheme: str) -> pd.DataFrame:
    """The four combinations, each by the detector that validation chose for it; see `best_detector`."""
    scores = combination_scores(run, scheme)
    chosen = {model: best_detector(tidy, what=model) for model, tidy in scores.items()}
    tables = {name: detector_rows(run, detector=name, scheme=scheme) for name in dict.fromkeys(chosen.values())}
    rows = pd.concat(table.assign(detector=name) for name, table in tables.items())
    rows = rows[rows["detector"] == rows["model"].map(chosen)]
    return rows.set_index("model").loc[list(chosen)].reset_index()


def baseline_rows(run: Run, *, scheme: str) -> pd.DataFrame:
    """Ganomaly and DFKDE over all training seeds, then the scores without a network, which know no seed.

    Returns:
        A row each: model, detector, the metrics of the result tables, and note: how it differs from the paper's, or
        why it is empty.
    """
    trained = over_seeds(run, lambda one: _rows(one, BY_ANOMALIB, scheme))
    return pd.concat([trained, _rows(run, WITHOUT_NETWORK, scheme)], ignore_index=True)


def _rows(run: Run, names: tuple[str, ...], scheme: str) -> pd.DataFrame:
    dfkde, training = run.profile.baselines.dfkde, int((run.splits(scheme) == "train").sum())
    notes = dict.fromkeys(WITHOUT_NETWORK, "no network, not in the paper")
    notes["dfkde"] = weights_label(dfkde.backbone, dfkde.weights)
    if (components := pca_components(dfkde.pca_components, training)) < dfkde.pca_components:
        notes["dfkde"] += f"; {components} principal components, for there are {training} training images"
    rows = []
    for name in names:
        title, tidy = ROW_NAMES[name], baseline_scores(run, name=name, scheme=scheme)
        if isinstance(tidy, str):
            rows.append({"model": title, "note": tidy} | dict.fromkeys(OVER_SEEDS, np.nan))
        else:
            row = baseline_row(run, title, tidy, scheme=scheme)
            rows.append(row | {"detector": name, "note": notes.get(name, "")})
    return pd.DataFrame(rows)


def table_5(run: Run) -> dict[str, pd.DataFrame]:
    """Table 5 under every scheme: scheme -> its rows; those of "paper" beside the paper's numbers."""
    tables = {}
    for scheme in run.schemes:
        parts = [model_rows(run, scheme=scheme), baseline_rows(run, scheme=scheme)]
        rows = pd.concat(parts, ignore_index=True)
        others = rows.columns.drop(["model", "detector", "note"])
        tables[scheme] = rows[["model", "detector", *others, "note"]].fillna({"note": ""})
    tables["paper"] = paper = beside_paper(tables["paper"], table=5, key="model", dataset=run.frames.dataset)
    if "official" in tables:
        official = tables["official"].set_index("model")["auroc"]
        paper.insert(len(paper.columns) - 1, "auroc_official", paper["model"].map(official))
    return tables


def scores_behind(run: Run, rows: pd.DataFrame, *, scheme: str) -> dict[str, pd.DataFrame]:
    """Test scores behind each row of Table 5, at the percentile that validation selects where the detector has one.

    Args:
        rows: Table 5 for this split.

    Returns:
        Row name -> tidy scores. Rows that were not run are missing.
    """
    scores, found = combination_scores(run, scheme), {}
    for model, detector in rows.dropna(subset="auroc")[["model", "detector"]].to_numpy():
        if model in scores:
            found[model] = at_selected_threshold(run, scores[model], detector).test
        else:
            tidy = baseline_scores(run, name=detector, scheme=scheme)
            found[model] = tidy[tidy["split"] == "test"]
    return found


# -- the leak --------------------------------------------------------------------------------------------------------


def leak_row(test: pd.DataFrame, frames_away: NDArray[np.float64], *, is_video: bool, what: str) -> dict[str, float]:
    """How much the training frames give away of the test frames, with no model.

    Anomalous frames are never trained on, so only a normal test frame can have a training frame right beside it.

    Args:
        test: one row per test frame: label (0 or 1), score (distance to the nearest training frame, grey levels).
        frames_away: (n,) frames to the nearest training frame of the same clip, NaN where the clip has none.
        is_video: whether the order of the frames is time.
        what: what an error message calls the result.

    Returns:
        median_distance_normal and median_distance_anomalous, grey levels; over normal test frames
        median_frames_to_training (NaN where no clip was trained on) and test_frames_next_to_training, the share with a
        training frame just before or after, in [0, 1], both NaN where `is_video` is false; auroc of the distance.

    Raises:
        VqadError: test is empty, holds a distance that is not finite, or has one class only.
    """
    auroc = held_out_metrics(test["label"], test["score"], threshold=0.0, what=f"{what}: test split")["auroc"]
    normal = test["label"].to_numpy() == 0
    gaps = pd.Series(frames_away[normal], dtype=float)
    return {
        "median_distance_normal": float(test["score"][normal].median()),
        "median_distance_anomalous": float(test["score"][~normal].median()),
        "median_frames_to_training": gaps.median(),
        "test_frames_next_to_training": (gaps <= 1).mean() if is_video else np.nan,
        "auroc": auroc,
    }


def left_out_rows(run: Run) -> pd.DataFrame:
    """AUROC of the nearest-frame distance on scheme "paper", training frames ever farther in time being left out.

    All test frames are scored, normal and anomalous ones by the same rule, with no model.

    Returns:
        A row for gaps 1, 2, 4, ... up to half the longest clip, and for the whole clip: model, view, frames (the gap
        as text), auroc, auroc_low, auroc_high (95%, over images), normal_frames, anomalous_frames. Gaps that leave a
        frame without any training frame are missing.
    """
    splits, index, images = run.splits("paper"), run.frames.index, run.frames.images
    test, training = (np.flatnonzero(splits == split) for split in ("test", "train"))
    doublings = int(np.log2(index["clip"].value_counts().max()))  # 1, 2, 4, ... up to half the longest clip
    gaps = [*(2.0 ** np.arange(doublings)), WHOLE_CLIP]
    distances = nearest_training_distances(
        np.asarray(images[test]),
        np.asarray(images[training]),
        query_index=index.iloc[test],
        training_index=index.iloc[training],
        gaps=gaps,
    )
    rows = []
    for gap, scores in zip(gaps, distances, strict=True):
        if np.isfinite(scores).all():
            name = WHOLE_CLIP_NAME if gap == WHOLE_CLIP else f"{gap:.0f}"
            tested = index.iloc[test][["label", "clip"]].assign(score=scores)
            rows.append(_leak_row(run, NEAREST, LEFT_OUT, name, tested))
    return pd.DataFrame(rows)


def gap_rows(run: Run, scores: dict[str, dict[str, pd.DataFrame]]) -> pd.DataFrame:
    """AUROC of each model on normal test frames beside a training frame, on those farther off, and on "official".

    Anomalous test frames are all of them, for none is ever trained on.

    Args:
        scores: split -> row of Table 5 -> test scores: image_id, clip, label, score.

    Returns:
        Rows with the columns of `left_out_rows`. A group without normal frames has no row.
    """
    index = run.frames.index
    gap = pd.Series(frames_to_nearest_training(index, run.splits("paper")), index=index["image_id"])
    rows = []
    for model, tested in scores["paper"].items():
        apart, normal = tested["image_id"].map(gap), tested["label"] == 0
        for name, wanted in ((ONE_FRAME, apart <= 1), (FARTHER, apart > 1)):
            if (normal & wanted).any():
                rows.append(_leak_row(run, model, BY_GAP, name, tested[~normal | wanted]))
    for model, tested in scores.get("official", {}).items():
        rows.append(_leak_row(run, model, OTHER_SCHEME, "", tested, scheme="official"))
    return pd.DataFrame(rows)


def _leak_row(
    run: Run, model: str, view: str, frames: str, tested: pd.DataFrame, *, scheme: str = "paper"
) -> dict[str, object]:
    found = held_out_row(run, tested, tested, scheme=scheme, what=f"{model}, {view} {frames}")
    return {
        "model": model,
        "view": view,
        "frames": frames,
        **{name: found[name] for name in ("auroc", "auroc_low", "auroc_high")},
        "normal_frames": int((tested["label"] == 0).sum()),
        "anomalous_frames": int((tested["label"] == 1).sum()),
    }
