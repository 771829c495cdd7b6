"""Restoration by eq. 20: all unusual codes are drawn given the usual ones, in as many passes as one chooses.

Pixel-wise restoration (section 3.5) asks the prior again after every replaced code. An encoder that may look at any set
of codes draws all of them at once; in more rounds the likeliest draws of a round stay, and the others are drawn again
given these (Chang et al. 2022, MaskGIT).
"""

import math
import time
from collections.abc import Iterator

import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from beyond.clock import seconds_per_image
from beyond.masked import train_masked
from beyond.restoration_study import CLOCKED, spread
from beyond.two_pass import FRAMES
from vqad_lib.analysis.detection import paired_row
from vqad_lib.detectors.residuals import restoration_score
from vqad_lib.detectors.restoration import draw_codes
from vqad_lib.detectors.scoring import Detectors
from vqad_lib.experiment.networks import load_detectors
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import at_selected_threshold, load_scores
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.prior import code_nll
from vqad_lib.models.registry import COMBINATIONS
from vqad_lib.progress import progress
from vqad_lib.seeds import addressed_uniforms

ROUNDS = (1, 4)
_BATCH = 64
COLUMNS = ("scheme", "model", "restoration", "auroc", "difference", "difference_low", "difference_high", "passes")
COLUMNS += ("seconds_per_image",)


@torch.no_grad()
def drawn_given_usual(masked: nn.Module, codes: Tensor, unusual: Tensor, noise: Tensor, *, rounds: int) -> Tensor:
    """N restorations of each grid: (B, h, w) int64 -> (B, N, h, w) int64.

    Args:
        unusual: (B, h, w) bool, the codes to be replaced.
        noise: (B, N, h, w) float64 in [0, 1), see `addressed_uniforms`.
        rounds: passes of the encoder; after r of R rounds cos(r pi / 2 R) of the unusual codes, the least likely
            draws, are still to be replaced.
    """
    B, N = noise.shape[:2]
    logits = masked(codes, unusual).repeat_interleave(N, 0)  # all N look at the same grid at first
    grids, hidden = codes.repeat_interleave(N, 0), unusual.repeat_interleave(N, 0)
    total, uniforms = hidden.flatten(1).sum(1), noise.flatten(0, 1)[..., None]
    for done in range(1, rounds + 1):
        grids = torch.where(hidden, draw_codes(logits, uniforms)[..., 0], grids)
        if done < rounds:
            nll = code_nll(logits, grids).masked_fill(~hidden, -math.inf)
            rank = nll.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            left = (total * math.cos(done * math.pi / 2 / rounds)).long()
            hidden = hidden & (rank < left[:, None]).reshape(hidden.shape)
            logits = masked(grids, hidden)
    return grids.unflatten(0, (B, N))


def restoration_rows(run: Run, *, scheme: str) -> pd.DataFrame:
    """AUROC of restoration by eq. 20, and of pixel-wise restoration on the same test frames, at its selected lambda.

    Returns:
        scheme, model, restoration, auroc, its difference to pixel-wise restoration with 95% bounds (paired; over whole
        clips on scheme official), passes of the network that draws, without the first one that finds the unusual
        codes (NaN of pixel-wise restoration: as many as it replaces), seconds_per_image, encoding and scoring included.

    Raises:
        VqadError: a combination has not been trained or scored yet.
    """
    return pd.DataFrame(_rows(run, scheme), columns=COLUMNS)


def _rows(run: Run, scheme: str) -> Iterator[dict]:
    rows, few = spread(run, scheme, FRAMES), spread(run, scheme, CLOCKED)
    index = run.frames.index.iloc[rows]
    for autoencoder, prior in progress(COMBINATIONS, what=f"restorations, {scheme}", unit="combination"):
        names, model = {"autoencoder": autoencoder, "prior": prior, "scheme": scheme}, COMBINATIONS[autoencoder, prior]
        selected = at_selected_threshold(run, load_scores(run, **names), "pixel_wise")
        scorer, masked = load_detectors(run, **names), train_masked(run, autoencoder=autoencoder, scheme=scheme)
        theirs = selected.test.set_index("image_id")["score"].loc[index["image_id"]].to_numpy()
        seconds = seconds_per_image(run, scorer, few, {"pixel_wise": {selected.percentile: selected.nats}})
        about = {"scheme": scheme, "model": model, "auroc": roc_auc_score(index["label"], theirs)}
        yield about | {"restoration": "pixel-wise", "seconds_per_image": seconds}
        for rounds in ROUNDS:
            options = {"threshold_nats": selected.nats, "rounds": rounds}
            started = time.perf_counter()
            _scores(run, scorer, masked, few, **options)
            seconds = (time.perf_counter() - started) / len(few)
            ours = _scores(run, scorer, masked, rows, **options).numpy()
            name = f"eq. 20, {rounds} round{'s' * (rounds > 1)}"
            compared = paired_row(run, index, ours, theirs, scheme=scheme, what=f"{model}, {name}, {scheme}")
            row = about | compared | {"restoration": name, "passes": rounds, "seconds_per_image": seconds}
            yield row | {"auroc": roc_auc_score(index["label"], ours)}


@torch.no_grad()
def _scores(
    run: Run, scorer: Detectors, masked: nn.Module, rows: NDArray, *, threshold_nats: float, rounds: int
) -> Tensor:
    found = []
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH]
        images, ids = to_unit_range(run.images(some)), run.frames.index["image_id"].iloc[some].tolist()
        codes = scorer.encode(images)
        unusual = code_nll(scorer.logits(codes), codes) > threshold_nats
        options = {"seed": scorer.seed, "image_ids": ids, "n_restorations": scorer.config.n_restorations}
        noise = addressed_uniforms(**options, grid=tuple(codes.shape[1:])).to(codes.device)
        restored = drawn_given_usual(masked, codes, unusual, noise, rounds=rounds)
        sums = scorer.residual_sums(images, restored)
        found.append(restoration_score(*sums, scorer.config, values=images[0].numel()).double().cpu())
    return torch.cat(found)
