"""Execute one notebook as a Make target: only if what it depends on has changed, and never half.

The notebook runs under a working name; when it has ended well it moves to its place, and a manifest with the digests
of all it depended on is written last. A notebook that fails is kept aside, with its error, and leaves no manifest.
"""

import contextlib
import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from vqad_lib import __version__
from vqad_lib.config import section_digest_source
from vqad_lib.errors import VqadError
from vqad_lib.experiment.digests import digest, notebook_digest
from vqad_lib.experiment.run import configured, last_run
from vqad_lib.files import first_line, read_json, write_json
from vqad_lib.pipeline.graph import Stage, notebook_table

SHOW_PROGRESS_EVERY_S = 10.0
INSTALL_EXTRAS = "pip install --require-hashes -r requirements-extra.lock"
_MAKE_ROOM = "free space or make the folder writable, then run again"


def run_stage(root: Path, stage: Stage) -> bool:
    """Execute the notebook unless its manifest is up to date.

    Returns:
        Whether it was executed.

    Raises:
        VqadError: the notebook failed; the message is the error's own, and where the failed notebook is kept.
    """
    settings, entry = last_run(root), notebook_table(root)[stage.notebook]
    manifests = root / "data" / "derived" / settings["results"] / "manifests"
    manifest_path = manifests / f"{stage.name}.json"
    packages = {package: _version(package) for package in entry.get("packages", [])}
    needed = [read_json(manifests / f"{name}.json")["inputs"] for name in stage.needs]
    wanted = _inputs_digest(root, stage, settings, entry["profile"], packages, needed)
    outputs = _outputs(stage, settings, entry.get("outputs", []))
    if manifest_path.exists():
        manifest = read_json(manifest_path)
        if manifest["inputs"] == wanted and all((root / output).exists() for output in outputs):
            os.utime(manifest_path)
            return False
    manifest_path.unlink(missing_ok=True)
    for package in (package for package, version in packages.items() if not version):
        lacking = f"{stage.name} goes on without {package}, which is not installed; to have its rows:"
        print(f"note      {lacking} {INSTALL_EXTRAS}", file=sys.stderr, flush=True)
    started, revision = time.time(), code_revision(root)
    parameters = {key: settings[key] for key in ("profile", "dataset", "data_root", "seed", "perceptual")}
    executed = root / "reports" / settings["results"] / "notebooks" / f"{stage.name}.ipynb"
    execute_notebook(root, stage.notebook, parameters | stage.parameters, executed)
    if stage.replicate:  # it reads as the first seed's
        executed.unlink()
    missing = [output for output in outputs if not (root / output).exists()]
    if missing:
        raise VqadError(f"{stage.name} ended without writing {', '.join(missing)}")
    manifest = {
        "stage": stage.name,
        "inputs": wanted,
        "outputs": outputs,
        "seconds": round(time.time() - started, 1),
        "run": int(os.environ.get("VQAD_STARTED") or started),  # when this `make paper` began
        **revision,
        "started_at": round(started),
        "finished_at": round(time.time()),
    }
    write_json(manifest_path, manifest)
    return True


