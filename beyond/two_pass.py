"""Density without an order (eq. 20, section 6.1): p(s_i | the codes that a first pass calls usual).

    causal              the first pass: NLL of each code given those before it (eq. 10)
    two passes          what the first pass calls unusual is hidden, and its NLL is that given all usual codes
    to a stable set     of the hidden codes, those that are likely after all are shown, and the rest is asked again
    pseudo-likelihood   each code given all others, by a pass for every position: the reference

A score is the sum over the codes above lambda, as in eq. 9.
"""

from collections.abc import Iterator

import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from beyond.masked import ENCODERS, train_masked
from beyond.restoration_study import pixel_auroc, spread
from vqad_lib.analysis.detection import paired_row
from vqad_lib.detectors.scoring import encode_all
from vqad_lib.experiment.networks import load_autoencoder, load_prior
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import at_selected_threshold, load_scores
from vqad_lib.models.prior import Prior, code_nll
from vqad_lib.models.registry import COMBINATIONS
from vqad_lib.progress import progress

MOST_ROUNDS = 20
_BATCH = 64
FRAMES = 512  # test frames at most, evenly spread
COLUMNS = ("scheme", "model", "encoder", "density", "auroc", "difference", "difference_low", "difference_high")
COLUMNS += ("pixel_auroc", "passes")


@torch.no_grad()
def densities(
    prior: Prior, masked: nn.Module, codes: Tensor, *, threshold_nats: float
) -> dict[str, tuple[Tensor, float]]:
    """NLLs of codes by each density, and how many passes of a network a grid takes.

    Args:
        prior, masked: in evaluation mode.
        codes: (B, h, w) int64.
        threshold_nats: lambda; codes above it are unusual.

    Returns:
        density -> ((B, h, w) nats, passes). Two passes and a stable set say nothing of codes that are shown: theirs
        are 0.
    """
    causal = code_nll(prior.logits(codes), codes)
    unusual = causal > threshold_nats
    once = _given_shown(masked, codes, unusual)
    hidden, nll, rounds = unusual, once, 1
    while rounds < MOST_ROUNDS and bool((shown := hidden & (nll <= threshold_nats)).any()):
        hidden = hidden & ~shown
        nll, rounds = _given_shown(masked, codes, hidden), rounds + 1
    return {"causal": (causal, 1), "two passes": (once, 2), "to a stable set": (nll, 1 + rounds)}


@torch.no_grad()
def pseudo_likelihood(masked: nn.Module, codes: Tensor) -> Tensor:
    """NLLs of each code given all others, by a pass for each position: (B, h, w) int64 -> (B, h, w) nats."""
    n = codes[0].numel()
    alone = torch.eye(n, dtype=torch.bool, device=codes.device).reshape(n, 1, *codes.shape[1:])
    return sum(_given_shown(masked, codes, one.expand_as(codes)) for one in alone)


def _given_shown(masked: nn.Module, codes: Tensor, hidden: Tensor) -> Tensor:
    """NLLs of the hidden codes given the others, (B, h, w) nats; 0 elsewhere."""
    return code_nll(masked(codes, hidden), codes) * hidden


def density_rows(run: Run, *, scheme: str) -> pd.DataFrame:
    """Each density on test images, for each combination, at the lambda that validation selects for eq. 9.

    Returns:
        scheme, model, encoder (the causal density, which asks none, stands with the first), density, auroc, its
        difference to the causal one with 95% bounds (paired; over whole clips on scheme official), pixel_auroc of the
        map of NLLs where there are masks, passes (the most that a batch took).

    Raises:
        VqadError: a combination has not been trained or scored yet.
    """
    return pd.DataFrame(_rows(run, scheme), columns=COLUMNS)


def _rows(run: Run, scheme: str) -> Iterator[dict]:
    rows = spread(run, scheme, FRAMES)
    of_each: dict[tuple[str, str], list[Tensor]] = {}  # batches of pseudo-likelihoods, which ask no prior
    for (autoencoder, prior), model in COMBINATIONS.items():
        names = {"autoencoder": autoencoder, "prior": prior, "scheme": scheme}
        nats = at_selected_threshold(run, load_scores(run, **names), "sample_wise").nats
        causal = load_prior(run, **names).network
        coder = load_autoencoder(run, autoencoder=autoencoder, scheme=scheme).network
        batches = encode_all(coder, run.images(rows)).split(_BATCH)
        for encoder in ENCODERS:
            masked = train_masked(run, autoencoder=autoencoder, scheme=scheme, encoder=encoder)
            if (autoencoder, encoder) not in of_each:
                bar = progress(batches, what=f"pseudo-likelihood, {autoencoder}, {encoder}, {scheme}", unit="batch")
                of_each[autoencoder, encoder] = [pseudo_likelihood(masked, batch) for batch in bar]
            found: dict[str, list[Tensor]] = {}
            passes: dict[str, float] = {}
            for batch, pseudo in zip(batches, of_each[autoencoder, encoder], strict=True):
                of_batch = densities(causal, masked, batch, threshold_nats=nats)
                of_batch["pseudo-likelihood"] = pseudo, pseudo[0].numel()
                for density, (nll, took) in of_batch.items():
                    found.setdefault(density, []).append(nll * (nll > nats))
                    passes[density] = max(passes.get(density, 0), took)
            maps = {density: torch.cat(of).double() for density, of in found.items()}
            about = {"scheme": scheme, "model": model, "encoder": encoder}
            compared = _compared(run, rows, maps, about, passes)
            first = encoder == next(iter(ENCODERS))  # the causal density asks none of them
            yield from (row for row in compared if first or row["density"] != "causal")


def _compared(
    run: Run, rows: NDArray, maps: dict[str, Tensor], about: dict[str, str], passes: dict[str, float]
) -> Iterator[dict]:
    index, size = run.frames.index.iloc[rows], run.profile.data.image_size_px
    scores = {density: of.sum((1, 2)).cpu().numpy() for density, of in maps.items()}
    for density, values in scores.items():
        what = f"{about['model']}, {density}, {about['scheme']}"
        compared = paired_row(run, index, values, scores["causal"], scheme=about["scheme"], what=what)
        fine = F.interpolate(maps[density][:, None], size=(size, size), mode="bilinear")[:, 0]
        row = about | {"density": density, "passes": passes[density]} | compared
        row["auroc"] = roc_auc_score(index["label"], values)
        yield row | {"pixel_auroc": pixel_auroc(run, rows, fine.cpu().numpy())}
