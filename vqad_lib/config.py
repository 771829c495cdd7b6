"""Profiles: every number that a run depends on, read from one YAML file into frozen dataclasses.

Unknown keys, wrong types and values out of range are refused by name. A profile changes numbers, never code paths.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from vqad_lib.config_values import NAME, check_together, odd, value_at
from vqad_lib.errors import VqadError
from vqad_lib.files import known_by_content
from vqad_lib.profile_files import in_words, read_yaml

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Threads = Annotated[int, Field(ge=0, le=4096)]  # torch crashes beyond what the system has threads for
Whole = Annotated[int, Field(ge=0, le=2**31 - 1)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Counts = Annotated[tuple[Count, ...], Field(min_length=1)]
Odd = Annotated[Count, AfterValidator(odd)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Percentile = Annotated[int, Field(ge=0, le=100)]
Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Limit = Annotated[float, Field(gt=0, allow_inf_nan=True)]  # .inf for none
Text = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """The synthetic walkway: how many clips of how many frames."""

    __pydantic_config__ = _STRICT
    train_clips: Count
    test_clips: Count
    frames_per_clip: Count
    seed: Seed


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data set, at what size, and how it is split (section 3.8)."""

    __pydantic_config__ = _STRICT
    dataset: Literal["auto", "ucsd_ped2", "synthetic"]
    image_size_px: Count
    split_seed: Seed
    official_validation_clips: Count
    synthetic: SyntheticConfig


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Encoder, decoder and codebook (Tables 1 and 2; eq. 1-7).

    `channels` lists the width of each resolution, finest first: n entries mean n - 1 halvings.
    """

    __pydantic_config__ = _STRICT
    channels: Annotated[tuple[Count, ...], Field(min_length=2)]
    residual_blocks: Count
    norm_groups: Count
    latent_dim: Count
    codebook_size: Count
    codebook_update: Literal["gradient", "running_average"]
    codebook_decay: Annotated[float, Field(gt=0, lt=1)]
    codebook_init_from_data: bool
    restart_dead_codes: bool
    beta: Weight
    beta_scales: Literal["commitment", "codebook"]
    reconstruction: Literal["squared", "absolute"]
    loss_reduction: Literal["mean", "sum"]


@dataclass(frozen=True, kw_only=True)
class GanConfig:
    """What makes a VQ-VAE a VQ-GAN (eq. 13-16): discriminator, perceptual network, adaptive weight."""

    __pydantic_config__ = _STRICT
    discriminator_channels: Count
    discriminator_layers: Count
    discriminator_start_epoch: Whole
    discriminator_learning_rate_factor: Positive
    adversarial: Literal["log", "hinge"]
    perceptual_network: Literal["vgg", "alex", "squeeze"]
    perceptual_weights: Text
    perceptual_weight: Weight
    adaptive_delta: Positive
    adaptive_scale: Weight
    adaptive_max: Limit


@dataclass(frozen=True, kw_only=True)
class PixelSnailConfig:
    """PixelSNAIL (section 3.4): 4 pixel blocks of 4 residual blocks, dropout 0.1.

    `attention_grid`: attend to every position, or to cells of 2x2, as the published code does on a half-size grid.
    """

    __pydantic_config__ = _STRICT
    channels: Count
    blocks: Count
    residual_blocks: Count
    kernel_px: Annotated[Odd, Field(ge=3)]
    heads: Count
    key_dim: Count
    dropout: Share
    attention_grid: Literal["whole", "half"]


@dataclass(frozen=True, kw_only=True)
class Gpt2Config:
    """GPT-2 (section 3.3): gpt2-medium is 24 layers, 16 heads, 1024 wide, dropout 0.1.

    `random_second_half`: read random codes in place of the second half of the grid, as the published code does.
    """

    __pydantic_config__ = _STRICT
    layers: Count
    heads: Count
    width: Count
    dropout: Share
    random_second_half: bool


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """One network's training: learning rate and stopping (section 4.1)."""

    __pydantic_config__ = _STRICT
    learning_rate: Positive
    batch_size: Count
    max_epochs: Count
    validate_every_epochs: Count
    patience: Whole
    precision: Literal["float32", "bfloat16"]
    compile: bool
    adam_betas: tuple[Share, Share]
    final_learning_rate_factor: Weight


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
    threshold_percentiles: Annotated[tuple[Percentile, ...], Field(min_length=1)]
    n_restorations: Count
    weights_over: Literal["restorations", "colour_channels"]
    weight_denominator: Literal["sum", "mean"]
    weight_temperature: Weight
    smooth_over: Literal["pixels", "pixels_and_restorations"]
    min_pool_px: Odd
    average_pool_px: Odd
    map_limit: Limit
    restoration_algorithm: Literal["fast", "jump_ahead", "plain", "measured"]
    chunk_images: Count
    memory_budget_mb: Positive


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Bootstrap intervals (section 7 of the design) and the operating point where validation has no anomalies."""

    __pydantic_config__ = _STRICT
    bootstrap_resamples: Count
    bootstrap_seed: Seed
    normal_quantile: Annotated[float, Field(ge=0, le=1)]
    unsupervised_percentile: Percentile


@dataclass(frozen=True, kw_only=True)
class CapacityConfig:
    """Tables 3 and 4: VQ-GAN and Transformer at other sizes; Figure 5: one that is larger than it should be.

    `latent_dims` are tried with `codebook_size`, `codebook_sizes` with `latent_dim`. `max_epochs` caps the training of
    each of these networks below the profile's own; null leaves that.
    """

    __pydantic_config__ = _STRICT
    latent_dims: Counts
    codebook_sizes: Counts
    latent_dim: Count
    codebook_size: Count
    large_latent_dim: Count
    large_codebook_size: Count
    max_epochs: Count | None

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
    images: Count
    repeats: Count
    plain_seconds: Positive


@dataclass(frozen=True, kw_only=True)
class GanomalyConfig:
    """GANomaly as Anomalib has it (Table 5): training, width of its first layer, size of its latent vectors."""

    __pydantic_config__ = _STRICT
    epochs: Count
    learning_rate: Positive
    batch_size: Annotated[Count, Field(ge=2)]
    features: Count
    latent_dim: Count


@dataclass(frozen=True, kw_only=True)
class DfkdeConfig:
    """DFKDE as Anomalib has it (Table 5; section 3.6: ResNet50, 16 components).

    `weights`: "imagenet", "random", or the path of a torchvision state dict of the backbone.
    """

    __pydantic_config__ = _STRICT
    backbone: Literal["resnet18", "resnet50"]
    weights: Text
    pca_components: Annotated[Count, Field(ge=2)]
    max_training_points: Count


@dataclass(frozen=True, kw_only=True)
class BaselinesConfig:
    """What Table 5 compares with.

    `pixel_variance_floor`: squared grey levels; no pixel's variance over the training frames counts as less.
    """

    __pydantic_config__ = _STRICT
    ganomaly: GanomalyConfig
    dfkde: DfkdeConfig
    pixel_variance_floor: Positive


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What `make bench` measures, and how often; no result of `make paper` depends on it.

    `compile`: whether torch.compile is tried in inference, which takes a compiler and some minutes.
    """

    __pydantic_config__ = _STRICT
    threads: Annotated[Threads, Field(ge=1)]
    images: Count
    n_restorations: Counts
    repeats: Count
    once_above_s: Weight
    training_steps: Count
    curve_steps: Count
    curve_seeds: Count
    compile: bool
    memory_images: Counts
    scaling_images: Counts
    scaling_grids: Counts


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One profile; `profiles/<name>.yaml`, field for field."""

    __pydantic_config__ = _STRICT
    name: Annotated[str, Field(pattern=NAME)]
    about: str
    seed: Seed
    expected_minutes: Positive
    threads_per_stage: Threads
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
        VqadError: the file is missing, unreadable or not YAML; a key is unknown, missing or given twice; a value has
            the wrong type or is out of range; `name` is not the file's. The message names the file and the key.
    """
    path = Path(path)
    profile = profile_from_mapping(read_yaml(path), source=str(path))
    if profile.name != path.stem:
        raise VqadError(
            f'{path}: name: is "{profile.name}", but results lie under the name of the file; write name: "{path.stem}"'
        )
    return profile


def profile_from_mapping(content: Any, *, source: str) -> Profile:
    """Check a mapping, field by field, into a `Profile`; `source` is what an error message calls it.

    Raises:
        VqadError: as `load_profile`.
    """
    try:
        # JSON mode: strict about types, yet a list is a tuple and 1 is a float
        profile = TypeAdapter(Profile).validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        raise VqadError(f"{source}: {in_words(error)}; compare with profiles/demo.yaml") from error
    except (TypeError, ValueError) as error:  # what JSON has no notion of: a date as a key, an anchor within itself
        raise VqadError(f"{source}: {error}; compare with profiles/demo.yaml") from error
    check_together(profile, source)
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
