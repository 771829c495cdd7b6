"""Execute one notebook as a Make target: only if what it depends on has changed, and never half.

A stage is done if its manifest is there, and `configure` deletes those that do not hold any more. The notebook runs
under a working name; when it has ended well it moves to its place, and the manifest, with the digest of all it depended
on, is written last. A notebook that fails is kept aside, with its error, and leaves no manifest.
"""

import contextlib
import errno
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from graphlib import TopologicalSorter
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from vqad_lib import __version__
from vqad_lib.config import section_digest_source
from vqad_lib.errors import VqadError
from vqad_lib.experiment.digests import digest, notebook_digest
from vqad_lib.experiment.run import configured, last_run
from vqad_lib.files import first_line, flush, read_json, write_json
from vqad_lib.pipeline.graph import Stage, notebook_table

_MAKE_ROOM = "free space or make the folder writable, then run again"


def forget_stale(root: Path, stages: list[Stage], settings: dict[str, str]) -> None:
    """Delete the manifests that do not hold any more: what a stage depends on has changed, or an output is gone.

    Args:
        stages: of all targets.
        settings: see `last_run`.
    """
    by_name, wanted, digest_of = {stage.name: stage for stage in stages}, {}, _inputs_digests(root, settings)
    table = notebook_table(root)
    for name in TopologicalSorter({stage.name: stage.needs for stage in stages}).static_order():
        stage, path = by_name[name], manifest(root, settings, name)
        wanted[name] = digest_of(stage, wanted)
        there = [(root / output).exists() for output in _outputs(stage, settings, table[stage.notebook])]
        if path.exists() and not (read_json(path)["inputs"] == wanted[name] and all(there)):
            path.unlink()


def run_stage(root: Path, stage: Stage) -> None:
    """Execute the notebook of a stage of the last run, and write its manifest.

    Raises:
        VqadError: the notebook failed; the message is the error's own, and where the failed notebook is kept.
    """
    settings, path = last_run(root), manifest(root, last_run(root), stage.name)
    needed = {name: read_json(manifest(root, settings, name))["inputs"] for name in stage.needs}
    inputs = _inputs_digests(root, settings)(stage, needed)
    outputs = _outputs(stage, settings, notebook_table(root)[stage.notebook])
    path.unlink(missing_ok=True)
    started, revision = time.time(), code_revision(root)  # as it is now, whatever somebody edits meanwhile
    parameters = {key: settings[key] for key in ("profile", "dataset", "data_root", "seed", "perceptual")}
    executed = root / "reports" / settings["results"] / "notebooks" / f"{stage.name}.ipynb"
    execute_notebook(root, stage.notebook, parameters | stage.parameters, executed)
    if stage.replicate:  # it reads as the first seed's
        executed.unlink()
    missing = [output for output in outputs if not (root / output).exists()]
    if missing:
        raise VqadError(f"{stage.name} ended without writing {', '.join(missing)}")
    seconds = round(time.time() - started, 1)
    record = {"inputs": inputs, "outputs": outputs, "seconds": seconds, "code": revision, "run": settings["started"]}
    write_json(path, record)


def manifest(root: Path, settings: dict[str, str], name: str) -> Path:
    """What says that a stage of a run has ended, and with what."""
    return root / "data" / "derived" / settings["results"] / "manifests" / f"{name}.json"


# every table and figure says them
_IN_LABELS = ("name", "seed", "gan.perceptual_network", "gan.perceptual_weights")


def _inputs_digests(root: Path, settings: dict[str, str]) -> Callable[[Stage, dict[str, str]], str]:
    """What digests all that a stage depends on, with the digests of at least those that it needs; read once."""
    table, notebook_of = notebook_table(root), functools.cache(functools.partial(notebook_digest, root))
    profile = configured(settings["profile"], seed=settings["seed"], perceptual=settings["perceptual"])

    def digest_of(stage: Stage, digests: dict[str, str]) -> str:
        entry, own = table[stage.notebook], replace(profile, seed=profile.seed + stage.replicate)
        named = [section.format(**stage.parameters) for section in entry["profile"]]
        return digest(
            __version__,
            notebook_of(root / "notebooks" / f"{stage.notebook}.ipynb"),
            section_digest_source(own, [*named, *_IN_LABELS, "threads_per_stage"]),
            settings["data_digest"],
            json.dumps(stage.parameters, sort_keys=True),
            *(f"{name} {version(name) if find_spec(name) else ''}" for name in entry.get("packages", [])),
            *(digests[name] for name in stage.needs),
        )

    return digest_of


def _outputs(stage: Stage, settings: dict[str, str], entry: dict) -> list[str]:
    """Files that the stage must leave, relative to the root; a replicate's lie in a folder of its seed."""
    results, templates = settings["results"], entry.get("outputs", [])
    aside = f"seed_{int(settings['seed']) + stage.replicate}/" if stage.replicate else ""
    files = [path.format(results=results, replicate_folder=aside, **stage.parameters) for path in templates]
    if "pdf" in os.environ.get("VQAD_FIGURE_FORMATS", ""):
        files += [f"{file.removesuffix('.png')}.pdf" for file in files if file.endswith(".png")]
    return files if stage.replicate else [f"reports/{results}/notebooks/{stage.name}.ipynb", *files]


