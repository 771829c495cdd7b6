"""What trains a prior: the negative log-likelihood of normal code grids (eq. 19)."""

from torch import Tensor, nn

from vqad_lib.models.prior import code_nll
from vqad_lib.training.loop import Objective
from vqad_lib.training.parallel import parallel


def negative_log_likelihood(prior: nn.Module, codes: Tensor) -> Tensor:
    """L_AR = E[-log p(s)], per code (eq. 19).

    The paper's sum over the h w positions is divided by h w, which only scales it; early stopping then reads nats per
    code.

    Args:
        prior: a `Prior`, possibly wrapped.
        codes: (B, h, w) int64.

    Returns:
        () float, nats per code.
    """
    return code_nll(prior(codes), codes).mean()


def prior_objectives(name: str, prior: nn.Module) -> list[Objective]:
    """Eq. 19, alone."""
    network = parallel(prior)
    return [Objective(name, network, lambda codes, _epoch: {"loss": negative_log_likelihood(network, codes)})]
