"""How unlikely is what moves here? Local motion as one of K codes, and how often normal clips have each.

No autoencoder: what is quantised is the flow of a place (rightwards, downwards, in all), averaged over a window about
as large as a walker. Several codebooks, each from other draws, smooth what one alone rounds away.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

STILL_PX = 0.2  # a codebook learns from what moves; most of a frame does not
_SAMPLE, _SAMPLE_A_FRAME = 30_000, 20  # places that a codebook learns from, at most
_COUNT_EVERY = 3  # frames: neighbours are alike


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `official.choices` chooses from.

    Attributes:
        codes: K of each codebook.
        codebooks: how many.
        compressed: quantise the logarithm of speed, with the direction, in place of flow itself.
        coverage: codebooks see normal flow scaled by factors from 1 to this one; 1 for normal flow alone.
        bands: code frequencies are counted apart in so many rows of the frame; 1 for the whole frame.
        window: places along a side whose NLLs are averaged.
    """

    codes: int = 16
    codebooks: int = 12
    compressed: bool = False
    coverage: float = 3.5
    bands: int = 1
    window: int = 1


@dataclass(frozen=True)
class MotionCodes:
    """Codebooks of local motion, and -log p of each code.

    Attributes:
        settings: what it was fitted with.
        codebooks: M fitted k-means.
        nll: (M, bands, K) float, nats.
    """

    settings: Settings
    codebooks: list[KMeans]
    nll: NDArray[np.float64]

    @classmethod
    def fit(cls, flow: NDArray[np.float32], settings: Settings, *, seed: int) -> Self:
        """Learn codebooks from normal flow, scaled as `coverage` says, and code frequencies from normal flow as it is.

        Args:
            flow: (n, 3, h, w), px a frame.
            seed: of the draws.
        """
        generator, found, frequencies = np.random.default_rng(seed), [], []
        for _ in range(settings.codebooks):
            factors = settings.coverage ** generator.random((len(flow), 1, 1, 1), dtype=np.float32)
            places = _places(flow * factors)
            moving = places[places[:, 2] > STILL_PX]
            moving = moving if len(moving) >= settings.codes else places
            sample = moving[generator.permutation(len(moving))[: min(_SAMPLE, _SAMPLE_A_FRAME * len(flow))]]
            book = KMeans(settings.codes, n_init=1, max_iter=30, random_state=int(generator.integers(2**31)))
            with threadpool_limits(1):  # several add up in the order in which they end, and the last bits differ
                found.append(book.fit(_features(sample, settings)))
            frequencies.append(_frequencies(_codes(book, flow[::_COUNT_EVERY], settings), settings))
        return cls(settings, found, -np.log(frequencies))

    def maps(self, flow: NDArray[np.float32]) -> NDArray[np.float64]:
        """-log p of the code at each place, the mean over codebooks: (n, 3, h, w) px a frame -> (n, h, w) nats."""
        band = _band(flow.shape[2], self.settings)[:, None]
        codes = (_codes(book, flow, self.settings) for book in self.codebooks)
        return sum(nll[band, of] for nll, of in zip(self.nll, codes, strict=True)) / len(self.codebooks)

    def scores(self, flow: NDArray[np.float32]) -> NDArray[np.float64]:
        """The largest mean NLL in a window of each frame: (n,) nats; higher is more abnormal."""
        return largest(self.maps(flow), self.settings.window)


def largest(maps: NDArray, window: int | tuple[int, int]) -> NDArray:
    """The largest mean over a window that lies within the map: (n, h, w) -> (n,)."""
    rows, columns = (window, window) if isinstance(window, int) else window
    sums = np.pad(maps.astype(np.float64), ((0, 0), (1, 0), (1, 0))).cumsum(1).cumsum(2)
    over = sums[:, rows:, columns:] - sums[:, :-rows, columns:] - sums[:, rows:, :-columns] + sums[:, :-rows, :-columns]
    return over.max((1, 2)) / (rows * columns)


def _places(flow: NDArray) -> NDArray:
    return np.moveaxis(flow, 1, -1).reshape(-1, 3)


def _features(places: NDArray, settings: Settings) -> NDArray:
    """(m, 3) flow -> (m, 3), what distances are measured in."""
    if not settings.compressed:
        return np.ascontiguousarray(places)
    speed = places[:, 2:]
    return np.concatenate([places[:, :2] / (1 + speed), 2 * np.log1p(speed)], 1)


def _codes(book: KMeans, flow: NDArray, settings: Settings) -> NDArray[np.int32]:
    return book.predict(_features(_places(flow), settings)).reshape(len(flow), *flow.shape[2:])


def _band(height: int, settings: Settings) -> NDArray[np.int64]:
    return np.arange(height) * settings.bands // height


def _frequencies(codes: NDArray, settings: Settings) -> NDArray[np.float64]:
    """(n, h, w) codes -> (bands, K): shares, with one place more for each code, so that none is 0."""
    counts = np.ones((settings.bands, settings.codes))
    np.add.at(counts, (_band(codes.shape[1], settings)[None, :, None], codes), 1)
    return counts / counts.sum(1, keepdims=True)
