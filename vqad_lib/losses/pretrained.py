"""Networks of torchvision with ImageNet weights, a file's, or random ones, and what results say of them.

torch and torchvision are imported late: commands that only ask for a setting or a label need neither.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vqad_lib.errors import VqadError, printable
from vqad_lib.files import first_line, sha256_of

if TYPE_CHECKING:
    from torch import nn

PERCEPTUAL, DFKDE = "gan.perceptual_weights", "baselines.dfkde.weights"
WORDS = {PERCEPTUAL: ("imagenet", "random", "none"), DFKDE: ("imagenet", "random")}
"""Setting -> what it may say instead of the path of a torchvision state dict."""
_ADVICE = {
    PERCEPTUAL: f"set {PERCEPTUAL} in the profile (or make PERCEPTUAL=) to the path of a torchvision state dict, to "
    "`random` (results are labelled) or to `none`",
    DFKDE: f"set {DFKDE} in the profile to the path of a torchvision state dict, or to `random` (the row is labelled); "
    "make PERCEPTUAL=random does that too",
}


def check_weights(weights: str, setting: str) -> None:
    """Refuse a file that is not there, before anything is trained.

    Raises:
        VqadError: `weights` is none of the setting's `WORDS`, and no file.
    """
    if weights not in WORDS[setting] and not Path(weights).is_file():
        raise VqadError(f"{setting}: no file at {weights}; {_ADVICE[setting]}")


def weights_label(network: str, weights: str) -> str:
    """What results say of a network, for example "LPIPS alex, random weights (not ImageNet)"."""
    if weights == "none":
        return "no perceptual term"
    kinds = {"imagenet": "ImageNet weights", "random": "random weights (not ImageNet)"}
    return f"{network}, " + kinds.get(weights, f"ImageNet weights from {printable(Path(weights).name)}")


def pretrained(name: str, weights: str, *, setting: str) -> nn.Module:
    """A network of torchvision.

    Args:
        name: for example "vgg16".
        weights: "imagenet" (torchvision's, downloaded to torch's cache at first use), "random", or the path of a
            torchvision state dict.
        setting: the key of the profile that `weights` comes from, for the error.

    Raises:
        VqadError: the weights cannot be downloaded, the file is absent, cut off or another network's; the message names
            file and setting. Nothing is downloaded again by itself.
    """
    import torch
    import torchvision

    check_weights(weights, setting)
    network = getattr(torchvision.models, name)(weights=None)
    if weights == "random":
        return network
    path = _cached(name, setting) if weights == "imagenet" else Path(weights)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # unpickling fails in many ways; each means the same to the user
        raise VqadError(
            f"{setting}: {path} is no state dict of {name}: {first_line(error)}; {_ADVICE[setting]}"
        ) from error
    return network


def _cached(name: str, setting: str) -> Path:
    """Where torch keeps the ImageNet weights of a network; downloaded if they are not there.

    torchvision writes the first digits of a file's SHA-256 into its name, so what has changed there can be told.
    """
    import torch
    import torchvision

    advice = _ADVICE[setting]
    url = torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    digest = re.search(r"-([0-9a-f]+)\.", path.name)[1]
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digest)
        found = sha256_of(path)
    except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors; a wrong digest is a RuntimeError
        raise VqadError(
            f"cannot download the ImageNet weights of {name}, or not read {path}: {first_line(error)}; {advice}"
        ) from error
    if not found.startswith(digest):
        raise VqadError(
            f"{setting}: {path} is not the file that torchvision publishes, or not all of it (its SHA-256 begins with "
            f"{found[: len(digest)]}); delete it and run again to download it anew, or {advice}"
        )
    return path
