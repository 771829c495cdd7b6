"""The paper's numbers: reported.csv and captions.csv against the paper's own text."""

import os
import re
from pathlib import Path

import pandas as pd
import pytest

from vqad_lib import paper
from vqad_lib.errors import VqadError
from vqad_lib.paper import PAPER_FOLDER, caption, reported

COMBINATIONS = {"VAE+PixelSnail": "VP", "VAE+Transformer": "VT", "GAN+PixelSnail": "GP", "GAN+Transformer": "GT"}
COLUMNS = {"F1": "f1", "AUC": "auc", "sec/image": "seconds_per_image"}
PERCENTILES = {6: [60, 40, 60, 40], 7: [90, 80, 90, 90], 8: [80, 40, 60, 80]}  # from the running text


def printed_tables() -> dict[int, tuple[str, str]]:
    """Number -> (rows, caption) as printed; a caption stands beneath its rows, but Table 26's above."""
    blocks = (PAPER_FOLDER / "tables.txt").read_text(encoding="utf-8").strip().split("\n\n")
    found = {}
    for pair in zip(blocks[::2], blocks[1::2], strict=True):
        rows, title = pair[::-1] if pair[0].startswith("TABLE") else pair
        found[int(re.match(r"TABLE (\d+): ", title)[1])] = (rows, title)
    return found


def printed_numbers() -> set[tuple[str, str, str, str]]:
    """(table, row, column, value) of Tables 3-27, values as printed."""
    found = set()
    for number, (rows, _) in printed_tables().items():
        if number < 3:
            continue
        header, *lines = (line.split("\t") for line in rows.split("\n"))
        for index, (name, *values) in enumerate(lines):
            row = COMBINATIONS.get(name, name)
            for column, value in zip(header[1:], values, strict=True):
                found.add((str(number), row, COLUMNS.get(column, "lambda_nats"), value))
            if number in PERCENTILES:
                found.add((str(number), row, "threshold_percentile", str(PERCENTILES[number][index])))
    return found


def test_reported_csv_is_the_paper_number_by_number():
    csv = pd.read_csv(PAPER_FOLDER / "reported.csv", dtype=str, keep_default_na=False)
    ours = set(csv.itertuples(index=False, name=None))
    assert len(csv) == len(ours) == 232
    assert ours == printed_numbers()


def test_shapes_csv_is_tables_1_and_2():
    for number in (1, 2):
        lines = printed_tables()[number][0].split("\n")[1:]
        printed = [
            tuple(map(int, re.search(r"(\d+) \\times (\d+) \\times (\d+)\}\$$", line).groups())) for line in lines
        ]
        assert list(reported(number)[["height", "width", "channels"]].itertuples(index=False, name=None)) == printed


def test_tables_txt_is_verbatim():
    beside = Path(__file__).resolve().parents[3] / "shared" / "paper"
    candidates = [os.environ.get("VQAD_PAPER_TEXT", ""), *sorted(map(str, beside.glob("*.txt")))]
    path = next((Path(name) for name in candidates if name and Path(name).exists()), None)
    if path is None:
        pytest.skip("the paper's text is not here; set VQAD_PAPER_TEXT to its path")
    text = path.read_text(encoding="utf-8")
    blocks = (PAPER_FOLDER / "tables.txt").read_text(encoding="utf-8").strip().split("\n\n")
    for pair in zip(blocks[::2], blocks[1::2], strict=True):
        assert "\n\n".join(pair) in text


def test_captions_are_complete_and_close_to_the_print():
    assert [caption("table", number).text for number in range(1, 28)]
    assert [caption("figure", number).text for number in range(1, 19)]
    assert len(pd.read_csv(PAPER_FOLDER / "captions.csv")) == 27 + 18
    for number, (_, title) in printed_tables().items():
        printed = title.split(": ", 1)[1].replace("{", "").replace("}", "")
        corrected = printed.replace("λ_LP", "λ_S") if number in (23, 24) else printed
        assert caption("table", number).text == corrected
        assert ("prints λ_LP" in caption("table", number).note) == (number in (23, 24))


@pytest.mark.parametrize(
    ("table", "row", "column", "value"),
    [
        (3, 2048, "auc", 0.989),
        (5, "DFKDE", "f1", 0.962),
        (6, "VT", "lambda_nats", 0.0162),
        (7, "VT", "threshold_percentile", 80),
        (9, "VQ-GAN", "auc", 0.866),
        (10, "Pixel-wise", "seconds_per_image", 8.1),
        (12, "GP (Light-Pixel-wise)", "auc", 0.938),
        (24, 90, "f1", 0.864),
        (25, "Pixel-wise", "seconds_per_image", 7.8),
        (26, "Pixel-wise", "seconds_per_image", 8.0),
        (27, "Light Pixel-wise", "seconds_per_image", 0.11),
    ],
)
def test_reported_values(table, row, column, value):
    assert reported(table).at[row, column] == value


def test_rows_keep_the_papers_order():
    assert list(reported(5).index) == ["VP", "VT", "GP", "GT", "Ganomaly", "DFKDE"]
    assert list(reported(13).index) == [20, 40, 60, 80, 90]


def test_reported_gives_a_copy():
    taken = reported(6)
    taken.loc["VP", "f1"] = 0.0
    assert reported(6).at["VP", "f1"] == 0.881


@pytest.mark.parametrize("number", [0, 28])
def test_unknown_table_is_refused(number):
    with pytest.raises(VqadError, match=f"no table {number}"):
        reported(number)
    with pytest.raises(VqadError, match=f"no table {number}"):
        caption("table", number)


def test_missing_folder_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "PAPER_FOLDER", tmp_path)
    paper._read.cache_clear()
    try:
        with pytest.raises(VqadError, match=r"cannot read .*reported\.csv"):
            reported(6)
    finally:
        paper._read.cache_clear()


def test_every_table_of_the_paper_is_held_against_its_text():
    """The comparison above would be silent about a table that tables.txt itself lacks."""
    printed = printed_tables()
    assert sorted(printed) == list(range(1, 28))
    found = {int(table) for table, *_ in printed_numbers()}
    assert found == set(range(3, 28))
    for number in range(1, 28):
        assert len(reported(number)) == len(printed[number][0].split("\n")) - 1
