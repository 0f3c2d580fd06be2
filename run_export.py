"""Writes the class of a saved probe or a session in another tool's format.

    X="python run_export.py --embeddings=runs/a/embeddings"
    $X --probe=beets --format=coco --folder=beets_coco --class_name="beet, 4-6 leaves"
    $X --session=runs/a/sessions/<id> --format=yolo --folder=beets_yolo

The class is what lies above the threshold, overruled by marks, overruled by answers to
an audit. card.json and card.md say where it came from and what is known of it.
"""

from __future__ import annotations

from absl import flags

import command_line
from curation.card import MARKED, THRESHOLD
from curation.exporting import ExportRequest, run_export
from data.formats.registry import WRITABLE, spellings

FLAGS = flags.FlagValues()
_DEFAULT = ExportRequest()
command_line.define_common(FLAGS)
flags.DEFINE_string("probe", "", "Folder of a saved probe.", flag_values=FLAGS)
flags.DEFINE_string("session", "", "Folder of a page's session.", flag_values=FLAGS)
flags.DEFINE_enum(
    "format", _DEFAULT.format, spellings(WRITABLE), "What to write.", flag_values=FLAGS
)
flags.DEFINE_string("folder", "", "New folder to write.", flag_values=FLAGS)
flags.DEFINE_string(
    "class_name",
    "",
    "Name of the class; one that exists is added to. Default: the session's.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "selected",
    THRESHOLD,
    [THRESHOLD, MARKED],
    "All from the threshold on, or only what was marked as relevant.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "predictions",
    "",
    "A model's predictions, where the session is about them.",
    flag_values=FLAGS,
)


def main(argv: list[str] | None = None) -> None:
    """Runs the script."""
    command_line.run(
        __doc__,
        FLAGS,
        lambda: run_export(command_line.configured(_DEFAULT, FLAGS)),
        argv,
    )


if __name__ == "__main__":
    main()
