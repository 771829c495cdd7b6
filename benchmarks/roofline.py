"""How much of the device's arithmetic each phase uses: its operations a second over those of large matrix products."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from benchmarks.cases import Case
from benchmarks.flops import count_gflop, matmul_gflop_per_s
from benchmarks.timing import measure
from benchmarks.training_speed import Trainer, prior_trainer, vqvae_trainer
from vqad_lib.config import Profile
from vqad_lib.detectors.restoration import restore
from vqad_lib.models.registry import PRIORS
from vqad_lib.progress import progress


def roofline_rows(cases: list[Case], profile: Profile, frames: Tensor, *, percentile: int) -> pd.DataFrame:
    """Every phase of training and scoring, with its share of the measured roofline.

    Args:
        cases: one per prior.
        frames: (n, 3, H, W) uint8, on the device; at least a batch of training.
        percentile: threshold of the restorations.

    Returns:
        phase, network, dtype, gflop, seconds with _low and _high, gflop_per_s, ceiling_gflop_per_s, fraction (of the
        ceiling, at the median), calls.
    """
    config, device = profile.benchmarks, frames.device
    phases = [*_scoring_phases(cases, percentile), *_training_phases(profile, frames, cases[0].codes)]
    ceilings = {
        dtype: matmul_gflop_per_s(device, getattr(torch, dtype), repeats=config.repeats)
        for dtype in {dtype for _, _, dtype, _ in phases}
    }
    rows = []
    for phase, network, dtype, call in progress(phases, what="share of the roofline", unit="phase"):
        timing = measure({phase: call}, repeats=config.repeats, once_above_s=config.once_above_s, device=device)[phase]
        gflop = count_gflop(call)
        row = {"phase": phase, "network": network, "dtype": dtype, "gflop": gflop, **timing.seconds("seconds")}
        row |= {"gflop_per_s": gflop / timing.median_s, "ceiling_gflop_per_s": ceilings[dtype]}
        rows.append(row | {"fraction": row["gflop_per_s"] / ceilings[dtype], "calls": len(timing.samples_s)})
    return pd.DataFrame(rows)


Phase = tuple[str, str, str, Callable[[], Any]]
"""phase, network, dtype, and the call itself"""


def _scoring_phases(cases: list[Case], percentile: int) -> list[Phase]:
    first = cases[0]
    autoencoder, images, codes = first.detectors.autoencoder, first.images, first.codes
    phases: list[Phase] = [
        ("encode", "autoencoder", "float32", lambda: autoencoder.encode(images)),
        ("decode", "autoencoder", "float32", lambda: autoencoder.decode(codes)),
    ]
    for case in cases:
        title = PRIORS[case.prior_kind].title
        phases.append(("prior pass", title, "float32", partial(_pass, case)))
        phases.append(("pixel-wise restoration, fast", title, "float32", partial(_restoration, case, percentile)))
    return phases


@torch.no_grad()
def _pass(case: Case) -> Tensor:
    return case.detectors.prior.logits(case.codes)


def _restoration(case: Case, percentile: int) -> Tensor:
    return restore(
        case.detectors.prior,
        case.codes,
        threshold_nats=case.thresholds[percentile],
        noise=case.noise(case.detectors.config.n_restorations),
        recompute="after_every_replacement",
    )


def _training_phases(profile: Profile, frames: Tensor, codes: Tensor) -> list[Phase]:
    grids = codes.repeat(-(-profile.training.gpt2.batch_size // len(codes)), 1, 1)
    trainers: dict[str, Trainer] = {"VQ-VAE": vqvae_trainer(profile, frames, fast=True)}
    trainers |= {prior.title: prior_trainer(profile, prior.key, grids, fast=True) for prior in PRIORS.values()}
    return [("training step", title, trainer.config.precision, trainer.step) for title, trainer in trainers.items()]
