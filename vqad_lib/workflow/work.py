"""The commands `train` and `score`: one network or one combination, in one process or as one of several."""

from pathlib import Path

from vqad_lib.distributed import first_process_first, joined
from vqad_lib.workflow.launch import devices_to_start, end_with_starter
from vqad_lib.workflow.settings import configured, last_run


def work(
    root: Path, command: str, *, autoencoder: str, prior: str | None, protocol: str, options: dict[str, str | None]
) -> None:
    """Train the autoencoder, or the prior on its codes, or score the combination; nothing where it is done.

    Args:
        command: "train" or "score".
        autoencoder: "vqvae" or "vqgan".
        prior: "pixelsnail" or "gpt2"; None to train the autoencoder alone.
        protocol: the split, "paper" or "official".
        options: of `open_run`; None for what the last `make paper` chose, or "" where a profile is given.

    Raises:
        VqadError: profile or data are not usable, there was no `make paper` yet and no profile is given, or training
            or scoring failed.
    """
    has_starter = end_with_starter()
    devices_to_start()  # a mistake there is no reason to meet the other processes
    chosen = {} if options["profile"] else last_run(root)
    settings = {key: value if value is not None else chosen.get(key, "") for key, value in options.items()}
    configured(settings["profile"], seed=settings["seed"], perceptual=settings["perceptual"])  # nor one there
    with joined() as me:
        from vqad_lib.workflow import stages  # torch takes seconds to import
        from vqad_lib.workflow.run import open_run

        with first_process_first():  # which decodes the frames, unless they are there
            run = open_run(**settings)
        if command == "score":
            from vqad_lib.workflow.scores import score_combination  # and so does scikit-learn

            score_combination(run, autoencoder=autoencoder, prior=prior, protocol=protocol)
            done = run.scores_path(protocol, autoencoder, prior)
        elif prior:
            done = stages.prior(run, kind=prior, autoencoder_kind=autoencoder, protocol=protocol).folder
        else:
            done = stages.autoencoder(run, kind=autoencoder, protocol=protocol).folder
        if me.is_first and not has_starter:
            print(f"done      {done.relative_to(root)}")
