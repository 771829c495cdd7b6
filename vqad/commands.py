"""The four verbs of the command line for a person's own images: fit, score, evaluate, info."""

import csv
import json
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import torch

from vqad.estimator import FEWEST, VQAnomalyDetector
from vqad.labelled import labelled_images
from vqad.measured import evaluation_table
from vqad.model import check_place, facts_of, load_model, model_card, save_model
from vqad.prepare import fingerprints
from vqad.show import overlay, regions
from vqad.stream import Item, count_of, items_of
from vqad_lib.data.decode import decode_mask, unmarked
from vqad_lib.data.folder import list_images
from vqad_lib.distributed.parallel import sum_over_processes
from vqad_lib.distributed.process import barrier, joined
from vqad_lib.errors import VqadError
from vqad_lib.files import atomic_path, write_text
from vqad_lib.progress import progress

COLUMNS = ("path", "score", "threshold", "decision", "hot_area", "regions", "trouble")
_NORMAL = ("normal", "good", "train/good", "train/normal")
_ABNORMAL = ("abnormal", "anomalous", "anomaly", "anomalies", "defect", "defects", "defective", "bad", "ng", "test")
_BATCH = 64


def fit(folders: list[str], out: str, **settings) -> None:
    """Fit a detector to normal images and write it as a model folder.

    Args:
        folders: of normal images; of one that holds `normal/`, `good/` or `train/good/`, that part is taken.
        out: the model's folder.
        settings: of `VQAnomalyDetector`.

    Raises:
        VqadError: too few images, a folder that says it holds abnormal ones, or what `VQAnomalyDetector` refuses.
    """
    check_place(Path(out))
    paths, notes = [], []
    for folder in map(Path, folders):
        listing = list_images(part := _normal_part(folder))
        if Path(out).resolve().is_relative_to(part.resolve()):
            raise VqadError(f"{out} lies among the images of {part}, and would be taken for some; give another --out")
        paths += listing.images
        notes.append(listing.note())
        print(f"images    {listing.note()}")
    if (missing := FEWEST - len(paths)) > 0:
        raise VqadError(f"{', '.join(folders)}: {len(paths)} images are too few to learn what is normal; add {missing}")
    detector = VQAnomalyDetector(**settings)
    size, halvings = detector.image_size_px, len(detector.channels) - 1
    print(
        f"settings  {size} x {size} px, {size >> halvings} x {size >> halvings} codes of {detector.codebook_size}; ",
        end="",
    )
    print(f"{detector.epochs} epochs" if detector.epochs else f"{detector.minutes:g} minutes")
    working = Path(out).with_name(f".{Path(out).name}.training")
    detector.set_params(folder=working).fit(paths)
    for note in detector.notes_:
        print(f"note      {note}")
    save_model(detector, Path(out), data="; ".join(notes), images=len(paths))
    shutil.rmtree(working)
    print(f"done      {out}: score from {detector.threshold_:.4g} on is abnormal; see {out}/MODEL_CARD.md")


def _normal_part(folder: Path) -> Path:
    if not folder.is_dir():
        raise VqadError(f"{folder} is no folder; give one with normal images")
    names = {place.name.lower(): place for place in folder.iterdir() if place.is_dir()}
    for part in _NORMAL:
        first, *rest = part.split("/")
        place = names.get(first, folder / first).joinpath(*rest)
        if place.is_dir():
            return place
    if found := sorted(names.keys() & set(_ABNORMAL)) or [name for name in [folder.name.lower()] if name in _ABNORMAL]:
        raise VqadError(
            f"{folder}: by the name of {found[0]} it holds abnormal images; fit takes normal ones alone: put them into "
            f"{folder / 'normal'}, or name their folder"
        )
    return folder


