import collections
import io
import pickle
import struct

import numpy as np
import pytest

from simclr_tf2.checkpoints.torch_pickle import load_state_dict


class Global:
    """Pickles as a bare reference to module.name, as PyTorch's classes do."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Tensor:
    def __init__(self, key, size, offset, shape, strides):
        self.args = (key, size, offset, shape, strides)


class LegacyPickler(pickle._Pickler):
    """Writes what `torch.save` wrote in 2020, for tensors alone."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_global_reference(self, obj):
        self.write(f"c{obj.module}\n{obj.name}\n".encode())

    def save_tensor(self, obj):
        key, size, offset, shape, strides = obj.args
        self.save(Global("torch._utils", "_rebuild_tensor_v2"))
        self.write(pickle.MARK)
        for part in (
            "storage",
            Global("torch", "FloatStorage"),
            key,
            "cpu",
            size,
            None,
        ):
            if part == "storage":
                self.write(pickle.MARK)
            self.save(part)
        self.write(pickle.TUPLE + pickle.BINPERSID)
        for part in (offset, shape, strides, False, collections.OrderedDict()):
            self.save(part)
        self.write(pickle.TUPLE + pickle.REDUCE)

    dispatch[Global] = save_global_reference
    dispatch[Tensor] = save_tensor


def legacy_file(tensors, storages):
    buffer = io.BytesIO()
    for value in (
        0x1950A86A20F9469CFC6C,
        1001,
        {"little_endian": True},
        tensors,
        list(storages),
    ):
        LegacyPickler(buffer, 2).dump(value)
    for values in storages.values():
        buffer.write(struct.pack("<q", len(values)) + values.astype("<f4").tobytes())
    return buffer.getvalue()


VALUES = np.arange(24, dtype=np.float32)


def test_offsets_and_strides_are_honoured(tmp_path):
    tensors = collections.OrderedDict(
        plain=Tensor("s", 24, 0, (2, 3, 4), (12, 4, 1)),
        turned=Tensor("s", 24, 0, (4, 3), (1, 4)),
        part=Tensor("s", 24, 20, (2,), (2,)),
    )
    (tmp_path / "a.pth").write_bytes(legacy_file(tensors, {"s": VALUES}))
    state = load_state_dict(tmp_path / "a.pth")
    assert list(state) == ["plain", "turned", "part"]
    assert np.array_equal(state["plain"], VALUES.reshape(2, 3, 4))
    assert np.array_equal(state["turned"], VALUES[:12].reshape(3, 4).T)
    assert state["part"].tolist() == [20, 22]


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    (tmp_path / "a.pth").write_bytes(
        legacy_file({"x": Tensor("s", 24, 20, (5,), (1,))}, {"s": VALUES})
    )
    with pytest.raises(ValueError, match="reaches beyond its storage of 24"):
        load_state_dict(tmp_path / "a.pth")


def test_a_file_cut_short_is_refused(tmp_path):
    whole = legacy_file({"x": Tensor("s", 24, 0, (24,), (1,))}, {"s": VALUES})
    (tmp_path / "a.pth").write_bytes(whole[:-8])
    with pytest.raises(ValueError, match="storage s must hold 24 values"):
        load_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("builtins", "eval"), ("torch", "load")]
)
def test_other_names_are_refused_before_they_are_called(tmp_path, module, name):
    (tmp_path / "a.pth").write_bytes(legacy_file({"x": Global(module, name)}, {}))
    with pytest.raises(pickle.UnpicklingError, match=f"{module}.{name}: refused"):
        load_state_dict(tmp_path / "a.pth")


def test_other_files_are_refused(tmp_path):
    for content in (b"", b"PK\x03\x04 a zip", pickle.dumps({"x": 1})):
        (tmp_path / "a.pth").write_bytes(content)
        with pytest.raises(ValueError, match="not a legacy PyTorch file"):
            load_state_dict(tmp_path / "a.pth")
