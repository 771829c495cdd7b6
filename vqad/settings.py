"""What a fitted detector depends on, beside its images: sizes and training, as they follow from images and machine."""

import json
import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from vqad_lib.config import (
    AutoencoderConfig,
    Count,
    Odd,
    PixelSnailConfig,
    Section,
    Seed,
    TrainingConfig,
    Weight,
    in_words,
)
from vqad_lib.errors import VqadError
from vqad_lib.files import first_line, read_yaml

PARAMETERS = ("image_size_px", "normalise", "flips", "defects", "perceptual", "false_alarms", "seed")


class Settings(Section):
    """All numbers of a detector; a model folder keeps them.

    `white`: the value of white in files that leave it open, see `data.decode.survey`.
    `normalise`: each image's median brightness and contrast are brought to the same values first.
    `flips`: training images are mirrored left to right and upside down too, where that gives images as usual.
    `defects`: how many pseudo-anomalies the autoencoder learns to take out of a training image; 0 for none.
    `perceptual`: weights of the pretrained network (`perceptual.FeatureCodes`), a word or a file's name, or "none".
    `window_px`: residuals, and what is usual at a position, are averaged over so many pixels a side.
    `false_alarms`: the share of normal images that may be called abnormal.
    """

    image_size_px: Annotated[Count, Field(ge=16)]
    white: Count
    normalise: bool
    flips: bool
    defects: Annotated[int, Field(ge=0, le=8)]
    perceptual: str
    autoencoder: AutoencoderConfig
    prior: PixelSnailConfig
    segmenter_channels: Count
    train_autoencoder: TrainingConfig
    train_prior: TrainingConfig
    train_segmenter: TrainingConfig
    window_px: Odd
    false_alarms: Annotated[Weight, Field(le=0.5)]
    seed: Seed

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the grid of codes."""
        side = self.image_size_px // 2 ** (len(self.autoencoder.channels) - 1)
        return side, side


def settings_from(content: Any, *, source: str) -> Settings:
    """Check a mapping into `Settings`.

    Raises:
        VqadError: it is damaged or of another version; `source` is named.
    """
    try:
        return TypeAdapter(Settings).validate_json(json.dumps(content), strict=True)
    except ValueError as error:
        problem = in_words(error) if isinstance(error, ValidationError) else first_line(error)
        raise VqadError(f"{source}: {problem}") from error


def settings_for(detector: Any) -> Settings:
    """The settings that follow from an estimator's parameters (`VQAnomalyDetector`); all others are settings.yaml's.

    Raises:
        VqadError: they build no network; the parameter is named.
    """
    for key in ("minutes", "epochs"):
        if (value := getattr(detector, key)) is not None and not 0 < value < math.inf:
            raise VqadError(f"{key} must be a number above 0, got {value}")
    content, channels = read_yaml(Path(__file__).with_name("settings.yaml")), list(detector.channels)
    content |= {key: getattr(detector, key) for key in PARAMETERS}
    content["autoencoder"] |= {"channels": channels, "codebook_size": detector.codebook_size}
    content["perceptual"] = Path(detector.perceptual).name  # where a file lies is nobody else's business
    content["autoencoder"]["norm_groups"] = math.gcd(8, *channels)
    if detector.image_size_px % 2 ** len(channels):  # a side of the grid must be even
        raise VqadError(f"image_size_px must be a multiple of {2 ** len(channels)}, got {detector.image_size_px}")
    return settings_from(content, source="parameters")
