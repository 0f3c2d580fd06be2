"""A folder of images: one crop an image, classes and splits from the folder names."""

from __future__ import annotations

from pathlib import Path

from artifacts.progress import Progress
from data.files import visible_files
from data.formats.base import SPLITS, Annotations, Format, SourceOptions
from data.formats.writing import (
    Selection,
    distinct_file_names,
    examples_of,
    safe_name,
)
from data.images import EXTENSIONS, write_png
from data.report import Report


def read(
    data: str, options: SourceOptions, report: Report, progress: Progress
) -> Annotations:
    """Reads a folder of images; each image is a crop.

    Layouts: `image.jpg`, `class/image.jpg`, `split/image.jpg` and
    `split/class/image.jpg`. The first folder level is a split when every folder on it
    has a split's name (train, val, validation, test). Deeper levels join the class
    name. Hidden files and folders and files without an image's extension are passed
    over.

    Raises:
        ValueError: the folder holds no image.
    """
    root = Path(data)
    paths = sorted(
        path for path in visible_files(root) if path.suffix.lower() in EXTENSIONS
    )
    if not paths:
        raise ValueError(
            f"data must be a folder of images ({', '.join(sorted(EXTENSIONS))}); "
            f"{str(root)!r} holds no image file"
        )
    images = []
    for path in paths:
        image = path.relative_to(root).as_posix()
        try:
            image.encode()
            images.append(image)
        except UnicodeEncodeError:
            report.skip(
                image.encode(errors="backslashreplace").decode(),
                "file name isn't UTF-8",
            )
    first_level = {image.split("/")[0] for image in images if "/" in image}
    has_splits = bool(first_level) and all(
        name.lower() in SPLITS for name in first_level
    )
    folders = [image.split("/")[:-1] for image in images]
    return Annotations(
        root=root,
        source=repr(str(root)),
        images=images,
        names=["/".join(folder[1:] if has_splits else folder) for folder in folders],
        splits=[
            SPLITS[folder[0].lower()] if has_splits and folder else ""
            for folder in folders
        ],
    )


def write(
    selection: Selection, folder: Path, report: Report, progress: Progress
) -> None:
    """<class>/<crop id>.png, and not_<class>/ with what was marked as not relevant."""
    files = distinct_file_names([selection.class_name, f"not {selection.class_name}"])
    for row, name, _, image in examples_of(selection, report, progress):
        (folder / files[name]).mkdir(exist_ok=True)
        write_png(
            folder / files[name] / f"{safe_name(str(selection.table.ids[row]))}.png",
            image,
        )


FORMAT = Format(
    name="folder",
    keeps="pictures in <class>/ and not_<class>/, as the encoder saw the crops",
    read=read,
    write=write,
    old_names=("folders",),
)
