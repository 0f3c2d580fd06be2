"""Vectors that were made elsewhere: one row a crop, in the files that people keep them
in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import ml_dtypes  # noqa: F401, makes bfloat16 known to NumPy
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from data.crop_table import SIDES

_OTHER_FLOATS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")  # of ml_dtypes
KINDS = (".npy", ".npz", ".safetensors", ".parquet")
_NAMED = re.compile(rf"(.*?(?:{'|'.join(map(re.escape, KINDS))})):(.+)", re.IGNORECASE)
_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".joblib", ".bin", ".ckpt")


def read_vectors(stated: str | Path) -> np.ndarray:
    """Reads vectors of a file.

    Args:
        stated: a .npy, .npz, .safetensors or .parquet file; where it holds several
            arrays, or columns of lists, `file:name` chooses one.

    Returns:
        [N, D], N and D at least 1, of any type of numbers; of .npy memory-mapped.

    Raises:
        ValueError: no such file, another kind, or no array of that shape.
    """
    path, name = _split(str(stated))
    kind = path.suffix.lower()
    if kind in _PICKLES:
        raise ValueError(
            f"vectors must be numbers in a file, not Python objects as {path} may hold "
            "them: np.save('vectors.npy', tensor.float().cpu().numpy()) writes them"
        )
    if kind not in KINDS:
        raise ValueError(f"vectors must be one of {', '.join(KINDS)}; got {path}")
    if not path.is_file():
        raise ValueError(f"vectors must be a file; {str(path)!r} does not exist")
    try:
        found = _arrays(path, kind, name)
    except (
        SafetensorError,
        pa.ArrowException,
        BadZipFile,
        OSError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,  # of safetensors, for numbers that NumPy doesn't know
    ) as error:
        reason = " ".join(str(error).split())
        if "pickle" in reason:
            reason = "it isn't numbers"
        raise ValueError(
            f"vectors must be a whole {kind} file of numbers that NumPy knows, such as "
            f"float32; {path} isn't: {reason}"
        ) from None
    return _chosen(found, name, path)


def _arrays(path: Path, kind: str, name: str) -> dict[str, np.ndarray]:
    """The arrays of a file by name; that of .npy has none."""
    if kind == ".npy":
        return {"": np.load(path, mmap_mode="r")}
    if kind == ".npz":
        with np.load(path) as arrays:
            return {key: arrays[key] for key in arrays.files}
    if kind == ".safetensors":
        with safe_open(path, framework="numpy") as arrays:
            return {key: arrays.get_tensor(key) for key in list(arrays.keys())}
    return _columns(path, name)


def _split(stated: str) -> tuple[Path, str]:
    """The file, and the name behind a colon where there is one."""
    match = None if Path(stated).is_file() else _NAMED.fullmatch(stated)
    return (Path(match[1]), match[2]) if match else (Path(stated), "")


def _chosen(arrays: Mapping[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    """The array of a name; without one the only table of numbers there is."""
    if name and name not in arrays:
        known = ", ".join(filter(None, arrays)) or "one array, without a name"
        raise ValueError(f"vectors has no array {name!r}; {path} holds {known}")
    tables = {key: one for key, one in arrays.items() if _is_table(one)}
    chosen = {name: arrays[name]} if name else tables
    if len(chosen) > 1:
        first = next(iter(chosen))
        raise ValueError(
            f"vectors must name one of {', '.join(chosen)}, as {path}:{first}"
        )
    found = next(iter(chosen.values()), None)
    if found is None or not _is_table(found):
        others = found if found is not None else next(iter(arrays.values()), None)
        what = "none" if others is None else f"{others.dtype} {others.shape}"
        hint = ""
        if path.suffix.lower() == ".parquet":
            hint = ". In Parquet they are one column of lists, all as long"
        raise ValueError(
            f"vectors must be numbers [rows, width]; {path} holds {what}{hint}"
        )
    return found


def _is_table(array: np.ndarray) -> bool:
    kind = array.dtype
    is_number = np.issubdtype(kind, np.integer) or np.issubdtype(kind, np.floating)
    is_number = is_number or kind.name in _OTHER_FLOATS
    return array.ndim == 2 and array.size > 0 and bool(is_number)


def _columns(path: Path, name: str) -> dict[str, np.ndarray]:
    """The columns of lists of numbers, all as long; of several those that are longer
    than a box, unless one is named.
    """
    lists = [field.name for field in pq.read_schema(path) if _is_list(field.type)]
    wanted = [name] if name in lists else lists
    found = {
        one: matrix
        for one in wanted
        if (matrix := _matrix(pq.read_table(path, columns=[one]).column(0))) is not None
    }
    wide = {key: one for key, one in found.items() if one.shape[1] > len(SIDES)}
    return wide if wide and not name else found


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
    )


def _matrix(column: pa.ChunkedArray) -> np.ndarray | None:
    """A column of lists of numbers as [N, D], NaN where a row has none; None where they
    aren't equally long.
    """
    whole = column.combine_chunks()
    lengths = pa.compute.list_value_length(whole)
    is_empty = pa.compute.equal(lengths, 0)
    whole = pa.compute.if_else(is_empty, None, whole)  # an empty list is none
    numbers = whole.flatten()
    if not (pa.types.is_floating(numbers.type) or pa.types.is_integer(numbers.type)):
        return None
    known = len(whole) - whole.null_count
    if not known or len(numbers) % known:
        return None
    width = len(numbers) // known
    lengths = pa.compute.list_value_length(whole).drop_null()
    if not width or pa.compute.unique(lengths).to_pylist() != [width]:
        return None
    values = numbers.to_numpy(zero_copy_only=False).reshape(known, width)
    if known == len(whole):
        return values
    found = np.full((len(whole), width), np.nan, np.float32)
    found[whole.is_valid().to_numpy(zero_copy_only=False)] = values
    return found
