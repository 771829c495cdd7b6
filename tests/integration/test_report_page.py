"""The report in a browser: nothing missing, nothing wider than a phone, readable by day and by night."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vqad_lib.files import read_json
from vqad_lib.reporting.report import build_report

REPOSITORY = Path(__file__).resolve().parents[2]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE_PX, DESK_PX = 390, 1300
LEAST_CONTRAST = 4.5  # WCAG 2.2, success criterion 1.4.3, level AA
PAGES = {"report": "index.html"}
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--allow-file-access-from-files",  # so that the page around the frames may look into them
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=10000",
    "--window-size=1700,1200",
]
# a page around the pages: frames as wide as a phone and as a desk, and a script that measures them
AROUND = """<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,"><body>FRAMES<pre id="found"></pre>
<script>
const luminance = c => c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const parse = text => text.match(/[\\d.]+/g).map(Number);
const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
  if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
const contrast = e => { const [a, b] = [parse(getComputedStyle(e).color).slice(0, 3), behind(e)].map(luminance);
  return (Math.max(a, b) + .05) / (Math.min(a, b) + .05); };
const ownText = e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
async function look(frame) {
  const page = frame.contentDocument;
  page.querySelectorAll('details').forEach(d => d.open = true);
  page.querySelectorAll('img').forEach(i => i.loading = 'eager');
  for (let n = 0; n < 100 && [...page.images].some(i => !i.complete); n++) await new Promise(r => setTimeout(r, 20));
  const texts = [...page.querySelectorAll('body *')].filter(e => ownText(e) && e.checkVisibility());
  const worst = texts.map(e => [contrast(e), e.outerHTML.slice(0, 200)]).reduce((a, b) => a[0] <= b[0] ? a : b);
  const links = [...page.querySelectorAll('a[href]')].map(a => a.getAttribute('href'));
  const { scrollWidth: width, clientWidth: room } = page.documentElement;
  return { width, room, inner: frame.contentWindow.innerWidth,
    images: page.images.length, texts: texts.length, contrast: worst, links,
    broken: [...page.images].filter(i => !i.naturalWidth).map(i => i.getAttribute('src')),
    nowhere: links.filter(h => h.startsWith('#') && !page.getElementById(decodeURIComponent(h.slice(1)))),
    dark: frame.contentWindow.matchMedia('(prefers-color-scheme: dark)').matches,
    background: luminance(behind(page.body)) };
}
addEventListener('load', async () => {
  const found = {};
  for (const frame of document.querySelectorAll('iframe')) found[frame.id] = await look(frame);
  document.getElementById('found').textContent = JSON.stringify(found);
});
</script>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH")


def looked_at(folder: Path, pages: dict[str, str], *, dark: bool = False) -> tuple[dict[str, dict], list[str]]:
    """What the script finds in "<page> <width>", and what the browser's console says."""
    frames = [
        f'<iframe id="{name} {width}" src="{path}" style="width:{width}px;height:900px;border:0"></iframe>'
        for name, path in pages.items()
        for width in (PHONE_PX, DESK_PX)
    ]
    around = folder / "around.html"
    around.write_text(AROUND.replace("FRAMES", "".join(frames)), encoding="utf-8")
    options = [
        *FLAGS,
        f"--user-data-dir={folder / 'browser'}",
        f"--blink-settings=preferredColorScheme={int(not dark)}",
    ]
    done = subprocess.run(
        [BROWSER, *options, "--dump-dom", around.as_uri()], capture_output=True, text=True, timeout=600, check=True
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)[1]
    assert found, f"the browser did not come to an end: {done.stderr[-2000:]}"
    unescaped = found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return json.loads(unescaped), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The page of the committed demo results, made anew."""
    root = tmp_path_factory.mktemp("page")
    reports, figures = (root / kind / "demo" / "ucsd_ped2" for kind in ("reports", "figures"))
    shutil.copytree(REPOSITORY / "reports" / "demo" / "ucsd_ped2" / "tables", reports / "tables")
    shutil.copytree(REPOSITORY / "figures" / "demo" / "ucsd_ped2", figures)
    (reports / "notebooks").mkdir()
    shutil.copy(REPOSITORY / "notebooks" / "06_results.ipynb", reports / "notebooks")
    provenance = read_json(REPOSITORY / "reports" / "demo" / "ucsd_ped2" / "provenance.json")
    provenance.pop("stages")
    made_by = {"table_06": "06_results", "figure_06": "06_results"}
    build_report(reports=reports, figures=figures, notebooks=["06_results"], provenance=provenance, made_by=made_by)
    return reports


@pytest.fixture(scope="module")
def by_day(folder) -> tuple[dict[str, dict], list[str]]:
    return looked_at(folder, PAGES)


def test_console_is_silent(by_day):
    assert by_day[1] == []


def test_no_image_is_missing(by_day, folder):
    figures = len(list((folder.parents[2] / "figures" / "demo" / "ucsd_ped2").glob("*.png")))
    for name, page in by_day[0].items():
        assert page["broken"] == [], name
        assert page["images"] == figures + 1 or not name.startswith("report"), "one_frame stands first, too"
        assert page["images"] > 0


def test_never_wider_than_the_screen(by_day):
    for name, page in by_day[0].items():
        assert page["inner"] == int(name.split()[1])
        assert page["width"] <= page["room"], name


def test_links_lead_somewhere(by_day, folder):
    for name, page in by_day[0].items():
        assert page["nowhere"] == [], name
        base = (folder / PAGES[name.split()[0]]).parent
        outside = [link for link in page["links"] if not link.startswith("#")]
        assert [link for link in outside if not (base / link.partition("#")[0]).exists()] == [], name
    links = by_day[0]["report 1300"]["links"]
    assert {f"#table_{number:02d}" for number in range(1, 28)} <= set(links)
    assert {f"#figure_{number:02d}" for number in range(1, 19)} <= set(links)
    assert "notebooks/06_results.ipynb" in links


def test_readable_by_day_and_by_night(by_day, folder):
    by_night, console = looked_at(folder, PAGES, dark=True)
    assert console == []
    for scheme, found in (("light", by_day[0]), ("dark", by_night)):
        for name, page in found.items():
            assert page["dark"] == (scheme == "dark")
            assert page["background"] < 0.05 if page["dark"] else page["background"] > 0.9
            assert page["texts"] > 100
            assert page["contrast"][0] >= LEAST_CONTRAST, (scheme, name, page["contrast"])


def test_a_bad_page_is_found_out(tmp_path):
    bad = (
        '<html style="background:#fff"><body><img src="gone.png"><a href="#nowhere" style="color:#ccc">a</a>'
        '<div style="width:900px">wide</div><script>console.error("oh no")</script>'
    )
    (tmp_path / "bad.html").write_text(bad)
    found, console = looked_at(tmp_path, {"bad": "bad.html"})
    page = found[f"bad {PHONE_PX}"]
    assert (page["broken"], page["nowhere"]) == (["gone.png"], ["#nowhere"])
    assert page["width"] > page["room"]
    assert page["contrast"][0] < LEAST_CONTRAST
    assert any("oh no" in line for line in console)
