"""Tasks for Label Studio; written only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from artifacts.files import write_json
from artifacts.progress import Progress
from data.formats.base import Format
from data.formats.writing import Selection, image_sizes, rows_by_image
from data.report import Report


def write(
    selection: Selection, folder: Path, report: Report, progress: Progress
) -> None:
    """tasks.json and labels.xml: one task an image; marked crops as annotations, the
    others as predictions with their score.
    """
    table, sizes = selection.table, image_sizes(selection.table)
    score = selection.score_of
    tasks = []
    for image, rows in progress(
        rows_by_image(table).items(), unit="image", desc="export"
    ):
        rows = [row for row in rows if row in score]
        if not rows:
            continue
        marked = [row for row in rows if selection.marks.get(row)]
        others = [row for row in rows if row not in marked]
        regions = {row: _region(selection, row, sizes[image]) for row in rows}
        scored = {row: round(score[row], 6) for row in others}
        predicted = [{**regions[row], "score": scored[row]} for row in others]
        prediction = {
            "model_version": "probe",
            "score": max(scored.values(), default=0.0),
            "result": predicted,
        }
        annotation = {"result": [regions[row] for row in marked]}
        tasks.append(
            {
                "data": {"image": f"/data/local-files/?d={quote(image)}"},
                "annotations": [annotation] if marked else [],
                "predictions": [prediction] if others else [],
            }
        )
    write_json(folder / "tasks.json", tasks)
    label = quoteattr(selection.class_name)
    (folder / "labels.xml").write_text(
        '<View>\n  <Image name="image" value="$image"/>\n  <RectangleLabels '
        'name="label" toName="image">\n'
        f"    <Label value={label}/>\n  </RectangleLabels>\n</View>\n",
        encoding="utf-8",
    )


def _region(
    selection: Selection, row: int, size: tuple[int, int]
) -> Mapping[str, object]:
    """A box as Label Studio has it: sides in per cent of the image's."""
    width, height = size
    left, top, right, bottom = selection.table.boxes[row].tolist()
    return {
        "id": str(selection.table.ids[row]),
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "value": {
            "x": 100 * left / width,
            "y": 100 * top / height,
            "width": 100 * (right - left) / width,
            "height": 100 * (bottom - top) / height,
            "rotation": 0,
            "rectanglelabels": [selection.class_name],
        },
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
    }


FORMAT = Format(
    name="label_studio",
    keeps="tasks: marked crops as annotations, the others as predictions with a score",
    write=write,
)