def execute_notebook(root: Path, notebook: str, parameters: dict[str, str], executed: Path) -> None:
    """Execute a notebook under a working name; what has ended well moves to its place.

    Args:
        root: of the repository.
        notebook: the stem of one in notebooks/.
        parameters: for its cell of that tag.
        executed: its place; one that fails is kept in `failed/` beside it.

    Raises:
        VqadError: the notebook failed, or a disk is full.
    """
    # papermill's jsonschema would compile a grammar of web addresses for a second, in every stage; it does without
    sys.modules.setdefault("rfc3987_syntax", None)
    import papermill  # seconds to import, and most calls have nothing to do
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    source, name = root / "notebooks" / f"{notebook}.ipynb", executed.stem
    working, failed = (executed.parent / folder / executed.name for folder in (".working", "failed"))
    try:
        working.parent.mkdir(parents=True, exist_ok=True)
        failed.unlink(missing_ok=True)
        # a socket's path has room for some hundred characters, and not every disk of a TMPDIR holds sockets
        short = "/tmp" if os.access("/tmp", os.W_OK) else None  # noqa: S108 - a folder of its own is made there
        with tempfile.TemporaryDirectory(dir=short) as sockets:
            _print_progress(Path(sockets) / "progress", name)
            papermill.execute_notebook(
                str(source),
                str(working),
                parameters=parameters,
                kernel_name="python3",
                progress_bar=False,
                cwd=str(root / "notebooks"),
                start_timeout=600,
                # sockets in a folder of their own instead of ports: kernels that start side by side cannot race
                config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            )
        _strip_papermill_metadata(working)
        flush(working)
        os.replace(working, executed)
    except (papermill.PapermillExecutionError, DeadKernelError) as error:
        failed.parent.mkdir(parents=True, exist_ok=True)
        os.replace(working, failed)
        reason = "DeadKernelError: Kernel died; if memory ran out, run fewer at a time with JOBS=1"
        if isinstance(error, papermill.PapermillExecutionError):
            reason = " ".join(f"{error.ename}: {error.evalue}".split()).removeprefix("VqadError: ")
        if os.strerror(errno.ENOSPC) in reason and _MAKE_ROOM not in reason:
            reason += f"; {_MAKE_ROOM}"
        raise VqadError(f"{name} failed: {reason} (the notebook with its error: {failed.relative_to(root)})") from error
    except RuntimeError as error:
        reason = f"its kernel did not start ({first_line(error)}); is ipykernel in the environment of {sys.executable}?"
        raise VqadError(f"{name} failed: {reason}") from error
    except OSError as error:
        what = error.filename or executed.relative_to(root)
        raise VqadError(f"cannot write {what}: {error.strerror or error}; {_MAKE_ROOM}") from error


def _print_progress(pipe: Path, name: str) -> None:
    """Print what the kernel, and processes that it starts, say of their progress; see `vqad_lib.progress`.

    They cannot do so themselves: what a kernel prints is in its notebook, and a log has one writer.
    """
    every_s = "10" if sys.stderr.isatty() else "60"
    os.environ |= {"VQAD_PROGRESS_FILE": str(pipe), "VQAD_PROGRESS_OF": name, "VQAD_PROGRESS_EVERY_S": every_s}
    os.mkfifo(pipe)
    lines = open(os.open(pipe, os.O_RDWR), encoding="utf-8", errors="replace")  # noqa: SIM115 -- it has no end
    threading.Thread(target=sys.stderr.writelines, args=[lines], daemon=True).start()


def _strip_papermill_metadata(path: Path) -> None:
    """Leave out times and paths of this machine, so that two equal runs give equal notebooks where they can."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["metadata"].pop("papermill", None)
    for cell in notebook["cells"]:
        if "injected-parameters" in cell["metadata"].get("tags", []):
            cell["id"] = "injected-parameters"  # papermill draws one at random
        cell["metadata"] = {"tags": cell["metadata"].get("tags", [])}
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def code_revision(root: Path) -> str:
    """The git revision, "unknown" outside git, and whether code, notebooks or profiles differ from it."""
    command = ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--"]
    command += ["vqad", "vqad_lib", "notebooks", "profiles"]
    try:
        said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    # headers "# branch.oid <revision>" and others, then a line for each file that differs
    return said[0].split()[-1] + ("" if said[-1].startswith("#") else " with changes that are not committed")


def how_far(root: Path, settings: dict[str, str], stages: list[Stage]) -> str:
    """How many of some stages are done, the time since the run began, and about how much is left.

    The profile's `expected_minutes` are shared out as in the last recorded run, and stretched to the seconds that the
    stages take here.
    """
    results = root / "reports" / settings["results"]
    records = sorted(root.glob("reports/*/*/provenance.json"), key=lambda path: path.parent != results)
    known = next((found for path in records if (found := read_json(path).get("stages"))), {})
    recorded = {name: stage["seconds"] for name, stage in known.items()}
    of_first_seed = [seconds for name, seconds in recorded.items() if "_replicate" not in name] or [1.0] * len(stages)
    usual, jobs = sum(of_first_seed) / len(of_first_seed), int(settings["jobs"])
    planned = {stage.name: recorded.get(stage.name.split("_replicate")[0], usual) for stage in stages}
    took = {}
    for name in planned:
        with contextlib.suppress(VqadError):  # it is not there
            took[name] = read_json(manifest(root, settings, name))["seconds"]
    done, total = sum(planned[name] for name in took), sum(planned.values())
    trust = total / 20  # in the profile: the first stages are quick, and say little about this machine
    expected = configured(settings["profile"]).expected_minutes * 60 * jobs / sum(of_first_seed)
    speed = (sum(took.values()) + trust * expected) / (done + trust)
    left = speed * (total - done) / min(jobs, max(len(planned) - len(took), 1))
    return f"{len(took):2d}/{len(planned)} {_clock(time.time() - int(settings['started']))}, about {_clock(left)} left"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
