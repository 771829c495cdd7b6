"""Figures: files, footers, what is drawn where, the same bytes twice."""

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from pandas import DataFrame
from PIL import Image

from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import RunInfo
from vqad_lib.models.registry import COMBINATIONS
from vqad_lib.reporting.figures import COLOURS, compact, save_figure, use_style
from vqad_lib.reporting.grids import frame_sheet, image_grid, largest_residual
from vqad_lib.reporting.plots import score_histograms

LABELS = RunInfo(profile="smoke", dataset="synthetic", perceptual="LPIPS alex, random weights (no ImageNet)", seed=1)


@pytest.fixture(autouse=True)
def _style():
    with mpl.rc_context():
        use_style()
        yield
    plt.close("all")


def line():
    figure, axis = plt.subplots(figsize=(4, 2))
    axis.plot([0, 1], [0, 1])
    return figure


def scores(**columns) -> DataFrame:
    return DataFrame({"model": ["VP"] * 4, "label": [0, 0, 1, 1], "score": [0.0, 1.0, 2.0, 4.0], **columns})


def test_a_png_always_and_a_pdf_where_asked_for(tmp_path, monkeypatch):
    path = save_figure(line(), "figure_06_log", labels=LABELS, folder=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["figure_06_log.png"]
    with Image.open(path) as image:
        assert image.size == (800, 400)
    monkeypatch.setenv("VQAD_FIGURE_FORMATS", "png,pdf")
    first, again = (save_figure(line(), "figure_06", labels=LABELS, folder=tmp_path / name) for name in "ab")
    for ending in (".png", ".pdf"):
        assert first.with_suffix(ending).read_bytes() == again.with_suffix(ending).read_bytes()
    assert b"CreationDate" not in first.with_suffix(".pdf").read_bytes()
    monkeypatch.setenv("VQAD_FIGURE_FORMATS", "jpeg")
    with pytest.raises(VqadError, match="jpeg; figures are written as png and pdf"):
        save_figure(line(), "figure_06", labels=LABELS, folder=tmp_path)


USERS = {
    "image.origin": "lower",
    "savefig.bbox": "tight",
    "savefig.facecolor": "black",
    "axes.prop_cycle": "cycler('color', 'k')",
}
USERS |= {"path.sketch": (1, 100, 2), "font.family": "serif", "agg.path.chunksize": 10}


def test_figures_are_the_same_whatever_the_user_set(tmp_path):
    """By a matplotlibrc or by hand, and with no use_style of one's own, as in a script that uses the library."""
    images = np.arange(2 * 3 * 8 * 8, dtype=np.uint8).reshape(2, 3, 8, 8)
    draw = {
        "images": lambda: image_grid({"row": images, "map": np.ones((2, 8, 8))}),
        "scores": lambda: score_histograms(scores(), xlabel="score"),
    }
    for name, function in draw.items():
        found = []
        for settings in ({}, USERS, {"text.usetex": True}):
            mpl.rcdefaults()
            mpl.rcParams.update(settings)
            found.append(save_figure(function(), "figure_04", labels=LABELS, folder=tmp_path).read_bytes())
        assert found[0] == found[1] == found[2], name


def test_footer_does_not_touch_the_axes(tmp_path):
    figure = line()
    figure.axes[0].set_xlabel("x")
    save_figure(figure, "figure_06", labels=LABELS, folder=tmp_path)
    footer = next(text for text in figure.texts if text.get_gid() == "footer")
    assert not footer.get_window_extent().overlaps(figure.axes[0].get_tightbbox())


def picture(axis) -> np.ndarray:
    return axis.images[0].get_array()


def titles(axis) -> list[str]:
    return [label.get_text() for label in axis.get_xticklabels()]


MAGMA = mpl.colormaps["magma"]


def test_image_grid_draws_images_and_maps_on_one_scale():
    images = np.zeros((3, 3, 8, 6), np.uint8)
    images[1, 0] = 200
    maps = np.zeros((2, 8, 6), np.float32)
    figure = image_grid({"original": images, "VP": maps, "GP": maps + 4}, titles=["a", "b"], map_label="residual")
    axis, bar = figure.axes  # one colour bar
    assert picture(axis).shape == (3 * 9 - 1, 3 * 7 - 1, 3)
    np.testing.assert_array_equal(picture(axis)[7, 7], [200, 0, 0])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["original", "VP", "GP"]
    assert titles(axis) == ["a", "b"]
    np.testing.assert_array_equal(picture(axis)[9, 7], MAGMA(0.0, bytes=True)[:3])
    np.testing.assert_array_equal(picture(axis)[18, 7], MAGMA(1.0, bytes=True)[:3])
    assert picture(axis)[9:, 14:].min() == 255, "no third map"
    assert (bar.get_ylabel(), bar.get_ylim()) == ("residual", (0.0, 4.0))


def test_figures_that_are_compared_share_one_colour_scale():
    grids = [{"original": np.zeros((2, 3, 4, 4), np.uint8), "VP": np.full((2, 4, 4), top)} for top in (0.2, 0.5)]
    for grid, share in zip(grids, (0.4, 1.0), strict=True):
        figure = image_grid(grid, scale_to=largest_residual(*grids), map_label="residual (Figures 17 and 18 alike)")
        np.testing.assert_array_equal(picture(figure.axes[0])[5, 0], MAGMA(share, bytes=True)[:3])
        assert figure.axes[1].get_ylim() == (0.0, 0.5)
        assert figure.axes[1].get_ylabel() == "residual (Figures 17 and 18 alike)"


def marked(axis) -> list[list[float]]:
    """Left, top, right, bottom of each box on an axis, in pixels of the picture, from its upper left corner."""
    extents = [patch.get_bbox().extents + 0.5 for patch in axis.patches]
    return [box.tolist() for box in extents]


def test_boxes_stand_where_they_should_in_every_row():
    images, maps = np.zeros((2, 3, 8, 16), np.uint8), np.zeros((2, 8, 16))
    boxes = [[], [(0.25, 0.5, 0.75, 0.625)]]
    axis = image_grid({"original": images, "VP": maps}, boxes=boxes).axes[0]
    np.testing.assert_allclose(marked(axis), [[21, 4, 29, 5], [21, 13, 29, 14]])  # behind 17 pixels, beneath 9


def test_frame_sheet_shows_every_frame_with_its_title_and_boxes():
    images = np.zeros((4, 3, 8, 16), np.uint8)
    images[3] = 200
    boxes = [[], [], [], [(0.0, 0.0, 0.5, 1.0), (0.5, 0.5, 1.0, 1.0)]]
    upper, lower = frame_sheet(images, titles=["a", "b", "$c", "a name that is far too long.png"], boxes=boxes).axes
    assert (titles(upper), titles(lower)) == (["a", "b", "$c"], ["… far too long.png"])
    assert (picture(lower)[:, :16] == 200).all()
    assert (picture(lower)[:, 16:] == 255).all()
    np.testing.assert_allclose(marked(lower), [[0, 0, 8, 8], [8, 4, 16, 8]])
    assert not marked(upper)


def test_note_stands_above_the_labels_within_the_footer(tmp_path):
    figure = image_grid({"original": np.zeros((2, 3, 8, 8), np.uint8)})
    save_figure(figure, "figure_12", labels=LABELS, folder=tmp_path, note="why")
    footer = next(text for text in figure.texts if text.get_gid() == "footer")
    assert footer.get_text() == f"why\n{LABELS.line()}"
    # saving has drawn it at another resolution
    below, above = footer.get_window_extent(FigureCanvasAgg(figure).get_renderer()).intervaly
    assert 0 <= below < above < min(axis.get_window_extent().y0 for axis in figure.axes)


def test_histograms_show_shares_of_each_class():
    figure = score_histograms(scores(), xlabel="score (nats)", thresholds={"VP": 1.5})
    axis = figure.axes[0]
    assert axis.get_xlabel() == "score (nats)"
    assert axis.get_title() == "VQ-VAE + PixelSNAIL (VP)"
    lines = {patch.get_label(): patch for patch in axis.patches if patch.get_label() in ("normal", "anomalous")}
    assert len(lines) == 2
    assert lines["normal"].get_xy()[:, 1].max() == 50.0  # two normal scores, each half of its class
    assert mpl.colors.to_hex(lines["anomalous"].get_edgecolor()) == COLOURS["anomalous"].lower()
    assert axis.lines[0].get_xdata()[0] == 1.5


def test_legend_says_which_threshold():
    figure = score_histograms(scores(), xlabel="score", thresholds={"VP": 1.5})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "normal",
        "anomalous",
        "decision threshold, chosen on validation",
    ]


