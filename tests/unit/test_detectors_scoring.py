"""The detectors on images: one chunk for all thresholds gives what each detector's own map gives, in any pieces."""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from vqad_lib.config import AutoencoderConfig, DetectorConfig
from vqad_lib.detectors import chunks, scoring
from vqad_lib.detectors.chunks import nll_of_frames, score_frames
from vqad_lib.detectors.local import images_and_signals
from vqad_lib.detectors.restoration import restore
from vqad_lib.detectors.sample_wise import sample_wise_score
from vqad_lib.detectors.scoring import NO_THRESHOLD, Detectors, encode_all
from vqad_lib.errors import VqadError
from vqad_lib.models.autoencoder import VQAutoencoder
from vqad_lib.models.blocks import to_unit_range
from vqad_lib.models.prior import Prior, code_nll

JOBS = {
    "sample_wise": {20: 0.3, 80: 1.5},
    "pixel_wise": {20: 0.3, 80: 1.5},
    "light_pixel_wise": {50: 0.8},
    "regenerative": {NO_THRESHOLD: float("nan")},
}


@pytest.fixture
def scorer(autoencoder_config: AutoencoderConfig, tiny_priors: dict[str, Prior]) -> Detectors:
    """8x10 images, a 4x5 grid of 7 codes; the prior has all that one must have, `logits`."""
    torch.manual_seed(3)
    autoencoder = VQAutoencoder(replace(autoencoder_config, codebook_size=7)).eval().requires_grad_(False)
    autoencoder.quantiser.codebook.mul_(30)  # codes that differ enough for images to differ
    config = DetectorConfig(
        threshold_percentiles=(20, 80),
        n_restorations=3,
        weights_over="restorations",
        weight_denominator="mean",
        weight_temperature=3.0,
        smooth_over="pixels",
        min_pool_px=3,
        average_pool_px=7,
        map_limit=float("inf"),
        restoration_algorithm="fast",
        chunk_images=4,
        memory_budget_mb=100,
    )
    return Detectors(autoencoder, tiny_priors["logits_alone"], config, seed=0)


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (11, 3, 8, 10), dtype=np.uint8)


def index_of(n: int) -> pd.DataFrame:
    return pd.DataFrame({"image_id": [f"image {i}" for i in range(n)], "clip": "a", "label": [i % 2 for i in range(n)]})


@pytest.mark.parametrize("smooth_over", ["pixels", "pixels_and_restorations"])
def test_one_image_has_the_scores_that_it_has_among_others(
    scorer: Detectors, frames: np.ndarray, smooth_over: str
) -> None:
    alone = Detectors(scorer.autoencoder, scorer.prior, replace(scorer.config, smooth_over=smooth_over), scorer.seed)
    images, ids = images_of(frames), index_of(len(frames))["image_id"].tolist()
    found, among = alone.scores(images[:1], ids[:1], JOBS), alone.scores(images, ids, JOBS)
    for key, value in found.items():
        np.testing.assert_allclose(value, among[key][:1], rtol=2e-6, err_msg=str(key))


def test_what_has_no_threshold_has_a_percentile_that_no_other_has() -> None:
    assert NO_THRESHOLD == -1, "it stands in tables"


def test_encode_all_is_encode_a_batch_at_a_time(scorer: Detectors, frames: np.ndarray) -> None:
    codes = encode_all(scorer.autoencoder, torch.from_numpy(frames), batch=4)
    assert torch.equal(codes, scorer.autoencoder.encode(images_of(frames)))


def images_of(frames: np.ndarray) -> Tensor:
    return to_unit_range(torch.from_numpy(frames))


