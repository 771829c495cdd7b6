"""What each figure shows, in words, for readers who cannot see it; the captions are in ``paper_numbers``."""

import re

_SCORES = (
    "Histograms, one panel for each of VP, VT, GP and GT: share of each class in percent over the {score}, on a {axis} "
    "axis; normal images in blue, anomalous ones in orange, the decision threshold of the sound protocol dashed."
)
_CURVES = (
    "ROC curves beside precision-recall curves of the {score}, a row of panels for each split; one line for each of "
    "VP, VT, GP and GT, a dashed one for the nearest training frame, a dotted one for a guess. Legends have the areas."
)
_FOREST = "Differences with their 95% intervals, {what}, one line each, beside a line at zero."
_CLAIM = _FOREST + " Split paper in blue, split official in orange, the differences of the paper's own AUC as crosses."
_REGENERATED = "A grid. {what} frames, then VQ-VAE's regenerations and their residuals, then VQ-GAN's."
_RESTORED = "{what} frames, and beneath them five restorations of each by {whom}."
_RESIDUALS = (
    "{what} frames, and beneath them maps of their difference to their restorations, a row for each of VP, VT, GP and "
    "GT; brighter is larger, on one scale in Figures 17 and 18."
)
_ALL = "each of VP, VT, GP and GT, in a panel of its own"
_BOXED = "Boxes mark the anomalies where they are known."
_TRAIN = "Frames named Train are test frames of split paper, of clips whose other frames were trained on."
_SHOWN = {
    "figure_01": "Diagram of PixelSNAIL: its blocks from codes to logits, with their sizes.",
    "figure_02": "Diagram of the transformer and one block: attention, feed-forward, each with a residual connection.",
    "figure_03": "Diagram of a block of PixelSNAIL: residual blocks, then attention, joined at the end.",
    "figure_04": f"Frames with something anomalous in them, named above each. {_BOXED}",
    "figure_05": "A grid. Anomalous frames, which no model was trained on; what the over-large VQ-GAN makes of them; "
    f"what a smaller one makes of them; the residuals of both. {_BOXED}",
    "figure_06": _SCORES.format(score="sample-wise score", axis="logarithmic"),
    "figure_07": _SCORES.format(score="pixel-wise score", axis="linear"),
    "figure_08": _SCORES.format(score="light pixel-wise score", axis="linear"),
    "figure_06_curves": _CURVES.format(score="sample-wise score"),
    "figure_07_curves": _CURVES.format(score="pixel-wise score"),
    "figure_08_curves": _CURVES.format(score="light pixel-wise score"),
    "figure_09": f"{_REGENERATED.format(what='Anomalous')} {_BOXED}",
    "figure_10": f"A grid. Anomalous frames, and beneath them the same with 0, 10, 20 and 30 codes restored. {_BOXED}",
    "figure_11": f"{_RESTORED.format(what='Anomalous', whom='GT, VQ-GAN with the transformer, alone')} {_BOXED}",
    "figure_12": f"{_RESTORED.format(what='Normal', whom=_ALL)} {_TRAIN}",
    "figure_13": f"{_RESTORED.format(what='Normal', whom=_ALL)} {_TRAIN}",
    "figure_14": f"{_RESTORED.format(what='Anomalous', whom=_ALL)} {_BOXED}",
    "figure_15": f"{_RESTORED.format(what='Anomalous', whom=_ALL)} {_BOXED}",
    "figure_16": f"{_REGENERATED.format(what='Normal')} {_TRAIN}",
    "figure_17": f"{_RESIDUALS.format(what='Anomalous')} {_BOXED}",
    "figure_18": f"{_RESIDUALS.format(what='Normal')} {_TRAIN}",
    "leak": "Histograms of the distance from test frames to the nearest training frame, one panel for each split.",
    "leak_in_time": "Left: AUROC of the nearest training frame, over how many frames around are left out. Right: AUROC "
    "of every model on normal test frames beside a training frame, farther off, and of other clips.",
    "capacity": "AUC over latent dimension, and over codebook size: the paper's, ours by its protocol, and our AUROC.",
    "claim_1_codebook": _CLAIM.format(what="VQ-GAN minus VQ-VAE"),
    "claim_2_spatial": _CLAIM.format(what="PixelSNAIL minus transformer"),
    "claim_3_light": _CLAIM.format(what="light minus full pixel-wise detection"),
    "fidelity": _FOREST.format(what="the other choice minus this project's"),
    "threshold_sweeps": "AUC over the percentile of λ on validation, a panel for each detector; ours in solid lines, "
    "the paper's in dotted ones, a colour for each of VP, VT, GP and GT.",
}


def alt_text(stem: str, *, title: str) -> str:
    """Alternative text of a figure.

    Args:
        stem: the file's name without ending, for example "figure_06".
        title: what to say where nobody has described that figure.
    """
    if stem in _SHOWN:
        return _SHOWN[stem]
    if re.match(r"training_", stem):
        return f"{title}: loss over epochs, on training and on validation frames."
    base = re.match(r"figure_\d\d", stem)
    return f"{_SHOWN[base[0]]} ({stem})" if base and base[0] in _SHOWN else title
