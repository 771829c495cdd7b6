"""The codebook layer VQ: nearest code vectors, learnt by gradient or by running averages (eq. 1 and 2).

References:
    [20] van den Oord et al. 2018, Neural Discrete Representation Learning; appendix A.1 for the running averages.

All of it runs in the precision of the codebook, float32, also where the encoder is autocast to bfloat16: rounded
distances would choose other codes in training than in scoring.

With several processes every one ends each step with the same codebook, the one that a single process would have: counts
and sums are added up, and vectors are drawn from the whole batch, by what `distributed.parallel` puts in place of
`WholeBatch`.

Beyond the paper: an initial codebook drawn from data, and dead codes restarted, both as options that are off by
default. A restarted code gets fresh running averages too, or the old ones would pull it back at the next step.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqad_lib.config import AutoencoderConfig

DEAD_BELOW = 0.05  # running count per step under which a code is dead; a used code of 128 sees about 5


class WholeBatch:
    """What the codebook's statistics ask of the processes that share a batch; here one process has all of it."""

    def total(self, values: Tensor) -> Tensor:
        """The sum over processes of what each has from its rows."""
        return values

    def rows(self, rows: Tensor) -> Tensor:
        """All rows of the batch, in their order, from those of this process."""
        return rows

    def agreed(self, values: Tensor) -> Tensor:
        """The same values for all, where each drew its own."""
        return values


