"""Lists as CSV: rankings ready to be marked in a spreadsheet, classes, marks,
audits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from artifacts.files import back_up, write_csv
from data.crop_table import CropTable
from data.formats.writing import crop_picture, safe_name
from data.images import CropWindow, ImageError, write_png
from probe.marks import OF_NONE, Marks

T = TypeVar("T")

_COPIED = ("label_name", "image", "left", "top", "right", "bottom")
_ANSWER = {True: 1, False: 0, None: ""}


def write_ranking(
    path: str | Path,
    table: CropTable,
    rows: Sequence[int],
    scores: Sequence[float],
    marks: Mapping[int, bool],
    *,
    keep_marks: bool = True,
) -> None:
    """Writes a ranking as CSV: rank, crop_id, score, relevant, and where the crop is.

    Args:
        path: the file to write.
        table: the crops.
        rows: ranked rows, best first.
        scores: one per ranked row.
        marks: row -> relevant; fills the column `relevant`, empty otherwise.
        keep_marks: whether marked crops that the ranking doesn't show follow after it,
            without a rank, so that a list given back as marks loses none.
    """
    ranked = [
        (str(rank), row, f"{score:.6f}")
        for rank, (row, score) in enumerate(zip(rows, scores, strict=True), 1)
    ]
    shown = {int(row) for row in rows}
    others = [row for row in marks if row not in shown] if keep_marks else []
    lines: list[list[Any]] = [["rank", "crop_id", "score", "relevant", *_COPIED]]
    for rank, row, score in ranked + [("", row, "") for row in others]:
        place = [table.column(name)[row] for name in _COPIED]
        lines.append(
            [rank, table.ids[row], score, _ANSWER[marks.get(int(row))], *place]
        )
    write_csv(path, lines)


def write_class_list(
    path: str | Path,
    table: CropTable,
    predicted: Mapping[int, tuple[str, float]],
    marks: Mapping[str, str],
) -> None:
    """Writes crops of several classes as CSV: crop_id, class (what it was marked as,
    `none` for none of them, empty otherwise), predicted, score and where the crop is;
    then the other marks, so that a list given back as marks loses none.

    Args:
        path: the file to write.
        table: the crops.
        predicted: row -> class and score, in the order of the list.
        marks: crop id -> class, "" for none.
    """
    shown = {str(table.ids[row]) for row in predicted}
    others = table.rows_of([name for name in marks if name not in shown])
    told = [
        (row, name, f"{score:.6f}" if name else "")
        for row, (name, score) in predicted.items()
    ]
    told += [(int(row), "", "") for row in others]
    lines: list[list[Any]] = [["crop_id", "class", "predicted", "score", *_COPIED]]
    for row, name, score in told:
        crop_id = str(table.ids[row])
        mark = (marks[crop_id] or OF_NONE[0]) if crop_id in marks else ""
        place = [table.column(column)[row] for column in _COPIED]
        lines.append([crop_id, mark, name, score, *place])
    write_csv(path, lines)


def write_marks(path: str | Path, marks: Mapping[str, bool]) -> None:
    """Writes marks as CSV, crop_id and relevant, in the order of marking."""
    lines = [[crop_id, _ANSWER[mark]] for crop_id, mark in marks.items()]
    write_csv(path, [["crop_id", "relevant"], *lines])


def write_audit(
    path: str | Path,
    table: CropTable,
    ids: Sequence[str],
    window: CropWindow,
) -> Path:
    """Writes an audit's questions as CSV, in the order given, and a picture of each
    crop: no score, no class, no path, which may name one, so that nothing tells what
    the answer should be.

    Returns:
        The folder of the pictures.
    """
    folder = Path(path).with_suffix(".crops")
    folder.mkdir(exist_ok=True)
    lines: list[list[Any]] = [["crop_id", "relevant", "picture"]]
    for crop_id, row in zip(ids, table.rows_of(ids), strict=True):
        picture = folder / f"{safe_name(crop_id)}.png"
        try:
            write_png(picture, crop_picture(table, row, window))
        except ImageError:
            lines.append([crop_id, "", ""])
            continue
        lines.append([crop_id, "", f"{folder.name}/{picture.name}"])
    write_csv(path, lines)
    return folder


def read_marks(path: str | Path) -> Mapping[str, bool]:
    """A list's marks; see `Marks.read`."""
    return Marks.read(path).relevant


def keep_marked_list(
    path: str | Path,
    marks: Mapping[str, Any],
    read: Callable[[str | Path], Mapping[str, Any]] = read_marks,
) -> None:
    """Moves a file aside that is about to be overwritten and holds marks that the new
    one won't hold, or something else.

    Args:
        path: of the file.
        marks: crop id -> mark, which the new one will hold.
        read: reads a list's marks.
    """
    if not Path(path).is_file():
        return
    try:
        stated = read(path)
    except ValueError:
        stated = {}  # nothing is marked in it
    if any(marks.get(crop_id) != mark for crop_id, mark in stated.items()):
        print(f"{path} held other marks: kept as {back_up(Path(path))}")
    elif not _is_list(Path(path)):
        print(f"{path} held something else: kept as {back_up(Path(path))}")


def still_there(table: CropTable, marks: Mapping[str, T]) -> dict[str, T]:
    """The marks of crops of the set; those of crops that have gone are counted.

    Raises:
        ValueError: none of them is of the set.
    """
    gone = [name for name in marks if table.row_of(name) is None]
    if len(gone) == len(marks):
        table.rows_of(marks, "marks")  # raises
    if gone:
        print(
            f"{len(gone)} of {len(marks)} marks are of crops that aren't in this set "
            f"any more, such as {gone[0]}: left out"
        )
    return {name: mark for name, mark in marks.items() if name not in gone}


def _is_list(path: Path) -> bool:
    """Whether a file is a list of crops, which can be made again."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return "crop_id" in file.readline()
