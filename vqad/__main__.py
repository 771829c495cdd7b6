"""Fit a detector to your own images, score others, measure it, read its card: fit, score, evaluate, info."""

import argparse
import sys


def main() -> int:
    """Run one verb; a `VqadError` becomes one line on stderr and exit status 1."""
    from vqad_lib.__main__ import main as run

    parser = argparse.ArgumentParser(prog="vqad", description=__doc__)
    add_verbs(parser.add_subparsers(title="verbs", metavar="VERB", required=True))
    return run(parser)


def add_verbs(commands: argparse._SubParsersAction) -> None:
    """The verbs for a person's own images; options are parameters of the functions in `commands`."""

    def add(name: str, what: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=what, description=what)
        command.set_defaults(command=_run, verb=name)
        return command

    fit = add("fit", "learn what is normal from folders of normal images")
    fit.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="of normal images, or normal/, good/ or train/good/ in it"
    )
    fit.add_argument("--out", required=True, metavar="MODEL", help="the folder to write")
    fit.add_argument("--minutes", type=float, default=10.0, help="time to take, 10 by default")
    fit.add_argument("--epochs", type=int, help="passes through the images, in place of minutes")
    fit.add_argument("--false-alarms", type=float, default=0.01, help="share of normal images, 0.01 by default")
    fit.add_argument("--image-size-px", type=int, default=128, help="side to which images are squeezed, 128 by default")
    fit.add_argument("--flips", action="store_true", help="mirrored images are as usual as the others")
    fit.add_argument("--keep-brightness", dest="normalise", action="store_false", help="brightness and contrast matter")
    fit.add_argument("--perceptual", default="none", help="hed, imagenet or a file: a pretrained VGG16 judges too")
    fit.add_argument("--seed", type=int, default=0)
    score = add("score", "score images, and show where they are abnormal")
    score.add_argument("model", metavar="MODEL")
    score.add_argument("sources", nargs="+", metavar="PATH", help="files, folders, patterns, videos; - reads a list")
    score.add_argument("--out", default="scores.csv", help="the table, CSV or .parquet, scores.csv by default")
    score.add_argument("--heatmaps", default="", metavar="FOLDER", help="of overlays to write")
    score.add_argument("--skip-bad", action="store_true", help="images that cannot be read are no failure")
    evaluate = add("evaluate", "measure a model on images sorted into normal/ and abnormal/, or as MVTec AD")
    evaluate.add_argument("model", metavar="MODEL")
    evaluate.add_argument("folder", metavar="FOLDER")
    evaluate.add_argument("--out", default="", metavar="CSV", help="the table to write")
    add("info", "print the card of a model").add_argument("model", metavar="MODEL")


def _run(arguments: argparse.Namespace) -> int | None:
    from vqad import commands
    from vqad_lib.errors import VqadError, printable

    options = {key: value for key, value in vars(arguments).items() if key not in ("command", "verb")}
    try:
        return getattr(commands, arguments.verb)(**options)
    except PermissionError as error:
        place = printable(str(error.filename))
        raise VqadError(f"{place}: {error.strerror}; give yourself access, or leave it out") from error
    except KeyboardInterrupt:
        if arguments.verb == "fit":
            raise
        print("stopped; no table is written, the same command begins anew", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
