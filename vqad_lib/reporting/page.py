"""What pages have in common: the template, one table or figure in it, and the facts of a run."""

import os
import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from PIL import Image

from vqad_lib.errors import VqadError
from vqad_lib.reporting.comparison import html_table
from vqad_lib.reporting.tables import labels_of, load_notes, load_table

_SUFFIX_TITLES = {
    "_official": "split official",
    "_paper": "split paper",
    "_curves": "ROC and precision-recall curves",
}


def page_template(name: str) -> jinja2.Template:
    """A template of this folder; text is escaped, a missing variable is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vqad_lib.reporting", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["lambdas"] = lambda text: Markup(re.sub(r"λ_(\w+)", r"λ<sub>\1</sub>", str(escape(text))))
    return environment.get_template(name)


def table_body(folder: Path, number: int, suffix: str, name: str | None, *, link: str = "tables/") -> dict[str, Any]:
    """One saved table, as `body_of` of page_parts.html.j2 shows it; a table with a suffix is folded.

    Args:
        folder, number, suffix, name: see `tables.load_table`.
        link: from the page to the folder.
    """
    frame = load_table(folder, number, suffix, name)
    labels = labels_of(frame)
    stem = name if name is not None else f"table_{number:02d}"
    return {
        "kind": "table",
        "variant": variant_title(suffix),
        "fold": bool(suffix),
        "html": html_table(frame, table=number if name is None else None),
        "labels": labels.line() if labels else "",
        "notes": load_notes(folder, number, suffix, name),
        "csv": f"{link}{stem}{suffix}.csv",
    }


def variant_title(suffix: str) -> str:
    """What a suffix of a file name means: "_official" is "split official"; "" is ""."""
    return _SUFFIX_TITLES.get(suffix, suffix.strip("_").replace("_", " "))


def figure_body(path: Path, reports: Path, alt: str, variant: str = "") -> dict[str, Any]:
    """One saved figure, as `body_of` of page_parts.html.j2 shows it.

    Args:
        path: of the PNG.
        reports: the page's folder.
        alt: what the figure shows, for who cannot see it.
        variant: a line above the figure, where there are several of the same number.

    Raises:
        VqadError: the figure cannot be read.
    """
    try:
        with Image.open(path) as image:
            width_px, height_px = image.size
    except OSError as error:
        raise VqadError(f"cannot read {path}: {error}; delete it and run its notebook again") from error
    link = Path(os.path.relpath(path, reports)).as_posix()
    pdf = link.removesuffix(".png") + ".pdf" if path.with_suffix(".pdf").exists() else ""
    # drawn at 200 dpi: half its pixels is its size on a page at 100 dpi
    size = {"width": width_px // 2, "height": height_px // 2}
    return {"kind": "figure", "fold": False, "variant": variant, "src": link, "pdf": pdf, "alt": alt, **size}


_TITLES = {
    "data_card": "Data card: sizes and class balance of each split",
    "claim_1_codebook": "Claim 1: a perceptual codebook helps",
    "claim_2_spatial": "Claim 2: local spatial dependencies matter for restoration",
    "claim_3_light": "Claim 3: light pixel-wise detection is as good as full",
    "fidelity": "What the choices where paper and code differ do to the numbers",
    "capacity": "Capacity: scores over latent dimension and codebook size",
    "leak": "The leak: how near test frames are to training frames",
    "leak_in_time": "The leak in time: AUROC by distance to the training frames",
    "official_auroc": "Split official: AUROC, averaged in each way in use",
    "training": "Training curves, one for each network",
    "threshold_sweeps": "Percentiles of λ on validation, ours beside the paper’s",
}
_WORDS = {"vqvae": "VQ-VAE", "vqgan": "VQ-GAN", "pixelsnail": "+ PixelSNAIL", "gpt2": "+ GPT-2"}
_WORDS |= {"paper": "on split paper", "official": "on split official"}


def title_of(name: str) -> str:
    """A file name for people: "training_vqgan_gpt2_paper" is "Training of VQ-GAN + GPT-2 on split paper"."""
    if name in _TITLES:
        return _TITLES[name]
    first, *others = name.split("_")
    words = ["Training of"] if first == "training" and others else [first.capitalize()]
    return " ".join(words + ([_WORDS.get(word, word) for word in others] if first == "training" else others))


def fact_lines(provenance: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts of a run as pairs of name and text, the usual ones first."""
    order = ("profile", "dataset", "perceptual", "hardware", "seeds", "seed", "time", "code", "versions")
    keys = [key for key in order if key in provenance] + sorted(key for key in provenance if key not in order)
    names = {"dataset": "data", "perceptual": "perceptual network"}
    return [(names.get(key, key.replace("_", " ")), _fact(provenance[key])) for key in keys]


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_fact(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
