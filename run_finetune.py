"""Fine-tunes an image encoder on your crops, then embeds every crop.

    python run_finetune.py --data=photos --run_dir=runs/a
    python run_search.py --embeddings=runs/a/embeddings --query=photos/beet/0017.jpg

--data is what run_embed.py takes. Objectives: contrastive (SimCLR) needs no labels;
supervised trains all weights on the class names; linear trains only a classifier on
frozen features, which measures the embeddings but can't change them. The same command
goes on where it was killed. --preset takes the settings of a paper's experiment.
--config takes any setting of a run's config.json, such as min_area,
color_jitter_strength, grayscale_prob, blur_prob, rot90_flips, temperature, head,
optimizer, warmup_epochs, weight_decay, label_fraction, freeze_through_block, endpoints,
pooling, padding, embed_batch, micro_batch, xla, tpu. A flag counts more than config,
config more than preset.
"""

from __future__ import annotations

from absl import flags

import command_line
from curation.config import DeviceConfig, FinetuneConfig, FinetuneRequest
from curation.presets import PRESETS
from simclr_tf2.config import (
    BY_CROPS,
    OBJECTIVES,
    STRATEGIES,
    AugmentConfig,
    TrainerConfig,
)

FLAGS = flags.FlagValues()
flags.DEFINE_string("data", "", "What to train on and embed.", flag_values=FLAGS)
flags.DEFINE_string(
    "run_dir", "", "Folder for everything this run makes.", flag_values=FLAGS
)
flags.DEFINE_enum("preset", "", ["", *PRESETS], "Start from these.", flag_values=FLAGS)
flags.DEFINE_enum(
    "objective", FinetuneConfig.objective, OBJECTIVES, "What for.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "epochs",
    TrainerConfig.epochs,
    "Passes; -1 is 12 to 100, by the number of crops; 0 only embeds.",
    lower_bound=BY_CROPS,
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "minutes",
    FinetuneConfig.minutes,
    "Plan for so many instead, and stop when nothing is gained.",
    lower_bound=0.0,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "image_size",
    AugmentConfig.image_size,
    "Side of the training crops in pixels.",
    lower_bound=32,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "embed_size",
    FinetuneConfig.embed_size,
    "Side of the crops when embedding; 0 is 4/3 of image_size (best: 5/3).",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "batch_size",
    TrainerConfig.batch_size,
    "Crops per step, of all devices together; -1 is up to 128, by their number.",
    lower_bound=BY_CROPS,
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "learning_rate",
    TrainerConfig.learning_rate,
    "Peak learning rate, before scaling with the batch.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "eval_split",
    FinetuneConfig.eval_split,
    "Split that is measured on after each epoch.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "strategy",
    DeviceConfig.strategy,
    STRATEGIES,
    "One device; all GPUs of this machine; machines of TF_CONFIG; a TPU.",
    flag_values=FLAGS,
)
command_line.define_source_and_encoder(FLAGS)
command_line.define_common(FLAGS, embeddings=False)


def _finetune() -> None:
    request = command_line.configured(FinetuneRequest(), FLAGS, PRESETS)
    for name in ("data", "run_dir"):
        if not getattr(request, name):
            raise ValueError(f"{name} must be given")
    from curation.finetuning import run_finetune  # loads TensorFlow

    run_finetune(request)


def main(argv: list[str] | None = None) -> None:
    """Runs the script."""
    command_line.run(__doc__, FLAGS, _finetune, argv)


if __name__ == "__main__":
    main()
