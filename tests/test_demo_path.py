"""The claim of the demo, on drawings: contrastive fine-tuning without labels improves retrieval."""

import keras
import numpy as np
import pytest

from data.image_folder import read_image_folder
from data.pipeline import Unreadable, embed_crops, training_batches
from data.plant_drawings import draw_set
from probe.metrics import macro, retrieval_quality
from simclr_tf2.augment import AugmentConfig
from simclr_tf2.encoders import EncoderConfig, make_encoder
from simclr_tf2.finetune import FinetuneConfig, Trainer
from simclr_tf2.objectives import make_objective


@pytest.mark.slow
def test_contrastive_fine_tuning_improves_retrieval_on_drawings(tmp_path):
    table, _ = read_image_folder(draw_set(tmp_path / "drawings", 24))
    keras.utils.set_random_seed(0)
    encoder = make_encoder(EncoderConfig("efficientnet_lite0"))

    def quality():
        parts = embed_crops(table, encoder.embed, 64, 32, Unreadable())
        return macro(retrieval_quality(np.concatenate([vectors for vectors, _ in parts]), table.column("label_name"), 10))

    objective = make_objective("contrastive", encoder, AugmentConfig(64, 0.4, 0.4, 0.1), 0, 0.1)

    def batches(epoch, start):
        return training_batches(table, objective.augment, 64, 48, 0, epoch, Unreadable(), start)

    before = quality()
    (tmp_path / "run").mkdir()
    Trainer(objective, FinetuneConfig(epochs=12, batch_size=48), batches, len(table) // 48, tmp_path / "run").run()
    assert quality() > before + 0.1
