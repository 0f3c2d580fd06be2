"""From what a source states to a crop table: the one place where names, sizes and
conventions are checked, and what is dropped is counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.progress import Progress, no_progress
from data.boxes import (
    check_convention,
    fits,
    inspect_images,
    sizes_of,
    table_of_boxes,
    to_corners,
)
from data.crop_table import (
    EXIF_TIME,
    LATITUDE,
    LONGITUDE,
    SOURCE_ROW,
    UNLABELLED,
    CropTable,
    plain_name,
)
from data.files import is_file
from data.formats.base import Annotations, SourceOptions
from data.images import EXTENSIONS, ImageFacts, as_on_disk
from data.report import Report

_DEFAULTS = SourceOptions()
Sizes = Mapping[str, tuple[int, int]]
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/")
_FIT = 0.99  # share of boxes that must fit before it is said, or taken, that they do


def build_table(
    found: Annotations,
    report: Report,
    *,
    options: SourceOptions = _DEFAULTS,
    progress: Progress = no_progress,
) -> CropTable:
    """Checks annotations against their images and makes the crop table.

    Args:
        found: what the source states.
        report: receives what is left out or mended; afterwards what it saw is what it
            dropped and the crops.
        options: what is wanted of them; see `SourceOptions`.
        progress: wraps the iteration over images.

    Raises:
        ValueError: no object on an image that can be read, boxes that don't fit, or
            images of another size than the source states.
    """
    report.seen = report.seen or report.dropped + len(found.images)
    found = called_as_on_disk(found)
    drawn_on = _parse_size(options.box_size)
    distinct = list(dict.fromkeys(found.images))
    facts = inspect_images(found.root, distinct, report, progress)
    sizes = {image: (one.width, one.height) for image, one in facts.items()}
    if drawn_on is None and found.boxes is not None:
        for image in _odd_ones(found, facts, report):
            del sizes[image]
    if found.check_sizes:
        found.check_sizes(sizes)
    kept = [row for row, image in enumerate(found.images) if image in sizes]
    lost = len(found.images) - len(kept)
    if found.boxes is None:
        report.dropped += lost  # each is an image, named already
    else:
        report.drop("boxes on images that can't be used", lost)
    if not kept:
        raise ValueError(_nothing(found, len(distinct), report))
    columns = _columns(found, kept, report)
    columns |= _from_photos(columns["image"], facts)
    _count_leaks(columns, report)
    if found.source_rows is not None:
        columns[SOURCE_ROW] = [found.source_rows[row] for row in kept]
    elif options.numbered:
        raise ValueError(
            f"vectors belong to the rows of one file; {found.source} is none. Give one "
            "of its files"
        )
    if found.boxes is None:
        return _table_of_whole_images(found, columns, sizes, report)
    corners = _corners(found, kept, sizes, drawn_on)
    if found.derive:
        columns |= found.derive(columns["image"], corners, sizes)
    return table_of_boxes(found.root, corners, columns, sizes, report)


def called_as_on_disk(found: Annotations) -> Annotations:
    """The same, with images called as their files are; see `data.images.as_on_disk`.
    Absolute paths of another computer are looked for below the folder, by as much of
    their end as is there.

    Raises:
        ValueError: two of those would be one file.
    """
    other: dict[str, str] = {}
    moved: dict[str, str] = {}
    for image in set(found.images):
        is_plain_name = image.isascii() and Path(image).suffix.lower() in EXTENSIONS
        if is_plain_name and not _ABSOLUTE.match(image):
            continue  # it can be called no other way
        name = as_on_disk(found.root, image)
        if name is None and _ABSOLUTE.match(image):
            name = _end_below(found.root, image)
            if name and moved.setdefault(name, image) != image:
                raise ValueError(
                    f"{image} and {moved[name]} must be two files below {found.root}; "
                    f"only {name} is there"
                )
        if name is not None and name != image:
            other[image] = name
    if not other:
        return found
    return replace(
        found,
        images=[other.get(image, image) for image in found.images],
        stated_sizes={
            other.get(image, image): size for image, size in found.stated_sizes.items()
        },
    )


def _end_below(root: Path, image: str) -> str | None:
    """The longest end of a path that is a file below a folder."""
    parts = image.split("/")
    ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
    return next((end for end in ends if end and is_file(root / end)), None)


def _corners(
    found: Annotations, kept: list[int], sizes: Sizes, drawn_on: tuple[int, int] | None
) -> np.ndarray:
    """Corners in pixels of the real images, [n, 4] float64."""
    assert found.boxes is not None
    real = sizes_of([found.images[row] for row in kept], sizes)
    stated = real
    if drawn_on is not None:
        stated = np.broadcast_to(np.array(drawn_on, np.float64), real.shape)
    corners = check_convention(
        found.boxes[kept],
        found.convention,
        stated,
        found.source,
        found.correctable,
        is_size_known=bool(found.stated_sizes),
    )
    return corners * np.tile(real / stated, 2)


def _columns(
    found: Annotations, kept: list[int], report: Report
) -> dict[str, list[Any]]:
    stated = [found.names[row] for row in kept]
    plain = {name: plain_name(name) for name in set(stated)}
    names = [plain[name] for name in stated]
    mended = {name for name, other in plain.items() if name != other}
    report.count(
        "classes with spaces around their name, or letters in parts: mended",
        len(mended),
    )
    if found.labels is None:
        places = {name: place for place, name in enumerate(sorted(set(names) - {""}))}
        labels = [places.get(name, UNLABELLED) for name in names]
    else:
        labels = [found.labels[row] for row in kept]
    return {
        "image": [found.images[row] for row in kept],
        "label": labels,
        "label_name": names,
        "split": [found.splits[row] for row in kept],
        **{
            name: [values[row] for row in kept]
            for name, values in found.columns.items()
        },
    }


def _count_leaks(columns: dict[str, list[Any]], report: Report) -> None:
    """Counts images that are listed in more than one split."""
    splits: dict[str, str] = {}
    torn = {
        image
        for image, split in zip(columns["image"], columns["split"], strict=True)
        if split and splits.setdefault(image, split) != split
    }
    if torn:
        report.count(
            "images are listed in several splits, which leaks from one to another, "
            f"such as {min(torn)}",
            len(torn),
        )


def _from_photos(
    images: list[str], facts: Mapping[str, ImageFacts]
) -> dict[str, list[Any]]:
    """What the photos' EXIF says, where any of them has it."""
    found: dict[str, list[Any]] = {}
    if any(facts[image].taken for image in facts):
        found[EXIF_TIME] = [facts[image].taken for image in images]
    if any(facts[image].position for image in facts):
        places = [facts[image].position or (None, None) for image in images]
        found[LATITUDE] = [latitude for latitude, _ in places]
        found[LONGITUDE] = [longitude for _, longitude in places]
    return found