@pytest.mark.parametrize("memory_budget_mb", [0.05, 100])
@pytest.mark.parametrize("map_limit", [float("inf"), 0.2])
@pytest.mark.parametrize("smooth_over", ["pixels", "pixels_and_restorations"])
@pytest.mark.parametrize("weights_over", ["restorations", "colour_channels"])
@pytest.mark.parametrize("weight_denominator", ["mean", "sum"])
def test_scores_are_the_means_of_the_maps(
    scorer: Detectors,
    frames: np.ndarray,
    weight_denominator: str,
    weights_over: str,
    smooth_over: str,
    map_limit: float,
    memory_budget_mb: float,
) -> None:
    rules = {"weights_over": weights_over, "weight_denominator": weight_denominator}
    rules |= {"smooth_over": smooth_over, "map_limit": map_limit}
    config = replace(scorer.config, memory_budget_mb=memory_budget_mb, **rules)
    scorer = Detectors(scorer.autoencoder, scorer.prior, config, scorer.seed)
    images, ids = images_of(frames), index_of(len(frames))["image_id"].tolist()
    scores = scorer.scores(images, ids, JOBS)
    assert list(scores) == [(detector, percentile) for detector, at in JOBS.items() for percentile in at]
    for detector in ("pixel_wise", "light_pixel_wise", "regenerative"):
        for percentile, threshold in JOBS[detector].items():
            heatmaps, _ = scorer.heatmaps(images, ids, detector=detector, threshold_nats=threshold)
            expected = heatmaps.mean((1, 2)).double().numpy()
            assert np.ptp(expected) > 1e-3
            np.testing.assert_allclose(scores[detector, percentile], expected, rtol=2e-6, err_msg=detector)
    codes = scorer.autoencoder.encode(images)
    nll = code_nll(scorer.prior.logits(codes), codes)
    np.testing.assert_allclose(scores["sample_wise", 80], sample_wise_score(nll, threshold_nats=1.5).numpy(), rtol=1e-6)


@pytest.mark.parametrize("algorithm", ["plain", "jump_ahead"])
def test_scores_do_not_depend_on_the_algorithm(scorer: Detectors, frames: np.ndarray, algorithm: str) -> None:
    images, ids = images_of(frames), index_of(len(frames))["image_id"].tolist()
    fast, other = scorer.scores(images, ids, JOBS), scorer.scores(images, ids, JOBS, algorithm=algorithm)
    for key, values in fast.items():
        np.testing.assert_array_equal(other[key], values, err_msg=str(key))


def test_a_heatmap_without_a_threshold_restores_all_that_surprises(scorer: Detectors, frames: np.ndarray) -> None:
    images, ids = to_unit_range(torch.from_numpy(frames)), index_of(len(frames))["image_id"].tolist()
    plain, restored = scorer.heatmaps(images, ids, detector="pixel_wise")
    expected, _ = scorer.heatmaps(images, ids, detector="pixel_wise", threshold_nats=0.0)
    torch.testing.assert_close(plain, expected, rtol=0, atol=0)
    other, _ = scorer.heatmaps(images, ids, detector="pixel_wise", threshold_nats=1.0)
    assert not torch.equal(plain, other)
    assert restored.shape == (11, 3, 3, 8, 10)


