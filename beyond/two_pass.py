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
from sklearn.metrics import roc_auc_score
from torch import Tensor

from beyond.masked import MaskedEncoder, train_masked
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
COLUMNS = ("scheme", "model", "density", "auroc", "difference", "difference_low", "difference_high", "passes")


@torch.no_grad()
def densities(
    prior: Prior, masked: MaskedEncoder, codes: Tensor, *, threshold_nats: float
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
def pseudo_likelihood(masked: MaskedEncoder, codes: Tensor) -> Tensor:
    """NLLs of each code given all others, by a pass for each position: (B, h, w) int64 -> (B, h, w) nats."""
    n = codes[0].numel()
    alone = torch.eye(n, dtype=torch.bool, device=codes.device).reshape(n, 1, *codes.shape[1:])
    return sum(_given_shown(masked, codes, one.expand_as(codes)) for one in alone)


def _given_shown(masked: MaskedEncoder, codes: Tensor, hidden: Tensor) -> Tensor:
    """NLLs of the hidden codes given the others, (B, h, w) nats; 0 elsewhere."""
    return code_nll(masked(codes, hidden), codes) * hidden


def density_rows(run: Run, *, scheme: str) -> pd.DataFrame:
    """AUROC of each density on test images, for each combination, at the lambda that validation selects for eq. 9.

    Returns:
        scheme, model, density, auroc, its difference to the causal one with 95% bounds (paired; over whole clips on
        scheme official), passes (the most that a batch took).

    Raises:
        VqadError: a combination has not been trained or scored yet.
    """
    return pd.DataFrame(_rows(run, scheme), columns=COLUMNS)


def _rows(run: Run, scheme: str) -> Iterator[dict]:
    test = run.frames.index[run.splits(scheme) == "test"]
    of_each: dict[str, list[Tensor]] = {}  # autoencoder -> batches of pseudo-likelihoods, which ask no prior
    for (autoencoder, prior), model in COMBINATIONS.items():
        names = {"autoencoder": autoencoder, "prior": prior, "scheme": scheme}
        nats = at_selected_threshold(run, load_scores(run, **names), "sample_wise").nats
        coder = load_autoencoder(run, autoencoder=autoencoder, scheme=scheme).network
        networks = load_prior(run, **names).network, train_masked(run, autoencoder=autoencoder, scheme=scheme)
        batches = encode_all(coder, run.images(test.index.to_numpy())).split(_BATCH)
        if autoencoder not in of_each:
            bar = progress(batches, what=f"pseudo-likelihood, {autoencoder}, {scheme}", unit="batch")
            of_each[autoencoder] = [pseudo_likelihood(networks[1], batch) for batch in bar]
        found: dict[str, list[Tensor]] = {}
        passes: dict[str, float] = {}
        for batch, pseudo in zip(batches, of_each[autoencoder], strict=True):
            of_batch = densities(*networks, batch, threshold_nats=nats)
            of_batch["pseudo-likelihood"] = pseudo, pseudo[0].numel()
            for density, (nll, took) in of_batch.items():
                found.setdefault(density, []).append((nll * (nll > nats)).sum((1, 2)))
                passes[density] = max(passes.get(density, 0), took)
        scores = {density: torch.cat(of).double().cpu().numpy() for density, of in found.items()}
        for density, values in scores.items():
            what = f"{model}, {density}, {scheme}"
            compared = paired_row(run, test, values, scores["causal"], scheme=scheme, what=what)
            row = {"scheme": scheme, "model": model, "density": density, "passes": passes[density]}
            yield row | {"auroc": roc_auc_score(test["label"], values)} | compared
