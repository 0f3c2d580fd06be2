"""Embeds every crop of a source with a pretrained network.

    python run_embed.py --data=photos --embeddings=runs/b/embeddings --image_size=224
    python run_search.py --embeddings=runs/b/embeddings --query=photos/beet/0017.jpg

--data is a folder of images (with one sub-folder per class or without), a .csv of
boxes, COCO, YOLO, VOC, LabelMe or CropAndWeed, a Hugging Face set on disk, a
crops.parquet, or tfds:NAME; docs/formats.md says what of each is read. Boxes become
crops. docs/search.md says what --recipe makes of them. A killed call goes on where it
stopped. Vectors that another network made elsewhere come in with --vectors. --config
takes the rest: endpoints, pooling, orientations, padding, square, fill, embed_batch,
stored_as (float32, float16, int8), find_duplicates, boxes, box_size, images, crowds,
keep_unlabeled, strategy, tpu, ray_actors, ray_block; made_by names what made the
vectors.

Of a folder that has grown only the new photos are embedded, and become a part of the
set. --part=3/16 embeds the third of sixteen parts, anywhere: on a cluster's queue, or
on two laptops. --engine=ray spreads the work over a Ray cluster (docs/clusters.md).
"""

from __future__ import annotations

from absl import flags

import command_line
from curation.config import ENGINES, EmbedRequest, Recipe

FLAGS = flags.FlagValues()
flags.DEFINE_string("data", "", "What to embed; see above.", flag_values=FLAGS)
flags.DEFINE_string("embeddings", "", "Folder to write.", flag_values=FLAGS)
flags.DEFINE_string(
    "vectors",
    "",
    "Vectors made elsewhere, instead of embedding: a .npy, .npz, .safetensors or "
    ".parquet file, row i for row i of data (CSV, Parquet or COCO).",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "part",
    "",
    "Embed a part alone, such as 3/16; the last joins.",
    flag_values=FLAGS,
)
flags.DEFINE_enum("engine", "local", ENGINES, "What embeds.", flag_values=FLAGS)
flags.DEFINE_string(
    "ray_address",
    "",
    "Ray cluster: auto, or HOST:PORT; default: one on this machine.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "image_size",
    Recipe.image_size,
    "Side of the crops in pixels.",
    lower_bound=32,
    flag_values=FLAGS,
)
command_line.define_source_and_encoder(FLAGS)
command_line.define_common(FLAGS, embeddings=False)


def _embed() -> None:
    request = command_line.configured(EmbedRequest(), FLAGS)
    for name in ("data", "embeddings"):
        if not getattr(request, name):
            raise ValueError(f"{name} must be given")
    if request.made_by and not request.vectors:
        raise ValueError("made_by names what made vectors, and needs them")
    if request.vectors:
        from curation.vectors import import_vectors

        import_vectors(request)
    else:
        from curation.embedding import run_embed  # loads TensorFlow

        run_embed(request)


def main(argv: list[str] | None = None) -> None:
    """Runs the script."""
    command_line.run(__doc__, FLAGS, _embed, argv)


if __name__ == "__main__":
    main()
