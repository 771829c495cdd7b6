"""Scheme official, taken seriously: every score of a frame there is, those without any model first.

What is chosen is chosen on the held-out training clips and on pseudo-anomalies made from them, in which something moves
as far in one frame as it did in two. Test clips choose nothing.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from beyond.clock import seconds_per_image
from beyond.motion_codes import MotionCodes, Settings, largest
from beyond.temporal import smoothed
from vqad_lib.data.motion import flows
from vqad_lib.detectors.scoring import DETECTORS
from vqad_lib.errors import VqadError
from vqad_lib.evaluation.bootstrap import bootstrap_intervals
from vqad_lib.evaluation.selection import clip_auroc
from vqad_lib.experiment.networks import load_detectors
from vqad_lib.experiment.run import Run
from vqad_lib.experiment.scores import BY_ANOMALIB, WITHOUT_NETWORK, at_selected_threshold, load_scores
from vqad_lib.models.registry import COMBINATIONS
from vqad_lib.paper import DATA, PAPER_FOLDER
from vqad_lib.progress import progress

SCHEME = "official"
WINDOW_SHARE = 25 / 240  # of the shorter side of a frame, in which flow is averaged: 25 px of Ped2's
PLACES = 32  # at most so many a side
SMOOTHED_FRAMES = 3.0
SEEDS = (0, 1, 2)
COLUMNS = ("method", "input", "auroc_micro", "low", "high", "auroc_macro", "causal", "centred", "seed_sd")
COLUMNS += ("seconds_per_image", "source")
TITLES = {"nearest_frame": "nearest training frame", "pixel_statistics": "per-pixel mean and variance"}
TITLES |= {"ganomaly": "GANomaly", "dfkde": "DFKDE"}
_TIMED = 50  # frames
_BOTH = (False, True)


def motion(run: Run, *, step: int = 1) -> Run:
    """The run on local flow of the last `step` frames."""
    return run.changed({"data.input": "flow", "data.flow_step": step, "data.flow_window_share": WINDOW_SHARE})


def flow_of(run: Run, rows: NDArray) -> NDArray[np.float32]:
    """Flow of some frames of such a run, px: (n, 3, h, w) with `PLACES` a side at most."""
    every = max(run.profile.data.image_size_px // PLACES, 1)
    shares = run.frames.images[rows][..., every // 2 :: every, every // 2 :: every].astype(np.float32) / 255
    shares[:, :2] = 2 * shares[:, :2] - 1
    return shares * run.profile.data.flow_limit_px


def with_something_faster(
    normal: NDArray[np.float32], faster: NDArray[np.float32], generator: np.random.Generator
) -> NDArray[np.float32]:
    """Pseudo-anomalies: into each frame's flow a piece of the same frame's flow over two frames, where something moves.

    Args:
        normal, faster: (n, 3, h, w) px.
        generator: draws where and how large, about a walker or a cyclist.
    """
    result, (height, width) = normal.copy(), normal.shape[2:]
    for i, speed in enumerate(faster[:, 2]):
        y, x = divmod(int(generator.choice(np.flatnonzero(speed >= 0.7 * speed.max()))), width)
        up, left = generator.integers(max(height // 12, 1), height // 6 + 2), generator.integers(1, width // 9 + 2)
        box = slice(max(y - up, 0), y + up), slice(max(x - left, 0), x + left)
        result[i][:, *box] = faster[i][:, *box]
    return result


def choices(run: Run, *, seed: int = 0) -> pd.DataFrame:
    """Every setting of `MotionCodes` that is tried, best first by what it is chosen by.

    Returns:
        The settings, pseudo_auroc (held-out normal frames against pseudo-anomalies made from them; it chooses), and
        test_auroc, to say how far the two agree.
    """
    now, splits, labels = motion(run), run.splits(SCHEME), run.frames.index["label"].to_numpy()
    train, held_out, test = (flow_of(now, np.flatnonzero(splits == s)) for s in ("train", "validation", "test"))
    faster = flow_of(motion(run, step=2), np.flatnonzero(splits == "validation"))
    pseudo = with_something_faster(held_out, faster, np.random.default_rng(seed))
    grid = [
        Settings(codes=n, compressed=c, coverage=s) for n, c, s in itertools.product((8, 16, 32), _BOTH, (1.0, 3.5))
    ]
    grid += [Settings(compressed=compressed, bands=8) for compressed in _BOTH]
    rows = []
    for most in progress(grid, what="codebooks of motion", unit="setting"):
        fitted = MotionCodes.fit(train, most, seed=seed)
        for codebooks in (1, most.codebooks):
            some = MotionCodes(most, fitted.codebooks[:codebooks], fitted.nll[:codebooks])
            maps = [some.maps(flow) for flow in (held_out, pseudo, test)]
            for window in (1, 2, 3):
                normal, abnormal, of_test = (largest(of, window) for of in maps)
                row = asdict(replace(most, codebooks=codebooks, window=window))
                row["pseudo_auroc"] = _auroc(np.repeat([0, 1], len(normal)), np.r_[normal, abnormal])
                rows.append(row | {"test_auroc": _auroc(labels[splits == "test"], of_test)})
    return pd.DataFrame(rows).sort_values("pseudo_auroc", ascending=False, kind="stable", ignore_index=True)


def settings_of(row: pd.Series) -> Settings:
    """The settings in a row of `choices`."""
    return Settings(**{name: row[name].item() for name in asdict(Settings())})


def frame_rows(run: Run, chosen: Settings, local: tuple[pd.DataFrame, NDArray]) -> pd.DataFrame:
    """The one table: micro AUROC over all test frames with its 95% interval over clips, macro AUROC, and the micro one
    of scores smoothed over `SMOOTHED_FRAMES` frames, from the past alone (causal) or not (centred).

    A method that draws at random has the means of `SEEDS`, and their standard deviation. Published numbers come last,
    beside Ped2 alone.

    Args:
        chosen: of the codes of motion, see `choices`.
        local: as `local_options` returns it; of each signal the first option has a row.

    Raises:
        VqadError: the data set has no clips, or a combination has not been scored yet.
    """
    if SCHEME not in run.schemes:
        raise VqadError(f"scheme {SCHEME} takes clips, and an image folder has none")
    every = itertools.chain(_without_model(run), _of_motion(run, chosen), _of_frames(run), _of_places(*local))
    rows = [_row(run, **of) for of in every]
    if run.frames.dataset == DATA:
        rows += pd.read_csv(PAPER_FOLDER / "published_ped2.csv").to_dict("records")
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(run: Run, *, method: str, seen: str, scores: list[NDArray], seconds: float = np.nan, source: str) -> dict:
    """Of one score, or of several seeds': (n,) for the test frames in their order."""
    test = run.frames.index[run.splits(SCHEME) == "test"]
    labels, clips, config = test["label"].to_numpy(), test["clip"].to_numpy(), run.profile.evaluation
    areas = [clip_auroc(labels, values, clips, what=method) for values in scores]
    drawn = {"groups": clips, "resamples": config.bootstrap_resamples, "seed": config.bootstrap_seed}
    bounds = [bootstrap_intervals(labels, s, threshold=np.inf, what=method, **drawn) for s in scores]
    over_time = {
        name: np.mean(
            [_auroc(labels, smoothed(s, clips, frames=SMOOTHED_FRAMES, causal=name == "causal")) for s in scores]
        )
        for name in ("causal", "centred")
    }
    micro = [area["micro_auroc"] for area in areas]
    return {
        "method": method,
        "input": seen,
        "auroc_micro": np.mean(micro),
        "low": np.mean([bound["auroc_low"] for bound in bounds]),
        "high": np.mean([bound["auroc_high"] for bound in bounds]),
        "auroc_macro": np.mean([area["macro_auroc"] for area in areas]),
        **over_time,
        "seed_sd": np.std(micro, ddof=1) if len(micro) > 1 else np.nan,
        "seconds_per_image": seconds,
        "source": source,
    }


