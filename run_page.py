"""Opens the page: mark in a browser, watch the list get better, export the class.

    python run_page.py --embeddings=runs/a/embeddings

It prints a URL and opens it. Sessions are kept in a folder beside the embedding set,
every mark is on the disk before it counts as saved, and the same command goes on where
it was stopped. With --predictions, a model's failures can be looked for.
--config='{"browser": false}' opens no browser.
"""

from __future__ import annotations

from absl import flags

import command_line
from web.serve import PageRequest, run_page

FLAGS = flags.FlagValues()
_DEFAULT = PageRequest()
flags.DEFINE_string("embeddings", "", "Folder of an embedding set.", flag_values=FLAGS)
flags.DEFINE_string(
    "sessions",
    "",
    "Folder of the sessions; default: sessions/ beside the embedding set.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "predictions", "", "A model's predictions, .csv or COCO results.", flag_values=FLAGS
)
flags.DEFINE_string(
    "host",
    _DEFAULT.host,
    "Address to listen on; beyond this machine, whoever has the URL can mark.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "port", _DEFAULT.port, "0 takes 8765, or a free one.", flag_values=FLAGS
)
flags.DEFINE_string(
    "root_path",
    "",
    "Path, or whole URL, that a proxy shows the page under (JupyterHub, clusters).",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "new_token",
    False,
    "Make a new secret for the URL; the old URL opens nothing any more.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "images_root",
    "",
    "Where the images are now, if they have moved.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("seed", 0, "Of audits, clusters and the map.", flag_values=FLAGS)
flags.DEFINE_string(
    "config", "", "More settings: a JSON file, or JSON.", flag_values=FLAGS
)


def main(argv: list[str] | None = None) -> None:
    """Runs the script."""
    command_line.run(
        __doc__, FLAGS, lambda: run_page(command_line.configured(_DEFAULT, FLAGS)), argv
    )


if __name__ == "__main__":
    main()
