"""How good is it? Retrieval, a simulated annotator, the audit of a list, failure rates.

    E="python run_evaluate.py --embeddings=runs/a/embeddings"
    $E --retrieval --k=50                                # every crop is a query
    $E --query=<crop_id> --simulate_label=beet           # what marking would bring
    $E --probe=beets --audit=audit.csv                   # draws crops to mark ...
    $E --probe=beets --audit=audit.csv                   # ... and says what they say
    $E --predictions=predictions.csv                     # what is confused with what
    $E --mistakes=labels.csv --sheet=labels.png          # labels that may be wrong

An audit is a random sample of a saved probe's ranking, with a picture of each crop and
nothing that tells the answer: mark all of it (1 or 0 in the column `relevant`) and give
the same command again. It tells precision, class size, rate and recall with intervals,
and sets the probe's threshold. It stays valid when the probe learns from more marks
(not from the sample): mark on, save the probe under its name, give the command again.
With --predictions, --where and --drawn_by=uniform it tells how often a model fails.
--config takes the rest: transform, method.
"""

from __future__ import annotations

from absl import flags

import command_line
from curation.evaluating import EvaluateRequest, run_evaluate
from probe.estimate import DRAWN_BY
from probe.query_strategies import STRATEGIES

FLAGS = flags.FlagValues()
_DEFAULT = EvaluateRequest()
command_line.define_common(FLAGS)
flags.DEFINE_bool(
    "retrieval",
    False,
    "Every labeled crop as a query, macro over classes.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "hide_duplicates",
    False,
    "Retrieval without what shows the same as an earlier crop.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "split", _DEFAULT.split, "Retrieval within this split alone.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "k", None, "Of P@k; default: 50, or as many as there are.", flag_values=FLAGS
)
flags.DEFINE_multi_string(
    "query", [], "Where the simulated annotator starts.", flag_values=FLAGS
)
flags.DEFINE_string(
    "simulate_label",
    "",
    "Play an annotator who looks for this class.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "simulate_where",
    "",
    "Play one who looks for what meets this SQL condition.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("rounds", _DEFAULT.rounds, "Rounds of marking.", flag_values=FLAGS)
flags.DEFINE_integer(
    "per_round", _DEFAULT.per_round, "Marks per round.", flag_values=FLAGS
)
flags.DEFINE_enum(
    "query_strategy",
    _DEFAULT.query_strategy,
    STRATEGIES,
    "What the annotator marks next.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "sheet",
    "",
    "Contact sheet (.png) before and after the simulation.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "mistakes",
    "",
    "CSV to write labels to that the others contradict; --sheet shows them.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "probe", "", "Folder of the saved probe to audit.", flag_values=FLAGS
)
flags.DEFINE_string(
    "audit", "", "CSV of the random sample, to write or marked.", flag_values=FLAGS
)
flags.DEFINE_integer("size", _DEFAULT.size, "Crops in the audit.", flag_values=FLAGS)
flags.DEFINE_enum(
    "drawn_by",
    _DEFAULT.drawn_by,
    DRAWN_BY,
    "How it is drawn: by rank to judge the top, uniformly to tell a rate.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "target_precision",
    _DEFAULT.target_precision,
    "What the threshold shall reach.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "predictions", "", "A model's predictions, .csv or COCO results.", flag_values=FLAGS
)


def main(argv: list[str] | None = None) -> None:
    """Runs the script."""
    command_line.run(
        __doc__,
        FLAGS,
        lambda: run_evaluate(command_line.configured(_DEFAULT, FLAGS)),
        argv,
    )


if __name__ == "__main__":
    main()