class Quantiser(nn.Module):
    """Replace each D-vector of a grid by the nearest of K code vectors.

    Args:
        config: `codebook_size` is K, `latent_dim` is D; `codebook_update` is "gradient" (the codebook loss of eq. 4
            moves the codes) or "running_average" ([20], appendix A.1), with `codebook_decay` in (0, 1);
            `codebook_init_from_data` takes the first training batch's vectors as the initial codebook;
            `restart_dead_codes` moves codes that are hardly used onto vectors of the current batch.

    Attributes:
        batch: the batch that this process has all or some rows of.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.update, self.decay = config.codebook_update, config.codebook_decay
        self.init_from_data, self.restart_dead = config.codebook_init_from_data, config.restart_dead_codes
        self.batch = WholeBatch()
        K = config.codebook_size
        initial = torch.empty(K, config.latent_dim).uniform_(-1 / K, 1 / K)
        self.codebook = nn.Parameter(initial, requires_grad=self.update == "gradient")
        self.register_buffer("running_count", torch.ones(K))
        self.register_buffer("running_sum", initial.clone())
        self.register_buffer("is_initialised", torch.tensor(not self.init_from_data))
        # asking at every step would make the host wait for the device
        self._asks_whether_initialised = self.init_from_data
        self.register_load_state_dict_post_hook(_ask_again)

    def nearest(self, z_e: Tensor) -> Tensor:
        """Index of the nearest code vector in Euclidean distance (eq. 1).

        Args:
            z_e: (B, D, h, w) float, the encoder's output.

        Returns:
            (B, h, w) int64 in [0, K); the lowest index among equally near codes.

        Raises:
            ValueError: z_e is not four-dimensional or its D differs from the codebook's.
        """
        if z_e.ndim != 4 or z_e.shape[1] != self.codebook.shape[1]:
            raise ValueError(f"z_e must be (B, {self.codebook.shape[1]}, h, w), got {tuple(z_e.shape)}")
        B, D, h, w = z_e.shape
        with torch.autocast(z_e.device.type, enabled=False):
            vectors = z_e.movedim(1, -1).reshape(-1, D).to(self.codebook.dtype)  # Bhw D
            # |z - e|^2 minus |z|^2, which is the same for every code
            distance = self.codebook.square().sum(1) - 2 * vectors @ self.codebook.T  # Bhw K
        return distance.argmin(1).reshape(B, h, w)

    def embed(self, codes: Tensor) -> Tensor:
        """Code vectors of a grid (eq. 2): (B, h, w) int64 -> (B, D, h, w) float."""
        return F.embedding(codes, self.codebook).movedim(-1, 1)

    def forward(self, z_e: Tensor) -> tuple[Tensor, Tensor]:
        """Quantise, and in training mode keep the codebook's statistics.

        Args:
            z_e: (B, D, h, w) float.

        Returns:
            z_q (B, D, h, w), differentiable in the codebook only, and codes (B, h, w) int64. The straight-through
            gradient is `straight_through`.
        """
        if self.training and self._asks_whether_initialised:
            if not self.is_initialised:
                self._initialise(z_e.detach())
            self._asks_whether_initialised = False
        codes = self.nearest(z_e)
        z_q = self.embed(codes)  # before the codes move: eq. 2 takes the vectors that eq. 1 found nearest
        if self.training and (self.update == "running_average" or self.restart_dead):
            self._keep_statistics(z_e.detach(), codes)
        return z_q, codes

    @torch.no_grad()
    def _initialise(self, z_e: Tensor) -> None:
        self.codebook.copy_(self._draw(z_e, len(self.codebook)))
        self.running_sum.copy_(self.codebook)
        self.is_initialised.fill_(True)

    def _draw(self, z_e: Tensor, n: int) -> Tensor:
        """n of the whole batch's vectors at random, without replacement as long as they last, slightly moved apart."""
        vectors = self.batch.rows(z_e).movedim(1, -1).reshape(-1, z_e.shape[1]).to(self.codebook.dtype)
        order = torch.cat([torch.randperm(len(vectors)) for _ in range(-(-n // len(vectors)))])[:n]
        drawn = vectors[_to_device(order, vectors.device)]
        moved = 1e-3 * vectors.std() * _to_device(torch.randn(drawn.shape), vectors.device)
        return self.batch.agreed(drawn + moved)

    @torch.no_grad()
    def _keep_statistics(self, z_e: Tensor, codes: Tensor) -> None:
        K, D = self.codebook.shape
        with torch.autocast(z_e.device.type, enabled=False):
            vectors = z_e.movedim(1, -1).reshape(-1, D).to(self.codebook.dtype)
            one_hot = (codes.reshape(-1, 1) == torch.arange(K, device=codes.device)).to(vectors)  # Bhw K
            count, total = one_hot.sum(0), one_hot.T @ vectors  # K, K D
        self.running_count.lerp_(self.batch.total(count), 1 - self.decay)
        self.running_sum.lerp_(self.batch.total(total), 1 - self.decay)
        if self.update == "running_average":
            mean = self.running_sum / self.running_count[:, None]  # of a code that is never used it is not taken
            self.codebook.copy_(torch.where(self.running_count[:, None] > 1e-3, mean, self.codebook))
        if self.restart_dead:
            self._restart(z_e)

    def _restart(self, z_e: Tensor) -> None:
        dead = (self.running_count < DEAD_BELOW)[:, None]
        fresh = self._draw(z_e, len(self.codebook))
        self.codebook.copy_(torch.where(dead, fresh, self.codebook))
        self.running_sum.copy_(torch.where(dead, fresh, self.running_sum))
        self.running_count.copy_(torch.where(dead[:, 0], torch.ones_like(self.running_count), self.running_count))


def _to_device(values: Tensor, device: torch.device) -> Tensor:
    """Random numbers are drawn on the host, so that they do not depend on the device; it need not wait for the copy."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values


def _ask_again(quantiser: Quantiser, _keys: object) -> None:
    quantiser._asks_whether_initialised = quantiser.init_from_data


def straight_through(z_e: Tensor, z_q: Tensor) -> Tensor:
    """z_q in value, z_e in gradient: the decoder's gradient is copied to the encoder (section 2.1)."""
    return z_e + (z_q - z_e).detach()


def codebook_usage(codes: Tensor, *, codebook_size: int) -> tuple[float, float]:
    """How much of a codebook is in use.

    Args:
        codes: any shape, int64 in [0, K).
        codebook_size: K.

    Returns:
        The fraction of codes used at least once, in (0, 1], and the perplexity exp(entropy), in [1, K].
    """
    return usage_of(torch.bincount(codes.reshape(-1), minlength=codebook_size).double() / codes.numel())


def code_shares(codes: Tensor, *, codebook_size: int) -> Tensor:
    """How often each code occurs, without the host waiting for the device: int64 in [0, K) -> (K,) float, of sum 1."""
    return (codes.reshape(-1, 1) == torch.arange(codebook_size, device=codes.device)).float().mean(0)


def collapse_warning(perplexity: float, codebook_size: int) -> str:
    """What to tell people of a perplexity under a sixteenth of K, or under 2; "" of a larger one."""
    if perplexity >= max(2, codebook_size / 16):
        return ""
    return f"codebook collapsed: {codebook_size} codes, a perplexity of {perplexity:.1f}; results mean little"


def usage_of(shares: Tensor) -> tuple[float, float]:
    """`codebook_usage`, from how often each code occurs: (K,) float, of sum 1."""
    entropy_nats = -torch.special.xlogy(shares, shares).sum()
    return (shares > 0).double().mean().item(), entropy_nats.exp().item()