def _table_of_whole_images(
    found: Annotations, columns: dict[str, list[Any]], sizes: Sizes, report: Report
) -> CropTable:
    images = columns["image"]
    columns |= {
        "left": [0] * len(images),
        "top": [0] * len(images),
        "right": [sizes[image][0] for image in images],
        "bottom": [sizes[image][1] for image in images],
        # By which a replaced image is noticed.
        "file_bytes": [(found.root / image).stat().st_size for image in images],
    }
    columns.setdefault("session", [""] * len(images))
    report.drop("images that are listed again", len(images) - len(set(images)))
    return CropTable.from_columns(found.root, columns)


# Sizes that differ from what the source states


def _odd_ones(
    found: Annotations, facts: Mapping[str, ImageFacts], report: Report
) -> list[str]:
    """Images that aren't of the size that the source states, to be left out.

    Where most aren't, the fault is the source's: what is true of it is tried on the
    boxes. Width and height that are exchanged in the source do no harm to boxes that
    fit the images as they are.

    Raises:
        ValueError: most images have another size; the message says what fits.
    """
    stated = {
        image: size for image, size in found.stated_sizes.items() if image in facts
    }
    real = {image: (facts[image].width, facts[image].height) for image in stated}
    odd = [image for image in stated if stated[image] != real[image]]
    if len(odd) <= len(stated) / 2:
        for image in odd:
            report.skip(image, _differs(stated[image], facts[image]))
        return odd
    exchanged = all(stated[image] == real[image][::-1] for image in odd)
    turned = [image for image in odd if facts[image].turned]
    fits_real = _fit(found, real) >= _FIT
    if exchanged and not turned and fits_real and _fit(found, stated) < 1:
        report.count(
            "images whose width and height are exchanged in the source; their boxes "
            "fit them as they are",
            len(odd),
        )
        return []
    first = odd[0]
    message = (
        f"images must have the size that {found.source} states; {first} isn't: "
        f"{_differs(stated[first], facts[first])} ({len(odd)} of {len(stated)} images)"
    )
    if exchanged and turned:
        raise ValueError(
            f"{message}. The boxes were drawn on the files without their orientation "
            "tag: take the tag away from them, so that they are as they were"
        )
    if exchanged and not fits_real:
        raise ValueError(
            f"{message}: width and height are exchanged, and the boxes don't fit the "
            "images as they are. Were the images turned since?"
        )
    if exchanged:
        sizes = {f"{width}x{height}" for width, height in real.values()}
        advice = "write their sizes into the file"
        if len(sizes) == 1:
            advice = f'say so: --config=\'{{"box_size": "{sizes.pop()}"}}\''
        raise ValueError(
            f"{message}: width and height are exchanged there, or the images were "
            f"turned since. If the boxes belong to the images as they are, {advice}"
        )
    common = Counter(stated.values()).most_common(1)[0][0]
    if set(stated.values()) == {common} and _fit(found, stated) >= _FIT:
        raise ValueError(
            f"{message}. If all were resized alike, give the size the boxes belong to: "
            f'--config=\'{{"box_size": "{common[0]}x{common[1]}"}}\''
        )
    raise ValueError(f"{message}. Are these the images that the boxes were drawn on?")