def test_nothing_is_kept_for_gradients(scorer: Detectors, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = (copy.deepcopy(network).requires_grad_(True) for network in (scorer.autoencoder, scorer.prior))
    scorer = Detectors(*networks, scorer.config, seed=0)
    asked, logits = [], scorer.prior.logits

    def watched(codes: Tensor) -> Tensor:
        asked.append(torch.is_grad_enabled())
        return logits(codes)

    monkeypatch.setattr(scorer.prior, "logits", watched)
    images, ids = to_unit_range(torch.from_numpy(frames)), index_of(len(frames))["image_id"].tolist()
    for detector in ("pixel_wise", "light_pixel_wise", "regenerative"):
        assert not any(found.requires_grad for found in scorer.heatmaps(images, ids, detector=detector))
    assert not images_and_signals(scorer.autoencoder, scorer.prior, images, window_px=1).requires_grad
    scorer.scores(images, ids, JOBS)
    nll_of_frames(scorer, frames, np.arange(3))
    noise = torch.rand(len(images), 1, 4, 5, dtype=torch.float64)
    restore(scorer.prior, scorer.encode(images), threshold_nats=0.3, noise=noise, recompute="once")
    assert len(asked) > 5
    assert not any(asked)


def test_pieces_are_as_large_as_the_budget_allows(
    scorer: Detectors, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, images = {}, to_unit_range(torch.from_numpy(frames))
    pieces = scoring.in_pieces

    def watched(function: Callable, n: int, *, size: int, what: str) -> Tensor:
        tried[what] = size
        return pieces(function, n, size=size, what=what)

    monkeypatch.setattr(scoring, "in_pieces", watched)
    grids = torch.randint(0, 7, (11, 2, 3, 4, 5))  # two thresholds, three restorations
    floats = {
        "grids to decode": scorer.autoencoder.bytes_per_image(10) / 4,
        "images to score by maps": 4 * 2 * 3 * 3 * 8 * 10,
        "restorations to decode": scorer.autoencoder.bytes_per_image(10) / 4 + 6 * 3 * 8 * 10,
    }
    row = scorer.prior.cache_bytes_per_row / 4
    floats |= {"images to encode": scorer.autoencoder.bytes_per_image(10) / 4}
    floats |= {"grids to look at": 2 * row, "images to restore": (2 + 2 * 3) * row}
    for items in (0.5, 40.5):
        for what, each in floats.items():
            config = replace(scorer.config, memory_budget_mb=items * 4 * each / 1e6)
            limited = Detectors(scorer.autoencoder, scorer.prior, config, seed=0)
            if what == "images to score by maps":
                limited._map_scores(images, grids)
            elif what == "grids to decode":
                limited.decode(grids)
            elif what == "images to encode":
                limited.encode(images)
            elif what == "grids to look at":
                limited.logits(grids[:, 0, 0])
            elif what == "images to restore":
                ids = index_of(len(images))["image_id"].tolist()
                limited.restored_codes(grids[:, 0, 0], ids, detector="pixel_wise", thresholds_nats=[0.3, 1.5])
            else:
                limited.residual_sums(images, grids.flatten(1, 2))
            assert tried[what] == max(int(items), 1), what


def test_grids_to_decode_are_counted_by_the_size_of_their_images(
    scorer: Detectors, autoencoder_config: AutoencoderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels = autoencoder_config.channels[:1] * 4  # three halvings
    deep = VQAutoencoder(replace(autoencoder_config, channels=channels)).eval()
    asked, bytes_per_image = [], deep.bytes_per_image
    monkeypatch.setattr(deep, "bytes_per_image", lambda side: (asked.append(side), bytes_per_image(side))[1])
    images = Detectors(deep, scorer.prior, scorer.config, seed=0).decode(torch.zeros(1, 2, 2, dtype=torch.int64))
    assert asked == [images.shape[-1]] == [16]


@pytest.mark.parametrize(
    ("detector", "passes"), [("sample_wise", 1), ("pixel_wise", 0), ("light_pixel_wise", 1), ("regenerative", 0)]
)
def test_the_prior_is_asked_once_about_the_codes_and_only_where_it_matters(
    scorer: Detectors, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch, detector: str, passes: int
) -> None:
    asked, logits = [], Detectors.logits
    monkeypatch.setattr(Detectors, "logits", lambda self, codes: (asked.append(len(codes)), logits(self, codes))[1])
    scorer.scores(images_of(frames), index_of(len(frames))["image_id"].tolist(), {detector: JOBS[detector]})
    assert asked == [len(frames)] * passes


@pytest.mark.parametrize("memory_budget_mb", [1e-6, 0.05])
def test_scores_do_not_depend_on_the_budget(scorer: Detectors, frames: np.ndarray, memory_budget_mb: float) -> None:
    images, ids = images_of(frames), index_of(len(frames))["image_id"].tolist()
    config = replace(scorer.config, memory_budget_mb=memory_budget_mb)
    small = Detectors(scorer.autoencoder, scorer.prior, config, scorer.seed)
    for key, values in scorer.scores(images, ids, JOBS).items():
        np.testing.assert_allclose(small.scores(images, ids, JOBS)[key], values, rtol=2e-6, err_msg=str(key))


def test_each_distinct_grid_is_decoded_once(
    scorer: Detectors, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, decode = [], scorer.autoencoder.decode
    monkeypatch.setattr(scorer.autoencoder, "decode", lambda codes: (decoded.append(codes), decode(codes))[1])
    images, ids = images_of(frames)[[0, 1, 1, 0]], ["a", "b", "c", "d"]
    nothing_unlikely = {"light_pixel_wise": {90: 1e6}, "pixel_wise": {90: 1e6}, "regenerative": {NO_THRESHOLD: 0.0}}
    scores = scorer.scores(images, ids, nothing_unlikely)
    assert sum(map(len, decoded)) == 2
    assert scores["pixel_wise", 90][0] == scores["pixel_wise", 90][3] != scores["pixel_wise", 90][1]


def test_out_of_memory_halves_and_goes_on(
    scorer: Detectors, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, ids = images_of(frames), index_of(len(frames))["image_id"].tolist()
    expected, decode = scorer.scores(images, ids, JOBS), scorer.autoencoder.decode

    def small_decoder(codes: Tensor) -> Tensor:
        if len(codes) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(codes)

    monkeypatch.setattr(scorer.autoencoder, "decode", small_decoder)
    found = scorer.scores(images, ids, JOBS)
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, rtol=2e-6)


def test_what_was_scored_before_memory_ran_out_stays(scorer: Detectors, frames, tmp_path, monkeypatch) -> None:
    expected = score_frames(scorer, frames, index_of(11), JOBS, split="test", folder=tmp_path / "unbroken")
    decode, calls = scorer.autoencoder.decode, []

    def fails_later(codes: Tensor) -> Tensor:
        calls.append(len(codes))
        if len(calls) > 2:
            raise MemoryError
        return decode(codes)

    with monkeypatch.context() as patch:
        patch.setattr(scorer.autoencoder, "decode", fails_later)
        with pytest.raises(VqadError, match="out of memory with a single one"):
            score_frames(scorer, frames, index_of(11), JOBS, split="test", folder=tmp_path / "broken")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "broken").glob("test_*.parquet")}
    assert kept
    found = score_frames(scorer, frames, index_of(11), JOBS, split="test", folder=tmp_path / "broken")
    assert found.index.equals(pd.RangeIndex(len(found)))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=2e-6)


# --- frames from disk, chunk by chunk


def test_rows_of_the_index_are_rows_of_the_array(scorer: Detectors, frames: np.ndarray, tmp_path) -> None:
    np.save(tmp_path / "frames.npy", frames)
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
    whole = score_frames(scorer, mapped, index_of(11), JOBS, split="test", folder=tmp_path / "whole")
    picked = index_of(11).iloc[[9, 2, 5]]
    some = score_frames(scorer, mapped, picked, JOBS, split="test", folder=tmp_path / "some")
    assert some["image_id"].iloc[:3].tolist() == ["image 9", "image 2", "image 5"]
    key = ["image_id", "detector", "threshold_percentile"]
    both = some.merge(whole, on=key, suffixes=("", "_whole"))
    assert len(both) == len(some) == 3 * 6
    np.testing.assert_allclose(both["score"], both["score_whole"], rtol=2e-6)


def test_nll_of_rows(scorer: Detectors, frames: np.ndarray) -> None:
    codes = scorer.autoencoder.encode(images_of(frames))
    expected = code_nll(scorer.prior.logits(codes), codes).numpy()[[7, 0, 3, 4, 10]]
    np.testing.assert_allclose(nll_of_frames(scorer, frames, np.array([7, 0, 3, 4, 10])), expected, atol=1e-5)


@pytest.mark.parametrize("size", [2, 3])
def test_processes_share_the_chunks(scorer: Detectors, frames: np.ndarray, tmp_path, monkeypatch, size: int) -> None:
    alone = score_frames(scorer, frames, index_of(11), JOBS, split="test", folder=tmp_path / "alone")
    made = []
    for rank in range(size):
        monkeypatch.setattr(chunks, "process", lambda rank=rank: chunks_process(rank, size))
        before = set((tmp_path / "shared").glob("*"))
        if rank < size - 1:  # the others' chunks are not there yet
            with pytest.raises(FileNotFoundError):
                score_frames(scorer, frames, index_of(11), JOBS, split="test", folder=tmp_path / "shared")
        else:
            together = score_frames(scorer, frames, index_of(11), JOBS, split="test", folder=tmp_path / "shared")
        made.append(len(set((tmp_path / "shared").glob("*")) - before))
    assert made == {2: [2, 1], 3: [1, 1, 1]}[size]
    pd.testing.assert_frame_equal(together, alone)


def chunks_process(rank: int, size: int):
    from vqad_lib.distributed.process import Process

    return Process(rank, size, rank)
