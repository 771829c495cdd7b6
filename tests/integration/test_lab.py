"""`make lab` as a person meets it: JupyterLab in a browser, all cells run, the controls moved, the picture watched."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

REPOSITORY = Path(__file__).resolve().parents[2]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
START_S, LOOK_S = 600, 900  # at most, on a machine that is slow and busy with other things
WIDE_AND_TALL = {"width": 1400, "height": 3600}  # JupyterLab keeps cells off the page until they are scrolled to
PICTURE = ".widget-output img"
SPOILT = """() => [...document.querySelectorAll(
    '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"], .jp-RenderedText[data-mime-type*="error"]'
  )].map(e => e.textContent)"""
ALL_RUN = """count => {
  const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent);
  return prompts.length === count && prompts.every(text => /^\\[\\d+\\]:$/.test(text));
}"""
OUTPUTS = """() => [...document.querySelectorAll('.widget-output .jp-OutputArea-output')]
  .map(e => [e.dataset.mimeType, e.textContent])"""
OTHER_PICTURE = f"before => {{ const e = document.querySelector('{PICTURE}'); return e && e.src !== before; }}"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH"),
    pytest.mark.timeout(3600),
]


def free_port() -> int:
    """JupyterLab takes the next one where somebody was quicker."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """What `make lab` prints in a checkout of a user who has no settings, with the networks of VP and GT trained."""
    for name in ("data/paper", "notebooks", "profiles", "vqad_lib"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(REPOSITORY / name)
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    left_out = re.compile("MAKE|MFLAGS|JUPYTER|JPY|VQAD|DISPLAY|WAYLAND")
    environment = {key: value for key, value in os.environ.items() if not left_out.match(key)}
    environment |= {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
    (tmp_path / "home").mkdir()
    train = [sys.executable, "-m", "vqad_lib", "train", "--profile=smoke", "--scheme=paper"]
    for autoencoder, prior in (("vqvae", "pixelsnail"), ("vqgan", "gpt2")):
        for names in ([f"--autoencoder={autoencoder}"], [f"--autoencoder={autoencoder}", f"--prior={prior}"]):
            subprocess.run([*train, *names], cwd=tmp_path, env=environment, check=True)
    line = ["make", "lab", f"PYTHON={sys.executable}", f"LAB_ARGS=--port={free_port()}"]
    server = subprocess.Popen(
        line,
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, found = "", None
        while not found and (news := server.stdout.readline()):
            said += news
            found = re.search(r"http://(?:localhost|127\.0\.0\.1):\d+/\S*token=\w+", news)
        assert found, said
        threading.Thread(target=server.stdout.read, daemon=True).start()  # a full pipe would stop the server
        yield found[0]
    finally:
        try:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)
        except ProcessLookupError:  # it never came up
            pass
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def until(page: sync_api.Page, condition: str, argument: object) -> None:
    """Wait for it, or say what is on the page instead."""
    try:
        page.wait_for_function(condition, arg=argument, timeout=LOOK_S * 1000)
    except sync_api.TimeoutError:
        pytest.fail(page.locator("body").inner_text())


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_explore_in_a_browser(address):
    """Frames, combinations and percentiles are moved, and the picture follows."""
    with (
        sync_api.sync_playwright() as driver,
        driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"]) as browser,
    ):
        page = browser.new_page(viewport=WIDE_AND_TALL)
        page.set_default_timeout(START_S * 1000)
        page.goto(address)
        page.get_by_role("link", name="30_explore").first.click()  # on the list of notebooks
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        page.get_by_text(re.compile(r"^Python 3 .*\| Idle$")).wait_for()  # before that, JupyterLab runs nothing
        cells = 6  # of the notebook, with the one that make lab puts in
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        until(page, ALL_RUN, cells)

        def moved(before: str) -> str:
            until(page, OTHER_PICTURE, before)
            # the picture and nothing else: no progress that has ended, no "Loading widget..." that never comes
            assert page.evaluate(OUTPUTS) == [["image/png", ""]]
            return page.locator(PICTURE).get_attribute("src")

        first = moved("")
        frames = page.locator(".vqad-frame select")
        frames.select_option(index=0 if frames.evaluate("e => e.selectedIndex") else 1)
        second = moved(first)
        handle = page.locator(".widget-slider .noUi-handle").first  # of the percentile
        handle.press("PageDown")
        third = moved(second)
        page.get_by_role("button", name="GT", exact=True).click()
        fourth = moved(third)
        page.locator(".widget-image").nth(2).wait_for()
        page.locator(".jupyter-button[title*='/']").nth(2).click()  # beneath a thumbnail
        moved(fourth)
        assert page.evaluate(SPOILT) == []
        shown = page.locator(".jp-Notebook", has=page.locator(".jp-CodeCell")).inner_text()
        assert not re.search("model not found|error displaying", shown, re.IGNORECASE), shown
        assert "test frames of synthetic walkway" in shown
