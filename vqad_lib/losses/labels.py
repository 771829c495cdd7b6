"""What results say of the perceptual network; apart from it, so that saying it costs no import of lpips."""

from pathlib import Path


def perceptual_label(*, network: str, weights: str) -> str:
    """What results say of the perceptual network, for example "LPIPS alex, random weights (not ImageNet)"."""
    if weights == "none":
        return "no perceptual term"
    if weights == "random":
        return f"LPIPS {network}, random weights (not ImageNet)"
    return f"LPIPS {network}, ImageNet weights" + ("" if weights == "imagenet" else f" from {Path(weights).name}")
