"""Fit a detector to your own images (fit, score, evaluate, info); train, score and explore a run of the paper's.

For the latter most people type make instead, which does all of it; see `make help`. torchrun and srun start `train`,
`score-split` and `score`, once per device. The first two go on where they stopped, and do what the last `make paper`
would do with that network, unless a --profile is given.
"""

import argparse
import os
import sys
from collections.abc import Iterable

from vqad_lib.data.datasets import DATASETS
from vqad_lib.data.splits import SCHEMES
from vqad_lib.errors import VqadError
from vqad_lib.files import repository_root
from vqad_lib.models.registry import AUTOENCODERS, PRIORS
from vqad_lib.pipeline.environment import enter_own_environment

RUN = {
    "profile": "a file in profiles/, without its ending",
    "dataset": ", ".join(["auto", *DATASETS]),
    "data_root": "the folder that holds the data",
    "seed": "of initial weights, batches and restorations",
    "perceptual": "imagenet, hed, random, none, or a file of weights",
}


def main(parser: argparse.ArgumentParser | None = None) -> int:
    """Run one command, by default of this module; a `VqadError` becomes one line on stderr and exit status 1."""
    arguments = (parser or _parser()).parse_args()
    try:
        if not hasattr(arguments, "verb"):  # own images may lie anywhere, and need nothing of a run
            enter_own_environment()
        status = arguments.command(arguments) or 0
        sys.stdout.flush()
        return status
    except VqadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # who reads has read enough; what Python flushes at its end has nobody to go to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    from vqad.__main__ import add_verbs  # which imports this

    parser = argparse.ArgumentParser(
        prog="python -m vqad_lib",
        description=__doc__,
        epilog="make itself calls configure, stage and report: decide on a run, execute a notebook, write the page.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, function: object, options: Iterable[str], **texts: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, description=texts.get("help"), **texts)
        command.set_defaults(command=function)
        for option in options:
            option_help = RUN.get(option, "as of make")
            command.add_argument(f"--{option.replace('_', '-')}", default="", metavar=option.upper(), help=option_help)
        return command

    works = {"train": "train one network of a run", "score-split": "score a run's images with two trained networks"}
    for name, what in works.items():
        work = add(name, _work, RUN, help=what)
        work.set_defaults(scores=name == "score-split")
        work.add_argument("--autoencoder", required=True, choices=AUTOENCODERS)
        work.add_argument("--prior", required=name == "score-split", choices=PRIORS)
        work.add_argument("--scheme", required=True, choices=SCHEMES, help="how frames are split")
        work.add_argument("--replicate", default="0", help="how many seeds after the given one; see make SEEDS=")
    lab = add("lab", _lab, RUN, help="explore the last run in JupyterLab")
    lab.add_argument("options", nargs="*", help="of JupyterLab, after --")
    add("bench", _bench, (*RUN, "networks"), help="measure seconds, images per second and memory")
    add_verbs(commands)
    # without a help text they are not listed
    configure = add("configure", _configure, (*RUN, "seeds", "jobs"))
    configure.add_argument("make", nargs="*", help="after --: the command to become, with {jobs} for their number")
    stage = add("stage", _stage, ())
    stage.add_argument("name")
    add("report", _report, ())
    return parser


def _given(arguments: argparse.Namespace, *more: str) -> dict[str, str]:
    return {key: getattr(arguments, key) for key in (*RUN, *more)}


def _configure(arguments: argparse.Namespace) -> None:
    from vqad_lib.pipeline.configure import start_run

    start_run(repository_root(), arguments.make, **_given(arguments, "seeds", "jobs"))


def _stage(arguments: argparse.Namespace) -> None:
    from vqad_lib.experiment.run import last_run
    from vqad_lib.pipeline.graph import stages_by_target
    from vqad_lib.pipeline.notebooks import how_far, run_stage
    from vqad_lib.pipeline.provenance import report_so_far

    root, name = repository_root(), arguments.name
    settings = last_run(root)
    for target, stages in stages_by_target(root, settings).items():
        for stage in (stage for stage in stages if stage.name == name):
            print(f"[{how_far(root, settings, stages)}] start {name}", flush=True)
            run_stage(root, stage)
            print(f"[{how_far(root, settings, stages)}] done  {name}", flush=True)
            if target == "paper" and not stage.parameters:  # it makes tables or figures of what others have made
                report_so_far(root)
            return
    raise VqadError(f"no stage {name} in the last run; see data/derived/run.mk")


def _report(_arguments: argparse.Namespace) -> None:
    from vqad_lib.pipeline.provenance import report

    report(repository_root())


def _work(arguments: argparse.Namespace) -> None:
    from vqad_lib.distributed.launch import devices_to_start, end_with_starter
    from vqad_lib.distributed.process import first_process_first, joined
    from vqad_lib.experiment.run import configured, last_run

    has_starter = end_with_starter()
    devices_to_start()  # a mistake there is no reason to meet the other processes
    last = {} if arguments.profile else last_run(repository_root())
    run_options = {key: value or last.get(key, "") for key, value in _given(arguments).items()}
    configured(run_options["profile"], seed=run_options["seed"], perceptual=run_options["perceptual"])  # nor one there
    names = {"autoencoder": arguments.autoencoder, "scheme": arguments.scheme}
    with joined() as me:
        from vqad_lib.experiment.networks import train_autoencoder, train_prior  # torch takes seconds to import
        from vqad_lib.experiment.run import open_run

        with first_process_first():  # which decodes the frames, unless they are there
            run = open_run(**run_options, replicate=arguments.replicate)
        if arguments.scores:
            from vqad_lib.experiment.scores import score_combination  # and so does scikit-learn

            score_combination(run, prior=arguments.prior, **names)
            done = run.scores_path(arguments.scheme, arguments.autoencoder, arguments.prior)
        elif arguments.prior:
            done = train_prior(run, prior=arguments.prior, **names).folder
        else:
            done = train_autoencoder(run, **names).folder
        if me.is_first and not has_starter:
            print(f"done      {done.relative_to(run.root)}")


def _bench(arguments: argparse.Namespace) -> None:
    from vqad_lib.pipeline.lab import bench

    bench(repository_root(), _given(arguments), networks=arguments.networks)


def _lab(arguments: argparse.Namespace) -> None:
    from vqad_lib.pipeline.lab import start_lab

    start_lab(repository_root(), _given(arguments), arguments.options)


if __name__ == "__main__":
    sys.exit(main())
