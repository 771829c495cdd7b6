"""The report page: complete, in order, offline, the same bytes twice; summary.csv by hand."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
from pandas import DataFrame
from PIL import Image

from vqad_lib.analysis.runtime import METHODS
from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import RunInfo
from vqad_lib.paper import reported
from vqad_lib.reporting.answers import answers
from vqad_lib.reporting.comparison import comparison_rows, difference_text, heading, key_column, page_table
from vqad_lib.reporting.report import build_report, page_template
from vqad_lib.reporting.tables import beside_paper, beside_paper_shapes, load_table, save_table

LABELS = RunInfo(profile="demo", dataset="synthetic", perceptual="LPIPS alex, random weights (no ImageNet)", seed=0)
PROVENANCE = {"profile": "demo", "perceptual": LABELS.perceptual, "time": "12.2 min", "versions": {"numpy": "2.4"}}


class Page(HTMLParser):
    """Ids, links, images and text of a page; refuses unbalanced tags."""

    VOID = ("meta", "img", "input", "br", "link")

    def __init__(self, content: str):
        super().__init__()
        self.ids, self.links, self.images, self.open, self.text = [], [], [], [], ""
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if "href" in given else []
        self.images += [given] if tag == "img" else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def html_table(frame: DataFrame, *, table: int | None) -> str:
    """The table as the page has it, one line."""
    return one_line(str(page_template("page_parts.html.j2").module.table_of(page_table(frame, table=table))))


def one_line(content: str) -> str:
    return re.sub(r"\s*\n\s*", "", content)


def results(table: int) -> DataFrame:
    ours = DataFrame({"model": reported(table).index})
    ours = beside_paper(ours, table=table, key="model", dataset="ucsd_ped2")
    ours["f1_paper_metrics"], ours["auc_paper_metrics"] = 0.9, 0.95
    for name in ("f1", "auroc"):
        ours[name], ours[f"{name}_low"], ours[f"{name}_high"] = 0.8, 0.75, 0.85
    return ours


@pytest.fixture
def run(tmp_path):
    reports, figures = tmp_path / "reports" / "demo", tmp_path / "figures" / "demo"
    save_table(results(6), "table_06", labels=LABELS, folder=reports / "tables", notes="A <note> on λ_S.")
    official = results(6)[["model", "f1", "f1_low", "f1_high"]]
    save_table(official, "table_06_official", labels=LABELS, folder=reports / "tables")
    save_table(DataFrame({"x": [1]}), "passes", labels=LABELS, folder=reports / "tables")
    figures.mkdir(parents=True)
    Image.new("RGB", (80, 40)).save(figures / "figure_12.png")
    (figures / "figure_12.pdf").write_bytes(b"%PDF")
    (reports / "notebooks").mkdir()
    (reports / "notebooks" / "06_results.ipynb").write_text("{}")
    return {
        "reports": reports,
        "figures": figures,
        "notebooks": ["06_results", "02_train_replicate1"],
        "provenance": PROVENANCE,
        "made_by": {"table_06": "06_results"},
    }


def read(run) -> tuple[str, Page]:
    content = build_report(**run).read_text(encoding="utf-8")
    return content, Page(content)


def test_every_table_and_figure_in_order(run):
    _, page = read(run)
    wanted = [f"table_{n:02d}" for n in range(1, 28)] + [f"figure_{n:02d}" for n in range(1, 19)]
    assert [name for name in page.ids if name.startswith(("table_", "figure_"))] == wanted
    links = dict.fromkeys(link[1:] for link in page.links if link.startswith(("#table_", "#figure_")))
    assert list(links) == wanted
    assert page.text.count("not made in this run") == 45 - 2
    assert len(set(page.ids)) == len(page.ids)
    assert "numbers: 2 of 45 made." in " ".join(page.text.split())


def test_offline_and_without_scripts(run):
    content, page = read(run)
    assert not re.search(r"https?:|//[a-z]|<script|@import|url\(", content)
    assert [link for link in re.findall("<link[^>]*>", content) if "data:" not in link] == []
    inside = [link for link in page.links if not link.startswith(("#", "data:"))]
    assert {"summary.csv", "tables/table_06.csv", "tables/table_06_official.csv", "tables/passes.csv"} <= set(inside)
    for link in [*inside, *(image["src"] for image in page.images)]:
        assert (run["reports"] / link).exists(), link


def test_images_have_size_alt_and_relative_source(run):
    _, page = read(run)
    (image,) = page.images
    assert image["src"] == "../../figures/demo/figure_12.png"
    assert (image["width"], image["height"], image["loading"]) == ("40", "20", "lazy")
    assert image["alt"] == (
        "Normal frames, and beneath them five restorations of each by each of VP, VT, GP and GT, in a panel of its own."
        " Frames named Train are test frames of scheme paper, of clips whose other frames were trained on."
    )
    assert "../../figures/demo/figure_12.pdf" in page.links


def test_table_shows_paper_ours_difference_and_interval(run):
    content, page = read(run)
    row = re.search(r'<tr><th scope="row">VP</th>.*?</tr>', one_line(content))[0]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
    assert cells[:6] == ["0.881", "0.900", "+0.019", "0.942", "0.950", "+0.008"]
    assert cells[6] == '0.800 <small class="under">[0.750, 0.850]</small>'
    assert '<td class="number delta up1">+0.019</td>' in row
    assert "A &lt;note&gt; on λ<sub>S</sub>." in content
    assert "notebooks/06_results.ipynb" in page.links


def test_official_twin_is_folded_beneath_its_table(run):
    content, _ = read(run)
    section = re.search(r'<section id="table_06">.*?</section>', content, re.DOTALL)[0]
    own, fold = section.split("<details>")
    assert "tables/table_06.csv" in own
    assert "<summary>Table 6, scheme official</summary>" in fold
    assert "tables/table_06_official.csv" in fold
    assert section.count("made by") == 2


@pytest.mark.parametrize(("rows", "shown"), [(100, 100), (101, 100)])
def test_long_table_is_shown_in_part_and_says_so(run, rows, shown):
    frame = DataFrame({"setting": [f"s{n}" for n in range(rows)], "auroc": [0.5] * rows})
    save_table(frame, "of_mine", labels=LABELS, folder=run["reports"] / "tables")
    content, _ = read(run)
    section = re.search(r'<section id="of_mine">.*?</section>', content, re.DOTALL)[0]
    assert len(re.findall(r'<th scope="row">s\d+</th>', section)) == shown
    assert ("The first 100 of 101 rows; the file has all." in section) is (rows > 100)


def test_missing_table_says_who_makes_it(run):
    run["made_by"]["table_05"] = "11_baselines"
    assert "state of the art: not made in this run; 11_baselines makes it." in read(run)[1].text


def test_curves_stand_beneath_their_figure(run):
    for name in ("figure_06", "figure_06_curves"):
        Image.new("RGB", (80, 40)).save(run["figures"] / f"{name}.png")
    run["made_by"]["figure_06"] = "06_results"
    content, _ = read(run)
    section = re.search(r'<section id="figure_06">.*?</section>', content, re.DOTALL)[0]
    assert section.index("figure_06.png") < section.index("<h4>ROC and precision-recall curves</h4>")
    assert "ROC curves beside precision-recall curves of the sample-wise score" in section


def test_overview_and_leak_stand_first(run):
    tables = run["reports"] / "tables"
    assert 'id="overview"' in read(run)[0]
    nearest = DataFrame({"model": ["nearest training frame"], "auc_paper_metrics": 0.995})
    frame = pd.concat([results(6), nearest]).assign(auroc_official=[0.71, 0.72, 0.73, 0.74, 0.67])
    save_table(frame, "table_06", labels=LABELS, folder=tables)
    leak = DataFrame({"scheme": ["paper", "official"], "auroc": [0.9986, 0.6716]})
    save_table(leak, "leak", labels=LABELS, folder=tables)
    content, page = read(run)
    section = one_line(re.search(r'<section id="overview">.*?</section>', content, re.DOTALL)[0])
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in section.split("<tbody>")[1].split("</tr>")]
    assert rows[0] == ["Sample-wise detection · VP", "0.942", "0.950", "+0.008", "0.710"]
    assert rows[3] == ["Sample-wise detection · GT", "0.994", "0.950", "−0.044", "0.740"]
    assert rows[4] == ["No model · nearest training frame", "–", "0.995", "–", "0.670"]
    assert "with no model at all, has AUROC 0.999." in " ".join(page.text.split())


def test_three_questions_are_answered_from_the_tables(tmp_path):
    summary = DataFrame({"column": ["f1", "auc", "auc", "height", "auc"], "difference": [0.01, -0.05, 0.3, 64, 0.9]})
    summary["table"] = [6, 7, 9, 6, 13]
    leak = DataFrame({"scheme": ["paper", "official"], "auroc": [0.9986, 0.6716]})
    models = DataFrame({"model": ["VP", "GT", "nearest training frame"], "auroc": [0.7, 0.8, 0.6716]})
    models = models.assign(auroc_low=[0.51, 0.62, 0.4], auroc_high=[0.84, 0.93, 0.99])
    claim = DataFrame(
        {"verdict": ["better", "undecided", "worse", "undecided"], "scheme": ["official"] * 3 + ["paper"]}
    ).assign(comparison="GP - VP", detector="sample_wise")
    claim.loc[4] = ["better", "official", "VP - VT", "sample_wise"]  # density, of which claim 2 says nothing
    assert answers(tmp_path, summary[3:], set()) == {}, "there is nothing to say yet"
    for name, frame in {"leak": leak, "table_06_official": models, "claim_1_codebook": claim}.items():
        save_table(frame, name, labels=LABELS, folder=tmp_path)
    replicates, leaks, result = answers(tmp_path, summary, set()).values()
    assert replicates.endswith(
        "2 of the 3 F1 and AUC scores in Tables 6 to 9 come out within 0.05; half of all differ by less than 0.050."
    )
    assert leaks.startswith("It leaks: test frames of scheme paper lie between")
    assert leaks.endswith("0.999.")
    assert "0.700 to 0.800 by model, with intervals from 0.51 to 0.93; the nearest training frame has 0.672." in result
    assert "Of the 3 comparisons behind" in result
    assert result.endswith("1 are for a claim, 1 against it, and 1 undecided.")
    frames = DataFrame({"method": ["largest speed, no model", "codes of motion"], "auroc_micro": [0.9692, 0.9648]})
    save_table(frames, "official_frame_auroc", labels=LABELS, folder=tmp_path)
    _, _, result = answers(tmp_path, summary, set()).values()
    assert "with no model at all, has 0.969, and an unlikely code of its motion 0.965. Of the 3" in result
    assert list(answers(tmp_path, summary, {"leak", "table_06"})) == ["Does it replicate?"]


def test_folders_have_no_clips_and_sound_splits_no_leak(tmp_path):
    nothing = DataFrame({"column": [], "difference": [], "table": []})
    for auroc, said in ((0.8, {}), (0.95, {"What is wrong with the measurement?"})):
        save_table(DataFrame({"scheme": ["paper"], "auroc": [auroc]}), "leak", labels=LABELS, folder=tmp_path)
        assert answers(tmp_path, nothing, set()).keys() == set(said)
    assert "of one set" in answers(tmp_path, nothing, set()).popitem()[1]


def test_banner_only_for_random_weights(run):
    assert "random weights." in read(run)[1].text
    run["provenance"] = {**PROVENANCE, "perceptual": "LPIPS vgg, ImageNet"}
    assert 'class="banner"' not in read(run)[0]


def test_same_inputs_same_bytes(run):
    first = build_report(**run).read_bytes(), (run["reports"] / "summary.csv").read_bytes()
    assert (build_report(**run).read_bytes(), (run["reports"] / "summary.csv").read_bytes()) == first


def test_no_name_becomes_markup_or_a_script(run):
    """Of an image folder, a profile, a file of weights, a notebook, a table: whatever a person calls them."""
    hostile = "<script>alert(1)</script> {{ 6 * 7 }} <img src=x onerror=alert(1)>"
    labels = replace(LABELS, profile=hostile, dataset=hostile, perceptual=hostile)
    save_table(
        DataFrame({hostile: [hostile]}), "passes", labels=labels, folder=run["reports"] / "tables", notes=hostile
    )
    named = {"profile": hostile, "so_far": hostile, hostile: {hostile: [hostile]}}
    run |= {"provenance": named, "to_come": [hostile], "made_by": {"table_06": hostile}, "notebooks": [hostile]}
    content, page = read(run)
    assert "<script" not in content
    assert "<img src=x" not in content
    assert page.text.count(hostile) >= 6


def test_nothing_but_own_pictures_and_styles_may_load(run):
    content, _ = read(run)
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', content)
    assert policy.startswith("default-src 'none'; img-src 'self' file: data:; style-src 'unsafe-inline'")
    assert content.index("Content-Security-Policy") < content.index("<style")


def test_provenance_is_escaped_and_shown(run):
    run["provenance"] = {**PROVENANCE, "command": "make <all>"}
    content, page = read(run)
    assert "make &lt;all&gt;" in content
    assert "12.2 min" in page.text
    assert "numpy 2.4" in page.text


def test_table_and_figure_of_one_name_are_one_section(run):
    save_table(DataFrame({"scheme": ["paper"]}), "leak", labels=LABELS, folder=run["reports"] / "tables")
    for name in ("leak", "training_vqgan_gpt2_paper", "look_01", "look_02"):
        Image.new("RGB", (80, 40)).save(run["figures"] / f"{name}.png")
    _, page = read(run)
    assert page.ids.count("leak") == 1
    assert len(set(page.ids)) == len(page.ids)
    assert "The leak: how near test frames are to training frames" in page.text
    assert "Training VQ-GAN GPT-2 paper" in page.text
    assert page.ids.count("look") == 1
    assert "Look 02" in page.text
    assert "Passes" in page.text


@pytest.mark.parametrize(
    ("column", "said"), [("k", "k"), ("auroc_mean", "AUROC"), ("seconds_per_image", "Seconds per image")]
)
def test_headings_are_for_people(column, said):
    assert heading(column) == said


def test_what_is_compared_comes_before_details():
    frame = results(6).assign(threshold_score=1.5, auroc_official=0.7)
    head = re.findall(r"<th scope=\"col[^>]*>(.*?)</th>", html_table(frame, table=6))
    top = [name for name in head if name in ("Model", "the paper&#39;s metrics", "Decision threshold")]
    assert top == ["Model", "the paper&#39;s metrics", "Decision threshold"]
    cells = re.findall(r"<td class=\"number( edge)?\">(.*?)</td>", html_table(frame, table=6).split("</tr>")[2])
    assert cells[-2:] == [(" edge", "0.700"), ("", "1.500")], "the clip-disjoint number beside the other held-out ones"


def test_spread_over_seeds_stands_beneath_the_mean():
    html = html_table(results(6).assign(seeds=3, auroc_mean=0.82, auroc_sd=0.011), table=6)
    assert '<th scope="colgroup" class="group" colspan="1">mean ± sd over training seeds</th>' in html
    assert '<td class="number edge">0.820 <small class="under">± 0.011</small></td>' in html


def test_interval_of_a_difference_and_names_for_people():
    frame = DataFrame({"detector": ["light_pixel_wise"], "difference": -0.25})
    html = html_table(frame.assign(difference_low=-0.5, difference_high=0.125), table=None)
    assert '-0.250 <small class="under">[-0.500, 0.125]</small>' in html
    assert '<th scope="row">light pixel-wise</th>' in html


def test_scores_that_are_all_one_keep_their_decimals(tmp_path):
    frame = results(6).assign(auroc=1.0, auroc_low=0.99, auroc_high=1.0)
    save_table(frame, "table_06", labels=LABELS, folder=tmp_path)
    assert '1.000 <small class="under">[0.990, 1.000]</small>' in html_table(load_table(tmp_path, "table_06"), table=6)


def test_smaller_network_stands_beside_the_lines_of_its_kind():
    rows = reported(1)[["component", "height", "width", "channels"]].drop(index=2).to_dict("records")
    rows[0]["component"], rows[2]["component"] = "input", "Residual × 1 + Downsample"
    table = beside_paper_shapes(rows, table=1)
    assert list(table["component_in_paper"]) == list(reported(1)["component"])
    assert table["component"].isna().tolist() == [False, False, True] + [False] * 6
    assert table["component"][3] == "Residual × 1 + Downsample"
    assert list(table["paper_height"]) == [128, 128, 64, 32, 16, 8, 8, 8, 8]
    assert table["height"].isna().sum() == 1


def test_line_that_the_paper_lacks_is_kept(tmp_path):
    rows = reported(2)[["component", "height", "width", "channels"]].to_dict("records")
    rows.insert(5, {"component": "Extra", "height": 24, "width": 24, "channels": 7})
    table = beside_paper_shapes(rows, table=2)
    assert table["component"].tolist()[5] == "Extra"
    assert table["paper_height"].isna().tolist() == [False] * 5 + [True] + [False] * 4
    save_table(table, "table_02", labels=LABELS, folder=tmp_path)
    assert comparison_rows(2, tmp_path)["difference"].tolist() == [0.0] * 27


def test_what_other_notebooks_are_writing_is_left_alone(run):
    """The page of a run that goes on is made while others draw; their files are whole when they get their names."""
    before = build_report(**run).read_bytes()
    reports = run["reports"]
    (reports / "notebooks").mkdir(exist_ok=True)
    being_written = [run["figures"] / ".figure_18.1.part.png", reports / "tables" / ".table_07.1.part.csv"]
    for path in [*being_written, reports / "notebooks" / ".06_results.1.part.ipynb"]:
        path.write_bytes(b"half")
    assert build_report(**run).read_bytes() == before


def test_empty_run_still_gives_a_page(tmp_path):
    page = build_report(reports=tmp_path / "r", figures=tmp_path / "f", notebooks=[], provenance={}, made_by={})
    assert Page(page.read_text(encoding="utf-8")).text.count("not made in this run") == 45


def test_summary_by_hand(run):
    build_report(**run)
    summary = pd.read_csv(run["reports"] / "summary.csv")
    assert list(summary) == ["table", "row", "column", "reported", "ours_paper_metrics", "ours_held_out", "difference"]
    assert len(summary) == 232 + 18 * 3
    lines = (run["reports"] / "summary.csv").read_text(encoding="utf-8").splitlines()
    assert "6,VP,f1,0.881,0.9,0.8,0.019" in lines
    assert "6,GT,auc,0.994,0.95,0.8,-0.044" in lines
    assert "7,VP,f1,0.752,,," in lines
    assert "10,Pixel-wise,seconds_per_image,8.1,,," in lines
    assert "1,0,height,128,,," in lines


def test_a_page_of_other_data_has_no_number_of_the_papers(run):
    own = results(6).drop(columns=["reported_f1", "reported_auc"])
    save_table(own, "table_06", labels=LABELS, folder=run["reports"] / "tables")
    run["provenance"] = PROVENANCE | {"dataset": "folder"}
    content, page = read(run)
    text = " ".join(page.text.split())
    assert "own results are of UCSD Ped2" in text
    assert not re.search("0\\.881|0\\.942|within 0\\.05|Δ", text)
    assert 'class="legend"' not in content
    assert list(pd.read_csv(run["reports"] / "summary.csv")) == [
        "table",
        "row",
        "column",
        "ours_paper_metrics",
        "ours_held_out",
    ]


def test_summary_of_shapes_and_seconds(run):
    shapes = reported(1).rename(columns={name: f"paper_{name}" for name in ("height", "width", "channels")})
    shapes = shapes.assign(height=64, width=64, channels=shapes["paper_channels"])
    save_table(shapes, "table_01", labels=LABELS, folder=run["reports"] / "tables")
    times = DataFrame({"method": list(METHODS), "seconds_per_image": [0.04, 0.81, 0.09, 0.12, 0.04]})
    save_table(
        beside_paper(times, table=10, key="method", dataset="ucsd_ped2"),
        "table_10",
        labels=LABELS,
        folder=run["reports"] / "tables",
    )
    content, _ = read(run)
    lines = (run["reports"] / "summary.csv").read_text(encoding="utf-8").splitlines()
    assert "1,0,height,128,64,,-64" in lines
    assert "1,8,channels,256,256,,0" in lines
    assert "10,Pixel-wise,seconds_per_image,8.1,0.81,,-7.29" in lines
    assert ">÷10<" in content
    assert ">÷2<" in content


@pytest.mark.parametrize(
    ("theirs", "mine", "column", "expected"),
    [
        (0.9, 0.9, "f1", ("0.000", "same")),
        (0.9, 0.905, "f1", ("+0.005", "same")),
        (0.9, 0.91, "f1", ("+0.010", "up1")),
        (0.9, 0.85, "f1", ("−0.050", "down2")),
        (0.9, 0.7, "auc", ("−0.200", "down3")),
        (8.0, 2.0, "seconds_per_image", ("÷4", "down2")),
        (1.0, 10.0, "seconds_per_image", ("×10", "up3")),
        (1.0, 1.0, "seconds_per_image", ("×1", "same")),
        (1.0, 0.0, "seconds_per_image", ("", "")),
        (float("nan"), 0.9, "f1", ("", "")),
    ],
)
def test_difference_text(theirs, mine, column, expected):
    assert difference_text(theirs, mine, column) == expected


def test_key_column_prefers_the_papers_rows():
    frame = DataFrame({"model": ["VP"] * 5, "percentile": [20, 40, 60, 80, 90], "f1": 0.5})
    assert key_column(frame, 13) == "percentile"
    assert key_column(DataFrame({"x": ["a"]}), 6) is None


def test_html_table_of_the_paper_thresholds():
    frame = results(6).assign(threshold_nats=1.25, threshold_percentile=60)
    assert '1.250 <small class="under">paper 0.216</small>' in html_table(frame, table=6)
    assert ">paper " not in html_table(frame.drop(columns=["reported_f1", "reported_auc"]), table=6)


def test_broken_figure_is_named(run):
    (run["figures"] / "figure_05.png").write_bytes(b"not a picture")
    with pytest.raises(VqadError, match=r"figure_05\.png"):
        build_report(**run)


def test_shapes_are_compared_by_factors():
    rows = reported(1)[["component", "height", "width", "channels"]].to_dict("records")
    rows[1] |= {"height": 64, "width": 64, "channels": 128}
    html = html_table(beside_paper_shapes(rows, table=1), table=1)
    first, second = (re.findall(r"<td[^>]*>(.*?)</td>", row) for row in html.split("</tr>")[1:3])
    assert first == ["x", *["128", "128", "×1"] * 2, "3", "3", "×1"]
    assert second == ["Conv2D", *["128", "64", "÷2"] * 2, "64", "128", "×2"]


def test_page_of_a_run_that_goes_on_leaves_out_what_is_to_come(run):
    """Of a table that an earlier run has left, not even the file is read."""
    (run["reports"] / "tables" / "table_06.csv").write_text("no table")
    run |= {
        "to_come": ["06_results", "08_seconds"],
        "left_out": {"table_06"},
        "provenance": PROVENANCE | {"so_far": "3/30 2:10, about 5:00 left"},
    }
    content, page = read(run)
    assert "When this page was written: 3/30 2:10, about 5:00 left." in page.text
    assert "06_results, 08_seconds" in page.text
    assert content.count("3/30") == 1
    assert 'id="figure_12"' in content
    assert page.text.count("not made in this run; 06_results makes it") == 1
    summary = pd.read_csv(run["reports"] / "summary.csv")
    assert len(summary) > 100
    assert summary["difference"].isna().all()
