"""The card of an exported class: where it came from and what is known of it."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from artifacts.provenance import provenance
from curation.selection import displayed, scale_of
from data.embeddings import hashes_of
from probe.methods import LinearRanker
from probe.saved_probe import hash_of_marks

MARKED = "marked"
THRESHOLD = "threshold"


@dataclass(frozen=True)
class Card:
    """What goes into card.json and card.md.

    Attributes:
        query: crop ids and names of uploads.
        where: the SQL condition that the search was limited to, "" for none.
        selected: "threshold" or "marked".
        marks: crop id -> relevant.
        answers: crop id -> relevant, of an audit.
        ranker: what everything was ranked by.
        transform: of the embeddings.
        threshold: decision value; None where it decided nothing.
        meta: of the embedding set.
        estimates: of an audit, for this ranking and threshold, as
            `curation.estimate.facts_of_audit` gives them; None where there is none.
        seed: of the session.
        session: its name, "" for none.
        title: of the probe, "" for none.
        part: which part of the class it is, "" for all of it.
    """

    query: tuple[str, ...]
    where: str
    selected: str
    marks: Mapping[str, bool]
    answers: Mapping[str, bool]
    ranker: LinearRanker
    transform: str
    threshold: float | None
    meta: Mapping[str, Any]
    estimates: Mapping[str, object] | None = None
    seed: int = 0
    session: str = ""
    title: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    part: str = ""

    def __repr__(self) -> str:
        return f"Card(of {self.session or self.title!r}, {self.selected})"

    def as_facts(self) -> Mapping[str, object]:
        """As JSON."""
        coef = np.ascontiguousarray(self.ranker.coef, np.float64)
        return {
            **({"session": self.session} if self.session else {}),
            "query": list(self.query),
            "pool": self.where or "all crops",
            "selected": self.selected,
            **({"only": self.part} if self.part else {}),
            "marks": _counts(self.marks),
            "marks_hash": hash_of_marks(self.marks),
            "answers": _counts(self.answers),
            "probe": {
                "method": self.ranker.method,
                "C": self.ranker.C,
                "transform": self.transform,
                **({"title": self.title} if self.title else {}),
                **self.facts,
            },
            "coefficients_hash": hashlib.sha256(coef.tobytes()).hexdigest(),
            "threshold": self._threshold(),
            "embeddings": hashes_of(self.meta),
            "estimates": self._estimates(),
            "provenance": provenance(self.seed),
        }

    def _threshold(self) -> object:
        if self.selected == MARKED or self.threshold is None:
            return "none"
        kind = self.ranker.kind
        shown = float(displayed(kind, self.threshold))
        value: dict[str, str | float] = {"scale": kind, "value": self.threshold}
        return value | ({scale_of(kind): shown} if kind == "decision" else {})

    def _estimates(self) -> Mapping[str, object]:
        if self.selected == MARKED:
            return {
                "precision": "not estimated: every crop was marked by a person",
            }
        if self.part:
            return {"precision": "not estimated: this is a part of the class"}
        if not self.estimates:
            return {
                "precision": "not estimated: no random sample was marked for this "
                "ranking and threshold"
            }
        return self.estimates


def _counts(marks: Mapping[str, bool]) -> dict[str, int]:
    relevant = sum(marks.values())
    return {"relevant": relevant, "not_relevant": len(marks) - relevant}


def card_text(facts: Mapping[str, object]) -> str:
    """card.md: the same facts as a list for people."""

    def lines(values: Mapping[str, object], depth: int):
        for name, value in values.items():
            label = f"{'  ' * depth}- {name.replace('_', ' ')}"
            if isinstance(value, Mapping):
                yield f"{label}:"
                yield from lines(value, depth + 1)
            else:
                shown = value
                if isinstance(value, list):
                    words = [str(one) for one in value]
                    is_call = name == "command"
                    shown = shlex.join(words) if is_call else ", ".join(words)
                elif isinstance(value, float):
                    shown = f"{value:.4g}"
                if shown == "":
                    continue
                yield f"{label}: {shown}"

    title = " ".join(str(facts["class"]).split())
    head = "A class found by example; what its figures mean is said beside them."
    return "\n".join([f"# {title}", "", head, "", *lines(facts, 0), ""])
