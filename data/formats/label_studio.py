"""Tasks for Label Studio; written only."""

from __future__ import annotations

from pathlib import Path
from typing import Any
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
        regions: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        width, height = sizes[image]
        for row in (row for row in rows if row in score):
            left, top, right, bottom = table.boxes[row].tolist()
            value: dict[str, Any] = {
                "x": 100 * left / width,
                "y": 100 * top / height,
                "width": 100 * (right - left) / width,
                "height": 100 * (bottom - top) / height,
                "rotation": 0,
                "rectanglelabels": [selection.class_name],
            }
            region: dict[str, Any] = {
                "id": str(table.ids[row]),
                "from_name": "label",
                "to_name": "image",
                "type": "rectanglelabels",
                "value": value,
            }
            region |= {
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
            }
            marked = bool(selection.marks.get(row))
            regions[marked].append(
                region if marked else region | {"score": round(score[row], 6)}
            )
        if regions[True] or regions[False]:
            task: dict[str, Any] = {"data": {"image": f"/data/local-files/?d={image}"}}
            task["annotations"] = [{"result": regions[True]}] if regions[True] else []
            surest = max((region["score"] for region in regions[False]), default=0.0)
            task["predictions"] = (
                [{"model_version": "probe", "score": surest, "result": regions[False]}]
                if regions[False]
                else []
            )
            tasks.append(task)
    write_json(folder / "tasks.json", tasks)
    label = quoteattr(selection.class_name)
    (folder / "labels.xml").write_text(
        '<View>\n  <Image name="image" value="$image"/>\n  <RectangleLabels '
        'name="label" toName="image">\n'
        f"    <Label value={label}/>\n  </RectangleLabels>\n</View>\n",
        encoding="utf-8",
    )


FORMAT = Format(
    name="label_studio",
    keeps="tasks: marked crops as annotations, the others as predictions with a score",
    write=write,
)
