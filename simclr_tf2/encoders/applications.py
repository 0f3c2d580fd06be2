"""Any network of keras.applications, as `keras:<Name>`, with its own preprocessing."""

from __future__ import annotations

import importlib
import inspect
import math
import warnings
from typing import Any

import keras

from simclr_tf2.config import IMAGENET, RANDOM, EncoderConfig
from simclr_tf2.encoders.base import Encoder, load_keras_weights

PREFIX = "keras:"
SIDE = 224  # of a picture by which strides are found
_MERGES = ("Add", "Concatenate", "Concat")


@keras.saving.register_keras_serializable("simclr_tf2")
class ApplicationPreprocessing(keras.layers.Layer):
    """RGB in [0, 1] -> what a network of keras.applications expects.

    Args:
        module: of the network, which has its `preprocess_input`.
    """

    def __init__(self, module: str, **options: Any):
        super().__init__(**options)
        self.module = module
        # The networks of Keras alone: a file's word must not import anything else.
        if not module.startswith("keras.src.applications."):
            raise ValueError(
                f"module must be one of keras.src.applications; got {module!r}"
            )
        self._preprocess = importlib.import_module(module).preprocess_input

    def call(self, images):
        """Float RGB [batch, height, width, 3] in [0, 1] -> the same shape."""
        return self._preprocess(images * 255.0, data_format="channels_last")

    def compute_output_shape(self, input_shape):
        """That of the input."""
        return input_shape

    def get_config(self):
        """How to make it again."""
        return {**super().get_config(), "module": self.module}


def names() -> list[str]:
    """The networks there are."""
    found = vars(keras.applications).items()
    return sorted(n for n, one in found if n[0].isupper() and callable(one))


def make(config: EncoderConfig) -> Encoder:
    """The encoder: ImageNet weights by download, from a file, or random.

    The features are the mean over height and width of the last layer (`avg_pool`);
    `stage3` to `stage5` what the network's blocks give at strides of 8, 16 and 32.
    """
    name = config.name.removeprefix(PREFIX)
    if name not in names():
        raise ValueError(
            f"encoder must be keras:<Name> with one of {', '.join(names())}; got "
            f"{config.name!r}"
        )
    build = getattr(keras.applications, name)
    weights = config.weights
    network = _built(build)
    if weights == IMAGENET:
        network.set_weights(downloaded(build, name).get_weights())
    elif weights != RANDOM and not weights.endswith("encoder.weights.h5"):
        load_keras_weights(network, weights, f"{name} (include_top=False)")
    places = stages_of(_built(build, input_shape=(SIDE, SIDE, 3)), SIDE)
    ends = [outputs_of(network)[place] for place in places.values()]
    inner = keras.Model(network.input, [*ends, network.output], name=network.name)
    inputs = keras.Input((None, None, 3), name="image")
    module = inspect.getmodule(build)
    assert module is not None
    prepared = ApplicationPreprocessing(module.__name__, name="preprocess")(inputs)
    outputs = dict(zip((*places, "avg_pool"), inner(prepared), strict=True))
    model = keras.Model(inputs, outputs, name=name.lower())
    if weights.endswith("encoder.weights.h5"):
        load_keras_weights(model, weights, config.name)
    return Encoder(config, model, "avg_pool")


def _built(build: Any, weights: str | None = None, **options: Any) -> keras.Model:
    with warnings.catch_warnings():
        # That weights are of 224 pixels: the same as of any other size.
        warnings.filterwarnings("ignore", "`input_shape` is undefined")
        return build(weights=weights, include_top=False, pooling="avg", **options)


def downloaded(build: Any, name: str, file: str = "") -> keras.Model:
    """A network of keras.applications with its ImageNet weights, less the top.

    Args:
        build: its function there.
        name: of the encoder, in the message.
        file: what the library calls the weights, where that is known.

    Raises:
        OSError: they can't be downloaded; names what works without a network.
    """
    with_file = f" with the file {file} of keras.applications" if file else ""
    try:
        return _built(build, IMAGENET)
    except Exception as error:  # noqa: BLE001  what Keras raises without network
        raise OSError(
            f"the ImageNet weights of {name} couldn't be downloaded ({error}). Without "
            "a network use --encoder=efficientnet_lite0, whose weights come with its "
            f"package, or --weights=<file>{with_file}."
        ) from None


def outputs_of(network: keras.Model) -> list[Any]:
    """The output of every operation, layers and sums alike, in order."""
    found = []
    for operation in network.operations:
        output = operation.output
        found.append(output[0] if isinstance(output, list | tuple) else output)
    return found


def stages_of(network: keras.Model, side: int) -> dict[str, int]:
    """stage3 to stage5 -> place of the operation whose output it is: the last that
    merges branches at a stride of about 8, 16 or 32, or the last of all where none
    does.

    Args:
        network: of images of one size.
        side: that size.
    """
    found: dict[str, tuple[bool, int]] = {}
    for place, (operation, output) in enumerate(
        zip(network.operations, outputs_of(network), strict=True)
    ):
        if len(output.shape) != 4 or output.shape[1] in (None, 1):
            continue
        stride = round(math.log2(side / output.shape[1]))
        merges = type(operation).__name__ in _MERGES
        name = f"stage{stride}"
        if 3 <= stride <= 5 and (merges or not found.get(name, (False, 0))[0]):
            found[name] = (merges, place)
    return {name: place for name, (_, place) in sorted(found.items())}
