"""Figures 1-3 follow from the networks; panels of restorations hold what they are given."""

import matplotlib as mpl

mpl.use("Agg")

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt

from vqad_lib.config import Gpt2Config, PixelSnailConfig
from vqad_lib.experiment.run import RunInfo
from vqad_lib.models.gpt2 import Gpt2
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.reporting.diagrams import (
    count,
    pixel_block_diagram,
    pixelsnail_diagram,
    transformer_diagram,
)
from vqad_lib.reporting.figures import save_figure
from vqad_lib.reporting.grids import restoration_panels

SIZES = {"codebook_size": 7, "grid": (4, 5)}
SNAIL = PixelSnailConfig(
    channels=8, blocks=2, residual_blocks=3, kernel_px=3, heads=2, key_dim=4, dropout=0.1, attention_grid="whole"
)
GPT = Gpt2Config(layers=2, heads=2, width=16, dropout=0.1, random_second_half=False)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def snail(**changed) -> PixelSnail:
    return PixelSnail(dataclasses.replace(SNAIL, **changed), **SIZES)


def gpt(**changed) -> Gpt2:
    return Gpt2(dataclasses.replace(GPT, **changed), **SIZES)


def words_of(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def has(figure, part: str) -> int:
    """How many texts of the drawing hold these words."""
    return sum(part in text for text in words_of(figure))


@pytest.mark.parametrize("blocks", [1, 3])
def test_pixelsnail_counts(blocks):
    figure, prior = pixelsnail_diagram(snail(blocks=blocks)), snail(blocks=blocks)
    assert has(figure, f"{blocks} × pixel block") == has(figure, "causal attention, 2 heads") == 1
    assert has(figure, f"PixelSNAIL · {count(prior):,} parameters") == 1
    assert has(figure, f"one pixel block of {blocks} · {count(prior.blocks[0]):,} parameters") == 1
    assert has(figure, "728 parameters") == 1, "of the shift, (8 + 2) * 8 * 9 + 8"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"residual_blocks": 4}, "4 × residual block"),
        ({"heads": 4}, "causal attention, 4 heads"),
        ({"channels": 12}, "embedding, 7 → 12"),
        ({"kernel_px": 5}, "causal conv 5×5, 10 → 8"),
    ],
)
def test_pixelsnail_changes_with_the_model(changed, words):
    assert not has(pixelsnail_diagram(snail()), words)
    assert has(pixelsnail_diagram(snail(**changed)), words)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"heads": 4}, "causal attention, 4 heads of 4"),
        ({"key_dim": 3}, "causal attention, 2 heads of 3"),
        ({"dropout": 0.25}, "ELU, dropout 0.25"),
        ({"channels": 12}, "causal conv 3×3, 12 → 24"),
        ({"blocks": 5}, "Pixel block, 5 of them"),
    ],
)
def test_pixel_block_changes_with_the_model(changed, words):
    assert not has(pixel_block_diagram(snail()), words)
    assert has(pixel_block_diagram(snail(**changed)), words)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"layers": 3}, "3 × transformer block"),
        ({"heads": 4}, "4 heads of 4"),
        ({"width": 32}, "linear, 32 → 128"),
        ({"dropout": 0.25}, "dropout 0.25"),
    ],
)
def test_transformer_changes_with_the_model(changed, words):
    assert not has(transformer_diagram(gpt()), words)
    assert has(transformer_diagram(gpt(**changed)), words)


def test_transformer_counts():
    prior = gpt()
    figure = transformer_diagram(prior)
    assert has(figure, f"Transformer (GPT-2) · {count(prior):,} parameters") == 1
    assert has(figure, f"one transformer block of 2 · {count(prior.network.h[0]):,} parameters") == 1
    assert has(figure, "start token, then all codes but the last") == 1


def test_shortcuts_and_gates_are_those_of_the_networks(tiny_priors):
    """Operations between modules are drawn from knowledge of the classes; they are what is computed."""
    with torch.no_grad():
        block = tiny_priors["pixelsnail"].blocks[0].residuals[0]
        x = torch.randn(2, block.conv1.in_channels, 4, 5)
        value, gate = block.conv2(F.elu(block.conv1(F.elu(x)))).chunk(2, 1)
        torch.testing.assert_close(block(x), x + value * gate.sigmoid())
        block = tiny_priors["gpt2"].network.h[0]
        x = torch.randn(2, 20, 16)
        middle = x + block.attn(block.ln_1(x))[0]
        torch.testing.assert_close(block(x), middle + block.mlp(block.ln_2(middle)))


