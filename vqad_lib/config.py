"""Profiles: every number that a run depends on, read from one YAML file into frozen dataclasses.

Unknown keys and wrong types are refused by name. A profile changes numbers, never code paths.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from vqad_lib.config_values import check_values, value_at
from vqad_lib.errors import VqadError
from vqad_lib.files import known_by_content

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """The synthetic walkway: how many clips of how many frames."""

    __pydantic_config__ = _STRICT
    train_clips: int
    test_clips: int
    frames_per_clip: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data set, at what size, and how it is split (section 3.8)."""

    __pydantic_config__ = _STRICT
    dataset: Literal["auto", "ucsd_ped2", "synthetic"]
    image_size_px: int
    split_seed: int
    official_validation_clips: int
    synthetic: SyntheticConfig


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Encoder, decoder and codebook (Tables 1 and 2; eq. 1-7).

    `channels` lists the width of each resolution, finest first: n entries mean n - 1 halvings.
    """

    __pydantic_config__ = _STRICT
    channels: tuple[int, ...]
    residual_blocks: int
    norm_groups: int
    latent_dim: int
    codebook_size: int
    codebook_update: Literal["gradient", "running_average"]
    codebook_decay: float
    codebook_init_from_data: bool
    restart_dead_codes: bool
    beta: float
    beta_scales: Literal["commitment", "codebook"]
    reconstruction: Literal["squared", "absolute"]
    loss_reduction: Literal["mean", "sum"]


@dataclass(frozen=True, kw_only=True)
class GanConfig:
    """What makes a VQ-VAE a VQ-GAN (eq. 13-16): discriminator, perceptual network, adaptive weight."""

    __pydantic_config__ = _STRICT
    discriminator_channels: int
    discriminator_layers: int
    discriminator_start_epoch: int
    discriminator_learning_rate_factor: float
    adversarial: Literal["log", "hinge"]
    perceptual_network: Literal["vgg", "alex", "squeeze"]
    perceptual_weights: str
    perceptual_weight: float
    adaptive_delta: float
    adaptive_scale: float
    adaptive_max: float


@dataclass(frozen=True, kw_only=True)
class PixelSnailConfig:
    """PixelSNAIL (section 3.4): 4 pixel blocks of 4 residual blocks, dropout 0.1.

    `attention_grid`: attend to every position, or to cells of 2x2, as the published code does on a half-size grid.
    """

    __pydantic_config__ = _STRICT
    channels: int
    blocks: int
    residual_blocks: int
    kernel_px: int
    heads: int
    key_dim: int
    dropout: float
    attention_grid: Literal["whole", "half"]


@dataclass(frozen=True, kw_only=True)
class Gpt2Config:
    """GPT-2 (section 3.3): gpt2-medium is 24 layers, 16 heads, 1024 wide, dropout 0.1.

    `random_second_half`: read random codes in place of the second half of the grid, as the published code does.
    """

    __pydantic_config__ = _STRICT
    layers: int
    heads: int
    width: int
    dropout: float
    random_second_half: bool


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """One network's training: learning rate and stopping (section 4.1)."""

    __pydantic_config__ = _STRICT
    learning_rate: float
    batch_size: int
    max_epochs: int
    validate_every_epochs: int
    patience: int
    precision: Literal["float32", "bfloat16"]
    compile: bool
    adam_betas: tuple[float, float]
    final_learning_rate_factor: float


