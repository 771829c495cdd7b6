"""Which values a profile may hold: what is of the right type and yet builds no network and makes no run."""

import dataclasses
from typing import Any

from vqad_lib.errors import VqadError

_AT_LEAST_ONE = [
    "data.image_size_px",
    "autoencoder.norm_groups",
    "autoencoder.codebook_size",
    "autoencoder.latent_dim",
    "autoencoder.residual_blocks",
    "gan.discriminator_channels",
    "gan.discriminator_layers",
    "pixelsnail.channels",
    "pixelsnail.heads",
    "pixelsnail.key_dim",
    "gpt2.layers",
    "gpt2.heads",
    "gpt2.width",
    "training.*.batch_size",
    "training.*.max_epochs",
    "training.*.validate_every_epochs",
    "detectors.n_restorations",
    "detectors.chunk_images",
    "evaluation.bootstrap_resamples",
    "speed.images",
    "speed.repeats",
    "baselines.ganomaly.epochs",
    "baselines.ganomaly.features",
    "baselines.ganomaly.latent_dim",
    "baselines.dfkde.max_training_points",
    "benchmarks.threads",
    "benchmarks.images",
    "benchmarks.repeats",
    "benchmarks.training_steps",
    "benchmarks.curve_steps",
    "benchmarks.curve_seeds",
]


def check_values(profile: Any, source: str) -> None:
    """Refuse values of the right type that no network can be built from and no run can be made with."""
    whole = dataclasses.asdict(profile)
    for pattern in _AT_LEAST_ONE:
        for key in (pattern.replace("*", name) for name in whole["training"]) if "*" in pattern else (pattern,):
            if value_at(whole, key) < 1:
                raise VqadError(f"{source}: {key}: must be at least 1")
    for problem, found in _problems(profile).items():
        if found:
            raise VqadError(f"{source}: {problem}")


def _problems(profile: Any) -> dict[str, bool]:
    """What is wrong, in words, and whether it is the case."""
    channels, groups = profile.autoencoder.channels, profile.autoencoder.norm_groups
    halvings, percentiles = max(len(channels) - 1, 0), profile.detectors.threshold_percentiles
    even_or_none = {key: value < 1 or value % 2 == 0 for key, value in _windows(profile).items()}
    return {
        "autoencoder.channels: must have at least two entries": len(channels) < 2,
        "autoencoder.channels: must be multiples of autoencoder.norm_groups": any(
            c < 1 or c % groups for c in channels
        ),
        "data.image_size_px: must be a multiple of 2 ** (len(autoencoder.channels) - 1)": bool(
            profile.data.image_size_px % 2**halvings
        ),
        "gpt2.width: must be a multiple of gpt2.heads": bool(profile.gpt2.width % profile.gpt2.heads),
        "gpt2.dropout: must lie in 0..1": not 0 <= profile.gpt2.dropout < 1,
        "pixelsnail.dropout: must lie in 0..1": not 0 <= profile.pixelsnail.dropout < 1,
        "pixelsnail.kernel_px: must be at least 3": profile.pixelsnail.kernel_px < 3,
        **{f"{key}: must be an odd number": found for key, found in even_or_none.items()},
        "detectors.threshold_percentiles: must lie in 0..100": any(not 0 <= p <= 100 for p in percentiles),
        "evaluation.unsupervised_percentile: must be one of detectors.threshold_percentiles": (
            profile.evaluation.unsupervised_percentile not in percentiles
        ),
        "pixelsnail.attention_grid: half needs an even grid of codes": (
            profile.pixelsnail.attention_grid == "half" and bool(profile.data.image_size_px // 2**halvings % 2)
        ),
        "detectors.map_limit: must be above 0": not profile.detectors.map_limit > 0,
        "detectors.memory_budget_mb: must be above 0": not profile.detectors.memory_budget_mb > 0,
        "capacity: sizes and max_epochs must be at least 1": (
            min([size for variant in profile.capacity.variants for size in variant]) < 1
            or (profile.capacity.max_epochs is not None and profile.capacity.max_epochs < 1)
        ),
        "baselines.ganomaly.batch_size: must be at least 2": profile.baselines.ganomaly.batch_size < 2,
        "baselines.ganomaly.learning_rate: must be above 0": not profile.baselines.ganomaly.learning_rate > 0,
        "baselines.dfkde.pca_components: must be at least 2": profile.baselines.dfkde.pca_components < 2,
        "baselines.pixel_variance_floor: must be above 0": not profile.baselines.pixel_variance_floor > 0,
        "evaluation.normal_quantile: must lie in 0..1": not 0 <= profile.evaluation.normal_quantile <= 1,
        **{f"benchmarks.{key}: must list whole numbers of at least 1": found for key, found in _lists(profile).items()},
    }


def _lists(profile: Any) -> dict[str, bool]:
    """The lists of `benchmarks`, and whether each is unusable: empty, or with an entry below 1."""
    config = profile.benchmarks
    keys = ("n_restorations", "memory_images", "scaling_images", "scaling_grids")
    return {key: min(getattr(config, key), default=0) < 1 for key in keys}


def _windows(profile: Any) -> dict[str, int]:
    return {
        "pixelsnail.kernel_px": profile.pixelsnail.kernel_px,
        "detectors.min_pool_px": profile.detectors.min_pool_px,
        "detectors.average_pool_px": profile.detectors.average_pool_px,
    }


def value_at(mapping: dict[str, Any], key: str) -> Any:
    """The value at a dotted key."""
    value: Any = mapping
    for part in key.split("."):
        value = value[part]
    return value