def _without_model(run: Run) -> Iterator[dict]:
    """Differences of consecutive frames, and speed, each the largest in a window."""
    rows, clips = np.flatnonzero(run.splits(SCHEME) == "test"), run.frames.index["clip"].to_numpy()
    before = np.where(clips[np.maximum(rows - 1, 0)] == clips[rows], rows - 1, rows + 1)
    window = max(round(10 / 128 * run.profile.data.image_size_px), 1)
    differences = [
        largest(np.abs(run.frames.images[[now]].astype(float) - run.frames.images[[then]]).mean(1), window)[0]
        for now, then in zip(rows, before, strict=True)
    ]
    yield {
        "method": "largest difference to the frame before, no model",
        "seen": "two frames",
        "scores": [np.array(differences)],
        "source": "here",
    }
    yield {
        "method": "largest speed, no model",
        "seen": "optical flow",
        "scores": [largest(flow_of(motion(run), rows)[:, 2], 1)],
        "seconds": _seconds_of_flow(run, rows),
        "source": "here",
    }
    for name in WITHOUT_NETWORK:
        yield from _baseline(run, name)


def _of_motion(run: Run, chosen: Settings) -> Iterator[dict]:
    """NLL of codes of motion: as chosen, and with one thing taken away."""
    now, splits = motion(run), run.splits(SCHEME)
    train, rows = flow_of(now, np.flatnonzero(splits == "train")), np.flatnonzero(splits == "test")
    test, of_flow = flow_of(now, rows), _seconds_of_flow(run, rows)
    variants = {
        "codes of motion": chosen,
        "codes of motion, one codebook": replace(chosen, codebooks=1),
        "codes of motion, codebooks of normal motion alone": replace(chosen, coverage=1.0),
        "codes of motion, frequencies by row of the frame": replace(chosen, bands=8),
    }
    for method, settings in variants.items():
        fitted = [MotionCodes.fit(train, settings, seed=seed) for seed in SEEDS]
        started = time.perf_counter()
        scores = [one.scores(test) for one in fitted]
        seconds = (time.perf_counter() - started) / len(SEEDS) / len(test) + of_flow
        yield {"method": method, "seen": "optical flow", "scores": scores, "seconds": seconds, "source": "here"}


