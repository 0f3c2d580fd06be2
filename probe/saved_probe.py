"""A probe as a file: learned once, applied to whatever the same encoder embeds."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.files import write_atomically, write_json
from probe.methods import LinearRanker
from probe.transforms import Transform

FORMAT = 2
# What embeddings must share with those that were marked.
IDENTITY = (
    "encoder_hash",
    "endpoint",
    "pooling",
    "orientations",
    "image_size",
    "view",
)
# Where neither is stated: of a version before recipes.
_UNSTATED = {"pooling": "mean", "orientations": 1}
# Words of files of version 0.5.0 -> those of today.
_OLD_WORDS = {"centre": "center", "pulled": "anchored", "grey": "gray"}
_WITH_BOUNDARY = ("logistic", "pulled")  # methods of format 1 that made a probe
_FIELDS_OF_FORMAT_1 = (
    "format",
    "transform",
    "direction",
    "threshold",
    "identity",
    "queries",
    "marks",
    "marks_hash",
    "sha256",
)


def hash_of_marks(marks: Mapping[str, bool]) -> str:
    """SHA-256 of crop ids and answers, whatever their order."""
    pairs = sorted((name, bool(answer)) for name, answer in marks.items())
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


@dataclass(frozen=True)
class SavedProbe:
    """Everything that turns embeddings of one encoder into a ranking and a class.

    Attributes:
        transform: of the embeddings.
        ranker: coefficients and intercept, in the space of the transform.
        threshold: decision (intercept included; a cosine where the ranker is one) from
            which a crop counts as relevant; None where none has been set.
        identity: the encoder's hash, recipe, crop size and view.
        marks: crop id -> relevant, what it was learned from.
        queries: crop ids of the examples.
        answers: crop id -> relevant, of an audit: not learned from, but overruling the
            threshold.
        facts: for people: title, provenance, estimates.
    """

    transform: Transform
    ranker: LinearRanker
    identity: Mapping[str, Any]
    marks: Mapping[str, bool]
    queries: tuple[str, ...] = ()
    threshold: float | None = None
    answers: Mapping[str, bool] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        title = str(self.facts.get("title", ""))
        return f"SavedProbe({title!r}, {self.ranker.method}, {len(self.marks)} marks)"

    def save(self, folder: str | Path) -> None:
        """Writes probe.npz and probe.json, which goes last and holds the
        other's hash.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {
            "coef": self.ranker.coef,
            "mean": self.transform.mean,
            "projection": self.transform.projection,
        }
        stated = {name: array for name, array in arrays.items() if array is not None}
        buffer = io.BytesIO()
        np.savez(buffer, **stated)  # type: ignore[arg-type]  # numpy types no keywords
        content = buffer.getvalue()
        ranker = dataclasses.asdict(self.ranker)
        del ranker["coef"]
        write_atomically(folder / "probe.npz", lambda file: file.write(content))
        write_json(
            folder / "probe.json",
            {
                "format": FORMAT,
                "transform": self.transform.name,
                "ranker": ranker,
                "threshold": self.threshold,
                "identity": dict(self.identity),
                "queries": list(self.queries),
                "marks": dict(self.marks),
                "marks_hash": hash_of_marks(self.marks),
                "answers": dict(self.answers),
                "sha256": hashlib.sha256(content).hexdigest(),
                "facts": dict(self.facts),
            },
        )

    @classmethod
    def load(cls, folder: str | Path) -> SavedProbe:
        """Reads a probe, of this version or an earlier one.

        Raises:
            ValueError: there is none, or its files don't belong together.
        """
        folder = Path(folder)
        stated, stored = folder / "probe.json", folder / "probe.npz"
        if not stated.is_file() or not stored.is_file():
            raise ValueError(
                "probe must be a folder with probe.json and probe.npz; "
                f"{str(folder)!r} isn't"
            )
        try:
            content = json.loads(stated.read_text(encoding="utf-8"))
            version = content["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"probe {str(stated)!r} is damaged: {error}") from None
        if version not in (1, FORMAT):
            raise ValueError(
                f"probe {str(folder)!r} must be of format 1 or {FORMAT}; got {version}"
            )
        if hashlib.sha256(stored.read_bytes()).hexdigest() != content["sha256"]:
            raise ValueError(
                f"probe {str(folder)!r}: probe.npz isn't the file that probe.json was "
                "written with"
            )
        if hash_of_marks(content["marks"]) != content["marks_hash"]:
            raise ValueError(f"probe {str(folder)!r}: its marks have been changed")
        if version == 1:
            content = _from_format_1(content)
        with np.load(stored, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        return cls(
            Transform(content["transform"], found.get("mean"), found.get("projection")),
            LinearRanker(found["coef"], **content["ranker"]),
            content["identity"],
            content["marks"],
            tuple(content["queries"]),
            content["threshold"],
            content["answers"],
            content["facts"],
        )

    def continues(self, earlier: SavedProbe) -> bool:
        """Whether it is of the same class as an earlier one, and learned from more: it
        has the earlier one's queries and marked crops, and calls most of what was
        relevant so still.
        """
        if set(self.queries) != set(earlier.queries):
            return False
        if not set(earlier.marks) <= set(self.marks):
            return False
        relevant = [name for name, answer in earlier.marks.items() if answer]
        return 2 * sum(self.marks[name] for name in relevant) >= len(relevant)

    def check(self, meta: Mapping[str, Any]) -> None:
        """Refuses embeddings that another encoder made, or the same one differently.

        Args:
            meta: the embedding set's meta.json.
        """
        was, found = (identity_of(facts) for facts in (self.identity, meta))
        differ = [name for name in IDENTITY if was[name] != found[name]]
        if not differ:
            return
        if differ[0] == "encoder_hash" and len(differ) > 1:
            del differ[0]  # it is a hash of the recipe too
        said = [f"{name} was {was[name]!r} and is {found[name]!r}" for name in differ]
        hint = ""
        if meta.get("encoder") == "elsewhere":
            hint = (
                ". Vectors made elsewhere are taken for those of one network where "
                "made_by and their width are the same"
            )
        raise ValueError(
            "probe must be applied to embeddings like those it was learned from, of "
            f"the same encoder and recipe; {'; '.join(said)}{hint}"
        )


def identity_of(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a probe must find again of an embedding set's meta.json, in the words of
    today; also of an identity that was saved before.
    """
    stated = {**_UNSTATED, **meta}
    return {name: _plain(stated.get(name)) for name in IDENTITY}


def _plain(stated: Any) -> Any:
    """A stated fact in the words of today."""
    if isinstance(stated, Mapping):
        return {name: _plain(value) for name, value in stated.items()}
    return _OLD_WORDS.get(stated, stated) if isinstance(stated, str) else stated


def _from_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """A probe of version 0.5.0: its threshold is less the intercept, its facts stand
    beside the rest, and whether it has a boundary follows from the method's name.
    """
    direction = content["direction"]
    threshold = content["threshold"]
    facts = {
        name: value
        for name, value in content.items()
        if name not in _FIELDS_OF_FORMAT_1
    }
    kind = "decision" if direction["method"] in _WITH_BOUNDARY else "cosine"
    return {
        **content,
        "transform": _plain(content["transform"]),
        "ranker": {**direction, "method": _plain(direction["method"]), "kind": kind},
        "threshold": None if threshold is None else threshold + direction["intercept"],
        "answers": {},
        "facts": facts,
    }
