"""Running a SimCLR SavedModel as it is: one written by the official TF2 code, or by
`simclr_tf2.checkpoints.exporting`.

Such a model is called as model(inputs, trainable), float32 RGB [batch, height, width,
3] in [0, 1], and returns a dict of endpoints. Three things about the official ones need
care, and get it here:

- their list of trainable variables may be short or empty, so variables are taken from
  the functions themselves; gradients that the exported training stopped below a frozen
  block flow again;
- those saved without custom gradients can't be differentiated with trainable=True: each
  synchronised batch norm holds an all-reduce, the identity on one device, whose
  gradient the file only names. The identity is registered under those names;
- those saved while pretraining blur their input at random when trainable=True. Here the
  input goes past the blur.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.ops import (
    gradient_registry,
)  # there is no public way to ask whether a name is registered

from simclr_tf2.config import IMAGENET, RANDOM, EncoderConfig
from simclr_tf2.encoders.base import Encoder
from simclr_tf2.encoders.resnet import FEATURES
from simclr_tf2.heads import CLASSIFIER, PROJECTION

_HEAD_OUTPUTS = ("logits_sup", "proj_head_output")
_HEADS = (f"{PROJECTION}/", f"{CLASSIFIER}/")
_RANDOM = (
    "RandomUniform",
    "RandomStandardNormal",
    "StatelessRandomUniformV2",
    "StatelessRandomNormalV2",
    "RandomUniformInt",
)


class LoadedModel(tf.Module):
    """A loaded SavedModel with the parts of a Keras model's interface that an encoder
    needs.

    Attributes:
        output: endpoint -> tf.TensorSpec, of those that may embed.
        weights: the variables of its network, plain tf.Variable; heads that came with
            it stay as they are.
        trainable_variables: those of them that training moves.
        blurs: whether its trainable=True function blurs at random; the blur is then
            left out.
    """

    def __init__(self, loaded: Any, folder: str | Path):
        super().__init__(name="loaded_simclr")
        self.loaded, self.folder = loaded, str(folder)
        functions = _functions(loaded, folder)
        # Outputs of heads are no embedding of a network: fine-tuning puts other heads
        # in their place.
        ends = sorted(functions[False].structured_outputs.items())
        self.output = {name: spec for name, spec in ends if name not in _HEAD_OUTPUTS}
        variables = {
            variable.ref(): variable
            for function in functions.values()
            for variable in function.variables
        }
        network = (
            ref.deref() for ref in variables if not ref.deref().name.startswith(_HEADS)
        )
        self._network = sorted(network, key=lambda variable: variable.name)
        _register_identity_gradients(functions.values())
        self.blurs = _is_random(functions[True])
        self._train, self._infer = (
            _mended(functions[trainable], folder) for trainable in (True, False)
        )

    @property
    def weights(self) -> list[tf.Variable]:
        """Variables of the network, without heads."""
        return self._network

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        """Those that training moves."""
        return [variable for variable in self._network if variable.trainable]

    @property
    def non_trainable_variables(self) -> list[tf.Variable]:
        """Moving statistics."""
        return [variable for variable in self._network if not variable.trainable]

    def count_params(self) -> int:
        """Numbers in all weights."""
        return sum(int(np.prod(variable.shape)) for variable in self._network)

    def __call__(
        self, images: tf.Tensor, training: bool = False
    ) -> dict[str, tf.Tensor]:
        return (self._train if training else self._infer)(tf.cast(images, tf.float32))


def load_saved_model(folder: str | Path) -> LoadedModel:
    """Loads a SimCLR SavedModel.

    Raises:
        ValueError: it is incomplete, corrupt or no SimCLR model; the message lists what
            is missing.
        RuntimeError: called under a strategy of several replicas.
    """
    check_saved_model(folder)
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise RuntimeError(
            "a SavedModel runs on one device: its batch norm was traced for one. "
            "Import its weights into a SimCLR ResNet instead "
            "(--encoder=r50_1x_sk0 --weights=<the same>), or take --strategy=default"
        )
    try:
        loaded = tf.saved_model.load(str(folder))
    except (
        tf.errors.OpError,
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        IndexError,
    ) as error:
        raise ValueError(
            f"{str(folder)!r} is a corrupt SavedModel: "
            f"{str(error).strip().splitlines()[0]}"
        ) from None
    return LoadedModel(loaded, folder)


def check_saved_model(folder: str | Path) -> None:
    """Checks that the files of a SavedModel are there, readable and whole.

    Raises:
        ValueError: names the missing files, or the one that is corrupt.
    """
    folder = Path(folder)
    if (
        not (folder / "saved_model.pb").is_file()
        and not (folder / "variables").is_dir()
    ):
        inside = sorted(path.parent.name for path in folder.glob("*/saved_model.pb"))
        hint = f"; it holds {', '.join(inside)}, which are" if inside else ""
        raise ValueError(
            "weights must be the folder of a SavedModel, with saved_model.pb and "
            f"variables/; {str(folder)!r} isn't{hint}"
        )
    missing = [
        name
        for name in ("saved_model.pb", "variables/variables.index")
        if not (folder / name).is_file()
    ]
    shards = sorted(path.name for path in folder.glob("variables/variables.data-*"))
    total = int(shards[0].rsplit("-", 1)[1]) if shards else 1
    expected = [f"variables.data-{shard:05d}-of-{total:05d}" for shard in range(total)]
    missing += [f"variables/{name}" for name in expected if name not in shards]
    if missing:
        raise ValueError(
            f"the SavedModel {str(folder)!r} is incomplete: it lacks "
            f"{', '.join(missing)}"
        )
    try:
        _read(folder)
    except DecodeError:
        raise ValueError(
            f"{folder / 'saved_model.pb'} is corrupt: it can't be parsed as a "
            "SavedModel"
        ) from None
    try:
        reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
        for key in reader.get_variable_to_shape_map():
            reader.get_tensor(key)  # compares checksums
    except (
        tf.errors.OpError,
        RuntimeError,
        ValueError,
        TypeError,
        IndexError,
    ) as error:
        raise ValueError(
            f"the variables of {str(folder)!r} are corrupt or cut off: "
            f"{str(error).strip().splitlines()[0]}"
        ) from None


def _read(folder: Path) -> saved_model_pb2.SavedModel:
    return saved_model_pb2.SavedModel.FromString(
        (folder / "saved_model.pb").read_bytes()
    )


def _functions(loaded: Any, folder: str | Path) -> dict[bool, Any]:
    """The concrete functions of trainable=False and True."""
    found: dict[bool, Any] = {}
    call = getattr(loaded, "__call__", None)  # noqa: B004
    for function in getattr(call, "concrete_functions", ()):
        arguments = [
            *function.structured_input_signature[0],
            *function.structured_input_signature[1].values(),
        ]
        flags = [argument for argument in arguments if isinstance(argument, bool)]
        outputs = function.structured_outputs
        if len(flags) == 1 and isinstance(outputs, dict) and FEATURES in outputs:
            found[flags[0]] = function
    missing = [
        f"a function __call__(inputs, trainable={flag}) with output {FEATURES}"
        for flag in (False, True)
        if flag not in found
    ]
    if missing:
        signatures = ", ".join(getattr(loaded, "signatures", {})) or "none"
        raise ValueError(
            f"{str(folder)!r} is no SimCLR SavedModel: it lacks {'; '.join(missing)} "
            f"(its signatures: {signatures})"
        )
    return found


def _graph_functions(function: Any) -> Iterator[Any]:
    """Nodes of a function's graph and of the functions it calls."""
    graph = function.graph.as_graph_def()
    yield from graph.node
    for inner in graph.library.function:
        yield from inner.node_def


