"""Where benchmarks go: a CSV and notes per table, a figure, and one page of them all, readable from disk."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmarks import reference_implementations as reference
from vqad_lib import __version__
from vqad_lib.experiment.run import Run, RunInfo
from vqad_lib.files import write_text
from vqad_lib.models.registry import PRIORS
from vqad_lib.pipeline.notebooks import code_revision
from vqad_lib.pipeline.provenance import machine
from vqad_lib.reporting.figures import save_figure
from vqad_lib.reporting.report import page_body, page_template
from vqad_lib.reporting.tables import markdown_table, save_table

# what the page shows, in this order: key -> title, tables, figures. The notes of the tables are in NOTES.
SECTIONS = {
    "restoration": ("Pixel-wise restoration: plain against fast", ["restoration"], ["restoration"]),
    "detectors": ("Images per second of the detectors", ["detectors"], ["detectors"]),
    "training": ("Training: images and tokens per second", ["training"], []),
    "training_settings": ("Fast and plain training settings learn the same", ["training_settings"], ["loss_curves"]),
    "likelihood": ("Likelihood of a batch of images", ["likelihood"], []),
    "inference": ("Settings of inference: what pays, and what it changes", ["inference"], []),
    "memory": ("Peak memory as the number of images grows", ["memory"], ["memory"]),
    "scaling": ("Growth of the cost of restoration", ["scaling_exponents", "scaling"], ["scaling"]),
    "ceiling": ("Share of the measured roofline", ["ceiling"], ["ceiling"]),
}
NOTES = {
    "restoration": (
        "plain: the paper's algorithm, a full pass of the prior before each position, all rows in one batch. fast: "
        "incremental decoding, each distinct prefix of codes evaluated once. jump_ahead: one pass per replaced code. "
        "Same grids, same noise, in turns. Medians, with the quickest and the slowest call. equal_codes: the fraction "
        "of codes that are plain's, of the other two whichever has fewer; 1 only if all are equal. quickest: of these "
        "two; detectors.restoration_algorithm chooses."
    ),
    "detectors": (
        "From images in memory to one score per image, each detector by itself, so encoding is part of all. "
        "times_light: seconds per image over those of light pixel-wise detection."
    ),
    "training": (
        "Steps of training, batches of the profile's size. plain: frames copied as floats batch by batch, contiguous "
        "networks, an optimiser that goes through the parameters one by one, gradients zeroed, each loss read at "
        "once. fast: the settings in use. MONAI's VQ-VAE has our halvings, residual blocks, codes and code dimensions, "
        "and widths that bring it to our number of parameters; it has no attention and no normalisation, so a step of "
        "it is less work: see gflop_per_step."
    ),
    "training_settings": (
        "Both settings from the same initial weights on the same batches, seed by seed. final_loss: mean over the "
        "seeds of eq. 7 in the last tenth of the steps, with the lowest and the highest seed. farthest_apart: the "
        "largest difference between the settings at one seed; within noise if it is small beside the seeds' spread."
    ),
    "likelihood": (
        "-log p of every code under our GPT-2, and under MONAI's transformer of the same layers, heads and width "
        "through its VQVAETransformerInferer.get_likelihood. Rows from images include the encoder."
    ),
    "inference": (
        "float32: the settings in use, on which the promise of equal codes rests. ratio: seconds of float32 over "
        "these. equal_codes: share of the codes that float32 gives. largest_difference: of an image in [-1, 1], or of "
        "a code's NLL in nats."
    ),
    "memory": (
        "Scoring random frames with the networks of profile smoke, each row in a process of its own. "
        "peak_increase_mib: the most memory taken during it, beyond what was there after a first chunk."
    ),
    "scaling": "Random weights. Rows of plain that would have taken too long are left out.",
    "scaling_exponents": "p in seconds = c · value^p, by least squares of the logarithms.",
    "ceiling": (
        "Operations of matrix products, convolutions and attention, as torch counts them, per second, over those of "
        "large square matrix products in the same run."
    ),
}


@dataclass(frozen=True)
class Results:
    """The folders of one run of the benchmarks.

    Attributes:
        reports: gets NAME.csv, NAME.txt and index.html.
        figures: gets NAME.png.
        labels: what every table and figure says of itself.
    """

    reports: Path
    figures: Path
    labels: RunInfo

    def table(self, name: str, frame: pd.DataFrame) -> str:
        """Write a table and return it as Markdown."""
        save_table(frame, name, labels=self.labels, folder=self.reports, notes=NOTES[name])
        return markdown_table(frame)

    def figure(self, name: str, figure: Figure) -> None:
        """Write a figure and close it."""
        save_figure(figure, name, labels=self.labels, folder=self.figures)

    def page(self, facts: dict[str, Any], left_out: list[str]) -> Path:
        """Write index.html from the tables and figures that are there.

        Args:
            facts: of the run: profile, dataset, hardware, versions, ...
            left_out: what was not measured and how to have it, a sentence each.
        """
        page = page_template("benchmarks.html.j2").render(
            profile=self.labels.profile,
            facts=facts,
            left_out=left_out,
            networks=facts.get("networks", ""),
            glance=self._glance(),
            sections=[self._section(key) for key in SECTIONS],
        )
        write_text(self.reports / "index.html", page)
        return self.reports / "index.html"

    def _section(self, key: str) -> dict[str, Any]:
        title, tables, figures = SECTIONS[key]
        drawn = [self.figures / f"{name}.png" for name in figures]
        bodies = [page_body(path, self.reports, alt=title) for path in drawn if path.exists()]
        made = [name for name in tables if (self.reports / f"{name}.csv").exists()]
        bodies += [page_body(self.reports / f"{name}.csv", self.reports) for name in made]
        return {"key": key, "title": title, "bodies": bodies, "present": bool(bodies)}

    def _glance(self) -> list[tuple[str, str]]:
        """The restorations in a few words: how many times faster each prior is, and whether the codes are equal."""
        path = self.reports / "restoration.csv"
        if not path.exists():
            return []
        rows = pd.read_csv(path)
        found = []
        for prior, of_prior in rows.groupby("prior"):
            low, high = of_prior["ratio"].min(), of_prior["ratio"].max()
            found.append((f"{low:.1f} to {high:.1f} ×", f"{PRIORS[prior].title}: plain over fast restoration"))
        quicker = int((rows["quickest"] == "fast").sum())
        found.append((f"{quicker} of {len(rows)}", "rows in which incremental decoding is quicker than jumping ahead"))
        lowest = rows["equal_codes"].min()
        equal = "all" if lowest == 1 else f"{100 * lowest:.3f} %"
        return [*found, (equal, "codes equal" if lowest == 1 else "codes equal in the worst row")]


def run_facts(run: Run, *, networks: str, seconds: float) -> dict[str, Any]:
    """What the page says of a run: its profile and data, the machine, the versions, the time.

    Args:
        networks: "trained" or "random".
        seconds: that it took.
    """
    here = machine()
    return {
        "profile": run.profile.name,
        "dataset": run.frames.title,
        "perceptual": run.labels.perceptual,
        "seed": run.profile.seed,
        **here,
        "versions": here["versions"] | reference.installed_versions(),
        "time": f"{seconds / 60:.1f} min",
        "code": f"vqad {__version__}, revision {code_revision(run.root)}",
        "data_digest": run.frames.digest,
        "networks": networks,
        "threads": torch.get_num_threads(),
        "device": run.device.type,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def left_out(scaling: pd.DataFrame, memory: pd.DataFrame | None) -> list[str]:
    """What these results lack, and how to have it: libraries that are not installed, rows that take too long.

    Args:
        scaling: see `scaling_rows`.
        memory: see `memory_rows`; None where it could not be measured.
    """
    rows_of = {
        "monai": "its VQ-VAE beside ours in training, its transformer in likelihood",
        "anomalib": "GANomaly among the detectors",
    }
    missing = [
        f"{title} is not installed, so {rows_of[library]} is left out. {reference.REMEDY}"
        for library, title in reference.LIBRARIES.items()
        if not reference.is_installed(library)
    ]
    if memory is None:
        missing.append("Peak memory is left out: this system does not tell a process how much it has taken. Use Linux.")
    for (prior, axis), line in scaling.groupby(["prior", "axis"], sort=False):
        values = set(line["value"]) - set(line.loc[line["algorithm"] == "plain", "value"])
        if values:
            names = ", ".join(str(value) for value in sorted(values))
            missing.append(
                f"Plain {PRIORS[prior].title} at {axis} {names} is left out of the growth of cost: it would take too "
                "long. Raise benchmarks.once_above_s in the profile to have it."
            )
    return missing
