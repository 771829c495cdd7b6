"""Start a command of vqad_lib in several processes with torchrun, and turn what goes wrong there into one line.

A notebook's kernel is one process, and cannot become several. So a stage that wants more devices (`make DEVICES=2`,
which exports VQAD_DEVICES) starts them as a command, and finds its files afterwards.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading

from vqad_lib.distributed.process import process
from vqad_lib.errors import VqadError
from vqad_lib.files import repository_root

ENDS_WITH_STARTER = "VQAD_ENDS_WITH_STARTER"


def devices_to_start() -> int:
    """How many processes training and scoring shall be started in: VQAD_DEVICES, and 1 within such a process.

    Raises:
        VqadError: VQAD_DEVICES is not a whole number of at least 1.
    """
    asked = os.environ.get("VQAD_DEVICES") or "1"
    if not re.fullmatch("0*[1-9][0-9]{0,5}", asked):
        raise VqadError(f"DEVICES must be a whole number of at least 1, got {asked!r}")
    return int(asked) if process().size == 1 else 1


def run_distributed(arguments: list[str]) -> None:
    """Run `python -m vqad_lib <arguments>` in `devices_to_start()` processes of this machine, and wait for them.

    What the processes print is printed here. If this process ends, whatever way, they end too.

    Args:
        arguments: a command that joins the others, `train` or `score`, and its options.

    Raises:
        VqadError: a process failed; the message is its own.
    """
    count = devices_to_start()
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command = [sys.executable, "-m", *torchrun, "-m", "vqad_lib", *arguments]
    environment = os.environ | {"VQAD_ROOT": str(repository_root()), ENDS_WITH_STARTER: "1"}
    environment.pop("VQAD_DEVICES", None)
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        with subprocess.Popen(command, env=environment, stderr=said, **streams) as started:
            try:
                for line in started.stdout:
                    print(line, end="", flush=True)
                status = started.wait()
            finally:
                started.terminate()  # torchrun passes it on; nothing happens where all has ended
        if status:
            said.seek(0)
            raise VqadError(_reason(said.read()) or f"`{' '.join(command)}` ended with status {status}")


def end_with_starter() -> bool:
    """In a process that `run_distributed` started: end as soon as the one that started it is gone.

    The starter holds the other end of this standard input. Killed, it cannot stop its torchrun, and torchrun, killed
    with it, cannot stop its processes; they would go on and write beside those of the next attempt.

    Returns:
        Whether this is such a process.
    """
    is_started = bool(os.environ.get(ENDS_WITH_STARTER))
    if is_started:
        threading.Thread(target=_wait_for_end_of_input, daemon=True).start()
    return is_started


def _wait_for_end_of_input() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def _reason(said: str) -> str:
    """What went wrong, from all that torchrun and its processes wrote: a line of ours, else the last exception's."""
    lines = [re.sub(r"^(\[rank\d+\]:)+ ?", "", line.rsplit("\r", 1)[-1]).strip() for line in said.splitlines()]
    own = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if own:
        return own[0]
    if any("SIGKILL" in line for line in lines):
        return "a process was killed; if memory ran out, lower the batch size or DEVICES"
    before_torchrun = lines[: next((i for i, line in enumerate(lines) if "torch/distributed/run.py" in line), None)]
    errors = [line for line in before_torchrun if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return errors[-1] if errors else ""