def score(model: str, sources: list[str], out: str, *, heatmaps: str = "", skip_bad: bool = False) -> int:
    """Score images as they come, and write a table with a row for each.

    Args:
        sources: see `items_of`.
        out: a CSV file, or Parquet by its ending; columns are `COLUMNS`. `regions` holds a JSON list of boxes in px of
            the original image: left, top, right, bottom, area and highest value of each connected part of the heatmap
            that exceeds what the allowed share of normal images reaches anywhere.
        heatmaps: a folder for overlays as PNG, whose images are not scored themselves; "" for none.
        skip_bad: do not count images that cannot be read as a failure.

    Returns:
        The exit status: 1 if an image could not be read.

    Raises:
        VqadError: as `load_model`, `items_of` and `atomic_path`; several processes are given a list on standard input;
            overlays would come to lie among the images.
    """
    _check_table(out)
    if heatmaps and any(Path(source).resolve() == Path(heatmaps).resolve() for source in sources):
        raise VqadError(f"--heatmaps {heatmaps} holds the images themselves; give a folder of its own")
    with joined() as me:
        if me.size > 1 and "-" in sources:
            raise VqadError("several processes cannot share a list on standard input; name files, folders or patterns")
        detector, counts = load_model(Path(model)), dict.fromkeys(("normal", "abnormal", "unreadable"), 0)
        table_at = Path(out) if Path(out).suffix != ".parquet" else Path(out).with_name(f".{Path(out).name}.part.csv")
        parts = [table_at if me.size == 1 else Path(f"{out}.{rank}.csv") for rank in range(me.size)]
        with atomic_path(parts[me.rank]) as place, open(place, "w", newline="", encoding="utf-8") as handle:
            table = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
            table.writeheader()
            folder = Path(heatmaps) if heatmaps else None
            shared = {"rank": me.rank, "of": me.size, "without": folder}
            items = items_of(sources, settings=detector.settings_, **shared)
            shown = progress(items, what="score", total=count_of(sources, **shared), unit="image")
            for row in _rows(detector, shown, folder):
                table.writerow(row)
                counts[row["decision"]] += 1
            totals = sum_over_processes(torch.tensor(list(counts.values()), device=me.device)).tolist()
            if not sum(totals):
                raise VqadError(f"no images in {', '.join(sources)}; give files, folders or patterns that hold some")
        barrier()
        if me.is_first:
            if me.size > 1:
                _merge(parts, table_at)
            if table_at != Path(out):
                _to_parquet(table_at, Path(out))
            said = ", ".join(f"{n} {decision}" for n, decision in zip(totals, counts, strict=True))
            print(f"done      {out}: {said}")
    return int(totals[-1] > 0 and not skip_bad)


def evaluate(model: str, folder: str, *, out: str = "") -> None:
    """Measure a model on labelled images: areas with 95% intervals, by kind of defect, and of pixels where masks are.

    Images that it was trained on are left out; those that were held out then count, for training has not seen them.

    Args:
        folder: see `labelled_images`.
        out: a CSV file for the table; "" prints it alone.

    Raises:
        VqadError: as `load_model` and `labelled_images`; an image or a mask cannot be decoded; it was trained on all
            normal ones.
    """
    if out:
        _check_table(out)
    detector, images = load_model(Path(model)), labelled_images(Path(folder))
    size = detector.settings_.image_size_px
    items = progress(
        items_of([str(image.path) for image in images], settings=detector.settings_), what="score", total=len(images)
    )
    seen, held_out, left = set(detector.trained_on_), set(detector.held_out_), []
    scores, heatmaps, of_threshold = [], [], 0
    for batch in _batches(zip(images, items, strict=True)):
        if trouble := next((item.trouble for _, item in batch if item.trouble), ""):
            raise VqadError(trouble)
        prints = fingerprints(item.pixels for _, item in batch)
        batch = [pair for pair, own in zip(batch, prints, strict=True) if own not in seen]
        of_threshold += sum(own in held_out for own in prints)
        if batch:
            of_batch, maps = detector.scores_and_heatmaps(torch.from_numpy(np.stack([i.pixels for _, i in batch])))
            scores.append(of_batch)
            heatmaps.append(maps.astype(np.float32))
        left += [image for image, _ in batch]
    if n := len(images) - len(left):
        print(f"left out  {n} images that the model was trained on")
    if of_threshold:
        print(f"note      {of_threshold} images were held out in training, and set the threshold")
    if all(image.kind for image in left):
        raise VqadError(f"{folder}: the model was trained on all normal images; add some that it has not seen")
    masks = [decode_mask(image.mask, size)[0] if image.mask else np.zeros((size, size), np.uint8) for image in left]
    empty = [at.mask for at, mask in zip(left, masks, strict=True) if at.kind and at.mask and not mask.any()]
    for note in unmarked(empty):
        print(f"note      {note}")
    table = evaluation_table(
        np.concatenate(scores),
        np.concatenate(heatmaps),
        np.stack(masks),
        [image.kind for image in left],
        threshold=detector.threshold_,
        has_masks=any(image.mask for image in left),
    )
    print(table.to_string(index=False, float_format="{:.3f}".format))
    if out:
        write_text(Path(out), table.to_csv(index=False, lineterminator="\n"))


