"""What `make own-images` does: fit a detector to the normal images of a data set, and measure it on the others."""

import argparse
import re
import sys
from pathlib import Path

from vqad_lib.__main__ import RUN
from vqad_lib.__main__ import main as run
from vqad_lib.errors import VqadError
from vqad_lib.experiment.run import Run, configured, load_frames
from vqad_lib.files import repository_root, write_json, write_text
from vqad_lib.pipeline.notebooks import code_revision, execute_notebook
from vqad_lib.reporting.tables import labels_of, load_notes, load_table, markdown_table

NOTEBOOK = "40_own_images"
_SETTINGS = ("profile", "dataset", "data_root", "seed", "perceptual")


def main() -> int:
    """Read what make was given, and do it; a `VqadError` becomes one line on stderr and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m vqad.own_images", description=__doc__)
    for option in (*_SETTINGS, "minutes", "flips"):
        parser.add_argument(f"--{option.replace('_', '-')}", default="", help=RUN.get(option, "as of make"))
    parser.set_defaults(command=_run)
    return run(parser)


def _run(arguments: argparse.Namespace) -> None:
    try:
        minutes = float(arguments.minutes or 20)
    except ValueError as error:
        raise VqadError(f"MINUTES must be a number, got {arguments.minutes!r}") from error
    given = {key: getattr(arguments, key) for key in _SETTINGS}
    given["profile"] = given["profile"] or "workstation"
    given["dataset"] = given["dataset"] or ("auto" if given["data_root"] else "synthetic")
    own_images(repository_root(), given, minutes=minutes, flips=bool(arguments.flips))


def own_images(root: Path, given: dict[str, str], *, minutes: float, flips: bool) -> Path:
    """Fit a detector to the normal images of a data set, measure it on the others, and say where that stands.

    Args:
        given: profile, dataset, data_root, seed, perceptual; of the profile only the size of images counts, and the
            walkway.
        minutes, flips: of `VQAnomalyDetector`.

    Returns:
        reports/own_images/<data set>, or <data set>_hed and the like where a pretrained network judges too.

    Raises:
        VqadError: profile or data are not usable, or the notebook failed.
    """
    profile = configured(given["profile"], seed=given["seed"])
    frames = load_frames(root, profile, given["dataset"], given["data_root"])
    judge = f"_{Path(given['perceptual']).stem}" if given["perceptual"] not in ("", "none") else ""
    results = f"own_images/{Path(Run(root, profile, frames, device=None).results).name}{judge}"
    parameters = given | {"results": results, "minutes": minutes, "flips": flips}
    print(f"fit       {frames.title}, {minutes:g} minutes and a few more", flush=True)
    place, code = root / "reports" / results, code_revision(root)  # as it is now, whatever is edited meanwhile
    execute_notebook(root, NOTEBOOK, parameters, place / "notebooks" / f"{NOTEBOOK}.ipynb")
    facts = {"profile": profile.name, "dataset": frames.dataset, "trained": f"{minutes:g} minutes of training"}
    write_json(place / "provenance.json", facts | {"code": code, "data_digest": frames.digest})
    write_text(place / "README.md", _page(place, Path("../../../figures") / results / "own_images.png"))
    print(f"done      reports/{results}/README.md")
    return place


def _page(place: Path, picture: Path) -> str:
    """The tables of notebook 40 with its picture, Markdown."""
    by_kind, methods = (load_table(place, name) for name in ("by_kind", "methods"))
    title = re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", labels_of(by_kind).dataset)  # a folder may be called anything
    parts = [f"# A detector fitted to the normal images of {title}", load_notes(place, "by_kind")]
    parts += [f"![Images of each kind, and their heatmaps]({picture.as_posix()})", "## By kind of defect"]
    parts += [markdown_table(by_kind), "## By signal, and by other methods", markdown_table(methods)]
    return "\n\n".join([*parts, "What the columns mean: `notebooks/40_own_images.ipynb`.\n"])


if __name__ == "__main__":
    sys.exit(main())
