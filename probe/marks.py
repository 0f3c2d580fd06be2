"""Marks: which crops a person called relevant or not."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

RELEVANT = {
    "1": True,
    "1.0": True,
    "true": True,
    "yes": True,
    "relevant": True,
    "+": True,
}
RELEVANT |= {
    "0": False,
    "0.0": False,
    "false": False,
    "no": False,
    "not relevant": False,
    "irrelevant": False,
    "-": False,
}
# Spreadsheets write a semicolon where the comma is the decimal mark.
_SEPARATORS = ",;\t"


@dataclass(frozen=True)
class Marks:
    """Crop id -> relevant, in the order of marking.

    Attributes:
        relevant: the last mark of each crop.
        changed: crops that were marked one way and then the other.
    """

    relevant: Mapping[str, bool]
    changed: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.relevant)

    @classmethod
    def read(cls, path: str | Path) -> Marks:
        """Reads a CSV with the columns crop_id and relevant; others are ignored, as are
        rows whose mark is empty.

        A result list written by `run_search.py --out` has these columns: fill in
        `relevant` with 1 or 0 and read it back. Of several marks for a crop the last
        counts.

        Raises:
            ValueError: names the file, the line and what is wrong; an empty set of
                marks is wrong as well.
        """
        relevant: dict[str, bool] = {}
        changed: list[str] = []
        for line, crop_id, told in _told(Path(path), "relevant"):
            answer = told.lower()
            if answer not in RELEVANT:
                raise ValueError(
                    f"{path} line {line}: relevant must be 1 or 0; got {told!r}"
                )
            if relevant.pop(crop_id, RELEVANT[answer]) != RELEVANT[answer]:
                changed.append(crop_id)
            relevant[crop_id] = RELEVANT[answer]
        if not relevant:
            raise ValueError(
                f"marks must hold at least one mark; every row of {str(path)!r} is "
                "empty in the column relevant"
            )
        return cls(relevant, tuple(changed))


OF_NONE = ("none", "-")  # of the classes


def read_classes(path: str | Path) -> dict[str, str]:
    """Reads a CSV with the columns crop_id and class: crop id -> class, "" for crops of
    none of them (`none` or `-`). Rows whose class is empty are ignored; of several for
    a crop the last counts.

    Raises:
        ValueError: as `Marks.read`.
    """
    found: dict[str, str] = {}
    for _, crop_id, told in _told(Path(path), "class"):
        found.pop(crop_id, None)
        found[crop_id] = "" if told.lower() in OF_NONE else told
    if not found:
        raise ValueError(
            f"marks must hold at least one mark; every row of {str(path)!r} is empty "
            "in the column class"
        )
    return found


def _told(path: Path, column: str) -> Iterator[tuple[int, str, str]]:
    """Line, crop id and what stands in a column, where something does."""
    if not path.is_file():
        raise ValueError(f"marks must be a CSV file; there is no file {str(path)!r}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"marks must be a CSV file in UTF-8; {str(path)!r} isn't ({error.reason})"
        ) from None
    header = lines[0] if lines else ""
    reader = csv.DictReader(lines, delimiter=max(_SEPARATORS, key=header.count))
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    missing = {"crop_id", column} - set(reader.fieldnames)
    if missing:
        raise ValueError(
            f"marks must have the columns crop_id and {column}; {str(path)!r} lacks "
            f"{', '.join(sorted(missing))}"
        )
    for row in _rows(reader, path):
        told, crop_id = (row[column] or "").strip(), (row["crop_id"] or "").strip()
        if told:
            yield reader.line_num, crop_id, told


def _rows(reader: csv.DictReader, path: Path) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise ValueError(
            f"marks must be a CSV file; {str(path)!r} isn't ({error})"
        ) from None
