"""How the vectors of an embedding set lie on the disk: in one file or several, in full
or in fewer bits, and always read as float32.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.files import sha256_of_file, write_atomically

FLOAT32, FLOAT16, INT8 = "float32", "float16", "int8"
STORED_AS = (FLOAT32, FLOAT16, INT8)
EMBEDDINGS = "embeddings.npy"
JOINED_BYTES = 2**33  # of vectors, up to which they become one file
_FILE_BYTES = 2**32  # of one of several files, about
_LARGEST = float(np.finfo(np.float16).max)
_STEPS = 127  # of int8 on either side of zero


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a set in a file of their own.

    Attributes:
        file: name of the .npy file, [rows, D].
        rows: how many.
        dtype: one of STORED_AS.
        scale: of int8, name of the file with what each row is multiplied by, [rows]
            float32; None otherwise.
        bytes: of the file.
        sha256: of the file, and with scales of both files' together.
    """

    file: str
    rows: int
    dtype: str
    scale: str | None
    bytes: int
    sha256: str

    def hash_in(self, folder: Path) -> str:
        """What `sha256` must be, by what lies in a folder."""
        found = sha256_of_file(folder / self.file)
        if not self.scale:
            return found
        both = found + sha256_of_file(folder / self.scale)
        return hashlib.sha256(both.encode()).hexdigest()

    def read(self, folder: Path, width: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The stored values, memory-mapped, and the scales.

        Raises:
            ValueError: the file isn't there, or isn't what is stated.
        """
        path = folder / self.file
        try:
            size = path.stat().st_size
            if size != self.bytes:
                raise ValueError(f"{path} must have {self.bytes} bytes; got {size}")
            values = np.load(path, mmap_mode="r", allow_pickle=False)
            scale = None
            if self.scale:
                scale = np.load(folder / self.scale, allow_pickle=False)
        except OSError as error:
            raise ValueError(f"{path} can't be read: {error.strerror}") from None
        found = f"{values.shape} {values.dtype}"
        if found != f"{(self.rows, width)} {self.dtype}":
            raise ValueError(
                f"{path} must hold {(self.rows, width)} {self.dtype}; got {found}"
            )
        if scale is not None and scale.shape != (self.rows,):
            raise ValueError(f"{self.scale} must hold {self.rows} numbers")
        return values, scale


def parts_in(meta: Mapping[str, Any]) -> list[Part]:
    """The parts that meta.json states; of a set of one float32 file that one."""
    if "parts" in meta:
        return [Part(**stated) for stated in meta["parts"]]
    size, sha256 = meta["bytes"], meta["sha256"]
    return [Part(EMBEDDINGS, meta["rows"], FLOAT32, None, size, sha256)]


def stated(parts: Sequence[Part]) -> dict[str, Any]:
    """What meta.json says of parts: rows, bytes, hash, and each by itself where there
    is more to say than that it is one float32 file.
    """
    facts: dict[str, Any] = {
        "rows": sum(part.rows for part in parts),
        "bytes": sum(part.bytes for part in parts),
    }
    if [(part.file, part.dtype) for part in parts] == [(EMBEDDINGS, FLOAT32)]:
        return {**facts, "sha256": parts[0].sha256}
    whole = hashlib.sha256("".join(part.sha256 for part in parts).encode())
    return {
        **facts,
        "sha256": whole.hexdigest(),
        "parts": [asdict(part) for part in parts],
    }


def open_vectors(folder: Path, meta: Mapping[str, Any]) -> Any:
    """The vectors of a set, [N, D] float32: a memory map of the one file there is, or
    `StoredVectors`.

    Raises:
        ValueError: a file isn't what meta.json says.
    """
    parts = parts_in(meta)
    opened = [part.read(folder, meta["width"]) for part in parts]
    if len(parts) == 1 and parts[0].dtype == FLOAT32:
        return opened[0][0]
    return StoredVectors(opened)


class StoredVectors(np.lib.mixins.NDArrayOperatorsMixin):
    """Rows of several files, or of fewer bits, as one array: what is taken of it by
    rows, a slice, indices or a mask, is a float32 array. Whatever else is asked of it
    is asked of all rows, read into memory.

    Attributes:
        shape, ndim, dtype, nbytes: of all rows as float32.
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, parts: Sequence[tuple[np.ndarray, np.ndarray | None]]):
        self._parts = list(parts)
        self._ends = np.cumsum([len(values) for values, _ in self._parts])
        self.shape = (int(self._ends[-1]), self._parts[0][0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all rows as float32."""
        return self.shape[0] * self.shape[1] * 4

    def head(self, count: int) -> StoredVectors:
        """The first rows, without reading them."""
        parts, left = [], count
        for values, scale in self._parts:
            if left > 0:
                parts.append((values[:left], None if scale is None else scale[:left]))
            left -= len(values)
        return StoredVectors(parts)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("stored vectors are read into a new array")
        return np.asarray(self[:], dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return self._consecutive(start, max(start, stop))
            return self._picked(np.arange(start, stop, step))
        if isinstance(key, int | np.integer) and not isinstance(key, bool):
            return self._picked(np.array([operator.index(key)]))[0]
        if isinstance(key, list | np.ndarray):
            rows = np.asarray(key)
            if rows.dtype == bool and rows.shape == (len(self),):
                return self._picked(np.flatnonzero(rows))
            if rows.dtype.kind in "iu" or not rows.size:
                return self._picked(rows)
        return np.asarray(self)[key]

    def __array_ufunc__(self, function: Any, method: str, *given: Any, **options: Any):
        read = [np.asarray(x) if isinstance(x, StoredVectors) else x for x in given]
        return getattr(function, method)(*read, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def _consecutive(self, start: int, stop: int) -> np.ndarray:
        found = np.empty((stop - start, self.shape[1]), np.float32)
        first = 0
        for (values, scale), end in zip(self._parts, self._ends.tolist(), strict=True):
            begin, last = max(start, first), min(stop, end)
            if begin < last:
                here = slice(begin - first, last - first)
                into = found[begin - start : last - start]
                into[:] = values[here]
                if scale is not None:
                    into *= scale[here, None]
            first = end
        return found

    def _picked(self, rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(np.int64)
        rows = np.where(rows < 0, rows + len(self), rows)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows must be below {len(self)}; got {rows.max()}")
        found = np.empty((*rows.shape, self.shape[1]), np.float32)
        of_part = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(of_part):
            values, scale = self._parts[number]
            places = of_part == number
            here = rows[places] - (self._ends[number] - len(values))
            taken = values[here].astype(np.float32)
            found[places] = taken if scale is None else taken * scale[here, None]
        return found


def as_stored(vectors: np.ndarray, dtype: str) -> dict[str, np.ndarray]:
    """Vectors as they are stored: `vectors`, and of int8 `scales`.

    Args:
        vectors: [n, D] float32, finite.
        dtype: float16 keeps 11 bits of each number; int8 256 steps between plus and
            minus a row's largest number, so what is lost of a row's direction doesn't
            depend on its length.

    Raises:
        ValueError: a number is too large for float16.
    """
    if dtype == FLOAT32:
        return {"vectors": vectors}
    most = np.abs(vectors).max(axis=1, initial=0)
    if dtype == FLOAT16:
        if most.max(initial=0) > _LARGEST:
            raise ValueError(
                f"vectors must be at most {_LARGEST:g} to be stored as float16; got "
                f"{most.max():g}. Store them as int8 or float32"
            )
        return {"vectors": vectors.astype(np.float16)}
    scales = (most / _STEPS).astype(np.float32)
    steps = vectors / np.where(scales > 0, scales, 1)[:, None]
    return {"vectors": np.rint(steps).astype(np.int8), "scales": scales}


def write_parts(
    folder: Path,
    pieces: Sequence[tuple[int, Any]],
    width: int,
    dtype: str,
    first: int = 0,
) -> list[Part]:
    """Joins pieces of rows into one file, or, above JOINED_BYTES, into several.

    Args:
        folder: to write into.
        pieces: (rows, function that reads `as_stored`'s arrays) in order.
        width: D.
        dtype: of all.
        first: number of the first file; 0 of a set that begins.
    """
    row_bytes = width * np.dtype(dtype).itemsize
    total = sum(rows for rows, _ in pieces) * row_bytes
    most = total if total <= JOINED_BYTES else _FILE_BYTES
    groups: list[list[tuple[int, Any]]] = [[]]
    for piece in pieces:
        rows = sum(rows for rows, _ in groups[-1]) + piece[0]
        if groups[-1] and rows * row_bytes > most:
            groups.append([])
        groups[-1].append(piece)
    alone = len(groups) == 1 and dtype == FLOAT32 and first == 0
    return [
        _write_part(
            folder,
            EMBEDDINGS if alone else f"embeddings-{first + number:04d}.npy",
            group,
            width,
            dtype,
        )
        for number, group in enumerate(groups)
    ]


def write_joined(
    path: Path, shape: tuple[int, ...], dtype: str, arrays: Iterable[np.ndarray]
) -> None:
    """Writes arrays, one behind another, as one .npy file of this shape. By plain
    writes: through a memory map a full disk would end the process.
    """
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))

    def join(file: Any) -> None:
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for array in arrays:
            file.write(array.astype(dtype, copy=False).tobytes())

    write_atomically(path, join)


def _write_part(
    folder: Path, name: str, pieces: Sequence[tuple[int, Any]], width: int, dtype: str
) -> Part:
    count = sum(rows for rows, _ in pieces)
    scales = []

    def vectors() -> Iterator[np.ndarray]:
        for _, read in pieces:
            arrays = read()
            yield arrays["vectors"]
            if dtype == INT8:
                scales.append(arrays["scales"])

    path = folder / name
    write_joined(path, (count, width), dtype, vectors())
    scale = None
    if dtype == INT8:
        scale = f"{path.stem}.scale.npy"
        write_atomically(
            folder / scale, lambda file: np.save(file, np.concatenate(scales))
        )
    part = Part(name, count, dtype, scale, path.stat().st_size, "")
    return replace(part, sha256=part.hash_in(folder))
