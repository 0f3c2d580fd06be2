"""Result lists: a ranking as CSV, ready to be marked in a spreadsheet and given back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.crop_table import CropTable
from data.files import write_csv

_COPIED = ("label_name", "image", "left", "top", "right", "bottom")
_ANSWER = {True: 1, False: 0, None: ""}


def write_results(
    path: str | Path,
    table: CropTable,
    rows: Sequence[int],
    scores: Sequence[float],
    marks: Mapping[int, bool],
) -> None:
    """Writes a ranking as CSV: rank, crop_id, score, relevant, and where the crop is.

    Marked crops that the ranking doesn't show follow after it, without a rank, so that
    a list given back as marks loses none.

    Args:
        path: the file to write.
        table: the crops.
        rows: ranked rows, best first.
        scores: one a ranked row.
        marks: row -> relevant; fills the column `relevant`, which is empty otherwise.
    """
    ranked = [
        (rank, row, f"{score:.6f}")
        for rank, (row, score) in enumerate(zip(rows, scores, strict=True), 1)
    ]
    shown = {int(row) for row in rows}
    lines: list[list[Any]] = [["rank", "crop_id", "score", "relevant", *_COPIED]]
    for rank, row, score in ranked + [
        ("", row, "") for row in marks if row not in shown
    ]:
        place = [table.column(name)[row] for name in _COPIED]
        lines.append(
            [rank, table.ids[row], score, _ANSWER[marks.get(int(row))], *place]
        )
    write_csv(path, lines)