def test_histograms_on_a_square_root_axis_keep_zero(tmp_path):
    figure = score_histograms(scores(score=[0.0, 0.0, 10.0, 400.0]), xlabel="score", root_axis=True)
    axis = figure.axes[0]
    assert axis.get_xlabel() == "score, square-root axis"
    assert axis.get_xlim() == (0, 400)
    middle, end = (axis.transData.transform((x, 0))[0] - axis.transData.transform((0, 0))[0] for x in (100, 400))
    assert middle / end == pytest.approx(0.5)
    save_figure(figure, "figure_06", labels=LABELS, folder=tmp_path)


@pytest.mark.parametrize("root_axis", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_every_score_is_in_a_bar(seed, root_axis):
    values = np.random.default_rng(seed).lognormal(3, 1, 8)
    frame = DataFrame({"model": "VP", "label": [0, 1] * 4, "score": values})
    axis = score_histograms(frame, xlabel="score", root_axis=root_axis).axes[0]
    drawn = np.concatenate([patch.get_xy()[:, 0] for patch in axis.patches])
    assert drawn.min() <= values.min()
    assert values.max() <= drawn.max()
    assert (drawn.min(), drawn.max()) == pytest.approx((values.min(), values.max()))


def test_class_line_ends_with_its_scores():
    axis = score_histograms(scores(), xlabel="score").axes[0]
    drawn = {patch.get_label(): patch.get_xy()[:, 0] for patch in axis.patches}
    assert (drawn["normal"].min(), drawn["anomalous"].max()) == (0.0, 4.0)
    assert drawn["normal"].max() < 1.2
    assert drawn["anomalous"].min() > 1.8


def test_panels_of_other_names_keep_their_order():
    frame = DataFrame(
        {"model": ["scheme paper", "scheme official"] * 2, "label": [0, 0, 1, 1], "score": [1.0, 2, 3, 4]}
    )
    figure = score_histograms(frame, xlabel="distance")
    assert [axis.get_title() for axis in figure.axes] == ["scheme paper", "scheme official"]


def test_words_of_histograms_stay_within_the_figure():
    """A long name of the score once ran off its edge."""
    models = [name for name in ("GT", "GP", "VT", "VP") for _ in range(4)]
    frame = DataFrame({"model": models, "label": [0, 1] * 8, "score": [0.0, 1.4321, 20.0, 300.0] * 4})
    figure = score_histograms(frame, xlabel="sample-wise score (nats)", thresholds={"VP": 9.0}, root_axis=True)
    figure.canvas.draw()
    for axis in figure.axes:
        for words in (axis.xaxis.label, axis.yaxis.label, axis.title):
            box = words.get_window_extent()
            assert figure.bbox.x0 <= box.x0, words.get_text()
            assert box.x1 <= figure.bbox.x1, words.get_text()


def test_histograms_of_one_value_and_four_models():
    models = [name for name in ("GT", "GP", "VT", "VP") for _ in (0, 1)]
    frame = DataFrame({"model": models, "label": [0, 1] * 4, "score": [0.0] * 8})
    titles = [axis.get_title()[-3:-1] for axis in score_histograms(frame, xlabel="score").axes]
    assert titles == ["VP", "VT", "GP", "GT"]


def test_models_that_meet_have_colours_of_their_own():
    assert len({COLOURS[name] for name in (*COMBINATIONS.values(), "VQ-VAE", "VQ-GAN")}) == len(COMBINATIONS) + 2
    assert (COLOURS["VP"], COLOURS["GT"]) == ("#56B4E9", "#D55E00"), "as in the committed results"


def test_grey_pictures_get_a_palette_and_colour_maps_keep_their_colours(tmp_path):
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(0, 256, (60, 80, 1), dtype=np.uint8), 3, axis=2)
    nearly = np.clip(grey.astype(int) + rng.integers(-3, 4, grey.shape), 0, 255).astype(np.uint8)
    coloured = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for pixels, mode, off_by in ((nearly, "P", 10), (coloured, "RGB", 0)):
        Image.fromarray(pixels).convert("RGBA").save(tmp_path / "a.png")
        compact(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            assert image.mode == mode
            assert np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels).max() <= off_by
