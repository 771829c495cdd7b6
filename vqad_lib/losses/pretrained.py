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

SETTINGS = ("imagenet", "random", "none")
ADVICE = (
    "set gan.perceptual_weights in the profile (or make PERCEPTUAL=) to the path of a torchvision state dict, "
    "to `random` (results are labelled) or to `none`"
)


def weights_file(weights: str) -> Path | None:
    """The file that `gan.perceptual_weights` names; None where it is one of `SETTINGS`.

    Raises:
        VqadError: there is no such file.
    """
    if weights in SETTINGS:
        return None
    if not Path(weights).is_file():
        raise VqadError(f"gan.perceptual_weights: no file at {weights}; {ADVICE}")
    return Path(weights)


def perceptual_label(*, network: str, weights: str) -> str:
    """What results say of the perceptual network, for example "LPIPS alex, random weights (not ImageNet)"."""
    if weights == "none":
        return "no perceptual term"
    kinds = {"imagenet": "ImageNet weights", "random": "random weights (not ImageNet)"}
    return f"LPIPS {network}, " + kinds.get(weights, f"ImageNet weights from {printable(Path(weights).name)}")


def pretrained(name: str, weights: str, *, setting: str, advice: str) -> nn.Module:
    """A network of torchvision.

    Args:
        name: for example "vgg16".
        weights: "imagenet" (torchvision's, downloaded to torch's cache at first use), "random", or the path of a
            torchvision state dict.
        setting: the key of the profile that `weights` comes from, for the error.
        advice: what else the setting could be, for the error.

    Raises:
        VqadError: the weights cannot be downloaded, or the file does not hold this network's, or not whole; the message
            names the file and what to do. Nothing is downloaded again by itself.
    """
    import torch
    import torchvision

    network = getattr(torchvision.models, name)(weights=None)
    if weights == "random":
        return network
    path = _cached(name, setting, advice) if weights == "imagenet" else Path(weights)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # unpickling fails in many ways; each means the same to the user
        raise VqadError(f"{setting}: {path} is no state dict of {name}: {first_line(error)}; {advice}") from error
    return network


def _cached(name: str, setting: str, advice: str) -> Path:
    """Where torch keeps the ImageNet weights of a network; downloaded if they are not there.

    torchvision writes the first digits of a file's SHA-256 into its name, so what has changed there can be told.
    """
    import torch
    import torchvision

    url = torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    digest = re.search(r"-([0-9a-f]+)\.", path.name)[1]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digest)
        except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors; a wrong digest is a RuntimeError
            raise VqadError(
                f"cannot download the ImageNet weights of {name} to {path}: {first_line(error)}; {advice}"
            ) from error
    try:
        found = sha256_of(path)
    except OSError as error:
        raise VqadError(f"cannot read {path}: {error.strerror}; make it readable, or {advice}") from error
    if not found.startswith(digest):
        raise VqadError(
            f"{setting}: {path} is not the file that torchvision publishes, or not all of it (its SHA-256 begins with "
            f"{found[: len(digest)]}); delete it and run again to download it anew, or {advice}"
        )
    return path
