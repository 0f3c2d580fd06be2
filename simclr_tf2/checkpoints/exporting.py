"""Exporting an encoder with its heads as a SavedModel that tools for the official
SimCLR checkpoints load.

The model is called as model(inputs, trainable), float32 RGB [batch, height, width, 3]
in [0, 1], trainable a Python bool, and returns a dict of float32 tensors. A SimCLR
ResNet has all ten of the official names: initial_conv, initial_max_pool, block_group1
to 4, final_avg_pool, proj_head_input, proj_head_output and, where a classifier was
trained, logits_sup. Other encoders have final_avg_pool, the outputs of their stages and
what their heads give. trainable=True normalises by the batch and moves the moving
statistics; gradients reach every variable. With an embedder the model has a second
function, model.embed(images), from the same images to the vectors of its recipe,
float32 [batch, width].
"""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from artifacts.files import whole_folder
from simclr_tf2.checkpoints.importing import infer_architecture
from simclr_tf2.checkpoints.official_names import (
    STATISTICS,
    canonical,
    official_variables,
    path_of,
)
from simclr_tf2.encoders.base import Encoder
from simclr_tf2.encoders.embedder import Embedder
from simclr_tf2.encoders.resnet import FEATURES, ResNetConfig
from simclr_tf2.heads import CLASSIFIER, PROJECTION, projections

PROJECTION_INPUT, PROJECTED, LOGITS = (
    "proj_head_input",
    "proj_head_output",
    "logits_sup",
)


def export_saved_model(
    folder: str | Path,
    encoder: Encoder,
    projection_head: keras.Model | None = None,
    classifier: keras.Model | None = None,
    projection_layer: int = 0,
    *,
    embedder: Embedder | None = None,
) -> None:
    """Writes the SavedModel, whole or not at all.

    Args:
        folder: is replaced if it exists.
        encoder: any.
        projection_head: on the features.
        classifier: on layer `projection_layer` of the projection head; 0 is the
            features.
        embedder: of this encoder, whose recipe is exported too; of the pooling `mask`
            without a mask.
    """
    layers = getattr(encoder.model, "layers", ())
    frozen = [layer for layer in layers if not layer.trainable]
    try:
        for layer in frozen:  # what was frozen in training isn't in the exported model
            layer.trainable = True
        exported = _Exported(
            encoder, projection_head, classifier, projection_layer, embedder
        )
        with whole_folder(folder, replace=True) as partial:
            tf.saved_model.save(exported, str(partial))
    finally:
        for layer in frozen:
            layer.trainable = False


class _Exported(tf.Module):
    """The root of the SavedModel.

    Keras variables are all called "kernel" or "gamma"; here they are copied into
    tf.Variables of the official names, and the Keras layers run on the copies. A
    LoadedModel keeps its own variables.
    """

    def __init__(
        self,
        encoder: Encoder,
        projection_head: keras.Model | None,
        classifier: keras.Model | None,
        projection_layer: int,
        embedder: Embedder | None,
    ):
        super().__init__(name="simclr")
        names = _names(encoder, projection_head, classifier)
        order = {path: place for place, path in enumerate(names)}
        pairs: list[tuple[keras.Variable, tf.Variable]] = []
        parts = {
            "resnet_model": encoder.model,
            "_projection_head": projection_head,
            "supervised_head": classifier,
        }
        tracked = {}
        for part, model in parts.items():
            if isinstance(model, keras.Model):
                variables = sorted(
                    model.weights,
                    key=lambda variable: order.get(path_of(variable.path), len(order)),
                )
                copies = [_copy(variable, names) for variable in variables]
                pairs += zip(variables, copies, strict=True)
                tracked[part] = _part(
                    variables=copies,
                    trainable_variables=[copy for copy in copies if copy.trainable],
                )
            elif model is not None:
                self.loaded = model
        self.model = _part(**tracked)
        own = (
            []
            if isinstance(encoder.model, keras.Model)
            else encoder.trainable_variables
        )
        self.trainable_variables_list = [
            *own,
            *(copy for _, copy in pairs if copy.trainable),
        ]

        def outputs(inputs, trainable):
            with keras.StatelessScope(pairs) as scope:
                ends = _outputs(
                    encoder,
                    projection_head,
                    classifier,
                    projection_layer=projection_layer,
                    inputs=inputs,
                    trainable=trainable,
                )
                moved = [
                    (copy, scope.get_current_value(variable))
                    for variable, copy in pairs
                    if not copy.trainable
                ]
            for copy, value in moved if trainable else []:
                copy.assign(value)
            return ends

        self._outputs = outputs
        images = tf.TensorSpec((None, None, None, 3), tf.float32, "inputs")
        for trainable in (False, True):
            self.__call__.get_concrete_function(images, trainable)
        if embedder is not None:

            @tf.function(input_signature=[images])
            def embed(inputs):
                with keras.StatelessScope(pairs):
                    return embedder.vectors(inputs)

            self.embed = embed

    @tf.function
    def __call__(self, inputs, trainable):
        return self._outputs(inputs, trainable)


def _part(**attributes):
    """An object of the SavedModel that has nothing but attributes."""
    part = tf.__internal__.tracking.AutoTrackable()
    for name, value in attributes.items():
        setattr(part, name, value)
    return part


def _copy(variable: keras.Variable, names: dict[str, str]) -> tf.Variable:
    # By its name, since whoever froze a layer made its weights count as not trainable.
    trainable = not variable.path.endswith(STATISTICS)
    return tf.Variable(
        variable.numpy(),
        trainable=trainable,
        name=names.get(path_of(variable.path), variable.path),
    )


def _names(
    encoder: Encoder,
    projection_head: keras.Model | None,
    classifier: keras.Model | None,
) -> dict[str, str]:
    """Path -> official name, in the official order; heads have theirs on any
    encoder.
    """
    config = encoder.architecture or _architecture_of(encoder)
    layers = (
        sum(layer.name.endswith(".dense") for layer in projection_head.layers)
        if projection_head
        else 0
    )
    rows = official_variables(config or ResNetConfig(), layers, classifier is not None)
    return {
        row.path: row.name
        for row in rows
        if config or row.part in (PROJECTION, CLASSIFIER)
    }


def _architecture_of(encoder: Encoder) -> ResNetConfig | None:
    if isinstance(encoder.model, keras.Model):
        return None
    try:
        return infer_architecture(
            dict(
                zip(
                    canonical([v.name for v in encoder.model.weights]),
                    encoder.model.weights,
                    strict=True,
                )
            )
        )[0]
    except ValueError:
        return None  # a model of another kind


def _outputs(
    encoder: Encoder,
    projection_head,
    classifier,
    *,
    projection_layer: int,
    inputs,
    trainable: bool,
) -> dict[str, tf.Tensor]:
    ends = dict(encoder.endpoints(inputs, trainable))
    features = ends.pop(encoder.features)
    ends |= {FEATURES: features, PROJECTION_INPUT: features}
    layers = [features]
    if projection_head is not None:
        layers = projections(projection_head, features, trainable)
        ends[PROJECTED] = layers[-1]
    if classifier is not None:
        ends[LOGITS] = classifier(layers[projection_layer])
    return {name: tf.cast(end, tf.float32) for name, end in ends.items()}
