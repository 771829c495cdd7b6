"""A fitted detector as one folder: weights and calibration, settings and threshold, and a card for people.

    model.safetensors   networks and calibration
    settings.json       all else, with versions, and digests of the weights and of itself
    MODEL_CARD.md       what it was fitted to, how good it is, and its limits
    examples/           pseudo-anomalies, and their heatmaps

Nothing in it is unpickled.
"""

import dataclasses
import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from vqad.estimator import VQAnomalyDetector
from vqad.local import SIGNALS, Calibration
from vqad.perceptual import NONE, FeatureCodes
from vqad.segmenter import Segmenter
from vqad.settings import PARAMETERS, settings_from
from vqad.show import overlay
from vqad_lib.distributed.process import process
from vqad_lib.errors import VqadError
from vqad_lib.files import atomic_folder, read_json, sha256_of, write_bytes, write_json, write_text
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.training.checkpoint import load_weights, weights_bytes

FORMAT = 4
_PACKAGES = ("vqad", "torch", "safetensors", "scikit-learn")
_NETWORKS = ("autoencoder", "prior", "segmenter", "calibration", "features")
_LISTS = ("held_out", "trained_on", "notes")
_NUMBERS = {"mixture": str, "share": str, "threshold": float, "hot": float}


def save_model(detector: VQAnomalyDetector, folder: Path, *, data: str, images: int) -> None:
    """Write a fitted detector; a model that stood at `folder` is replaced once all of the new one is there.

    Args:
        data: what it was fitted to, for the card.
        images: how many.

    Raises:
        VqadError: the folder cannot be written, or holds something else than a model.
    """
    check_place(folder)
    parts = {name: part for name in _NETWORKS if (part := getattr(detector, f"{name}_"))}
    with atomic_folder(folder) as made:
        write_bytes(made / "model.safetensors", weights_bytes(nn.ModuleDict(parts)))
        facts = {
            "format": FORMAT,
            "weights_sha256": sha256_of(made / "model.safetensors"),
            "settings": dataclasses.asdict(detector.settings_),
            "held_out_scores": detector.held_out_scores_.tolist(),
            "choices": detector.choices_.to_dict("records"),
            "data": data,
            "images": images,
            "versions": {name: version(name) for name in _PACKAGES},
        }
        facts |= {name: getattr(detector, f"{name}_") for name in (*_NUMBERS, *_LISTS)}
        write_json(made / "settings.json", facts | {"sha256": _digest(facts)})
        write_text(made / "MODEL_CARD.md", model_card(facts))
        (made / "examples").mkdir()
        for number, (image, heatmap) in enumerate(zip(*getattr(detector, "examples_", ([], [])), strict=True), start=1):
            pair = (np.zeros_like(heatmap), heatmap)  # as it is, and with its heatmap
            sides = [overlay(image, shown, detector.hot_, image.shape[:0:-1]) for shown in pair]
            Image.fromarray(np.hstack([np.asarray(side) for side in sides])).save(made / "examples" / f"{number}.png")


def model_card(facts: dict) -> str:
    """The card of what `settings.json` holds, Markdown."""
    template = Path(__file__).with_name("card.md.j2").read_text(encoding="utf-8")
    settings = settings_from(facts["settings"], source="settings.json")
    return jinja2.Template(template, undefined=jinja2.StrictUndefined).render(**facts, grid=settings.grid[0])


def check_place(folder: Path) -> None:
    """Refuse to write a model where something else is.

    Raises:
        VqadError: naming the folder.
    """
    folder = Path(folder)
    if not folder.name:
        raise VqadError(f"--out must be the name of a folder, got {folder}")
    if folder.exists() and not (folder.is_dir() and (is_model(folder) or not any(folder.iterdir()))):
        raise VqadError(f"{folder} is there and is no model; give another --out")


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model."""
    return (Path(folder) / "settings.json").is_file()


def facts_of(folder: Path) -> dict:
    """What `settings.json` of a model says, checked against its weights.

    Raises:
        VqadError: the folder holds no model, one of another format, or one that is damaged; it is named.
    """
    folder = Path(folder)
    if not is_model(folder):
        raise VqadError(f"{folder} holds no model; make one: python -m vqad_lib fit FOLDER --out {folder.name}")
    facts, weights = read_json(folder / "settings.json"), folder / "model.safetensors"
    found = facts.get("format") if isinstance(facts, dict) else None
    if found != FORMAT:
        raise VqadError(f"{folder} has format {found}, this version reads {FORMAT}; fit the model again")
    if facts.pop("sha256", None) != _digest(facts):
        raise VqadError(f"{folder / 'settings.json'} is not as it was written; fit the model again")
    if not weights.is_file() or sha256_of(weights) != facts.get("weights_sha256"):
        raise VqadError(f"{weights} is missing, cut off, or another model's; fit the model again")
    return facts


def _digest(facts: dict) -> str:
    """SHA-256 of all that `settings.json` says."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def load_model(folder: Path, *, device: str | None = None) -> VQAnomalyDetector:
    """A fitted detector, as `save_model` wrote it; of its parameters `minutes`, `epochs` and `folder` are not kept.

    Raises:
        VqadError: as `facts_of`.
    """
    facts = facts_of(folder)
    settings = settings_from(facts["settings"], source=str(Path(folder) / "settings.json"))
    size, K = settings.image_size_px, settings.autoencoder.codebook_size
    usual = torch.empty(len(SIGNALS) - (settings.perceptual == NONE), size, size)
    parts = nn.ModuleDict(
        {
            "autoencoder": VQAutoencoder(settings.autoencoder),
            "prior": PixelSnail(settings.prior, codebook_size=K, grid=settings.grid),
            "segmenter": Segmenter(settings.segmenter_channels),
            "calibration": Calibration(usual, usual.clone()),
        }
    )
    if settings.perceptual != NONE:
        parts["features"] = FeatureCodes()
    load_weights(Path(folder) / "model.safetensors", parts)
    for name in ("autoencoder", "segmenter"):  # as `fit` has them: the same rounding
        parts[name].to(memory_format=torch.channels_last)
    parts.to(torch.device(device) if device else process().device).eval().requires_grad_(False)
    parameters = {name: getattr(settings, name) for name in PARAMETERS} | {"codebook_size": K, "device": device}
    detector = VQAnomalyDetector(channels=settings.autoencoder.channels, **parameters)
    detector.settings_ = settings
    detector.features_ = None
    for name, part in parts.items():
        setattr(detector, f"{name}_", part)
    for name, kind in _NUMBERS.items():
        setattr(detector, f"{name}_", kind(facts[name]))
    for name in _LISTS:
        setattr(detector, f"{name}_", facts[name])
    detector.held_out_scores_, detector.choices_ = np.array(facts["held_out_scores"]), pd.DataFrame(facts["choices"])
    return detector
