"""The commands behind the Makefile: `python -m vqad_lib {choose,stage,finish,train,score,bench,lab}`. People type
make instead.

`train` and `score` are what torchrun and srun start too, once per device.
"""

import argparse
import os
import sys

from vqad_lib.errors import VqadError
from vqad_lib.workflow.environment import enter_own_environment, repository_root


def main() -> int:
    """Run one command; a `VqadError` becomes one line on stderr and exit status 1."""
    arguments = _parser().parse_args()
    try:
        enter_own_environment()
        commands = {
            "choose": _choose,
            "stage": _stage,
            "finish": _finish,
            "train": _work,
            "score": _work,
            "bench": _bench,
            "lab": _lab,
        }
        commands[arguments.command](arguments)
    except VqadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vqad_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    choose = commands.add_parser("choose", help="pick profile and data, and say why")
    for option in ("profile", "dataset", "data-root", "seed", "seeds", "perceptual", "jobs"):
        choose.add_argument(f"--{option}", default="")
    stage = commands.add_parser("stage", help="execute one notebook if it is out of date")
    stage.add_argument("notebook")
    stage.add_argument("--parameter", "-p", action="append", default=[], metavar="NAME=VALUE")
    stage.add_argument("--needs", nargs="*", default=[])
    commands.add_parser("finish", help="write the provenance and the report")
    for name, what in (("train", "train a network"), ("score", "score a combination")):
        work = commands.add_parser(name, help=f"{what} if that is not done; alone, or started by torchrun or srun")
        work.add_argument("--autoencoder", required=True, choices=["vqvae", "vqgan"])
        work.add_argument("--prior", required=name == "score", choices=["pixelsnail", "gpt2"])
        work.add_argument("--protocol", required=True, choices=["paper", "official"])
        for option in ("profile", "dataset", "data-root", "seed", "perceptual"):
            work.add_argument(f"--{option}", help="as the last make paper, unless --profile is given")
        work.add_argument("--replicate", default="0", help="how many seeds after the given one; see make SEEDS=")
    bench = commands.add_parser("bench", help="measure what it costs")
    for option in ("profile", "dataset", "data-root", "seed", "perceptual", "networks"):
        bench.add_argument(f"--{option}", default="")
    lab = commands.add_parser("lab", help="explore the last run in JupyterLab")
    for option in ("profile", "dataset", "data-root", "seed", "perceptual"):
        lab.add_argument(f"--{option}", default="")
    lab.add_argument("options", nargs="*", help="of JupyterLab, after --")
    return parser


def _choose(arguments: argparse.Namespace) -> None:
    from vqad_lib.workflow.choose import choose
    from vqad_lib.workflow.lock import keep_until_exit

    options = {
        key: getattr(arguments, key)
        for key in ("profile", "dataset", "data_root", "seed", "seeds", "perceptual", "jobs")
    }
    root = repository_root()
    keep_until_exit(root)
    choose(root, **options)


def _stage(arguments: argparse.Namespace) -> None:
    from vqad_lib.workflow.estimate import announce
    from vqad_lib.workflow.notebooks import Stage, run_stage
    from vqad_lib.workflow.settings import last_run

    root = repository_root()
    parameters = dict(pair.split("=", 1) for pair in arguments.parameter)
    stage = Stage(root, arguments.notebook, parameters, tuple(arguments.needs))
    results = last_run(root)["results"]
    print(announce(root, stage.name, results, ended=False), flush=True)
    run_stage(stage)
    print(announce(root, stage.name, results, ended=True), flush=True)


def _finish(_arguments: argparse.Namespace) -> None:
    from vqad_lib.workflow.finish import finish

    finish(repository_root(), os.environ["VQAD_STAGES"].split())


def _work(arguments: argparse.Namespace) -> None:
    from vqad_lib.workflow.work import work

    keys = ("profile", "dataset", "data_root", "seed", "perceptual", "replicate")
    options = {key: getattr(arguments, key) for key in keys}
    names = {key: getattr(arguments, key) for key in ("autoencoder", "prior", "protocol")}
    work(repository_root(), arguments.command, options=options, **names)


def _bench(arguments: argparse.Namespace) -> None:
    from vqad_lib.workflow.bench import bench

    given = {key: value for key, value in vars(arguments).items() if key != "command"}
    bench(repository_root(), given)


def _lab(arguments: argparse.Namespace) -> None:
    from vqad_lib.workflow.lab import start_lab

    given = {key: value for key, value in vars(arguments).items() if key not in ("command", "options")}
    start_lab(repository_root(), given, arguments.options)


if __name__ == "__main__":
    sys.exit(main())