@dataclass(frozen=True, kw_only=True)
class TrainingConfigs:
    """The four networks' training settings."""

    __pydantic_config__ = _STRICT
    vqvae: TrainingConfig
    vqgan: TrainingConfig
    pixelsnail: TrainingConfig
    gpt2: TrainingConfig


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """The four detectors (eq. 9-12).

    `weights_over`: what the softmax of eq. 11 runs over; the published code's runs over colour channels.
    `weight_denominator`: what divides `weight_temperature` there, the sum of absolute differences, as printed, or their
    mean, as in the published code; of images in [0, 1].
    `smooth_over`: the windows of the smoothing lie in one residual, or span three neighbouring restorations too, as in
    the published code.
    `map_limit`: a smoothed residual counts for no more than this: 1 in the published code, infinity in the text.
    `restoration_algorithm`: of pixel-wise restoration, see `restore`; "measured" tries the two quick ones on the first
    images at each set of thresholds and goes on with the quicker. It changes no result.
    `memory_budget_mb`: batches are cut to fit; it changes no result.
    """

    __pydantic_config__ = _STRICT
    threshold_percentiles: tuple[int, ...]
    n_restorations: int
    weights_over: Literal["restorations", "colour_channels"]
    weight_denominator: Literal["sum", "mean"]
    weight_temperature: float
    smooth_over: Literal["pixels", "pixels_and_restorations"]
    min_pool_px: int
    average_pool_px: int
    map_limit: float
    restoration_algorithm: Literal["fast", "jump_ahead", "plain", "measured"]
    chunk_images: int
    memory_budget_mb: float


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Bootstrap intervals (section 7 of the design) and the operating point where validation has no anomalies."""

    __pydantic_config__ = _STRICT
    bootstrap_resamples: int
    bootstrap_seed: int
    normal_quantile: float
    unsupervised_percentile: int


@dataclass(frozen=True, kw_only=True)
class CapacityConfig:
    """Tables 3 and 4: VQ-GAN and Transformer at other sizes; Figure 5: one that is larger than it should be.

    `latent_dims` are tried with `codebook_size`, `codebook_sizes` with `latent_dim`. `max_epochs` caps the training of
    each of these networks below the profile's own; null leaves that.
    """

    __pydantic_config__ = _STRICT
    latent_dims: tuple[int, ...]
    codebook_sizes: tuple[int, ...]
    latent_dim: int
    codebook_size: int
    large_latent_dim: int
    large_codebook_size: int
    max_epochs: int | None

    @property
    def large(self) -> tuple[int, int]:
        """The (latent dimension, codebook size) of Figure 5."""
        return self.large_latent_dim, self.large_codebook_size

    @property
    def variants(self) -> tuple[tuple[int, int], ...]:
        """Each (latent dimension, codebook size) once: those of Table 3, of Table 4, and of Figure 5."""
        along = [(dim, self.codebook_size) for dim in self.latent_dims]
        along += [(self.latent_dim, size) for size in self.codebook_sizes]
        return tuple(dict.fromkeys([*along, self.large]))


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """How running times are measured (Tables 10 and 25-27).

    Each method is timed `repeats` times on `images` images; the plain pixel-wise algorithm, which is slow, on as many
    as `plain_seconds` allow for all its repeats.
    """

    __pydantic_config__ = _STRICT
    images: int
    repeats: int
    plain_seconds: float


@dataclass(frozen=True, kw_only=True)
class GanomalyConfig:
    """GANomaly as Anomalib has it (Table 5): training, width of its first layer, size of its latent vectors."""

    __pydantic_config__ = _STRICT
    epochs: int
    learning_rate: float
    batch_size: int
    features: int
    latent_dim: int


@dataclass(frozen=True, kw_only=True)
class DfkdeConfig:
    """DFKDE as Anomalib has it (Table 5; section 3.6: ResNet50, 16 components).

    `weights`: "imagenet", "random", or the path of a torchvision state dict of the backbone.
    """

    __pydantic_config__ = _STRICT
    backbone: Literal["resnet18", "resnet50"]
    weights: str
    pca_components: int
    max_training_points: int


@dataclass(frozen=True, kw_only=True)
class BaselinesConfig:
    """What Table 5 compares with.

    `pixel_variance_floor`: squared grey levels; no pixel's variance over the training frames counts as less.
    """

    __pydantic_config__ = _STRICT
    ganomaly: GanomalyConfig
    dfkde: DfkdeConfig
    pixel_variance_floor: float


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What `make bench` measures, and how often; no result of `make paper` depends on it.

    `compile`: whether torch.compile is tried in inference, which takes a compiler and some minutes.
    """

    __pydantic_config__ = _STRICT
    threads: int
    images: int
    n_restorations: tuple[int, ...]
    repeats: int
    once_above_s: float
    training_steps: int
    curve_steps: int
    curve_seeds: int
    compile: bool
    memory_images: tuple[int, ...]
    scaling_images: tuple[int, ...]
    scaling_grids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One profile; `profiles/<name>.yaml`, field for field."""

    __pydantic_config__ = _STRICT
    name: str
    about: str
    seed: int
    expected_minutes: float
    threads_per_stage: int
    data: DataConfig
    autoencoder: AutoencoderConfig
    gan: GanConfig
    pixelsnail: PixelSnailConfig
    gpt2: Gpt2Config
    training: TrainingConfigs
    detectors: DetectorConfig
    evaluation: EvaluationConfig
    capacity: CapacityConfig
    speed: SpeedConfig
    baselines: BaselinesConfig
    benchmarks: BenchmarkConfig


def load_profile(path: Path) -> Profile:
    """Read and check `profiles/<name>.yaml`.

    Raises:
        VqadError: the file is missing or not YAML, a key is unknown or missing, a value has the wrong type; the
            message names the file and the key.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise VqadError(f"no profile at {path}: {error.strerror}; profiles there: {known}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise VqadError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    return profile_from_mapping(content, source=str(path))


def profile_from_mapping(content: Any, *, source: str) -> Profile:
    """Check a mapping, field by field, into a `Profile`; `source` is what an error message calls it.

    Raises:
        VqadError: as `load_profile`.
    """
    try:
        # JSON mode: strict about types, yet a list is a tuple and 1 is a float
        profile = TypeAdapter(Profile).validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        problem = {"unexpected_keyword_argument": "unknown key", "missing": "missing key"}.get(
            first["type"], f"{first['msg']}, got {first['input']!r}"
        )
        raise VqadError(f"{source}: {key}: {problem}; compare with profiles/demo.yaml") from error
    check_values(profile, source)
    return profile


def section_digest_source(profile: Profile, sections: list[str]) -> str:
    """Canonical JSON of some sections of a profile, for hashing what a stage depends on.

    Files of weights are known by their content: neither another path nor a file put in the same place goes unnoticed.

    Args:
        sections: dotted field names, for example "data" or "training.vqvae".
    """
    whole = dataclasses.asdict(profile)
    for owner, key in (("gan", "perceptual_weights"), ("baselines.dfkde", "weights")):
        values = value_at(whole, owner)
        values[key] = known_by_content(values[key])
    return json.dumps({section: value_at(whole, section) for section in sections}, sort_keys=True)
