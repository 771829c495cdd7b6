"""ROC and precision-recall curves by hand: points, areas, order, and what is refused."""

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot as plt
from pandas import DataFrame

from vqad_lib.errors import VqadError
from vqad_lib.reporting.figures import COLOURS
from vqad_lib.reporting.plots import operating_curves


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def scores(model: str = "VP", label=(0, 1, 0, 1), score=(1.0, 2.0, 3.0, 4.0)) -> DataFrame:
    return DataFrame({"model": model, "label": label, "score": score})


def areas(axis) -> list[str]:
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_points_and_areas_by_hand():
    roc, pr = operating_curves({"paper": scores()}).axes
    np.testing.assert_allclose(roc.lines[0].get_xydata(), [[0, 0], [0, 0.5], [0.5, 0.5], [0.5, 1], [1, 1]])
    assert areas(roc) == ["VP  0.750", "guess  0.500"]
    # recall 1, 1, 1/2, 1/2, 0 at thresholds 1 to 4 and above
    np.testing.assert_allclose(pr.lines[0].get_xydata(), [[1, 1 / 2], [1, 2 / 3], [0.5, 0.5], [0.5, 1], [0, 1]])
    assert areas(pr) == ["VP  0.833", "guess  0.500"]


def test_drawn_steps_enclose_the_area_of_the_tables():
    """Average precision: the area beneath the steps as they are drawn, not beneath lines between the points."""
    line = operating_curves({"paper": scores()}).axes[1].lines[0]
    assert line.get_drawstyle() == "steps-post"
    recall, precision = line.get_xydata().T
    assert -np.sum(np.diff(recall) * precision[:-1]) == pytest.approx(5 / 6)


def test_guess_is_the_share_of_anomalies():
    frame = scores(label=(0, 1, 1, 1))
    assert areas(operating_curves({"paper": frame}).axes[1])[-1] == "guess  0.750"


def test_one_row_per_split_and_one_colour_per_model():
    parts = [scores(name) for name in ("nearest training frame", "GT", "VP")]
    frame = DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    figure = operating_curves({"paper": frame, "official": scores("VP")})
    titles = [axis.get_title() for axis in figure.axes]
    assert [title.split()[-1] for title in titles] == ["paper", "paper", "official", "official"]
    drawn = {line.get_label().split("  ")[0]: line for line in figure.axes[0].lines}
    assert list(drawn) == ["VP", "GT", "nearest training frame", "guess"]
    assert all(drawn[name].get_color() == COLOURS[name] for name in ("VP", "GT", "nearest training frame"))
    assert drawn["nearest training frame"].get_linestyle() == "--"
    assert [axis.get_xlabel() for axis in figure.axes[:2]] == ["false positive rate", "recall"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"paper": scores(label=(1, 1, 1, 1))}, "VP, scheme paper: all 4 images are anomalous"),
        ({"paper": scores(score=(1.0, np.nan, 3.0, 4.0))}, "1 of 4 scores are NaN"),
    ],
)
def test_scores_without_a_curve_are_refused(given, message):
    with pytest.raises(VqadError, match=message):
        operating_curves(given)