def _of_frames(run: Run) -> Iterator[dict]:
    """The paper's detectors at the lambda that validation selects, and its baselines."""
    timed = np.flatnonzero(run.splits(SCHEME) == "test")[:_TIMED]
    for (autoencoder, prior), model in COMBINATIONS.items():
        names = {"autoencoder": autoencoder, "prior": prior, "scheme": SCHEME}
        tidy, scorer = load_scores(run, **names), load_detectors(run, **names)
        for key, detector in DETECTORS.items():
            if detector.letter or prior == "gpt2":
                selected = at_selected_threshold(run, tidy, key)
                name = f"{detector.title}, {model}" if detector.letter else f"{detector.title}, {model[0]}"
                seconds = seconds_per_image(run, scorer, timed, {key: {selected.percentile: selected.nats}})
                scores = [_in_order(run, selected.test)]
                yield {"method": name, "seen": "frame", "scores": scores, "seconds": seconds, "source": "here"}
    for name in BY_ANOMALIB:
        yield from _baseline(run, name)


def _of_places(options: pd.DataFrame, scores: NDArray) -> Iterator[dict]:
    """Local scores, each signal with the option that pseudo-anomalies choose."""
    for row, option in options.drop_duplicates("signal").iterrows():
        method = f"Local {option['signal']}, {option['model']}, {option['share']}"
        method += ", by position" if option["calibrated"] else ""
        yield {"method": method, "seen": "frame", "scores": [scores[row]], "source": "here"}


def _baseline(run: Run, name: str) -> Iterator[dict]:
    path = run.scores_path(SCHEME, "baseline", name)
    if path.exists():
        tidy = pd.read_parquet(path)
        scores = _in_order(run, tidy[tidy["split"] == "test"])
        title = TITLES[name] + (", no model" if name in WITHOUT_NETWORK else "")
        yield {"method": title, "seen": "frame", "scores": [scores], "source": "here"}


def _in_order(run: Run, tidy: pd.DataFrame) -> NDArray[np.float64]:
    test = run.frames.index[run.splits(SCHEME) == "test"]
    return tidy.set_index("image_id")["score"].loc[test["image_id"]].to_numpy()


def _seconds_of_flow(run: Run, rows: NDArray) -> float:
    """What the flow of a frame takes, a few test frames in a row."""
    changed = motion(run)
    some = rows[:_TIMED]
    frames, paths = run.frames, run.frames.paths
    few = replace(
        frames,
        images=frames.images[some],
        index=frames.index.iloc[some].reset_index(drop=True),
        paths=tuple(paths[row] for row in some) if paths else paths,
    )
    started = time.perf_counter()
    for _ in flows(few, changed.profile.data):
        pass
    return (time.perf_counter() - started) / len(some)


def _auroc(labels: NDArray, scores: NDArray) -> float:
    return float(roc_auc_score(labels, scores))
