"""Execute one notebook as a Make target: only if what it depends on has changed, and never half.

The notebook runs under a working name; when it has ended well it moves to its place, and a manifest with the digests
of all it depended on is written last. A notebook that fails is kept aside, with its error, and leaves no manifest.
"""

import errno
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import yaml

from vqad_lib import __version__
from vqad_lib.config import section_digest_source
from vqad_lib.errors import VqadError
from vqad_lib.files import first_line, read_json, write_json
from vqad_lib.workflow import lock
from vqad_lib.workflow.digests import digest, notebook_digest
from vqad_lib.workflow.environment import socket_folder
from vqad_lib.workflow.provenance import code_revision
from vqad_lib.workflow.settings import configured, last_run

SHOW_PROGRESS_EVERY_S = 10.0
INSTALL_EXTRAS = "pip install --require-hashes -r requirements-extra.lock"
_MAKE_ROOM = "free space or make the folder writable"


@dataclass(frozen=True)
class Stage:
    """One execution of one notebook.

    Attributes:
        root: of the repository.
        notebook: its stem, for example "02_train_autoencoder".
        parameters: what distinguishes this execution, for example {"autoencoder": "vqvae", "protocol": "paper"}.
        needs: names of the stages before it.
    """

    root: Path
    notebook: str
    parameters: dict[str, str]
    needs: tuple[str, ...]

    @property
    def name(self) -> str:
        """Notebook and parameter values, for example "02_train_autoencoder_vqvae_paper", then "replicate1"."""
        values = (f"replicate{value}" if key == "replicate" else value for key, value in self.parameters.items())
        return "_".join([self.notebook, *values])

    @property
    def replicate(self) -> int:
        """How many seeds after the first one; see `make SEEDS=`."""
        return int(self.parameters.get("replicate", 0))

    @property
    def source(self) -> Path:
        """The notebook itself."""
        return self.root / "notebooks" / f"{self.notebook}.ipynb"


def run_stage(stage: Stage) -> bool:
    """Execute the notebook unless its manifest is up to date.

    Returns:
        Whether it was executed.

    Raises:
        VqadError: the notebook failed; the message is the error's own, and where the failed notebook is kept.
    """
    settings = last_run(stage.root)
    manifests = stage.root / "data" / "derived" / settings["results"] / "manifests"
    manifest_path = manifests / f"{stage.name}.json"
    lock.keep(stage.root)
    wanted = _inputs_digest(stage, settings, manifests)
    outputs = _outputs(stage, settings)
    if manifest_path.exists():
        manifest = read_json(manifest_path)
        if manifest["inputs"] == wanted and all((stage.root / output).exists() for output in manifest["outputs"]):
            os.utime(manifest_path)
            return False
    manifest_path.unlink(missing_ok=True)
    for package, version in _packages(stage).items():
        if not version:
            lacking = f"{stage.name} goes on without {package}, which is not installed; to have its rows:"
            print(f"note      {lacking} {INSTALL_EXTRAS}", file=sys.stderr, flush=True)
    started, revision = time.time(), code_revision(stage.root)
    try:
        _execute(stage, settings)
    except OSError as error:
        what = error.filename or f"reports/{settings['results']}/notebooks/{stage.name}.ipynb"
        reason = error.strerror or str(error)
        raise VqadError(f"cannot write {what}: {reason}; {_MAKE_ROOM}, then run again") from error
    missing = [output for output in outputs if not (stage.root / output).exists()]
    if missing:
        raise VqadError(f"{stage.name} ended without writing {', '.join(missing)}")
    write_json(
        manifest_path,
        {
            "stage": stage.name,
            "inputs": wanted,
            "outputs": outputs,
            "seconds": round(time.time() - started, 1),
            "sitting": int(os.environ.get("VQAD_STARTED") or started),  # when this `make paper` began
            **revision,
            "started_at": round(started),
            "finished_at": round(time.time()),
        },
    )
    return True


def stage_table(root: Path) -> dict[str, dict]:
    """notebooks/stages.yaml: what each notebook depends on and makes."""
    return yaml.safe_load((root / "notebooks" / "stages.yaml").read_text(encoding="utf-8"))


