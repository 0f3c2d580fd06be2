"""What a YOLO data set's data.yaml says of it: names, splits, and what rows hold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from artifacts.files import read_text
from data.crop_table import plain_name
from data.files import is_plain, subfolders, visible_files
from data.formats.base import SPLITS, split_named, split_of_folders
from data.images import EXTENSIONS
from data.report import Report

_KEYS = ("train", "val", "valid", "validation", "test")


@dataclass(frozen=True)
class Config:
    """A data set as data.yaml describes it.

    Attributes:
        names: class number -> name.
        keypoints: how many a row has, and numbers for each; None where it isn't said.
        task: what the rows are, "" where it isn't said.
        splits: image, by its path below the data set -> its split.
    """

    names: Mapping[int, str]
    keypoints: tuple[int, int] | None = None
    task: str = ""
    splits: Mapping[str, str] = field(default_factory=dict)

    def split_of(self, image: str) -> str:
        """As data.yaml says, otherwise by the folders that lead to an image."""
        return self.splits.get(image) or split_of_folders(image)


def read_config(path: Path, report: Report) -> Config:
    """What the data set's files say of it; of a folder the first .yaml with names."""
    if not path.is_dir():
        return _parsed(path, _load_yaml(path), report)
    folders = (path, *subfolders(path))
    patterns = ("data.y*ml", "*.y*ml")
    every = [
        file
        for folder in folders
        for pattern in patterns
        for file in sorted(folder.glob(pattern))
    ]
    for file in dict.fromkeys(every):
        content = _load_yaml(file)
        if content.get("names"):
            if file.parent != path:
                _check_only_one(path, file, content["names"])
            return _parsed(file, content, report)
    below = [inner for folder in folders[1:] for inner in subfolders(folder)]
    for folder in (*folders, *below):
        for name in ("classes.txt", "obj.names"):
            if (folder / name).is_file():
                lines = read_text(folder / name).splitlines()
                return Config(dict(enumerate(map(plain_name, lines))))
    return Config({})


def _check_only_one(root: Path, first: Path, names: object) -> None:
    """Refuses a folder of several data sets, with classes of their own."""
    files = [
        file
        for folder in subfolders(root)
        for file in sorted(folder.glob("*.y*ml"))
        if folder != first.parent
    ]
    stated = {file: _load_yaml(file).get("names") for file in files}
    others = {file: other for file, other in stated.items() if other}
    if any(other != names for other in others.values()):
        few = ", ".join(str(file) for file in [first, *others][:3])
        raise ValueError(
            f"data must be one data set; {str(root)!r} holds several, with classes of "
            f"their own: {few}"
        )


def _load_yaml(path: Path) -> dict[str, Any]:
    try:
        # Every value as text: "no" and "yes" are names.
        content = yaml.load(read_text(path), yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(
            f"{path} must be YAML with the class names: {' '.join(str(error).split())}"
        ) from None
    return content if isinstance(content, dict) else {}


def _parsed(path: Path, content: Mapping[str, Any], report: Report) -> Config:
    """Raises ValueError where names or kpt_shape aren't what they must be."""
    names = content.get("names") or {}
    if isinstance(names, str):
        names = names.split(",")
    if isinstance(names, list):
        names = dict(enumerate(names))
    shape = content.get("kpt_shape")
    try:
        named = {int(number): plain_name(str(name)) for number, name in names.items()}
        keypoints = None if shape is None else (int(shape[0]), int(shape[1]))
    except (ValueError, TypeError, IndexError, AttributeError, KeyError):
        raise ValueError(
            f"{path} must have names (a list, or number: name), and kpt_shape, if any, "
            f"as [how many, 2 or 3]; got names {names!r}, kpt_shape {shape!r}"
        ) from None
    return Config(
        named, keypoints, str(content.get("task", "")), _splits(path, content, report)
    )


def _splits(path: Path, content: Mapping[str, Any], report: Report) -> dict[str, str]:
    """Image -> split, by what train, val and test name: folders or lists."""
    root = path.parent
    bases = (root / str(content.get("path") or "."), root)
    targets: dict[Path, list[str]] = {}
    for key in _KEYS:
        stated = content.get(key) or ()
        for place in [stated] if isinstance(stated, str) else stated:
            target = _existing(str(place), bases)
            if target is None:
                report.count(f"paths of {path.name} that lead nowhere ({key})")
            else:
                targets.setdefault(target, []).append(SPLITS[key])
    found: dict[str, str] = {}
    for target, splits in targets.items():
        # What several keys name says nothing by them, but may by its own name.
        split = splits[0] if len(set(splits)) == 1 else split_named(target.stem)
        for image in _images_at(target, root):
            report.count("images of several splits", found.get(image, split) != split)
            found.setdefault(image, split)
    return found


def _existing(place: str, bases: tuple[Path, ...]) -> Path | None:
    """Where a path of data.yaml leads. It may be of Windows, or of another machine,
    where the same folders lay elsewhere; and Roboflow writes ../train/images for its
    own train/images.
    """
    parts = PurePosixPath(place.replace("\\", "/")).parts
    if not is_plain(place) or "\0" in place:
        return None
    for first in range(len(parts)):
        for base in bases:
            choice = base.joinpath(*parts[first:])
            if choice.exists():
                return Path(os.path.normpath(choice))
    return None


def _images_at(target: Path, root: Path) -> list[str]:
    """Images of a folder, or of a list that names one a line, below the root."""
    if target.is_dir():
        paths = sorted(visible_files(target))
        paths = [path for path in paths if path.suffix.lower() in EXTENSIONS]
    else:
        lines = read_text(target, strict=False).splitlines()
        names = [line.strip() for line in lines]
        paths = [_listed(name, target, root) for name in names if name]
    return [Path(os.path.relpath(path, root)).as_posix() for path in paths]


def _listed(name: str, target: Path, root: Path) -> Path:
    """An image of a list: below the list's folder where it lies there."""
    found = _existing(name, (target.parent, root))
    return found if found is not None and found.is_file() else root / name
