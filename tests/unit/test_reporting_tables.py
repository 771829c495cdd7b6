"""Result tables: byte-stable CSV, notes beside it, readable Markdown, the paper's numbers joined row by row."""

import math

import numpy as np
import pandas as pd
import pytest
from pandas import DataFrame

from vqad_lib.analysis.runtime import FAST, METHODS
from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import RunInfo
from vqad_lib.reporting import tables
from vqad_lib.reporting.tables import (
    beside_paper,
    labels_of,
    load_notes,
    load_table,
    markdown_table,
    save_table,
)

LABELS = RunInfo(profile="demo", dataset="synthetic", perceptual="", seed=3)


def frame() -> DataFrame:
    return DataFrame(
        {
            "model": ["VP", "VT", "GP", "GT"],
            "threshold_percentile": [60.0, 40.0, np.nan, 90.0],
            "threshold_nats": [0.00123456789, 1.5, 2.0, np.nan],
            "f1": [0.9123456, 1.0, 0.5, np.nan],
            "f1_low": [0.88, 0.97, 0.4, np.nan],
            "f1_high": [0.94, 1.0, 0.6, np.nan],
        }
    )


def test_csv_bytes_by_hand(tmp_path):
    path = save_table(frame(), "table_06_official", labels=LABELS, folder=tmp_path)
    assert path == tmp_path / "table_06_official.csv"
    assert path.read_bytes() == (
        b"model,threshold_percentile,threshold_nats,f1,f1_low,f1_high,profile,dataset,seed,perceptual\n"
        b"VP,60,0.00123457,0.912346,0.88,0.94,demo,synthetic,3,\n"
        b"VT,40,1.5,1,0.97,1,demo,synthetic,3,\n"
        b"GP,,2,0.5,0.4,0.6,demo,synthetic,3,\n"
        b"GT,90,,,,,demo,synthetic,3,\n"
    )


def test_markdown_by_hand():
    assert markdown_table(frame().assign(profile="demo")) == (
        "| model | threshold_percentile | threshold_nats | f1 |\n| --- | ---: | ---: | ---: |\n"
        "| VP | 60 | 0.00123 | 0.912 [0.880, 0.940] |\n| VT | 40 | 1.500 | 1.000 [0.970, 1.000] |\n"
        "| GP |  | 2.000 | 0.500 [0.400, 0.600] |\n| GT | 90 |  |  |"
    )


def test_notes_stand_beside_the_table(tmp_path):
    save_table(frame(), "table_06", labels=LABELS, folder=tmp_path, notes="Two\nlines.")
    assert (
        load_notes(tmp_path, "table_06")
        == (tmp_path / "table_06.txt").read_text(encoding="utf-8").strip()
        == "Two lines."
    )
    save_table(frame(), "table_06", labels=LABELS, folder=tmp_path)
    assert load_notes(tmp_path, "table_06") == load_notes(tmp_path, "table_07") == ""


def test_saving_again_gives_the_same_bytes(tmp_path):
    first = save_table(frame(), "table_06", labels=LABELS, folder=tmp_path / "a")
    again = save_table(load_table(tmp_path / "a", "table_06"), "table_06", labels=LABELS, folder=tmp_path / "b")
    assert again.read_bytes() == first.read_bytes()


def test_a_failed_write_leaves_the_old_table(tmp_path, monkeypatch):
    path = save_table(frame(), "table_06", labels=LABELS, folder=tmp_path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(VqadError, match="No space left"):
        save_table(frame().assign(f1=0.0), "table_06", labels=LABELS, folder=tmp_path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["table_06.csv", "table_06.txt"]


def test_load_gives_back_labels(tmp_path):
    labels = RunInfo(profile="paper", dataset="ucsd_ped2", perceptual="LPIPS vgg, ImageNet", seed=0)
    for given in (LABELS, labels):
        save_table(frame(), "table_06", labels=given, folder=tmp_path)
        assert labels_of(load_table(tmp_path, "table_06")) == given
    assert labels_of(frame()) is None


def test_named_table(tmp_path):
    path = save_table(frame(), "fast_restoration", labels=LABELS, folder=tmp_path)
    assert path.name == "fast_restoration.csv"
    pd.testing.assert_frame_equal(load_table(tmp_path, "fast_restoration")[["model"]], frame()[["model"]])


def test_missing_table(tmp_path):
    with pytest.raises(VqadError, match=r"table_06\.csv"):
        load_table(tmp_path, "table_06")


def test_beside_paper_joins_by_row_in_our_order():
    ours = DataFrame({"model": ["GT", "GP", "extra", "VT", "VP"], "f1": [0.1, 0.2, 0.3, 0.4, 0.5]})
    joined = beside_paper(ours, table=6, key="model", dataset="ucsd_ped2")
    assert list(joined.columns) == ["model", "reported_f1", "reported_auc", "f1"]
    np.testing.assert_equal(joined["reported_f1"].to_numpy(), [0.985, 0.993, np.nan, 0.917, 0.881])
    assert list(ours.columns) == ["model", "f1"]
    pd.testing.assert_frame_equal(beside_paper(joined, table=6, key="model", dataset="ucsd_ped2"), joined)


@pytest.mark.parametrize("rows", [[20, 40, 60, 80, 90], [20.0, 40.0, 60.0, 80.0, 90.0], ["20", "40", "60", "80", "90"]])
def test_beside_paper_knows_percentiles_of_any_type(rows):
    assert list(
        beside_paper(DataFrame({"percentile": rows}), table=13, key="percentile", dataset="ucsd_ped2")["reported_auc"]
    ) == [
        0.694,
        0.701,
        0.727,
        0.860,
        0.885,
    ]


def test_beside_paper_seconds():
    """The paper's pixel-wise seconds stand beside the algorithm that took them, not beside the fast one."""
    joined = beside_paper(DataFrame({"method": list(METHODS)}), table=26, key="method", dataset="ucsd_ped2").set_index(
        "method"
    )
    seconds = joined["reported_seconds_per_image"]
    assert seconds.drop(FAST).to_dict() == {
        "Sample-wise": 0.04,
        "Pixel-wise (plain algorithm)": 8.0,
        "Light Pixel-wise": 0.12,
        "Regenerative": 0.02,
    }
    assert math.isnan(seconds[FAST])


def test_nothing_of_the_paper_stands_beside_other_data():
    ours = DataFrame({"model": ["VP", "VT", "GP", "GT"], "f1": 0.5})
    assert list(beside_paper(ours, table=6, key="model", dataset="folder").columns) == ["model", "f1"]


def test_beside_paper_names_missing_rows():
    with pytest.raises(VqadError, match=r"table 5: our rows lack the paper's Ganomaly, DFKDE"):
        beside_paper(frame(), table=5, key="model", dataset="ucsd_ped2")


def test_markdown_escapes_and_empty_frames():
    assert markdown_table(DataFrame({"a": ["x|y\nz"]})) == "| a |\n| --- |\n| x\\|y z |"
    assert markdown_table(DataFrame({"a": []})).count("\n") == 1


@pytest.mark.parametrize(("value", "name"), [(60.0, "60"), (60, "60"), ("VP", "VP"), (0.5, "0.5")])
def test_row_name(value, name):
    assert tables.row_name(value) == name