def _differs(stated: tuple[int, int], facts: ImageFacts) -> str:
    turned = " turned by its EXIF orientation," if facts.turned else ""
    return (
        f"another size: the file has {facts.width} x {facts.height},{turned} stated is "
        f"{stated[0]} x {stated[1]}"
    )


def _fit(found: Annotations, sizes: Sizes) -> float:
    """The share of boxes that lie in images of these sizes."""
    assert found.boxes is not None
    rows = [row for row, image in enumerate(found.images) if image in sizes]
    of_boxes = sizes_of([found.images[row] for row in rows], sizes)
    corners = to_corners(found.boxes[rows], found.convention, of_boxes)
    return float(fits(corners, of_boxes).mean()) if rows else 0.0


def _nothing(found: Annotations, images: int, report: Report) -> str:
    """Why no crop is left."""
    counts = f"; {'; '.join(report.lines())}" if report.counts else ""
    first = next(iter(report.skipped), None)
    reason = f"{first.image}: {first.reason}" if first else ""
    if not found.images:
        counts += f"; {reason}" if reason else ""
        return f"data must hold boxes on images; {found.source} has none{counts}"
    if found.boxes is None:
        return (
            f"data must be a folder of images; {found.source} holds {images} files, "
            f"none of them readable ({reason}){counts}"
        )
    return (
        f"images must be given: none of the {images} images of {found.source} can be "
        f"read below {found.root} ({reason}){counts}. Where they are is a setting of "
        'csv, coco and parquet: --config=\'{"images": "<folder>"}\''
    )


def _parse_size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    match = re.fullmatch(r"([1-9]\d{0,5})[x,]([1-9]\d{0,5})", text)
    if not match:
        raise ValueError(
            f"box_size must be WIDTHxHEIGHT, such as 1920x1088; got {text!r}"
        )
    return int(match.group(1)), int(match.group(2))
