"""A folder of images: one crop an image, classes and splits from the folder names."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from artifacts.progress import Progress
from data.files import distinct_files, shown, visible_files
from data.formats.base import (
    AUTO,
    UNLABELED,
    Annotations,
    Format,
    SourceOptions,
    split_named,
)
from data.formats.besides import check_only_photos
from data.formats.writing import (
    Selection,
    distinct_file_names,
    examples_of,
    safe_name,
)
from data.images import EXTENSIONS, UNREADABLE_PHOTOS, write_png
from data.recordings import FOLDER, recordings_of
from data.report import Report


def read(
    data: str, options: SourceOptions, report: Report, progress: Progress
) -> Annotations:
    """Reads a folder of images; each image is a crop.

    Layouts: `image.jpg`, `class/image.jpg`, `split/image.jpg` and
    `split/class/image.jpg`. The first folder level is a split when every folder on it
    has a split's name (train, val, valid, validation, dev, test); a folder unlabelled
    or unlabeled leaves class and split empty. Deeper levels join the class name. Hidden
    files and folders are passed over; files that aren't images are too, and counted by
    their ending. An image that links lead to several times is read once. Where folders
    are recordings (`options.recording`), the last one is the class if another one leads
    to it; all before it, or else it, are the recording.

    Raises:
        ValueError: the folder holds no image, or folders of splits and others that
            can't be classes beside them.
    """
    root = Path(data)
    every = sorted(visible_files(root))
    if options.format == AUTO:
        check_only_photos(root, every)
    found = [path for path in every if path.suffix.lower() in EXTENSIONS]
    _count_others(every, report)
    if not found:
        told = f" ({'; '.join(report.lines())})" if report.counts else ""
        raise ValueError(
            f"data must be a folder of images ({', '.join(sorted(EXTENSIONS))}); "
            f"{str(root)!r} holds no image file{told}"
        )
    paths = distinct_files(found)
    report.seen = len(found)
    report.drop("images that links lead to again", len(found) - len(paths))
    images = [path.relative_to(root).as_posix() for path in paths]
    folders = [image.split("/")[:-1] for image in images]
    has_splits = _has_splits(folders, root)
    classes = [folder[1:] if has_splits else folder for folder in folders]
    columns: dict[str, list[str]] = {}
    if FOLDER in recordings_of(options.recording):
        columns["session"] = [
            "/".join(inner[: max(1, len(inner) - 1)]) or "." for inner in classes
        ]
        classes = [inner[1:] and inner[-1:] for inner in classes]
    return Annotations(
        root=root,
        source=repr(str(root)),
        images=images,
        columns=columns,
        names=[
            "" if _is_unlabeled(folder) else "/".join(inner)
            for folder, inner in zip(folders, classes, strict=True)
        ],
        splits=[
            split_named(folder[0]) if has_splits and folder else ""
            for folder in folders
        ],
    )


def _is_unlabeled(folder: list[str]) -> bool:
    return any(name.lower() in UNLABELED for name in folder)


def _has_splits(folders: list[list[str]], root: Path) -> bool:
    first_level = {folder[0] for folder in folders if folder}
    # A class may be called train, but hardly one with classes in it.
    with_classes = any(len(folder) > 1 and split_named(folder[0]) for folder in folders)
    others = {
        name
        for name in first_level
        if not split_named(name) and name.lower() not in UNLABELED
    }
    splits = {split_named(name) for name in first_level} - {""}
    if others and (len(splits) > 1 or with_classes):
        few = ", ".join(sorted(others)[:3])
        raise ValueError(
            f"data has folders of splits and others beside them ({few} in "
            f"{str(root)!r}), which would be classes: move them away, or into the "
            "splits; images without a class go into a folder unlabelled"
        )
    return bool(splits) and not others


def _count_others(paths: list[Path], report: Report) -> None:
    """Counts what isn't read by its ending; of photos it says what to do."""
    endings = Counter(path.suffix.lower() for path in paths)
    for ending, number in endings.items():
        if ending in EXTENSIONS:
            continue
        advice = UNREADABLE_PHOTOS.get(ending, "")
        name = f"files ending in {ending}" if ending else "files without an ending"
        report.count(
            f"{shown(name)} passed over" + (f": {advice}" if advice else ""), number
        )


def _folder_of(name: str) -> str:
    """What a class's folder is called; one of a split's name would be one."""
    is_taken = split_named(name) or _is_unlabeled([name])
    return f"{name} class" if is_taken else name


def write(
    selection: Selection, folder: Path, report: Report, progress: Progress
) -> None:
    """<class>/<crop id>.png, and not_<class>/ with what was marked as not relevant."""
    names = (selection.class_name, f"not {selection.class_name}")
    files = distinct_file_names({name: _folder_of(name) for name in names})
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
