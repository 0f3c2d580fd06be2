"""Reads the tensors of a legacy PyTorch file (`torch.save` before version 1.6) without
PyTorch and without running it.

A pickle is a program. This reader admits the few names that a plain state dict needs
and refuses every other one, so a hostile file ends in an error rather than in its
author's code.
"""

from __future__ import annotations

import collections
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_STORAGE_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Tensor:
    """Where a tensor lies: a window (offset, shape, strides; in elements) on a storage
    that is read later.
    """

    def __init__(
        self,
        storage: str,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        *_: Any,
    ):
        self.storage, self.offset, self.shape, self.strides = (
            storage,
            offset,
            shape,
            strides,
        )

    def view(self, storages: dict[str, np.ndarray]) -> np.ndarray:
        flat = storages[self.storage]
        last = self.offset + sum(
            (n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)
        )
        if min(self.offset, *self.strides, *self.shape, 0) < 0 or last >= flat.size:
            raise ValueError(
                f"tensor of shape {self.shape} reaches beyond its storage of "
                f"{flat.size} elements"
            )
        strides = tuple(s * flat.itemsize for s in self.strides)
        return np.lib.stride_tricks.as_strided(
            flat[self.offset :], self.shape, strides
        ).copy()


class _StateDictUnpickler(pickle.Unpickler):
    """Admits OrderedDict, the tensor constructor and the two storage types; raises on
    anything else.
    """

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.storages: dict[str, tuple[np.dtype, int]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _STORAGE_TYPES:
            return _STORAGE_TYPES[name]
        raise pickle.UnpicklingError(
            f"a state dict has no use for {module}.{name}: refused"
        )

    def persistent_load(self, pid: Any) -> str:
        kind, dtype, key, _location, size, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"unexpected persistent id {pid!r}")
        self.storages[key] = (dtype, size)
        return key


def load_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a legacy PyTorch state dict.

    The layout is five pickles (magic number, protocol, machine facts, the state dict,
    the storage keys in file order) followed by one block a storage: its length as int64
    and its values, little-endian.

    Args:
        path: the `.pth` file.

    Returns:
        Name -> array, C-contiguous, in the stored order. Strides are honoured, so a
        kernel stored as channels-last comes out in the logical order [out, in, height,
        width].

    Raises:
        ValueError: the file is not of this format, or is cut short.
        pickle.UnpicklingError: it names anything but tensors and ordered dicts.
    """
    with open(path, "rb") as file:
        if pickle_of_ints(file) != _MAGIC or pickle_of_ints(file) != _PROTOCOL:
            raise ValueError(f"{path} is not a legacy PyTorch file")
        _StateDictUnpickler(file).load()
        unpickler = _StateDictUnpickler(file)
        tensors = unpickler.load()
        storages = {}
        for key in _StateDictUnpickler(file).load():
            dtype, size = unpickler.storages[key]
            count = int.from_bytes(file.read(8), "little")
            values = np.frombuffer(file.read(count * dtype.itemsize), dtype)
            if count != size or values.size != size:
                raise ValueError(
                    f"{path}: storage {key} must hold {size} values; got {values.size}"
                )
            storages[key] = values
    return {name: tensor.view(storages) for name, tensor in tensors.items()}


def pickle_of_ints(file: BinaryIO) -> int:
    """Reads one pickle that must hold an integer."""
    try:
        value = _StateDictUnpickler(file).load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError):
        return -1
    return value if isinstance(value, int) else -1
