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
from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import RunInfo
from vqad_lib.models.gpt2 import Gpt2
from vqad_lib.models.pixelsnail import PixelSnail
from vqad_lib.reporting.diagrams import count, measure, pixel_block_diagram, pixelsnail_diagram, transformer_diagram
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


def test_parts_have_the_shapes_and_counts_of_the_modules():
    prior = snail()
    parts = measure(prior)
    assert parts[""].shape == (4, 5, 7)
    assert parts[""].parameters == count(prior) == sum(p.numel() for p in prior.parameters())
    assert parts["blocks.1.residuals.2.conv2"].shape == (16, 4, 5)
    assert parts["blocks.0.attention"].shape == (8, 4, 5)
    assert parts["embedding"].parameters == 7 * 8
    assert parts["shift"].size == "8 × 4 × 5 · 728 parameters"  # (8 + 2) * 8 * 9 + 8


def test_measuring_leaves_the_network_as_it_was():
    prior = snail().train()
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    measure(prior)
    assert prior.training
    assert not any(module._forward_hooks for module in prior.modules())
    assert all(torch.equal(before[name], value) for name, value in prior.state_dict().items())


@pytest.mark.parametrize("blocks", [1, 3])
def test_pixelsnail_has_a_frame_for_each_block(blocks):
    figure = pixelsnail_diagram(snail(blocks=blocks))
    assert has(figure, "pixel block ") == has(figure, "causal attention, 2 heads") == blocks
    assert has(figure, "residual block × 3") == blocks
    assert has(figure, f"PixelSNAIL · {count(snail(blocks=blocks)):,} parameters") == 1


def test_of_many_blocks_the_first_and_the_last_are_drawn():
    figure = pixelsnail_diagram(snail(blocks=6))
    assert [text.split(" ·")[0] for text in words_of(figure) if text.startswith("pixel block")] == [
        "pixel block 1 of 6",
        "pixel block 6 of 6",
    ]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"residual_blocks": 1}, "residual block × 1"),
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


@pytest.mark.parametrize("n", [1, 2, 4])
def test_pixel_block_has_a_box_for_each_residual_block(n):
    titles = [text for text in words_of(pixel_block_diagram(snail(residual_blocks=n))) if text[:14] == "residual block"]
    assert titles == [f"residual block {i + 1}" for i in range(n)]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"layers": 3}, "transformer block 3"),
        ({"layers": 24}, "transformer block 24 of 24"),
        ({"layers": 24}, "… 22 more …"),
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
    assert has(figure, "start token, then 19 codes") == 1


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
    axis = figure.axes[0]
    for patch in axis.patches:
        box = patch.get_path().get_extents(patch.get_patch_transform())
        assert all(axis.get_xlim()[0] <= x <= axis.get_xlim()[1] for x in box.intervalx)
        assert all(axis.get_ylim()[0] <= y <= axis.get_ylim()[1] for y in box.intervaly)
    labels = RunInfo(profile="smoke", dataset="synthetic", perceptual="none", seed=0)
    assert save_figure(figure, number=1, labels=labels, folder=folder).exists()


# -- panels of restorations ------------------------------------------------------------------------------------------


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*shape, 3, 8, 8), dtype=np.uint8)


def test_panels_show_every_restoration_of_every_model():
    models = {name: pictures(5, 4) for name in ("VP", "VT", "GP", "GT")}
    figure = restoration_panels(pictures(4), models, column_titles=list("abcd"), notes={"VP": "λ 3"})
    assert len(figure.axes) == 2 * 4 + 4 * 5 * 4
    np.testing.assert_array_equal(figure.axes[4].images[0].get_array(), models["VP"][0, 0].transpose(1, 2, 0))
    assert [axis.get_title() for axis in figure.axes[:4]] == list("abcd")
    words = {text.get_text() for text in figure.texts}
    assert {"VQ-VAE + PixelSNAIL (VP)", "VQ-GAN + GPT-2 (GT)", "λ 3"} <= words
    boxes = [axis.get_position() for axis in figure.axes]
    assert all(0 <= edge <= 1 for box in boxes for edge in box.extents)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert not any(axis.patches for axis in figure.axes)


def test_panels_mark_the_anomaly_in_the_frame_and_in_its_restorations():
    boxes = [[(0.5, 0.25, 0.75, 0.5)], []]
    figure = restoration_panels(pictures(2), {"VP": pictures(5, 2)}, column_titles=list("ab"), notes={}, boxes=boxes)
    marks = [[patch.get_bbox().extents.tolist() for patch in axis.patches] for axis in figure.axes]
    assert marks == [[[0.5, 0.5, 0.75, 0.75]], []] * 7  # the frame on both sides, five restorations; axes run upwards


def test_panels_refuse_what_does_not_belong_together():
    with pytest.raises(VqadError, match="VP"):
        restoration_panels(pictures(4), {"VP": pictures(5, 3)}, column_titles=list("abcd"), notes={})
    with pytest.raises(VqadError):
        restoration_panels(pictures(4), {"VP": pictures(5, 4)}, column_titles=["a"], notes={})
