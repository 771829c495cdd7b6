"""Sample-wise detection: the NLLs of an image's unlikely codes, added up (eq. 9 and 10)."""

import numpy as np
from torch import Tensor

# A percentile often is the NLL of one of the codes, to the last bit. So much is added that rounding in another
# batch size or algorithm cannot lift that code over its own threshold.
TIE_MARGIN_NATS = 1e-5


def sample_wise_score(code_nll: Tensor, *, threshold_nats: float) -> Tensor:
    """Add up the NLLs of each image's unlikely codes (eq. 9 and 10).

    Args:
        code_nll: (B, h, w) float, -log p(code | earlier codes), nats, >= 0.
        threshold_nats: lambda_S; a code counts only strictly above it.

    Returns:
        (B,) float, nats; higher is more anomalous, 0 where no code exceeds.

    Raises:
        ValueError: code_nll is not three-dimensional.
    """
    if code_nll.ndim != 3:
        raise ValueError(f"code_nll must be (B, h, w), got {tuple(code_nll.shape)}")
    return code_nll.where(code_nll > threshold_nats, 0.0).sum((1, 2))


def thresholds_at(code_nll: np.ndarray, percentiles: tuple[int, ...]) -> dict[int, float]:
    """The lambdas that stand at given percentiles of the NLLs of a validation set's codes (section 4.3).

    Args:
        code_nll: any shape, nats, of all codes of all validation images.
        percentiles: each in 0..100.

    Returns:
        percentile -> threshold, nats: the percentile, linearly interpolated, plus `TIE_MARGIN_NATS`.

    Raises:
        ValueError: code_nll is empty.
    """
    if not code_nll.size:
        raise ValueError("no codes to take percentiles of")
    values = np.percentile(code_nll.astype(np.float64), percentiles)
    return dict(zip(percentiles, (values + TIE_MARGIN_NATS).tolist(), strict=True))
