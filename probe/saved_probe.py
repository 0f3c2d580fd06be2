"""A probe as a file: learnt once, applied to whatever the same encoder embeds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from probe.methods import Direction
from probe.transforms import Transform

FORMAT = 1
_CONTENT = (
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
IDENTITY = (
    "encoder_hash",
    "endpoint",
    "image_size",
    "view",
)  # what embeddings must share with those that were marked


def hash_of_marks(marks: Mapping[str, bool]) -> str:
    """sha256 of crop ids and answers, whatever their order."""
    return hashlib.sha256(
        json.dumps(
            sorted((name, bool(answer)) for name, answer in marks.items())
        ).encode()
    ).hexdigest()


@dataclass(frozen=True)
class SavedProbe:
    """Everything that turns embeddings of one encoder into a ranking.

    Attributes:
        transform: of the embeddings.
        direction: coefficients and intercept, in the space of the transform.
        threshold: score from which a crop counts as relevant; None where none has been
            set.
        identity: the encoder's hash, endpoint, crop size and view.
        marks: crop id -> relevant, what it was learned from.
        queries: crop ids or image paths.
    """

    transform: Transform
    direction: Direction
    identity: Mapping[str, Any]
    marks: Mapping[str, bool]
    queries: tuple[str, ...] = ()
    threshold: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)  # provenance, for people

    def save(self, folder: str | Path) -> None:
        """Writes probe.npz and probe.json, which goes last and holds the other's hash."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {"coef": self.direction.coef}
        for name in ("mean", "projection"):
            value = getattr(self.transform, name)
            if value is not None:
                arrays[name] = value
        partial = folder / f".probe.{os.getpid()}.npz"
        np.savez(partial, **arrays)
        digest = hashlib.sha256(partial.read_bytes()).hexdigest()
        direction = {
            key: value
            for key, value in dataclasses.asdict(self.direction).items()
            if key != "coef"
        }
        content = {
            "format": FORMAT,
            "transform": self.transform.name,
            "direction": direction,
            "threshold": self.threshold,
            "identity": dict(self.identity),
            "queries": list(self.queries),
            "marks": dict(self.marks),
            "marks_hash": hash_of_marks(self.marks),
            "sha256": digest,
            **self.facts,
        }
        text = folder / f".probe.{os.getpid()}.json"
        text.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        partial.replace(folder / "probe.npz")
        text.replace(folder / "probe.json")

    @classmethod
    def load(cls, folder: str | Path) -> SavedProbe:
        """Reads a probe.

        Raises:
            ValueError: there is none, or its files don't belong together.
        """
        folder = Path(folder)
        if (
            not (folder / "probe.json").is_file()
            or not (folder / "probe.npz").is_file()
        ):
            raise ValueError(
                "probe must be a folder with probe.json and probe.npz; "
                f"{str(folder)!r} isn't"
            )
        content = json.loads((folder / "probe.json").read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise ValueError(
                f"probe {str(folder)!r} must be of format {FORMAT}; got "
                f"{content.get('format')}"
            )
        if (
            hashlib.sha256((folder / "probe.npz").read_bytes()).hexdigest()
            != content["sha256"]
        ):
            raise ValueError(
                f"probe {str(folder)!r}: probe.npz isn't the file that probe.json was "
                "written with"
            )
        if hash_of_marks(content["marks"]) != content["marks_hash"]:
            raise ValueError(f"probe {str(folder)!r}: its marks have been changed")
        with np.load(folder / "probe.npz", allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        transform = Transform(
            content["transform"], found.get("mean"), found.get("projection")
        )
        direction = Direction(found["coef"], **content["direction"])
        facts = {name: value for name, value in content.items() if name not in _CONTENT}
        queries = tuple(content["queries"])
        return cls(
            transform,
            direction,
            content["identity"],
            content["marks"],
            queries,
            content["threshold"],
            facts,
        )

    def check(self, meta: Mapping[str, Any]) -> None:
        """Refuses embeddings that another encoder made, or the same one differently.

        Args:
            meta: the embedding set's meta.json.
        """
        for name in IDENTITY:
            if meta.get(name) != self.identity.get(name):
                raise ValueError(
                    "probe must be applied to embeddings like those it was learned "
                    f"from; {name} was "
                    f"{self.identity.get(name)!r} and is {meta.get(name)!r}"
                )
