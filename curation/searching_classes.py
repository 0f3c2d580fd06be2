"""What run_search.py does with --classes: several classes at once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from artifacts.files import write_json
from artifacts.provenance import provenance
from curation.classes import NONE, Classes
from curation.lists import keep_marked_list, still_there, write_class_list
from curation.outputs import draw, save_probe
from curation.pool import Pool
from curation.report import choose_k, list_of, print_list, sheet_of, target_of
from curation.selection import displayed
from data.formats.writing import distinct_file_names
from probe.marks import read_classes

if TYPE_CHECKING:
    from curation.searching import SearchRequest


def split_classes(stated: tuple[str, ...]) -> dict[str, list[str]]:
    """NAME=WHAT, several for a class where it has several examples.

    Raises:
        ValueError: one has no name, or there is one class alone.
    """
    found: dict[str, list[str]] = {}
    for one in stated:
        name, given, what = one.partition("=")
        if not (given and name.strip() and what.strip()):
            raise ValueError(f"classes must be NAME=crop id or image path; got {one!r}")
        found.setdefault(name.strip(), []).append(what.strip())
    if len(found) < 2:
        raise ValueError(
            f"classes must name two or more; got {', '.join(found)}: search for one "
            "with query"
        )
    return found


def probe_folders(folder: str, names: Iterable[str]) -> dict[str, str]:
    """Class -> folder of its probe."""
    distinct = distinct_file_names({name: name for name in names})
    return {name: str(Path(folder) / file) for name, file in distinct.items()}


def search_classes(request: SearchRequest, pool: Pool) -> None:
    """Searches for several classes, and writes what was asked for."""
    asked = split_classes(request.classes)
    classes = Classes(
        pool, asked, where=request.where, method=request.method, seed=request.seed
    )
    if request.marks:
        _take_marks(classes, request.marks)
    k = choose_k(request.k, classes[classes.names[0]])
    listed = []
    for name in classes.names:
        session = classes[name]
        one = list_of(session, k, title=f"{name}, {len(session.marks())} marks")
        target = target_of(pool, session.query)
        print_list(one, target)
        listed.append(sheet_of(one, target))
    place = classes.assigned()
    predicted = _predicted(classes, place)
    counts = [f"{name} {(place == i).sum()}" for i, name in enumerate(classes.names)]
    print(f"\nof {len(place)} crops: {', '.join(counts)}, none {(place < 0).sum()}")
    if request.save_probe:
        for name, folder in probe_folders(request.save_probe, asked).items():
            save_probe(folder, classes[name], name)
    if request.suggest:
        keep_marked_list(request.suggest, classes.marks(), read_classes)
        asking = pool.rows(classes.suggest(request.suggest_count))
        _write(request.suggest, classes, asking, predicted)
        print(
            f"{len(asking)} crops to mark -> {request.suggest}: fill in the column "
            "class (none for none of them) and give it back as --marks; it holds the "
            "marks so far"
        )
    if request.out:
        keep_marked_list(request.out, classes.marks(), read_classes)
        rows = np.flatnonzero(place >= 0)
        order = np.lexsort((-predicted.scores[rows], place[rows]))
        _write(request.out, classes, rows[order].tolist(), predicted)
        facts = {"classes": asked, "provenance": provenance(request.seed)}
        write_json(f"{request.out}.json", facts)
        print(f"{len(rows)} crops of {len(classes.names)} classes -> {request.out}")
    if request.sheet:
        draw(request.sheet, listed, pool)


def _take_marks(classes: Classes, path: str) -> None:
    """Enters the marks of a CSV; those of crops that have gone are counted."""
    known = still_there(classes.pool.table, read_classes(path))
    strange = sorted({one for one in known.values() if one} - set(classes.names))
    if strange:
        raise ValueError(
            f"{path}: class must be one of {', '.join(classes.names)}, or none; got "
            f"{', '.join(strange)}"
        )
    classes.mark({name: one or NONE for name, one in known.items()})


class _Predicted(NamedTuple):
    """Of each crop the class that it is assigned to, "" for none, and the confidence in
    that (a cosine, while there is no probe).
    """

    names: list[str]
    scores: np.ndarray  # [N] float64


def _predicted(classes: Classes, place: np.ndarray) -> _Predicted:
    learned = [classes[name].learned() for name in classes.names]
    shown = np.stack([displayed(one.kind, one.decision) for one in learned])
    scores = shown[place.clip(0), np.arange(len(place))].astype(np.float64)
    return _Predicted([classes.names[i] if i >= 0 else "" for i in place], scores)


def _write(path: str, classes: Classes, rows: list[int], found: _Predicted) -> None:
    predicted = {row: (found.names[row], float(found.scores[row])) for row in rows}
    write_class_list(path, classes.pool.table, predicted, classes.marks())
