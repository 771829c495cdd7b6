"""Tables and page of the benchmarks, and peak memory."""

import re
import threading

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from benchmarks import drawings, peak_memory
from benchmarks import reference_implementations as reference
from benchmarks.bench_page import NOTES, SECTIONS, Results, left_out
from vqad_lib.experiment.run import RunInfo

LABELS = RunInfo(profile="tiny", dataset="synthetic", perceptual="", seed=0)
RESTORATION = pd.DataFrame(
    {
        "prior": ["gpt2", "gpt2", "pixelsnail"],
        "size": "tiny",
        "percentile": [20, 90, 90],
        "n_restorations": 5,
        "images": 16,
        "plain_s": [6.0, 6.0, 4.0],
        "fast_s": [0.2, 0.1, 0.5],
        "ratio": [30.0, 60.0, 8.0],
        "equal_codes": [1.0, 1.0, 0.9375],
        "quickest": ["fast", "jump_ahead", "fast"],
    }
)
GROWTH = pd.DataFrame(
    [
        {"prior": "gpt2", "algorithm": algorithm, "axis": "codes_per_grid", "value": value}
        for algorithm, value in (("plain", 64), ("fast", 64), ("fast", 256), ("fast", 1024))
    ]
)


@pytest.fixture
def results(tmp_path) -> Results:
    return Results(tmp_path / "reports" / "bench", tmp_path / "figures" / "bench", LABELS)


def test_csv_starts_with_the_table_and_ends_with_the_labels(results) -> None:
    results.table("restoration", RESTORATION)
    first = (results.reports / "restoration.csv").read_text(encoding="utf-8").splitlines()[0]
    assert first == ",".join(RESTORATION.columns) + ",profile,dataset,seed,perceptual"


def test_page_shows_what_there_is_and_names_what_was_left_out(results) -> None:
    results.table("restoration", RESTORATION)
    results.figure("restoration", drawings.restoration_figure(RESTORATION))
    page = results.page({"profile": "tiny", "networks": "random", "time": "2.5 min"}, ["MONAI <is> not installed."])
    text = page.read_text(encoding="utf-8")
    assert "MONAI &lt;is&gt; not installed." in text
    assert "The networks have random weights." in text
    assert "30.0 to 60.0 ×" in text
    assert "93.750 %" in text, "the worst row decides whether codes are equal"
    assert "<b>2 of 3</b>rows in which incremental decoding is quicker" in text
    assert "2.5 min" in text
    assert re.findall(r'src="([^"]+)"', text) == ["../../figures/bench/restoration.png"]
    assert (page.parent / "../../figures/bench/restoration.png").exists()
    assert 'href="restoration.csv"' in text
    for key, (title, _, _) in SECTIONS.items():
        assert (f"<b>{title}</b>: not measured." in text) == (key != "restoration")


def test_page_needs_no_network_and_says_nothing_of_trained_networks(results) -> None:
    results.table("restoration", RESTORATION.assign(equal_codes=1.0))
    text = results.page({"profile": "tiny", "networks": "trained"}, []).read_text(encoding="utf-8")
    assert not re.search(r"https?:|<script|@import", text)
    assert "Left out" not in text
    assert "random weights" not in text
    assert "<b>all</b>codes equal" in text


def test_every_table_has_a_place_and_a_note() -> None:
    assert sorted(table for _, tables, _ in SECTIONS.values() for table in tables) == sorted(NOTES)


def test_reasons_of_what_is_left_out(monkeypatch) -> None:
    monkeypatch.setattr(reference, "is_installed", lambda library: library == "monai")
    reasons = left_out(GROWTH, None)
    assert [reason.split(" is")[0] for reason in reasons] == [
        "Anomalib",
        "Peak memory",
        "Plain GPT-2 at codes_per_grid 256, 1024",
    ]
    assert "requirements-extra.lock" in reasons[0]
    monkeypatch.setattr(reference, "is_installed", lambda _library: True)
    assert left_out(GROWTH[GROWTH["value"] == 64], pd.DataFrame()) == []


def test_figures_show_the_numbers() -> None:
    figure = drawings.restoration_figure(RESTORATION)
    lines = {axis.get_title(): axis.lines[0].get_ydata().tolist() for axis in figure.axes}
    assert lines == {"GPT-2": [30.0, 60.0], "PixelSNAIL": [8.0]}
    rows = pd.DataFrame({"phase": ["encode"], "network": ["autoencoder"], "fraction": [0.25]})
    assert drawings.roofline_figure(rows).axes[0].patches[0].get_width() == 25.0
    plt.close("all")


def test_peak_sees_memory_that_was_given_back(monkeypatch) -> None:
    """By a status file of our own: what a process really takes depends on what it has freed before."""
    taken_kib, all_seen = [100 * 1024, 140 * 1024, 110 * 1024], threading.Event()

    class Status:
        def read_text(self) -> str:
            if len(taken_kib) == 1:
                all_seen.set()
            now = taken_kib.pop(0) if len(taken_kib) > 1 else taken_kib[0]
            return f"VmHWM:\t 900000 kB\nRssAnon:\t {now} kB\nRssFile:\t 800000 kB\n"

    monkeypatch.setattr(peak_memory, "_STATUS", Status())
    with peak_memory.HostPeak() as host:
        assert all_seen.wait(60)
    assert host.increase_mib == 40


@pytest.mark.skipif(not peak_memory.can_measure(), reason="Linux only")
def test_memory_rows_are_measured_in_processes_of_their_own() -> None:
    rows = peak_memory.memory_rows((3,))
    assert rows[["images", "device"]].to_numpy().tolist() in ([[3, "cpu"]], [[3, "cuda"]])
    assert rows["before_mib"].iloc[0] > 0
    assert rows["peak_increase_mib"].iloc[0] >= 0