def info(model: str) -> None:
    """Print the card of a model.

    Raises:
        VqadError: as `facts_of`.
    """
    print(model_card(facts_of(Path(model))))


def _check_table(out: str) -> None:
    """Refuse at once what would be found at the end not to be a place for a file."""
    if not Path(out).name or Path(out).is_dir():
        raise VqadError(f"--out must be the name of a file, got {out or 'nothing'}")


def _batches(items: Iterator) -> Iterator[list]:
    while batch := list(islice(items, _BATCH)):
        yield batch


def _rows(detector: VQAnomalyDetector, items: Iterator[Item], folder: Path | None) -> Iterator[dict]:
    """A row of the table for each image; overlays go into the folder."""
    for batch in _batches(items):
        readable = [item for item in batch if item.pixels is not None]
        found = iter(())
        if readable:
            scores, heatmaps = detector.scores_and_heatmaps(torch.from_numpy(np.stack([i.pixels for i in readable])))
            found = zip(scores, heatmaps, strict=True)
        for item in batch:
            row = {"path": item.name, "threshold": detector.threshold_}
            if item.pixels is not None:
                value, heatmap = next(found)
                boxes = regions(heatmap, detector.hot_, item.size)
                row |= {"score": float(value), "decision": "abnormal" if value >= detector.threshold_ else "normal"}
                row |= {"hot_area": float((heatmap >= detector.hot_).mean()), "regions": json.dumps(boxes)}
                if folder:
                    with atomic_path(_place_of(item.name, folder)) as path:
                        overlay(item.pixels, heatmap, detector.hot_, item.size).save(path)
            else:
                row |= {"decision": "unreadable", "trouble": item.trouble}
                print(f"skipped   {item.trouble}", file=sys.stderr)
            yield row


def _place_of(name: str, folder: Path) -> Path:
    """Where the overlay of an image goes: its own path below the folder, with .png behind it."""
    parts = ["up" if part == ".." else part for part in f"{name}.png".split("/") if part not in ("", ".")]
    # 255 bytes are a name's limit, and a working name is longer than the name (`atomic_path`)
    short = [part if len(part.encode()) < 230 else f"{part[:50]}~{zlib.crc32(part.encode())}.png" for part in parts]
    return folder.joinpath(*short)


def _merge(parts: list[Path], out: Path) -> None:
    """One table of the parts of all processes, in the order of the images."""
    with atomic_path(out) as place, ExitStack() as files, open(place, "w", encoding="utf-8") as whole:
        handles = [files.enter_context(open(part, encoding="utf-8", newline="")) for part in parts]
        readers = [csv.reader(handle) for handle in handles]
        table = csv.writer(whole, lineterminator="\n")
        headers = [next(reader) for reader in readers]
        table.writerow(headers[0])
        table.writerows(row for rows in zip_longest(*readers) for row in rows if row)
    for part in parts:
        part.unlink()


def _to_parquet(table: Path, out: Path) -> None:
    """A CSV of scores as Parquet, a block at a time; the CSV goes."""
    texts = dict.fromkeys(("path", "decision", "regions", "trouble"), pyarrow.string())
    types = {name: texts.get(name, pyarrow.float64()) for name in COLUMNS}
    options = {
        "convert_options": pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""]),
        "parse_options": pyarrow.csv.ParseOptions(newlines_in_values=True),
    }
    with ExitStack() as files:
        place = files.enter_context(atomic_path(out))
        blocks = files.enter_context(pyarrow.csv.open_csv(table, **options))
        writer = files.enter_context(pyarrow.parquet.ParquetWriter(place, blocks.schema))
        for block in blocks:
            writer.write_batch(block)
    table.unlink()
