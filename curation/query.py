"""What is looked for: examples in the set or outside of it, and what it should not look
like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from curation.embed_query import embed_images, embed_texts
from curation.journal import read_session, replay
from curation.pool import Pool
from curation.session_facts import StatedQuery
from data.images import read_image
from probe.saved_probe import SavedProbe


@dataclass(frozen=True)
class Examples:
    """Crops of the set, then images from outside of it.

    Attributes:
        rows: of those in the set.
        outside: [m, D] float32, embeddings of the others, texts last.
        files: where the images lie; as many, or none if they have no file.
    """

    rows: tuple[int, ...] = ()
    outside: np.ndarray | None = None
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.rows) + (0 if self.outside is None else len(self.outside))

    def vectors(self, pool: Pool, *, similar: bool = False) -> np.ndarray:
        """Vectors of all, those in the set first; see `Pool.vectors_of`."""
        return pool.vectors_of(self.rows, self.outside, similar=similar)


@dataclass(frozen=True)
class Query:
    """What to search for.

    Attributes:
        examples: what it looks like.
        negatives: what it should not look like.
    """

    examples: Examples = Examples()
    negatives: Examples = Examples()

    @property
    def rows(self) -> list[int]:
        """Rows of the set that are part of the query, which no list shows."""
        return list(dict.fromkeys((*self.examples.rows, *self.negatives.rows)))


def find_query(
    pool: Pool,
    examples: str | Path | Sequence[str],
    negatives: str | Path | Sequence[str] = (),
    texts: Sequence[str] = (),
) -> Query:
    """Looks examples up; see `find_examples`. Texts are further examples, by the text
    tower of the set's encoder.

    Example:
        >>> find_query(pool, [], texts=["sugar beet with four leaves"])
    """
    found = find_examples(pool, examples)
    if texts:
        words = embed_texts(pool.embeddings, texts)
        seen = () if found.outside is None else (found.outside,)
        found = replace(found, outside=np.concatenate([*seen, words]))
    return Query(found, find_examples(pool, negatives, "negative"))


def find_examples(
    pool: Pool, names: str | Path | Sequence[str], argument: str = "query"
) -> Examples:
    """Looks examples up by crop id, then by image path; embeds an image from outside
    with the set's own encoder.

    Args:
        pool: what is searched.
        names: crop ids, paths of images in the set (with @x,y for the crop at that
            point), or paths of images outside of it.
        argument: the name to use in errors.

    Raises:
        ValueError: there is none of that name, or an image holds several crops.
    """
    names = [str(names)] if isinstance(names, str | Path) else list(names)
    rows: list[int] = []
    outside: list[Path] = []
    for name in names:
        found = pool.table.find(name)
        if len(found) > 1:
            left, top, right, bottom = pool.table.boxes[found[0]]
            point = f"{name}@{(left + right) // 2},{(top + bottom) // 2}"
            raise ValueError(
                f"{argument} {name!r} holds {len(found)} crops; name one by a point in "
                f"it, such as {point}, or by its id"
            )
        if not found and Path(name).is_file():
            outside.append(Path(name))
        elif not found:
            image = pool.table.find(name.rpartition("@")[0])
            if image:
                raise ValueError(
                    f"{argument} {name!r} must be a point in a crop; that image has "
                    f"{len(image)} crops, none of them there"
                )
            raise ValueError(
                f"{argument} must be a crop id of this set or the path of an image; "
                f"{name!r} is neither, and there is "
                + ("a folder" if Path(name).is_dir() else "no file")
                + " of that name"
            )
        rows += found
    vectors = None
    if outside:
        images = [read_image(path) for path in outside]
        vectors = embed_images(pool.embeddings, images)
    return Examples(tuple(rows), vectors, tuple(outside))


def query_of_probe(pool: Pool, probe: SavedProbe) -> Query:
    """The examples that a saved probe began with, as far as this set has them.

    Probes of version 0.5.0 name them as they were typed, which may have been a path
    from another folder: an image whose path ends it is taken, if it is the only one.
    """
    rows: list[int] = []
    for word in probe.queries:
        found = pool.table.find(word)
        if not found:
            images = pool.table.column("image")
            ends = [row for row, image in enumerate(images) if _ends(word, image)]
            found = ends if len(ends) == 1 else []
        rows += found
    return Query(Examples(tuple(dict.fromkeys(rows))))


def _ends(path: str, image: str) -> bool:
    path = path.replace("\\", "/")
    return path.endswith(f"/{image}") or f"/{image}".endswith(f"/{path}")


def stated_query(
    pool: Pool,
    stated: StatedQuery,
    folder: Path,
    argument: str = "crop",
) -> Query:
    """The query that session.json names: crops, and uploads beside it in the folder."""
    rows = pool.table.rows_of(stated.crops, argument)
    outside = load_uploads(folder, stated.uploads)
    return Query(Examples(tuple(rows.tolist()), outside))


def load_uploads(folder: Path, names: Sequence[str]) -> np.ndarray | None:
    """Embeddings of images from outside that lie in a session's folder, [n, D] float32;
    None for none.
    """
    paths = [folder / f"{name}.npy" for name in names]
    return (
        np.stack([np.load(path, allow_pickle=False) for path in paths])
        if paths
        else None
    )


@dataclass(frozen=True)
class SessionOnDisk:
    """What the folder of a session says, without holding it.

    Attributes:
        name: what it is called.
        query: its examples, uploads among them.
        where: its part of the pool.
        marks: crop id -> relevant.
    """

    name: str
    query: Query
    where: str
    marks: dict[str, bool]


def read_session_folder(pool: Pool, folder: str | Path) -> SessionOnDisk:
    """Reads a session, which another process may hold."""
    facts, lines = read_session(folder)
    state, folder = replay(lines), Path(folder)
    like, unlike = state.examples(facts.query.uploads)
    stated = StatedQuery(facts.query.crops, tuple(like))
    query = stated_query(pool, stated, folder, "query of the session")
    query = Query(query.examples, Examples((), load_uploads(folder, unlike)))
    return SessionOnDisk(facts.name, query, facts.pool, state.marks)
