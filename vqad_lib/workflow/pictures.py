"""What Figures 9-18 show: the same frames throughout, and what each trained combination makes of them (split paper)."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vqad_lib.data.decode import decode_frame
from vqad_lib.data.samples import Box, anomalous_examples, anomaly_boxes, frame_titles, normal_examples
from vqad_lib.data.survey import survey
from vqad_lib.detectors.noise import addressed_uniforms
from vqad_lib.detectors.restoration import restore
from vqad_lib.detectors.scoring import Detectors
from vqad_lib.models.prior import Prior, code_nll
from vqad_lib.training.batches import to_uint8, to_unit_range
from vqad_lib.workflow import stages
from vqad_lib.workflow.run import Run
from vqad_lib.workflow.scores import chosen_percentiles, load_scores

_THREADS = 4
FRAMES = 4  # of each class; figures with five restorations of four models hold no more at a readable size
FROM_TRAINING_CLIPS = (
    "Split paper draws test frames from all normal frames, so some are of clips named Train; none was trained on."
)
MARKED = "Boxes mark the anomalies of a frame, at the same places wherever the frame is shown or restored."
RESTORATIONS = 5  # N of the paper's figures; a profile may score with fewer


@dataclass(frozen=True)
class Frames:
    """Test frames of split paper that figures show.

    Attributes:
        rows: (n,) row numbers in the index.
        ids: n image ids, which address the noise.
        titles: n names for figures: kind, clip, frame.
        boxes: n lists of where the anomalies are, see `anomaly_boxes`.
        images: (n, 3, H, W) float in [-1, 1].
        note: what a reader may wonder at, for beneath the figure; "" where there is nothing.
    """

    rows: np.ndarray
    ids: list[str]
    titles: list[str]
    boxes: list[list[Box]]
    images: Tensor
    note: str

    @property
    def pictures(self) -> np.ndarray:
        """(n, 3, H, W) uint8."""
        return to_uint8(self.images)


def example_frames(run: Run, *, n: int = FRAMES) -> dict[str, Frames]:
    """The frames of Figures 9-18: "anomalous" and "normal", by the rule in `data/samples.py`."""
    index, test = run.frames.index, run.subsets("paper") == "test"
    picked = {"anomalous": anomalous_examples, "normal": normal_examples}
    return {name: frames_of(run, rule(index, n=n, among=test)) for name, rule in picked.items()}


def frames_of(run: Run, rows: np.ndarray) -> Frames:
    """Some frames by row number, with what figures say of them."""
    index = run.frames.index
    boxes = anomaly_boxes(index, rows, masks=run.frames.masks)
    notes = {FROM_TRAINING_CLIPS: (index["part"].iloc[rows] == "train").any(), MARKED: any(boxes)}
    return Frames(
        rows=rows,
        ids=index["image_id"].iloc[rows].tolist(),
        titles=frame_titles(index, rows),
        boxes=boxes,
        images=to_unit_range(run.images(rows)),
        note=" ".join(note for note, applies in notes.items() if applies),
    )


def large_images(run: Run, rows: np.ndarray, *, at_most_px: int = 512) -> np.ndarray:
    """Frames for people to look at: in their own proportions and larger than networks see them.

    Args:
        rows: (m,) row numbers, at least one.
        at_most_px: the longer side; larger files are reduced.

    Returns:
        (m, 3, H, W) uint8 RGB, all as large as the first one. Generated frames are the prepared ones.

    Raises:
        VqadError: as `prepare_frames`.
    """
    paths = run.frames.paths
    if not paths:
        return np.asarray(run.frames.images[rows])
    whites, _ = survey(paths, workers=_THREADS)  # white is judged over all files
    width, height = decode_frame(paths[rows[0]], 1)[1]
    scale = min(1.0, at_most_px / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    squares = [decode_frame(paths[row], max(size), white=whites[row])[0] for row in rows]
    pictures = [Image.fromarray(square.transpose(1, 2, 0)).resize(size) for square in squares]  # 3 S S -> H W 3
    return np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in pictures])


def picture_detectors(run: Run, *, n_restorations: int = RESTORATIONS) -> dict[str, Detectors]:
    """The trained combinations "VP", "VT", "GP", "GT", with as many restorations as the paper's figures show.

    More restorations leave the earlier ones as they were, so the first are those of the scores.
    """
    found = {}
    for (autoencoder, prior), name in stages.COMBINATIONS.items():
        trained = stages.detectors(run, autoencoder_kind=autoencoder, prior_kind=prior, protocol="paper")
        found[name] = replace(trained, config=replace(trained.config, n_restorations=n_restorations))
    return found


def chosen_thresholds(run: Run) -> pd.DataFrame:
    """The lambda of each combination and restoration method that validation chose, by the paper's protocol.

    Returns:
        Columns model, detector, percentile, nats; the values of Tables 7 and 8.
    """
    rows = []
    for (autoencoder, prior), model in stages.COMBINATIONS.items():
        scores = load_scores(run, autoencoder=autoencoder, prior=prior, protocol="paper")
        validation = scores[scores["split"] == "validation"]
        for detector in ("pixel_wise", "light_pixel_wise"):
            chosen = chosen_percentiles(validation, detector, run.profile.evaluation.unsupervised_percentile)["paper"]
            of = (validation["detector"] == detector) & (validation["threshold_percentile"] == chosen)
            nats = float(validation.loc[of, "threshold_nats"].iloc[0])
            rows.append({"model": model, "detector": detector, "percentile": chosen, "nats": nats})
    return pd.DataFrame(rows)


def restorations_of(scorer: Detectors, frames: Frames, *, detector: str, threshold_nats: float) -> np.ndarray:
    """What a combination restores the frames to: (N, n, 3, H, W) uint8."""
    _, restored = scorer.heatmaps(frames.images, frames.ids, detector=detector, threshold_nats=threshold_nats)
    return to_uint8(restored.transpose(0, 1))


def residuals_of(
    scorer: Detectors, frames: Frames, *, detector: str, threshold_nats: float, n_restorations: int
) -> np.ndarray:
    """The map of eq. 12, whose mean is the score of so many restorations: (n, H, W) float64 in [0, 1]."""
    scorer = replace(scorer, config=replace(scorer.config, n_restorations=n_restorations))
    maps, _ = scorer.heatmaps(frames.images, frames.ids, detector=detector, threshold_nats=threshold_nats)
    return maps.double().cpu().numpy()


def restored_by_count(scorer: Detectors, frames: Frames, counts: tuple[int, ...]) -> tuple[np.ndarray, pd.DataFrame]:
    """Pixel-wise restorations in which so many codes were replaced (Figure 10).

    Args:
        counts: how many codes, each >= 0.

    Returns:
        (len(counts), n, 3, H, W) uint8, and a table with image_id, wanted, replaced, changed, threshold_nats; a
        replaced code may be drawn as it was before, so fewer may have changed.
    """
    grids, rows = [], []
    for codes, image_id in zip(scorer.encode(frames.images), frames.ids, strict=True):
        noise = addressed_uniforms(seed=scorer.seed, image_ids=[image_id], n_restorations=1, grid=tuple(codes.shape))
        first = noise[0, 0].to(codes.device)
        restored, nats, replaced = restore_counts(scorer.prior, codes, noise=first, counts=counts)
        grids.append(restored)
        changed = (restored != codes).flatten(1).sum(1).tolist()
        rows += [(image_id, *found) for found in zip(counts, replaced, changed, nats, strict=True)]
    table = pd.DataFrame(rows, columns=["image_id", "wanted", "replaced", "changed", "threshold_nats"])
    return to_uint8(scorer.decode(torch.stack(grids, 1))), table


@torch.no_grad()
def restore_counts(
    prior: Prior, codes: Tensor, *, noise: Tensor, counts: tuple[int, ...]
) -> tuple[Tensor, list[float], list[int]]:
    """Restore one grid pixel-wise so that a wanted number of codes is replaced.

    The paper does not say how it came by 10, 20 and 30 replaced codes. At the threshold that validation chose few
    frames have as many; stopping early at a low threshold would restore the top of the picture only. So for each
    number the threshold is the highest one at which at least as many codes are replaced, and the replacements beyond
    are left out. Thresholds half-way between the surprises of the frame's own codes are tried.

    Args:
        codes: (h, w) int64.
        noise: (h, w) float64 in [0, 1), the same for all numbers.
        counts: how many codes; more than h * w counts as h * w.

    Returns:
        (len(counts), h, w) int64; the threshold of each in nats; how many codes were replaced in each.
    """
    surprise = code_nll(prior.logits(codes[None]), codes[None]).flatten().double().sort(descending=True).values
    ends = surprise.new_tensor([surprise[0] + 1.0]), surprise.new_tensor([-1.0])  # replaces none; replaces all
    thresholds = torch.cat([ends[0], (surprise[:-1] + surprise[1:]) / 2, ends[1]])

    def restored(at: Tensor, limit: int | None) -> Tensor:
        options = {"recompute": "after_every_replacement", "max_replacements": limit}
        noises = noise.expand(1, len(at), -1, -1)
        return restore(prior, codes[None], threshold_nats=at, noise=noises, **options)[0]

    # a code was replaced where the original one exceeds, given the restored codes before it
    tried = restored(thresholds, None)
    logits = prior.logits(tried).movedim(-1, 1)  # T K h w
    nll = F.cross_entropy(logits, codes.expand_as(tried), reduction="none")
    replaced = (nll > thresholds[:, None, None]).flatten(1).sum(1)  # T
    found, nats, numbers = [], [], []
    for count in counts:
        first = int((replaced >= min(count, codes.numel())).int().argmax())  # thresholds fall, the first is the highest
        found.append(restored(thresholds[first, None], count)[0])
        nats.append(float(thresholds[first]))
        numbers.append(min(count, int(replaced[first])))
    return torch.stack(found), nats, numbers