def _register_identity_gradients(functions) -> None:
    for function in functions:
        for node in _graph_functions(function):
            if node.op != "IdentityN" or "_gradient_op_type" not in node.attr:
                continue
            name = node.attr["_gradient_op_type"].s.decode()
            try:
                gradient_registry.lookup(name)
            except LookupError:
                tf.RegisterGradient(name)(lambda operation, *gradients: gradients)


def _is_random(function: Any) -> bool:
    return any(node.op in _RANDOM for node in function.graph.as_graph_def().node)


def _mended(function: Any, folder: str | Path):
    """The function without what changes its input at random, and without what stops
    gradients inside its network.

    The network is what lies in the scope "resnet". A blur is found as the only tensor
    that enters it and depends on a random number; the input takes its place.
    """
    graph = function.graph.as_graph_def()
    stops = [
        node
        for node in graph.node
        if node.op == "StopGradient" and _in_network(node.name)
    ]
    if not stops and not _is_random(function):
        return function
    for node in stops:
        node.op = "Identity"
    entering = _random_inputs(graph, folder)
    images = function.inputs[0].op.name
    for node in graph.node:
        if _in_network(node.name):
            node.input[:] = [
                images if name in entering else name for name in node.input
            ]
    outputs = dict(
        zip(
            sorted(function.structured_outputs),
            [tensor.name for tensor in function.outputs],
            strict=True,
        )
    )
    updates = [operation.name for operation in function.graph.control_outputs]
    left = _needed_for(graph, [_producer(name) for name in outputs.values()] + updates)
    for node in [node for node in graph.node if node.name not in left]:
        graph.node.remove(node)
    handles = {
        tensor.op.name: handle
        for tensor, handle in zip(
            function.inputs[1:], function.captured_inputs, strict=True
        )
    }

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)])
    def call(inputs):
        own = tf.compat.v1.get_default_graph()
        for variable in function.variables:
            own.watch_variable(
                variable
            )  # a gradient tape asks the graph which variables it has
        feeds = {
            name: own.capture(handle)
            for name, handle in handles.items()
            if name in left
        }
        fetched = tf.graph_util.import_graph_def(
            graph,
            {**feeds, images: inputs},
            return_elements=[*outputs.values(), *updates],
            name="network",
        )
        tensors, operations = fetched[: len(outputs)], fetched[len(outputs) :]
        with tf.control_dependencies(operations):
            return {
                key: tf.identity(tensor)
                for key, tensor in zip(outputs, tensors, strict=True)
            }

    return call