def _inputs_digest(stage: Stage, settings: dict, manifests: Path) -> str:
    entry = stage_table(stage.root)[stage.notebook]
    options = {"seed": settings["seed"], "perceptual": settings["perceptual"], "replicate": stage.replicate}
    profile = configured(settings["profile"], **options)
    sections = [section.format(**stage.parameters) for section in entry["profile"]]
    return digest(
        __version__,
        notebook_digest(stage.root, stage.source),
        section_digest_source(profile, [*sections, "name", "seed", "threads_per_stage"]),
        settings["data_digest"],
        json.dumps(stage.parameters, sort_keys=True),
        *(f"{package} {version}" for package, version in _packages(stage).items()),
        *(read_json(manifests / f"{need}.json")["inputs"] for need in stage.needs),
    )


def _packages(stage: Stage) -> dict[str, str]:
    """The extra packages of a stage and their versions, "" where one is not installed."""
    versions = {}
    for package in stage_table(stage.root)[stage.notebook].get("packages", []):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = ""
    return versions


def _outputs(stage: Stage, settings: dict) -> list[str]:
    """Files that the stage must leave, relative to the root; a replicate's lie in a folder of its seed."""
    templates, results = stage_table(stage.root)[stage.notebook].get("outputs", []), settings["results"]
    aside = f"seed_{int(settings['seed']) + stage.replicate}/" if stage.replicate else ""
    values = {"results": results, "replicate_folder": aside, **stage.parameters}
    return [f"reports/{results}/notebooks/{stage.name}.ipynb", *(t.format(**values) for t in templates)]


def _execute(stage: Stage, settings: dict) -> None:
    parameters = {key: settings[key] for key in ("profile", "dataset", "data_root", "seed", "perceptual")}
    folder = stage.root / "reports" / settings["results"] / "notebooks"
    execute_notebook(stage.root, stage.source, parameters | stage.parameters, folder=folder, name=stage.name)


def execute_notebook(root: Path, source: Path, parameters: dict[str, str], *, folder: Path, name: str) -> Path:
    """Execute a notebook under a working name; what has ended well moves to `folder/<name>.ipynb`.

    Args:
        root: of the repository.
        source: the notebook.
        parameters: for its cell of that tag.
        folder: a failed notebook is kept in its `failed/`.

    Raises:
        VqadError: the notebook has no such parameter, or it failed.
    """
    import papermill  # seconds to import, and most calls have nothing to do
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    _check_parameters(source, parameters, papermill.inspect_notebook(str(source)))
    working, failed = folder / ".working" / f"{name}.ipynb", folder / "failed" / f"{name}.ipynb"
    working.parent.mkdir(parents=True, exist_ok=True)
    failed.unlink(missing_ok=True)
    try:
        with _ProgressLines(root, name), socket_folder() as sockets:
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
    except (papermill.PapermillExecutionError, DeadKernelError) as error:
        failed.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(working, failed)
        if isinstance(error, DeadKernelError):
            kind, reason = "DeadKernelError: ", "Kernel died; if memory ran out, run fewer at a time with JOBS=1"
        else:
            reason = " ".join(str(error.evalue).split())
            kind = "" if error.ename == "VqadError" else f"{error.ename}: "
            if kind and os.strerror(errno.ENOSPC) in reason:
                reason += f"; {_MAKE_ROOM}, then run again"
        kept = failed.relative_to(root)
        raise VqadError(f"{name} failed: {kind}{reason} (the notebook with its error: {kept})") from error
    except RuntimeError as error:
        reason = f"its kernel did not start ({first_line(error)}); is ipykernel in the environment of {sys.executable}?"
        raise VqadError(f"{name} failed: {reason}") from error
    _strip_papermill_metadata(working)
    os.replace(working, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


def _check_parameters(source: Path, parameters: dict, known: dict) -> None:
    """Papermill only warns of a parameter that the notebook does not have."""
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise VqadError(f"{source.name} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(known))}")


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


class _ProgressLines:
    """Show on the terminal, every few seconds, the newest progress of the kernel; see `vqad_lib.progress`."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name, self.ended = root, name, threading.Event()
        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name) / "progress"

    def __enter__(self) -> None:
        os.environ["VQAD_PROGRESS_FILE"] = str(self.file)
        self.thread = threading.Thread(target=self._show, daemon=True)
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()
        os.environ.pop("VQAD_PROGRESS_FILE", None)
        self.folder.cleanup()

    def _show(self) -> None:
        last = ""
        while not self.ended.wait(SHOW_PROGRESS_EVERY_S):
            lock.keep(self.root)
            line = self.file.read_text(encoding="utf-8") if self.file.exists() else ""
            if line and line != last:
                print(f"    {self.name} | {line}", file=sys.stderr, flush=True)
                last = line