@pytest.mark.parametrize("draw", [pixelsnail_diagram, pixel_block_diagram])
@pytest.mark.parametrize("config", [SNAIL, dataclasses.replace(SNAIL, blocks=9, residual_blocks=1)])
def test_all_boxes_lie_on_the_sheet_above_the_footer(draw, config, tmp_path):
    figure = draw(PixelSnail(config, **SIZES))
    assert_inside(figure, tmp_path)


@pytest.mark.parametrize("layers", [1, 4, 24])
def test_all_of_the_transformer_lies_on_the_sheet(layers, tmp_path):
    assert_inside(transformer_diagram(gpt(layers=layers)), tmp_path)


def assert_inside(figure, folder) -> None:
    figure.canvas.draw()
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, text.get_text()
    axis = figure.axes[0]
    for patch in axis.patches:
        box = patch.get_path().get_extents(patch.get_patch_transform())
        assert all(axis.get_xlim()[0] <= x <= axis.get_xlim()[1] for x in box.intervalx)
        assert all(axis.get_ylim()[0] <= y <= axis.get_ylim()[1] for y in box.intervaly)
    labels = RunInfo(profile="smoke", dataset="synthetic", perceptual="none", seed=0)
    assert save_figure(figure, "figure_01", labels=labels, folder=folder).exists()


def test_lines_past_boxes_end_where_they_are_used():
    """Beside the arrows from box to box: the two shortcuts of a transformer block, x and "hidden" of a pixel block."""
    for figure, lines in ((transformer_diagram(gpt()), 2), (pixel_block_diagram(snail()), 3)):
        rails = [line.get_xydata() for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
        assert len(rails) == lines
        heads = [text.xy for text in figure.axes[0].texts if isinstance(text, mpl.text.Annotation)]
        assert all(any(np.isclose(head[1], rail[-1][1]) for head in heads) for rail in rails)


# -- panels of restorations ------------------------------------------------------------------------------------------


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*shape, 3, 8, 8), dtype=np.uint8)


def test_panels_show_the_frames_and_every_restoration_of_every_model():
    models, frames = {name: pictures(5, 4) for name in ("VP", "VT", "GP", "GT")}, pictures(4)
    figure = restoration_panels(frames, models, titles=list("abcd"), notes={"VP": "λ 3"}, boxes=[[]] * 4)
    for axis, name in zip(figure.axes, ("VP", "GP", "VT", "GT"), strict=True):
        assert axis.get_title("left").endswith(f"({name})")
        assert [label.get_text() for label in axis.get_xticklabels()] == list("abcd")
        assert [label.get_text() for label in axis.get_yticklabels()] == [
            "original",
            *(f"restored {i}" for i in "12345"),
        ]
        shown = axis.images[0].get_array()
        np.testing.assert_array_equal(shown[:8, 9:17], frames[1].transpose(1, 2, 0))
        np.testing.assert_array_equal(shown[45:53, 27:35], models[name][4, 3].transpose(1, 2, 0))
        assert not axis.patches
    assert figure.axes[0].get_title("right") == "λ 3"
    figure.canvas.draw()
    boxes = [axis.get_tightbbox() for axis in figure.axes]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_panels_mark_the_anomaly_in_the_frame_and_in_its_restorations():
    boxes = [[(0.5, 0.25, 0.75, 0.5)], []]
    figure = restoration_panels(pictures(2), {"VP": pictures(5, 2)}, titles=list("ab"), notes={}, boxes=boxes)
    marks = [patch.get_bbox().extents + 0.5 for patch in figure.axes[0].patches]
    np.testing.assert_allclose(marks, [[4, 2 + 9 * row, 6, 4 + 9 * row] for row in range(6)])
    assert [axis.get_visible() for axis in figure.axes] == [True, False, False, False]
