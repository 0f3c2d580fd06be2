"""What is done to embeddings before they are compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TRANSFORMS = ("graph", "smoothed", "aligned", "partial", "l2", "center", "whiten")
ALTERED = ("graph", "smoothed", "aligned")  # as partial, of vectors altered before
DIRECTIONS, POWER, SHRINKAGE = 256, 0.1, 0.1
_NO_VARIANCE = 1e-10  # as a share of the largest
_SAMPLE = 50_000  # rows that principal directions are fitted on, at most
_BLOCK = 16384


def l2_normalize(vectors: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    """Divides each row by its L2 norm, so that an inner product is a cosine.

    Args:
        vectors: [N, D] or [D], any float type; must be finite.
        dtype: of the arithmetic and the result.

    Returns:
        `dtype` of the same shape. A zero row stays zero: it has no direction, and its
        cosine to everything is 0.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    vectors = np.asarray(vectors, dtype)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not np.isfinite(norms).all():
        raise ValueError("vectors must be finite; got NaN or infinity")
    return vectors / np.where(norms > 0, norms, 1.0)


def mean_direction(vectors: np.ndarray) -> np.ndarray:
    """The unit vector along the mean of the unit rows: where several examples point
    together; [n, D] -> [D] float32.
    """
    return l2_normalize(l2_normalize(vectors).mean(axis=0))


def mean_of_unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """The mean of the rows' unit vectors, read in blocks; [N, D] -> [D] float64."""
    total = np.zeros(vectors.shape[1])
    for start in range(0, len(vectors), _BLOCK):
        unit = l2_normalize(vectors[start : start + _BLOCK])
        total += unit.sum(axis=0, dtype=np.float64)
    return total / len(vectors)


@dataclass(frozen=True)
class Transform:
    """Embeddings to unit vectors: x -> unit((unit(x) - mean) projection).

    `l2` has neither mean nor projection. `center` subtracts the mean of the pool's unit
    vectors, which all crops share and which tells none apart. The others project what
    is left onto the principal directions. `partial` divides each by a power p of the
    variance along it, 0 <= p <= 0.5: at 0 it is `center`, at 0.5 all directions count
    the same; in between, the few that hold most of the variance (soil, light) count
    less, and those that hold noise aren't blown up. `graph`, `aligned` and `smoothed`
    are the same, of vectors that `curation.pool` alters before: with `graph` recordings
    are brought together (`probe.alignment`), and each vector is the mean of itself and
    of its neighbors (`probe.smoothing`); with `smoothed` so where an example is all
    there is, and with `aligned` without the neighbors, while probes learn on vectors as
    they are. `whiten`
    divides by the standard deviation, after variances were shrunk towards their mean
    (Ledoit and Wolf, 2004, with a fixed share).

    Attributes:
        name: one of TRANSFORMS.
        mean: [D] float32, or None.
        projection: [D, d] float32, or None.
    """

    name: str = "l2"
    mean: np.ndarray | None = None
    projection: np.ndarray | None = None

    @classmethod
    def fit(
        cls,
        name: str,
        vectors: np.ndarray,
        *,
        dim: int = DIRECTIONS,
        power: float = POWER,
        shrinkage: float = SHRINKAGE,
        seed: int = 0,
        mean: np.ndarray | None = None,
    ) -> Transform:
        """Fits to a pool, without labels.

        Args:
            name: one of TRANSFORMS.
            vectors: [N, D] float, may be memory-mapped; read in blocks.
            dim: of whitening: directions to keep, at most D and N - 1.
            power: p of partial whitening, in [0, 0.5].
            shrinkage: of `whiten`, in [0, 1]: 0 trusts every variance, 1 only rotates.
            seed: of the rows that principal directions are fitted on, where there are
                more than 50,000.
            mean: [D] float64, of the unit vectors, where it is known already: finding
                it reads everything.
        """
        if name not in TRANSFORMS:
            raise ValueError(
                f"transform must be one of {', '.join(TRANSFORMS)}; got {name!r}"
            )
        if not 0 <= shrinkage <= 1:
            raise ValueError(f"shrinkage must be in [0, 1]; got {shrinkage}")
        if not 0 <= power <= 0.5:
            raise ValueError(f"power must be in [0, 0.5]; got {power}")
        if name == "l2":
            return cls()
        mean = mean_of_unit_vectors(vectors) if mean is None else mean
        if name == "center":
            return cls(name, mean.astype(np.float32))
        rows = sample_rows(len(vectors), _SAMPLE, seed)
        dim = max(1, min(dim, vectors.shape[1], len(rows) - 1))
        variances, directions = _principal(vectors, rows, mean, dim)
        if name == "whiten":
            variances = (1 - shrinkage) * variances + shrinkage * variances.mean()
            power = 0.5
        # Without variance a direction holds nothing but rounding.
        held = variances > variances[0] * _NO_VARIANCE
        scale = np.where(held, np.where(held, variances, 1.0) ** -power, 0.0)
        return cls(
            name, mean.astype(np.float32), (directions * scale).astype(np.float32)
        )

    def __call__(self, vectors: np.ndarray, dtype: type = np.float32) -> np.ndarray:
        """[N, D] or [D] float -> unit vectors [N, d] or [d] of `dtype`; zero where
        nothing is left of a row.
        """
        unit = l2_normalize(vectors, dtype)
        if self.mean is None:
            return unit
        if unit.shape[-1] != len(self.mean):
            raise ValueError(
                f"vectors must have {len(self.mean)} dimensions; got {unit.shape[-1]}"
            )
        centered = unit - self.mean.astype(dtype)
        return l2_normalize(
            centered
            if self.projection is None
            else centered @ self.projection.astype(dtype),
            dtype,
        )

    @property
    def base(self) -> str:
        """What it does to a vector, by name."""
        return "partial" if self.name in ALTERED else self.name

    @property
    def content(self) -> bytes:
        """What tells it from another of its name, for hashes."""
        arrays = (self.mean, self.projection)
        return b"".join(array.tobytes() for array in arrays if array is not None)

    def dim(self, dimensions: int) -> int:
        """Of the result, for vectors of so many dimensions."""
        return dimensions if self.projection is None else self.projection.shape[1]


def _principal(
    vectors: np.ndarray, rows: np.ndarray, mean: np.ndarray, dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """The directions along which some rows' unit vectors vary most, [D, dim], and the
    variances along them, falling, [dim].
    """
    from scipy.linalg import eigh  # takes a while to import

    width = vectors.shape[1]
    covariance = np.zeros((width, width))
    for start in range(0, len(rows), _BLOCK):
        block = l2_normalize(np.asarray(vectors[rows[start : start + _BLOCK]])) - mean
        covariance += block.T @ block
    found = eigh(covariance / len(rows), subset_by_index=[width - dim, width - 1])
    return found[0][::-1].clip(0), found[1][:, ::-1]


def sample_rows(count: int, most: int, seed: int) -> np.ndarray:
    """At most `most` of `count` rows, at random, in order; [n] int."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def sigmoid(decision: np.ndarray) -> np.ndarray:
    """The logistic function: log odds -> confidence from 0 to 1, without overflow."""
    from scipy.special import expit  # takes a third of a second to import

    return expit(decision)
