"""Images per second of the four detectors, each by itself, from images in memory to one score per image."""

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from vqad_lib.benchmarks import peers
from vqad_lib.benchmarks.restoration import restored
from vqad_lib.benchmarks.subjects import Subject
from vqad_lib.benchmarks.timing import measure
from vqad_lib.config import BenchmarkConfig
from vqad_lib.detectors.regenerative import regenerative_score
from vqad_lib.detectors.residuals import anomaly_map, image_score
from vqad_lib.detectors.sample_wise import sample_wise_score
from vqad_lib.models.prior import code_nll
from vqad_lib.progress import progress

# name -> (recompute, algorithm) of the detectors that restore
RESTORING = {
    "light pixel-wise": ("once", "fast"),
    "pixel-wise": ("after_every_replacement", "fast"),
    "pixel-wise, plain algorithm": ("after_every_replacement", "plain"),
}


def detector_rows(subjects: list[Subject], config: BenchmarkConfig, *, percentile: int) -> pd.DataFrame:
    """The four detectors of each combination, pixel-wise with the plain algorithm too, and GANomaly where it is there.

    Args:
        percentile: threshold of those that have one.

    Returns:
        model, detector, images (per batch), n_restorations, percentile, images_per_s with _low and _high,
        times_light (its seconds per image over those of light pixel-wise), calls, networks.
    """
    tables = [
        _rows(subject, config, percentile)
        for subject in progress(subjects, what="images per second of detectors", unit="combination")
    ]
    if peers.is_installed("anomalib"):
        tables.append(_ganomaly_row(subjects[0], config))
    return pd.concat(tables, ignore_index=True)


def _rows(subject: Subject, config: BenchmarkConfig, percentile: int) -> pd.DataFrame:
    threshold = subject.thresholds[percentile]
    detectors = subject.detectors
    calls: dict[str, Callable[[], Tensor]] = {
        "sample-wise": lambda: _sample_wise(subject, threshold),
        "regenerative": lambda: _regenerative(subject),
    }
    for name in RESTORING:
        calls[name] = lambda name=name: _restoring(subject, threshold, *RESTORING[name])
    timings = measure(calls, repeats=config.repeats, once_above_s=config.once_above_s, device=subject.images.device)
    light_s = timings["light pixel-wise"].median_s
    return pd.DataFrame(
        {
            "model": subject.model,
            "detector": name,
            "images": len(subject.images),
            "n_restorations": detectors.config.n_restorations if name in RESTORING else 0,
            "percentile": -1 if name == "regenerative" else percentile,
            **timing.rate("images_per_s", len(subject.images)),
            "times_light": timing.median_s / light_s,
            "calls": len(timing.samples_s),
            "networks": subject.networks,
        }
        for name, timing in timings.items()
    )


@torch.no_grad()
def _sample_wise(subject: Subject, threshold_nats: float) -> Tensor:
    codes = subject.detectors.autoencoder.encode(subject.images)
    return sample_wise_score(code_nll(subject.detectors.prior.logits(codes), codes), threshold_nats=threshold_nats)


@torch.no_grad()
def _regenerative(subject: Subject) -> Tensor:
    autoencoder = subject.detectors.autoencoder
    return regenerative_score(subject.images, autoencoder.decode(autoencoder.encode(subject.images)))


@torch.no_grad()
def _restoring(subject: Subject, threshold_nats: float, recompute: str, algorithm: str) -> Tensor:
    detectors, images = subject.detectors, subject.images
    config = detectors.config
    grids = restored(
        detectors.prior,
        detectors.autoencoder.encode(images),
        threshold_nats=threshold_nats,
        noise=subject.noise(config.n_restorations),
        recompute=recompute,
        algorithm=algorithm,
    )
    heatmap = anomaly_map(
        images,
        detectors.decode(grids),
        temperature=config.weight_temperature,
        min_pool_px=config.min_pool_px,
        average_pool_px=config.average_pool_px,
    )
    return image_score(heatmap)


def _ganomaly_row(subject: Subject, config: BenchmarkConfig) -> pd.DataFrame:
    images = subject.images
    network = peers.ganomaly(images.shape[-1]).to(images.device)
    with torch.no_grad():
        timing = measure(
            {"GANomaly": lambda: network(images).pred_score},
            repeats=config.repeats,
            once_above_s=config.once_above_s,
            device=images.device,
        )["GANomaly"]
    row = {
        "model": "GANomaly (Anomalib)",
        "detector": "GANomaly",
        "images": len(images),
        "n_restorations": 0,
        "percentile": -1,
        **timing.rate("images_per_s", len(images)),
        "calls": len(timing.samples_s),
        "networks": "random",
    }
    return pd.DataFrame([row])
