"""Profiles: every number that a run depends on, read from one YAML file into frozen dataclasses.

Unknown keys, wrong types and values out of range are refused by name, by pydantic. A profile changes numbers, never
code paths.
"""

import dataclasses
import functools
import json
import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, dataclass_transform

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml.error import YAMLError

from vqad_lib.errors import VqadError
from vqad_lib.files import known_by_content, read_yaml

_NAME = r"\w[\w.-]*"  # of a profile: it names a file, folders, and a prerequisite of make
# pixels along an edge below which a layer of the perceptual network has nothing left
_PERCEPTUAL_SIZE_PX = {"vgg": 16, "alex": 31, "squeeze": 17}


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be an odd number")
    return value


Threads = Annotated[int, Field(ge=0, le=4096)]  # torch crashes beyond what the system has threads for
Whole = Annotated[int, Field(ge=0, le=2**31 - 1)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Counts = Annotated[tuple[Count, ...], Field(min_length=1)]
Odd = Annotated[Count, AfterValidator(_odd)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Percentile = Annotated[int, Field(ge=0, le=100)]
Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Limit = Annotated[float, Field(gt=0, allow_inf_nan=True)]  # .inf for none
Text = Annotated[str, Field(pattern=r"^[^\x00]+$")]  # no path holds a zero byte


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Section:
    """A part of a profile: each subclass is a frozen dataclass, whose fields pydantic checks, strictly."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)


class SyntheticConfig(Section):
    """The synthetic walkway: how many clips of how many frames."""

    train_clips: Count
    test_clips: Count
    frames_per_clip: Count
    seed: Seed


class DataConfig(Section):
    """Which data set ("auto" or a key of `data.datasets.DATASETS`), at what size, and how it is split (section 3.8).

    `input` says what networks see of it: frames as they are, or what `data.motion` makes of them.
    """

    dataset: Text
    image_size_px: Annotated[Count, Field(ge=8)]
    input: Literal["frame", "stack", "flow"]
    stack_step: Count
    flow_step: Count
    flow_window_share: Share
    flow_limit_px: Positive
    split_seed: Seed
    official_validation_clips: Count
    synthetic: SyntheticConfig


class AutoencoderConfig(Section):
    """Encoder, decoder and codebook (Tables 1 and 2; eq. 1-7).

    `channels` lists the width of each resolution, finest first: n entries mean n - 1 halvings. `coverage`: what is seen
    in training beyond normal images, see `training.coverage`.
    """

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
    coverage: Literal["none", "faster", "defects"]


class GanConfig(Section):
    """What makes a VQ-VAE a VQ-GAN (eq. 13-16): discriminator, perceptual network, adaptive weight.

    `perceptual_crop_px`: in training the perceptual network sees a square of so many pixels, at random, the same of
    image and reconstruction; 0 for the whole image.
    """

    discriminator_channels: Count
    discriminator_layers: Count
    discriminator_start_epoch: Whole
    discriminator_learning_rate_factor: Positive
    adversarial: Literal["log", "hinge"]
    perceptual_network: Literal["vgg", "alex", "squeeze"]
    perceptual_weights: Text
    perceptual_weight: Weight
    perceptual_crop_px: Whole
    adaptive_delta: Positive
    adaptive_scale: Weight
    adaptive_max: Limit


class PixelSnailConfig(Section):
    """PixelSNAIL (section 3.4): 4 pixel blocks of 4 residual blocks, dropout 0.1.

    `attention_grid`: attend to every position, or to cells of 2x2, as the published code does on a half-size grid.
    """

    channels: Count
    blocks: Count
    residual_blocks: Count
    kernel_px: Annotated[Odd, Field(ge=3)]
    heads: Count
    key_dim: Count
    dropout: Share
    attention_grid: Literal["whole", "half"]


class Gpt2Config(Section):
    """GPT-2 (section 3.3): gpt2-medium is 24 layers, 16 heads, 1024 wide, dropout 0.1.

    `random_second_half`: read random codes in place of the second half of the grid, as the published code does.
    """

    layers: Count
    heads: Count
    width: Count
    dropout: Share
    random_second_half: bool


class TrainingConfig(Section):
    """One network's training: learning rate and stopping (section 4.1)."""

    learning_rate: Positive
    batch_size: Count
    max_epochs: Count
    validate_every_epochs: Count
    patience: Whole
    precision: Literal["float32", "bfloat16"]
    compile: bool
    adam_betas: tuple[Share, Share]
    final_learning_rate_factor: Weight


class TrainingConfigs(Section):
    """The four networks' training settings."""

    vqvae: TrainingConfig
    vqgan: TrainingConfig
    pixelsnail: TrainingConfig
    gpt2: TrainingConfig


class DetectorConfig(Section):
    """The four detectors (eq. 9-12).

    `weights_over`: what the softmax of eq. 11 runs over; the published code's runs over colour channels.
    `weight_denominator`: what divides `weight_temperature` there, the sum of absolute differences, as printed, or their
    mean, as in the published code; of images in [0, 1].
    `smooth_over`: the windows of the smoothing lie in one residual, or span three neighbouring restorations too, as in
    the published code.
    `map_limit`: a smoothed residual counts for no more than this: 1 in the published code, infinity in the text.
    `restoration_algorithm`: of pixel-wise restoration, see `restore`; it changes no result.
    `memory_budget_mb`: batches are cut to fit; it changes no result.
    """

    threshold_percentiles: Annotated[tuple[Percentile, ...], Field(min_length=1)]
    n_restorations: Count
    weights_over: Literal["restorations", "colour_channels"]
    weight_denominator: Literal["sum", "mean"]
    weight_temperature: Weight
    smooth_over: Literal["pixels", "pixels_and_restorations"]
    min_pool_px: Odd
    average_pool_px: Odd
    map_limit: Limit
    restoration_algorithm: Literal["fast", "jump_ahead", "plain"]
    chunk_images: Count
    memory_budget_mb: Positive


class EvaluationConfig(Section):
    """Bootstrap intervals (section 7 of the design) and the operating point where validation has no anomalies."""

    bootstrap_resamples: Count
    bootstrap_seed: Seed
    normal_quantile: Annotated[float, Field(ge=0, le=1)]
    unsupervised_percentile: Percentile


class CapacityConfig(Section):
    """Tables 3 and 4: VQ-GAN and Transformer at other sizes; Figure 5: one that is larger than it should be.

    `latent_dims` are tried with `codebook_size`, `codebook_sizes` with `latent_dim`. `max_epochs` caps the training of
    each of these networks below the profile's own; null leaves that.
    """

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


class SpeedConfig(Section):
    """How running times are measured (Tables 10 and 25-27).

    Each method is timed `repeats` times on `images` images; the plain pixel-wise algorithm, which is slow, on as many
    as `plain_seconds` allow for all its repeats.
    """

    images: Count
    repeats: Count
    plain_seconds: Positive


class GanomalyConfig(Section):
    """GANomaly as Anomalib has it (Table 5): training, width of its first layer, size of its latent vectors."""

    epochs: Count
    learning_rate: Positive
    batch_size: Annotated[Count, Field(ge=2)]
    features: Count
    latent_dim: Count


class DfkdeConfig(Section):
    """DFKDE as Anomalib has it (Table 5; section 3.6: ResNet50, 16 components).

    `weights`: "imagenet", "hed" (of vgg16), "random", or the path of a torchvision state dict of the backbone.
    """

    backbone: Literal["resnet18", "resnet50", "vgg16"]
    weights: Text
    pca_components: Annotated[Count, Field(ge=2)]
    max_training_points: Count


class BaselinesConfig(Section):
    """What Table 5 compares with.

    `pixel_variance_floor`: squared grey levels; no pixel's variance over the training frames counts as less.
    """

    ganomaly: GanomalyConfig
    dfkde: DfkdeConfig
    pixel_variance_floor: Positive


class BenchmarkConfig(Section):
    """What `make bench` measures, and how often; no result of `make paper` depends on it.

    `compile`: whether torch.compile is tried in inference, which takes a compiler and some minutes.
    """

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


class Profile(Section):
    """One profile; `profiles/<name>.yaml`, field for field."""

    name: Annotated[str, Field(pattern=f"^{_NAME}$")]
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
    capacity: CapacityConfig | None  # null: the notebooks of Tables 3 and 4 and Figure 5 are left out
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
    profile = profile_from_mapping(_read_yaml(path), source=str(path))
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
    except (TypeError, ValueError) as error:  # what JSON has no notion of, too: an anchor within itself
        problem = in_words(error) if isinstance(error, ValidationError) else error
        raise VqadError(f"{source}: {problem}; compare with profiles/demo.yaml") from error
    check_together(profile, source)
    return profile


def _read_yaml(path: Path) -> Any:
    try:
        return read_yaml(path)
    except OSError as error:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml") if p.is_file())) or "none"
        raise VqadError(f"cannot read profile {path}: {error.strerror}; profiles there: {known}") from error
    except (YAMLError, ValueError, RecursionError) as error:  # another encoding; thousands of digits or brackets
        mark, problem = getattr(error, "problem_mark", None), " ".join(str(getattr(error, "problem", error)).split())
        where = f"line {mark.line + 1}: " if mark else ""
        raise VqadError(f"{path} is not valid YAML: {where}{problem}; save it as plain text in UTF-8") from error


def in_words(error: ValidationError) -> str:
    """The first problem that pydantic found: key, what it must be, and what was got."""
    first = error.errors()[0]
    key, kind = ".".join(map(str, first["loc"])) or "(top level)", first["type"]
    if kind in ("unexpected_keyword_argument", "missing"):
        return f"{key}: {'unknown' if kind != 'missing' else 'missing'} key"
    problem = re.sub(r"^(Value error, must|\w+ should) ", "must ", first["msg"])
    return f"{key}: {problem}, got {reprlib.repr(first['input'])}"


def check_name(name: str) -> None:
    """Refuse a PROFILE that is no plain name, before any path is made of it.

    Raises:
        VqadError: as described.
    """
    if not re.fullmatch(_NAME, name):
        raise VqadError(f"PROFILE must name a file in profiles/, by letters, digits, _, - and . alone, got {name!r}")


def check_together(profile: Profile, source: str) -> None:
    """Refuse values that are right each by itself and together build no network or make no run.

    Raises:
        VqadError: naming the key.
    """
    channels, groups = profile.autoencoder.channels, profile.autoencoder.norm_groups
    gan, size_px, half = profile.gan, profile.data.image_size_px, profile.pixelsnail.attention_grid == "half"
    dfkde = profile.baselines.dfkde
    grid, uneven = divmod(size_px, 2 ** (len(channels) - 1))
    percentiles, fixed = profile.detectors.threshold_percentiles, profile.evaluation.unsupervised_percentile
    smallest_px = _PERCEPTUAL_SIZE_PX[gan.perceptual_network] if gan.perceptual_weights != "none" else 0
    crop_px, possible_px = gan.perceptual_crop_px, range(smallest_px, size_px + 1)
    nothing_left = size_px // 2**gan.discriminator_layers < 3  # two convolutions more take a pixel each
    other_vgg = gan.perceptual_weights == "hed" and gan.perceptual_network != "vgg"
    other_backbone = dfkde.weights == "hed" and dfkde.backbone != "vgg16"
    problems = {
        "autoencoder.channels: must be multiples of autoencoder.norm_groups": any(width % groups for width in channels),
        "data.image_size_px: must be a multiple of 2 ** (len(autoencoder.channels) - 1)": uneven,
        "gpt2.width: must be a multiple of gpt2.heads": profile.gpt2.width % profile.gpt2.heads,
        "detectors.threshold_percentiles: must not repeat": len(set(percentiles)) < len(percentiles),
        "evaluation.unsupervised_percentile: must be one of detectors.threshold_percentiles": fixed not in percentiles,
        "pixelsnail.attention_grid: half needs an even grid of codes": half and grid % 2,
        f"gan.discriminator_layers: must be fewer, for nothing would be left of {size_px} px": nothing_left,
        "gan.perceptual_network: must be vgg where gan.perceptual_weights is hed": other_vgg,
        "baselines.dfkde.backbone: must be vgg16 where baselines.dfkde.weights is hed": other_backbone,
        f"gan.perceptual_network: must have images of at least {smallest_px} px": size_px < smallest_px,
        f"gan.perceptual_crop_px: must be 0 or from {smallest_px} to {size_px}": crop_px not in (0, *possible_px),
    }
    for problem, found in problems.items():
        if found:
            raise VqadError(f"{source}: {problem}")


def section_digest_source(profile: Profile, sections: list[str]) -> str:
    """Canonical JSON of some sections of a profile, for hashing what a stage depends on.

    Files of weights are known by their content: neither another path nor a file put in the same place goes unnoticed.

    Args:
        sections: dotted field names, for example "data" or "training.vqvae".
    """
    whole = dataclasses.asdict(profile)
    for owner, key in ((whole["gan"], "perceptual_weights"), (whole["baselines"]["dfkde"], "weights")):
        owner[key] = known_by_content(owner[key])
    found = {section: functools.reduce(dict.__getitem__, section.split("."), whole) for section in sections}
    return json.dumps(found, sort_keys=True)
