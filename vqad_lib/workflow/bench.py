"""What `make bench` does: execute notebook 20 by itself, apart from the stages of `make paper`."""

from pathlib import Path

from vqad_lib.files import read_json
from vqad_lib.reporting.notebook_pages import convert_notebooks
from vqad_lib.workflow.notebooks import execute_notebook
from vqad_lib.workflow.settings import configured, load_frames, results_name

NOTEBOOK = "20_benchmarks"
DEFAULT_PROFILE = "demo"


def bench(root: Path, given: dict[str, str]) -> Path:
    """Measure, and say where the page is.

    What is not given comes from the last `make paper` if that was of the same profile, so that its networks are
    found; else from the profile.

    Args:
        given: profile, dataset, data_root, seed, perceptual, networks; "" or absent where not given.

    Returns:
        reports/<profile>/<data set>/bench/index.html.

    Raises:
        VqadError: the notebook failed.
    """
    chosen = {key: value for key, value in given.items() if value}
    profile = chosen.setdefault("profile", DEFAULT_PROFILE)
    last = root / "data" / "derived" / "run.json"
    settings = read_json(last) if last.exists() else {}
    if settings.get("profile") == profile:
        known = ("dataset", "data_root", "seed", "perceptual")
        chosen = {key: settings[key] for key in known} | chosen
    print(f"bench     profile {profile}; a single process measures, so leave the machine alone meanwhile", flush=True)
    loaded = configured(profile, seed=chosen.get("seed", ""), perceptual=chosen.get("perceptual", ""))
    frames = load_frames(root, loaded, chosen.get("dataset", ""), chosen.get("data_root", ""))
    reports = root / "reports" / results_name(loaded, frames) / "bench"
    source = root / "notebooks" / f"{NOTEBOOK}.ipynb"
    execute_notebook(root, source, chosen, folder=reports / "notebooks", name=NOTEBOOK)
    convert_notebooks(reports / "notebooks")
    page = reports / "index.html"
    print(f"report    {page.relative_to(root)}")
    return page
