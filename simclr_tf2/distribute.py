"""One device or many: tf.distribute strategies by name, and embedding on all of their
devices.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from simclr_tf2.config import AUTO, STRATEGIES


def make_strategy(name: str, tpu: str = "") -> tf.distribute.Strategy:
    """Builds a strategy. To be called before anything else of TensorFlow, as
    multiworker demands.

    Args:
        name: default is one device; mirrored all GPUs of this machine (without any, its
            logical CPUs); multiworker the machines that TF_CONFIG lists; tpu the cores
            of a TPU.
        tpu: name or address of the TPU; "local" on a TPU VM.

    Raises:
        ValueError: unknown name, or TF_CONFIG isn't that of a worker.
        RuntimeError: the TPU can't be reached.
    """
    if name == "default":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        return tf.distribute.MirroredStrategy(
            [device.name for device in tf.config.list_logical_devices(kind)]
        )
    if name == "multiworker":
        _check_tf_config(os.environ.get("TF_CONFIG", ""))
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
                tpu=tpu or "local"
            )
            tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
        except (tf.errors.OpError, ValueError, KeyError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise RuntimeError(
                f"strategy 'tpu' must find a TPU; {tpu or 'local'!r} can't be reached: "
                f"{reason}"
            ) from None
        return tf.distribute.TPUStrategy(resolver)
    raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}; got {name!r}")


def _check_tf_config(value: str) -> None:
    needed = (
        "strategy 'multiworker' needs TF_CONFIG in the environment of every worker, "
        'such as {"cluster": {"worker": '
        '["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'
    )
    try:
        config = json.loads(value)
        workers, task = config["cluster"]["worker"], config["task"]
        good = task["type"] == "worker" and 0 <= task["index"] < len(workers)
    except (ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise ValueError(f"{needed}; got {value!r}")


def fast_precision(strategy: tf.distribute.Strategy) -> str:
    """The arithmetic to train in on the devices that there are: bfloat16 where they
    have it in hardware, float32 on CPUs, where it depends on the network whether it is
    faster or many times slower. Never by a timing, so that a result doesn't depend on
    how busy a machine was.
    """
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return "mixed_bfloat16"
    found = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    new = found and min(found) >= (8, 0)
    return "mixed_bfloat16" if new else "float32"


def accelerators() -> list[str]:
    """The GPUs and TPU cores that TensorFlow computes on."""
    found = tf.config.list_logical_devices()
    return [device.name for device in found if device.device_type in {"GPU", "TPU"}]


def on_device(place: str) -> bool:
    """Whether views are made on the device that trains ("device"), not on the "host";
    "auto" where there is an accelerator.
    """
    return bool(accelerators()) if place == AUTO else place == "device"


def read_ahead(batches: tf.data.Dataset, device: str = "") -> tf.data.Dataset:
    """Batches for one device, copied to its memory while it computes; default: the
    first GPU, if there is one.
    """
    device = device or next((name for name in accelerators() if "GPU" in name), "")
    if not device:
        return batches
    return batches.apply(tf.data.experimental.prefetch_to_device(device))


def worker_of(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """(index of this process, number of processes); the first one, the chief, writes
    files.
    """
    resolver = strategy.cluster_resolver
    if resolver is None or not isinstance(
        strategy, tf.distribute.MultiWorkerMirroredStrategy
    ):
        return 0, 1
    return int(resolver.task_id), len(resolver.cluster_spec().as_dict()["worker"])


def embed_on_all_devices(
    strategy: tf.distribute.Strategy, forward: Callable[[tf.Tensor], tf.Tensor]
) -> Callable[[tf.Tensor], np.ndarray]:
    """Embedding with the batch spread over the devices of this process.

    Args:
        strategy: of one process.
        forward: uint8 images [batch, height, width, 3] -> [batch, width].

    Returns:
        uint8 images, any number of them -> float32 [batch, width]. Parts are filled up
        with black images to the size of the largest batch so far, whose rows are
        dropped, so that all devices see one shape.
    """
    replicas, run = (
        strategy.num_replicas_in_sync,
        tf.function(lambda part: strategy.run(forward, (part,))),
    )
    size = 0

    def embed(images: tf.Tensor) -> np.ndarray:
        nonlocal size
        count = int(images.shape[0])
        size = max(size, -(-count // replicas))
        filled = tf.pad(images, [[0, size * replicas - count], [0, 0], [0, 0], [0, 0]])
        parts = tf.split(filled, replicas)
        spread = strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )
        vectors = strategy.experimental_local_results(run(spread))
        return tf.concat(vectors, 0).numpy()[:count]

    return embed
