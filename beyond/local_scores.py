"""Local scores of single frames: which signal, how much of its map counts, and whether it is calibrated by position.

Sample-wise detection (eq. 10) and regeneration (section 3.6) add up the whole frame, in which one cyclist drowns. Here
the map of a signal (`vqad_lib.detectors.local`) counts by the mean of its highest part; the quantisation error, which
eq. 1 throws away, is one of them. Options are chosen on held-out normal frames and on pseudo-anomalies painted into
them; test frames choose nothing.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from vqad.local import Calibration, image_scores
from vqad_lib.data.defects import pseudo_defects
from vqad_lib.detectors.local import LOCAL_SIGNALS, images_and_signals
from vqad_lib.experiment.networks import load_detectors
from vqad_lib.experiment.run import Run
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.registry import COMBINATIONS
from vqad_lib.progress import progress

SIGNALS = (*LOCAL_SIGNALS, "+".join(LOCAL_SIGNALS))  # the last one is a sum of standard deviations
SHARES = {"all": 1.0, "highest 10%": 0.1, "highest 1%": 0.01, "highest 0.1%": 0.001}
_CALIBRATED_BY, _CHUNK = 256, 64  # frames


def local_options(run: Run, *, scheme: str) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Every combination, signal, share and calibration that is tried, best first by what it is chosen by.

    Returns:
        model, signal, share, calibrated, pseudo_auroc (normal validation frames against pseudo-anomalies made from
        them; it chooses) and test_auroc; and for each row the scores of the test frames in their order, (rows, n).

    Raises:
        VqadError: a combination has not been trained yet.
    """
    total = len(COMBINATIONS) * len(SHARES) * (2 * len(LOCAL_SIGNALS) + 1)
    bar = progress(_options(run, scheme), what="local scores", total=total, unit="option")
    rows, scores = zip(*bar, strict=True)
    table = pd.DataFrame(rows).sort_values("pseudo_auroc", ascending=False, kind="stable")
    return table.reset_index(drop=True), np.stack(scores)[table.index]


def what_options_do(table: pd.DataFrame) -> list[str]:
    """Sentences on the table of `local_options`: what a part of the map does, what calibration does, what agrees."""
    areas = table.set_index(["model", "signal", "share", "calibrated"])["test_auroc"]
    said, by_share, by_calibration = [], areas.unstack("share"), areas.unstack("calibrated")
    for signal, gained in (by_share["highest 1%"] - by_share["all"]).groupby("signal", sort=False):
        said.append(f"The highest hundredth in place of the whole map, `{signal}`: {_span(gained)}.")
    gained = (by_calibration[True] - by_calibration[False]).dropna()
    agreement = table[["pseudo_auroc", "test_auroc"]].corr("spearman").iloc[0, 1]
    said.append(f"Calibration by position: {_span(gained)}.")
    said.append(
        f"Spearman's correlation of AUROC on pseudo-anomalies with that on test clips is {agreement:.2f}; the best "
        f"option there has {areas.max():.3f}, the chosen one {areas.iloc[0]:.3f}."
    )
    return said


def _span(gained: pd.Series) -> str:
    return f"{gained.mean():+.3f} in the mean over {len(gained)} options ({gained.min():+.3f} to {gained.max():+.3f})"


def _options(run: Run, scheme: str) -> Iterator[tuple[dict, NDArray]]:
    index, splits = run.frames.index, run.splits(scheme)
    normal = index["label"].to_numpy() == 0
    train, held_out, test = (
        np.flatnonzero(of) for of in (splits == "train", (splits == "validation") & normal, splits == "test")
    )
    train = train[np.linspace(0, len(train) - 1, min(_CALIBRATED_BY, len(train))).astype(int)]
    for (autoencoder, prior), model in COMBINATIONS.items():
        scorer = load_detectors(run, autoencoder=autoencoder, prior=prior, scheme=scheme)
        networks = scorer.autoencoder, scorer.prior

        def maps(of: NDArray, *, defects: bool = False, networks: tuple = networks) -> Tensor:
            generator, found = torch.Generator().manual_seed(run.profile.seed), []
            for chunk in np.array_split(of, -(-len(of) // _CHUNK)):
                images = to_unit_range(run.images(chunk))
                images = pseudo_defects(images, family="judged", generator=generator)[0] if defects else images
                found.append(images_and_signals(*networks, images, window_px=1)[:, -len(LOCAL_SIGNALS) :].cpu())
            return torch.cat(found)

        calibration = Calibration.of(maps(train), window_px=1)
        signals = maps(held_out), maps(held_out, defects=True), maps(test)
        for i, signal in enumerate(SIGNALS):
            for calibrated in (False, True) if signal in LOCAL_SIGNALS else (True,):
                heat = [calibration.heatmaps(of, signal) if calibrated else of[:, i] for of in signals]
                for name, share in SHARES.items():
                    usual, pseudo, tested = (image_scores(of, share).double().numpy() for of in heat)
                    row = {"model": model, "signal": signal, "share": name, "calibrated": calibrated}
                    row["pseudo_auroc"] = _auroc(np.repeat([0, 1], len(usual)), np.r_[usual, pseudo])
                    yield row | {"test_auroc": _auroc(index["label"].to_numpy()[test], tested)}, tested


def _auroc(labels: NDArray, scores: NDArray) -> float:
    return float(roc_auc_score(labels, scores))