def _inputs_digest(
    root: Path, stage: Stage, settings: dict, sections: list[str], packages: dict[str, str], needed: list[str]
) -> str:
    options = {"seed": settings["seed"], "perceptual": settings["perceptual"], "replicate": stage.replicate}
    profile = configured(settings["profile"], **options)
    named = [section.format(**stage.parameters) for section in sections]
    return digest(
        __version__,
        notebook_digest(root, root / "notebooks" / f"{stage.notebook}.ipynb"),
        section_digest_source(profile, [*named, "name", "seed", "threads_per_stage"]),
        settings["data_digest"],
        json.dumps(stage.parameters, sort_keys=True),
        *(f"{package} {version}" for package, version in packages.items()),
        *needed,
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _outputs(stage: Stage, settings: dict, templates: list[str]) -> list[str]:
    """Files that the stage must leave, relative to the root; a replicate's lie in a folder of its seed."""
    results = settings["results"]
    aside = f"seed_{int(settings['seed']) + stage.replicate}/" if stage.replicate else ""
    values = {"results": results, "replicate_folder": aside, **stage.parameters}
    files = [template.format(**values) for template in templates]
    if "pdf" in settings.get("formats", ""):
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
        VqadError: the notebook has no such parameter, it failed, or a disk is full.
    """
    import papermill  # seconds to import, and most calls have nothing to do
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    source, name = root / "notebooks" / f"{notebook}.ipynb", executed.stem
    working, failed = (executed.parent / folder / executed.name for folder in (".working", "failed"))
    known = papermill.inspect_notebook(str(source))
    unknown = sorted(set(parameters) - set(known))
    if unknown:  # of which papermill only warns
        raise VqadError(f"{source.name} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    try:
        working.parent.mkdir(parents=True, exist_ok=True)
        failed.unlink(missing_ok=True)
        with _progress_shown(name), tempfile.TemporaryDirectory(dir=_place_for_sockets()) as sockets:
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
        os.replace(working, executed)
    except (papermill.PapermillExecutionError, DeadKernelError) as error:
        failed.parent.mkdir(parents=True, exist_ok=True)
        os.replace(working, failed)
        if isinstance(error, DeadKernelError):
            reason = "DeadKernelError: Kernel died; if memory ran out, run fewer at a time with JOBS=1"
        else:
            kind = "" if error.ename == "VqadError" else f"{error.ename}: "
            reason = kind + " ".join(str(error.evalue).split())
            if kind and os.strerror(errno.ENOSPC) in reason:
                reason += f"; {_MAKE_ROOM}"
        raise VqadError(f"{name} failed: {reason} (the notebook with its error: {failed.relative_to(root)})") from error
    except RuntimeError as error:
        reason = f"its kernel did not start ({first_line(error)}); is ipykernel in the environment of {sys.executable}?"
        raise VqadError(f"{name} failed: {reason}") from error
    except OSError as error:
        what = error.filename or executed.relative_to(root)
        raise VqadError(f"cannot write {what}: {error.strerror or error}; {_MAKE_ROOM}") from error


def _place_for_sockets() -> str | None:
    """/tmp, or else TMPDIR: a socket's path has room for some hundred characters, and not every disk holds sockets."""
    return "/tmp" if os.access("/tmp", os.W_OK) else None


def _strip_papermill_metadata(path: Path) -> None:
    """Leave out times and paths of this machine, so that two equal runs give equal notebooks where they can."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["metadata"].pop("papermill", None)
    for cell in notebook["cells"]:
        if "injected-parameters" in cell["metadata"].get("tags", []):
            cell["id"] = "injected-parameters"  # papermill draws one at random
        cell["metadata"].pop("papermill", None)
        cell["metadata"].pop("execution", None)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _progress_shown(name: str) -> Iterator[None]:
    """Show on the terminal, every few seconds, the newest progress of the kernel; see `vqad_lib.progress`."""
    ended = threading.Event()

    def show(file: Path, last: str = "") -> None:
        while not ended.wait(SHOW_PROGRESS_EVERY_S):
            line = file.read_text(encoding="utf-8") if file.exists() else ""
            if line and line != last:
                print(f"    {name} | {line}", file=sys.stderr, flush=True)
                last = line

    with tempfile.TemporaryDirectory() as folder:
        os.environ["VQAD_PROGRESS_FILE"] = f"{folder}/progress"
        thread = threading.Thread(target=show, args=(Path(folder) / "progress",), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            del os.environ["VQAD_PROGRESS_FILE"]


def code_revision(root: Path) -> dict[str, object]:
    """git_revision ("unknown" outside git), and git_changes: whether code, notebooks or profiles differ from it."""
    changes = _git(root, "status", "--porcelain", "--untracked-files=normal", "--", "vqad_lib", "notebooks", "profiles")
    return {"git_revision": _git(root, "rev-parse", "HEAD"), "git_changes": changes not in ("", "unknown")}


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def announce(root: Path, name: str, *, ended: bool) -> str:
    """One line for the terminal: stages done, time since the start, and about how much is left.

    The stages of the run, its start and how many go on at a time come from the environment that the Makefile sets:
    VQAD_STAGES (names), VQAD_STARTED (seconds since the epoch) and VQAD_JOBS. What a stage takes is known from the last
    report, else it is the average of those known.
    """
    results = last_run(root)["results"]
    stages = os.environ.get("VQAD_STAGES", name).split()
    started = float(os.environ.get("VQAD_STARTED") or time.time())
    manifests = {stage: root / "data" / "derived" / results / "manifests" / f"{stage}.json" for stage in stages}
    done = {stage for stage, path in manifests.items() if path.exists() and path.stat().st_mtime >= started - 1}
    record = root / "reports" / results / "provenance.json"
    recorded = read_json(record).get("stages", {}) if record.exists() else {}
    known = [recorded[stage]["seconds"] for stage in stages if stage in recorded and stage not in done]
    seconds_each = sum(known) / len(known) if known else (time.time() - started) / max(len(done), 1)
    jobs = max(int(os.environ.get("VQAD_JOBS") or 1), 1) if known else 1
    remaining = "no estimate yet"
    if len(done) == len(stages):
        remaining = "last stage"
    elif known or done:
        remaining = f"about {_clock(seconds_each * (len(stages) - len(done)) / jobs)} left"
    count = f"{len(done):2d}/{len(stages)} {_clock(time.time() - started)}"
    return f"[{count}, {remaining}] {'done ' if ended else 'start'} {name}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
