"""The rows of Table 5: the paper's models at their best detector, Anomalib's two, and scores without a network."""

import pandas as pd

from vqad_lib.baselines.labels import pca_components, weights_label
from vqad_lib.evaluation.metrics import paper_protocol
from vqad_lib.evaluation.results import paper_row, result_row
from vqad_lib.reporting.tables import beside_paper
from vqad_lib.workflow.baselines import BY_ANOMALIB, WITHOUT_NETWORK, baseline_scores
from vqad_lib.workflow.results import NEAREST, OVER_SEEDS, chosen_scores, detector_rows, over_seeds
from vqad_lib.workflow.run import Run

ROW_NAMES = {
    "ganomaly": "Ganomaly",
    "dfkde": "DFKDE",
    "nearest_frame": NEAREST,
    "pixel_statistics": "per-pixel mean and variance",
}
# the detectors that use both networks; of equals the first is taken
_CANDIDATES = ("sample_wise", "light_pixel_wise", "pixel_wise")


def best_detectors(scores: dict[str, pd.DataFrame]) -> dict[str, str]:
    """Which detector of each combination does best on validation, by the paper's protocol, at its best percentile.

    Where validation holds one class only, as on split "official", nothing can be compared, and it is sample-wise, the
    paper's best.

    Args:
        scores: see `combination_scores`.

    Returns:
        "VP", "VT", "GP", "GT" -> "sample_wise", "light_pixel_wise" or "pixel_wise".
    """
    chosen = {}
    for model, tidy in scores.items():
        validation = tidy[tidy["split"] == "validation"]
        if validation["label"].nunique() == 1:
            chosen[model] = _CANDIDATES[0]
            continue
        merits = {}
        for detector in _CANDIDATES:
            rows = validation[validation["detector"] == detector].groupby("threshold_percentile")
            found = [paper_protocol(at["label"], at["score"], what=f"{model}, {detector}") for _, at in rows]
            merits[detector] = max((round(best.auc, 12), round(best.f1, 12)) for best in found)
        chosen[model] = max(merits, key=merits.__getitem__)  # max keeps the first of equals
    return chosen


def model_rows(run: Run, scores: dict[str, pd.DataFrame], *, protocol: str) -> pd.DataFrame:
    """The four combinations, each by the detector that validation chose for it; see `best_detectors`."""
    chosen = best_detectors(scores)
    tables = {d: detector_rows(run, scores, detector=d, protocol=protocol) for d in dict.fromkeys(chosen.values())}
    picked = [
        tables[detector][tables[detector]["model"] == model].assign(detector=detector)
        for model, detector in chosen.items()
    ]
    return pd.concat(picked, ignore_index=True)


def baseline_rows(run: Run, *, protocol: str) -> pd.DataFrame:
    """Ganomaly and DFKDE over all training seeds, then the scores without a network, which know no seed.

    Returns:
        A row each: model, detector, the metrics of the result tables, and note: how it differs from the paper's, or
        why it is empty.
    """
    trained = over_seeds(run, _rows(run, BY_ANOMALIB, protocol), lambda other: _rows(other, BY_ANOMALIB, protocol))
    return pd.concat([trained, _rows(run, WITHOUT_NETWORK, protocol)], ignore_index=True)


def _rows(run: Run, names: tuple[str, ...], protocol: str) -> pd.DataFrame:
    dfkde = run.profile.baselines.dfkde
    notes = {"dfkde": weights_label(dfkde.backbone, dfkde.weights)}
    training = int((run.subsets(protocol) == "train").sum())
    if (components := pca_components(dfkde.pca_components, training)) < dfkde.pca_components:
        notes["dfkde"] += f"; {components} principal components, for there are {training} training images"
    notes |= dict.fromkeys(WITHOUT_NETWORK, "no network, not in the paper")
    rows = []
    for name in names:
        title, tidy = ROW_NAMES[name], baseline_scores(run, name=name, protocol=protocol)
        if isinstance(tidy, str):
            rows.append({"model": title, "note": tidy})
            continue
        validation, test = (tidy[tidy["split"] == split] for split in ("validation", "test"))
        what = f"{title}, {protocol}"
        sound = {"config": run.profile.evaluation, "by_clip": protocol == "official", "what": what}
        rows.append(
            {
                "model": title,
                "detector": name,
                **paper_row(test, what),
                **result_row(validation, test, **sound),
                "note": notes.get(name, ""),
            }
        )
    # where no row has one, the columns are there all the same
    return pd.DataFrame(rows).reindex(columns=list(dict.fromkeys([*(c for row in rows for c in row), *OVER_SEEDS])))


def table_5(run: Run, scores: dict[str, dict[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """Table 5 for every split: split -> its rows; those of "paper" beside the paper's numbers.

    Args:
        scores: split -> `combination_scores`.
    """
    tables = {
        protocol: pd.concat(
            [model_rows(run, by_model, protocol=protocol), baseline_rows(run, protocol=protocol)], ignore_index=True
        )
        for protocol, by_model in scores.items()
    }
    first = ["model", "detector"]
    for protocol, rows in tables.items():
        others = [column for column in rows if column not in (*first, "note")]
        tables[protocol] = rows[[*first, *others, "note"]].assign(note=rows["note"].fillna(""))
    tables["paper"] = beside_paper(tables["paper"], table=5, key="model")
    if "official" in tables:
        official = tables["official"].set_index("model")["auroc"]
        tables["paper"].insert(
            len(tables["paper"].columns) - 1, "auroc_official", tables["paper"]["model"].map(official)
        )
    return tables


def scores_behind(
    run: Run, rows: pd.DataFrame, scores: dict[str, pd.DataFrame], *, protocol: str
) -> dict[str, pd.DataFrame]:
    """Test scores behind each row of Table 5: by the sound protocol's percentile where the detector has one.

    Args:
        rows: Table 5 for this split.
        scores: see `combination_scores`.

    Returns:
        Row name -> tidy scores. Rows that were not run are missing.
    """
    found = {}
    for _, row in rows.dropna(subset="auroc").iterrows():
        if row["model"] in scores:
            own = pd.DataFrame([row])
            found[row["model"]] = chosen_scores({row["model"]: scores[row["model"]]}, own, detector=row["detector"])
        else:
            tidy = baseline_scores(run, name=row["detector"], protocol=protocol)
            found[row["model"]] = tidy[tidy["split"] == "test"]
    return found
