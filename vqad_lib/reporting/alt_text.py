"""What each figure shows, in words, for readers who cannot see it; the captions are in ``paper_numbers``."""

import re

_SCORES = (
    "Histograms, one panel for each of VP, VT, GP and GT: share of each class in percent over the {score}; normal "
    "images in blue, anomalous ones in orange, the decision threshold dashed."
)
_CURVES = (
    "ROC curves beside precision-recall curves of the {score}, split paper above split official; one line for each of "
    "VP, VT, GP and GT, and a dashed one for the nearest training frame. The areas stand in the legends."
)
_FOREST = "Differences with their 95% intervals, {what}, one line each, beside a line at zero."
_GRID = "A grid of frames. {rows}"
_RESTORED = "{what} frames above the restorations by each model, five to a row."
_SHOWN = {
    "figure_01": "Diagram of PixelSNAIL: its blocks from codes to probabilities, with their sizes.",
    "figure_02": "Diagram of a transformer block: attention and feed-forward layers, each with a residual connection.",
    "figure_03": "Diagram of a block of PixelSNAIL: residual blocks, then attention, joined at the end.",
    "figure_04": _GRID.format(rows="Each holds something anomalous on the walkway."),
    "figure_05": _GRID.format(
        rows="An anomaly that was never trained on, and its reconstruction by a model too large."
    ),
    "figure_06": _SCORES.format(score="sample-wise score"),
    "figure_07": _SCORES.format(score="pixel-wise score"),
    "figure_08": _SCORES.format(score="light pixel-wise score"),
    "figure_06_curves": _CURVES.format(score="sample-wise score"),
    "figure_07_curves": _CURVES.format(score="pixel-wise score"),
    "figure_08_curves": _CURVES.format(score="light pixel-wise score"),
    "figure_09": _GRID.format(rows="Anomalous frames, then their regenerations by VQ-VAE and by VQ-GAN."),
    "figure_10": _GRID.format(rows="One frame with 0, 10, 20 and 30 of its codes restored."),
    "figure_11": _GRID.format(rows=_RESTORED.format(what="Anomalous")),
    "figure_12": _GRID.format(rows=_RESTORED.format(what="Normal")),
    "figure_13": _GRID.format(rows=_RESTORED.format(what="Normal")),
    "figure_14": _GRID.format(rows=_RESTORED.format(what="Anomalous")),
    "figure_15": _GRID.format(rows=_RESTORED.format(what="Anomalous")),
    "figure_16": _GRID.format(rows="Normal frames, then their regenerations by VQ-VAE and by VQ-GAN."),
    "figure_17": "Maps of the difference between anomalous frames and their restorations; brighter is larger.",
    "figure_18": "Maps of the difference between normal frames and their restorations; brighter is larger.",
    "leak": "Histograms of the distance from test frames to the nearest training frame, one panel for each split.",
    "leak_in_time": "AUROC over the distance in time to the nearest training frame, with each detector and with none.",
    "capacity": "Scores over latent dimension, and over codebook size.",
    "claim_1_codebook": _FOREST.format(what="VQ-GAN minus VQ-VAE"),
    "claim_2_spatial": _FOREST.format(what="PixelSNAIL minus transformer"),
    "claim_3_light": _FOREST.format(what="light minus full pixel-wise detection"),
    "fidelity": _FOREST.format(what="the other choice minus this project's"),
    "threshold_sweeps": "AUC over the percentile of λ on validation, ours as lines, the paper's as separate marks.",
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
