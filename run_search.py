"""Searches an embedding set by example, and re-ranks it from your marks.

    S="python run_search.py --embeddings=runs/a/embeddings"
    $S --query=<crop_id or image path> --sheet=out.png --out=out.csv
    $S --query=<crop_id> --marks=out.csv --sheet=better.png --save_probe=beets
    $S --probe=beets --out=class.csv                 # everything from its threshold on

Write 1 (relevant) or 0 into the column `relevant` of out.csv, in a spreadsheet or an
editor, and give it back as --marks: a linear probe learns from the marks and re-ranks
everything. --suggest=next.csv lists what to mark next. --classes=beet=<crop_id> and
--classes=maize=<crop_id> look for both at once: a column `class` takes the marks, and
each teaches all probes. --clusters=4 proposes finer classes among the crops of --where.
Then: run_evaluate.py says how good a saved probe is, run_export.py writes its class in
another tool's format, run_page.py does all of it in a browser. --config takes the rest:
suggest_count, transform (graph, smoothed, aligned, partial, l2, center, whiten), method
(auto, cosine, rocchio, logistic, anchored), ascending, milvus.
"""

from __future__ import annotations

from absl import flags

import command_line
from curation.searching import SearchRequest, run_search
from probe.query_strategies import STRATEGIES

FLAGS = flags.FlagValues()
command_line.define_common(FLAGS)
flags.DEFINE_multi_string(
    "query",
    [],
    "Crop id, or path of an image in the set (with @x,y for the crop at that point) or "
    "outside it. Several: their mean.",
    flag_values=FLAGS,
)
flags.DEFINE_multi_string(
    "negative", [], "The same of what it should not look like.", flag_values=FLAGS
)
flags.DEFINE_multi_string(
    "text",
    [],
    "The same in words, of CLIP's or SigLIP's embeddings.",
    flag_values=FLAGS,
)
flags.DEFINE_multi_string(
    "classes",
    [],
    "NAME=crop id or image path: several classes at once, marked in a column `class`.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "k",
    None,
    "How many results; default: 50, or as many as there are.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "marks",
    "",
    "CSV with crop_id and relevant (1 or 0), or the folder of a page's session.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "probe",
    "",
    "Folder of a saved probe: rank these embeddings by it.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "save_probe", "", "Folder to keep what was learned in.", flag_values=FLAGS
)
flags.DEFINE_string(
    "suggest", "", "CSV to write what to mark next to.", flag_values=FLAGS
)
flags.DEFINE_string(
    "review",
    "",
    "CSV to write marks to that the others contradict, for a second look.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "query_strategy",
    SearchRequest.query_strategy,
    STRATEGIES,
    "What to mark next.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "new", False, "Only crops that were added to the set last.", flag_values=FLAGS
)
flags.DEFINE_bool(
    "hide_duplicates",
    False,
    "Leave out what shows the same as an earlier crop, or as the query.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "compare",
    "",
    "Another embedding set of the same crops, for the sheet.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("clusters", 0, "Propose so many finer classes.", flag_values=FLAGS)
flags.DEFINE_string(
    "count_where",
    "",
    "Count results that meet this SQL condition, not the query's class.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "predictions",
    "",
    "A model's predictions, .csv or COCO results, as columns predicted and "
    "predicted_score.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "out", "", "List to write (.csv), with its provenance beside it.", flag_values=FLAGS
)
flags.DEFINE_string("sheet", "", "Contact sheet to draw (.png).", flag_values=FLAGS)


def main(argv: list[str] | None = None) -> None:
    """Runs the script."""
    command_line.run(
        __doc__,
        FLAGS,
        lambda: run_search(command_line.configured(SearchRequest(), FLAGS)),
        argv,
    )


if __name__ == "__main__":
    main()