def _random_inputs(graph: Any, folder: str | Path) -> set[str]:
    """The tensor that enters the network and depends on a random number, if any."""
    random: set[str] = set()
    for node in graph.node:  # in topological order
        if node.op in _RANDOM or any(_producer(name) in random for name in node.input):
            random.add(node.name)
    entering = {
        name
        for node in graph.node
        if _in_network(node.name)
        for name in node.input
        if _producer(name) in random
        and not _in_network(_producer(name))
        and not name.startswith("^")
    }
    if random and len(entering) != 1:
        raise ValueError(
            f"{str(folder)!r} changes its input at random when it trains, and where "
            "its network begins can't be told. Import its weights into a SimCLR "
            "ResNet instead: --encoder=r50_1x_sk0, or which one it is"
        )
    return entering


def _needed_for(graph: Any, wanted: list[str]) -> set[str]:
    """Names of the nodes that the wanted ones depend on, themselves included."""
    inputs, needed = {node.name: node.input for node in graph.node}, set(wanted)
    waiting = list(wanted)
    while waiting:
        fresh = {_producer(name) for name in inputs[waiting.pop()]} - needed
        needed |= fresh
        waiting += fresh
    return needed


def _producer(name: str) -> str:
    return name.lstrip("^").split(":")[0]


def _in_network(name: str) -> bool:
    return name.startswith("resnet/") or "/resnet/" in name


def make(config: EncoderConfig) -> Encoder:
    """The encoder that runs a SimCLR SavedModel as it is."""
    if config.weights in (IMAGENET, RANDOM):
        raise OSError(
            f"encoder {config.name} needs --weights=<folder, gs:// or https:// address "
            "of a SimCLR SavedModel>"
        )
    return Encoder(
        config,
        load_saved_model(config.weights),
        FEATURES,
        weights_file="saved_model",
    )
