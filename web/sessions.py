"""All sessions of a pool: listed, created, opened, renamed, duplicated; and the images
that were uploaded to start from.
"""

from __future__ import annotations

import re
import shutil
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from artifacts.files import exclusive, write_atomically, write_json
from artifacts.provenance import now
from curation.classes import Classes
from curation.journal import (
    SESSION,
    Line,
    create_session,
    new_name,
    read_any_session,
    read_facts,
    replay,
)
from curation.query import Examples, Query, load_uploads
from curation.session_facts import (
    SessionFacts,
    StatedQuery,
    identity_of_set,
    session_facts,
)
from web.live import LiveSession
from web.live_classes import LiveClasses
from web.overview import Overview

DELETED = "deleted"
_ID = re.compile(r"s\d{8}-[0-9a-f]{8}")
_UPLOAD = re.compile(r"u-[0-9a-f]{16}")


@dataclass(frozen=True)
class ListedSession:
    """A session as the list shows it.

    Attributes:
        session: id.
        name: what it is called, the id where it can't be read.
        changed: when it was used last, UTC; "" where it can't be read.
        here: whether it is of the embeddings that are open.
        use, class_name, pool: see `SessionFacts`.
        crops, uploads: of the query.
        relevant, not_relevant: marks.
        error: why it can't be read, "" where it can.
    """

    session: str
    name: str
    changed: str = ""
    here: bool = False
    use: str = ""
    class_name: str = ""
    pool: str = ""
    crops: Sequence[str] = ()
    uploads: Sequence[str] = ()
    relevant: int = 0
    not_relevant: int = 0
    error: str = ""


class UnknownSession(ValueError):
    """There is no session of that id here."""


class Sessions:
    """The sessions below a folder.

    Attributes:
        folder: one folder a session, and uploads/.
    """

    def __init__(self, overview: Overview, folder: str | Path, seed: int = 0):
        self.overview, self.pool = overview, overview.pool
        self.folder, self.seed = Path(folder), seed
        self.folder.mkdir(parents=True, exist_ok=True)
        self._open: dict[str, LiveSession | LiveClasses] = {}
        self._lock = threading.RLock()

    def close(self) -> None:
        """Lets go of every session that is open."""
        with self._lock:
            for session in self._open.values():
                session.close()
            self._open.clear()

    def _path(self, name: str) -> Path:
        path = self.folder / name
        if not _ID.fullmatch(name) or not (path / SESSION).is_file():
            raise UnknownSession(f"session must be one of those listed; got {name!r}")
        return path

    def open(self, name: str, of: str = "") -> LiveSession:
        """The session of an id; opened when first asked for, and then held until the
        server stops.

        Args:
            name: its id.
            of: of several classes, the one that is meant; default: the first.
        """
        with self._lock:
            found = self._open.get(name)
            if found is None:
                path = self._path(name)
                several = bool(read_facts(path).classes)
                kind = LiveClasses if several else LiveSession
                found = self._open[name] = kind(self.overview, path)
                found.learn()
        if isinstance(found, LiveSession):
            return found
        if of and of not in found.classes.names:
            known = ", ".join(found.classes.names)
            raise ValueError(f"of must be one of {known}; got {of!r}")
        return found.of(of)

    def listed(self, *, deleted: bool = False) -> list[ListedSession]:
        """What there is (or was, and can be restored), the one used last first;
        sessions that can't be read are listed with the reason.
        """
        found = []
        folder = self.folder / DELETED if deleted else self.folder
        for path in folder.glob("s*"):
            if not _ID.fullmatch(path.name) or not (path / SESSION).is_file():
                continue
            try:
                facts, lines = read_any_session(path)
                # Of several classes a mark names its own, "" for none of them.
                marks = [
                    bool(one["class"]) if isinstance(one, Mapping) else one
                    for one in replay(lines).marks.values()
                ]
                queries = list(facts.classes.values()) or [facts.query]
                entry = ListedSession(
                    path.name,
                    facts.name,
                    lines[-1].time if lines else facts.created,
                    self._is_here(facts),
                    "classes" if facts.classes else facts.use,
                    facts.class_name,
                    facts.pool,
                    [crop for one in queries for crop in one.crops],
                    [upload for one in queries for upload in one.uploads],
                    sum(marks),
                    len(marks) - sum(marks),
                )
            except (ValueError, KeyError, TypeError) as error:
                entry = ListedSession(path.name, path.name, error=str(error))
            found.append(entry)
        return sorted(found, key=lambda entry: entry.changed, reverse=True)

    def create(
        self,
        crops: Sequence[str],
        uploads: Sequence[str] = (),
        *,
        name: str = "",
        pool: str = "",
        class_name: str = "",
        use: str = "collect",
    ) -> str:
        """Starts a session and returns its id.

        Args:
            crops: ids of the query's crops.
            uploads: names that `keep_upload` gave.
            name: of the session.
            pool: an SQL condition, "" for all crops.
            class_name: of the class that is looked for.
            use: one of USES.
        """
        if not crops and not uploads:
            raise ValueError("query must hold at least one crop or one uploaded image")
        rows = tuple(self.pool.rows(list(crops)))
        self._check_part(pool)
        paths = [self._upload(name) for name in uploads]
        query = Query(Examples(rows))
        every = session_facts(
            self.pool,
            query,
            name=name,
            where=pool,
            class_name=class_name,
            use=use,
            seed=self.seed,
            uploads=list(dict.fromkeys(uploads)),
        )
        endings = (".png", ".npy")
        files = [path.with_suffix(ending) for path in paths for ending in endings]
        # A session holds all it needs.
        return create_session(self.folder, every, files=files)

    def create_classes(
        self,
        classes: Mapping[str, Mapping[str, Sequence[str]]],
        *,
        name: str = "",
        pool: str = "",
    ) -> str:
        """Starts a session of several classes and returns its id.

        Args:
            classes: name -> `crops` and `uploads`, its examples.
            name: of the session; default: those of the classes.
            pool: an SQL condition, "" for all crops.
        """
        self._check_part(pool)
        queries = {}
        for one, given in classes.items():
            names = [self._upload(name).stem for name in given.get("uploads", ())]
            rows = tuple(self.pool.rows(list(given.get("crops", ()))))
            outside = load_uploads(self.folder / "uploads", names)
            queries[one.strip()] = Query(Examples(rows, outside))
        session = new_name()
        path = self.folder / session
        open_now = Classes(self.pool, queries, where=pool, folder=path, seed=self.seed)
        facts = open_now.journal.facts
        open_now.close()
        # What they look like, for the row of examples.
        named = {
            upload: kept
            for one, given in classes.items()
            for upload, kept in zip(
                given.get("uploads", ()),
                facts.classes[one.strip()].uploads,
                strict=True,
            )
        }
        for upload, kept in named.items():
            picture = self.folder / "uploads" / f"{upload}.png"
            shutil.copyfile(picture, path / f"{kept}.png")
            shutil.copyfile(picture, self.folder / "uploads" / f"{kept}.png")
        if name.strip():
            self.rename(session, name)
        return session

    def _check_part(self, condition: str) -> None:
        if not self.pool.mask(condition, allow_empty=True).any():
            raise ValueError(f"pool must leave some crops; none meets {condition!r}")

    def rename(
        self, session: str, name: str | None = None, class_name: str | None = None
    ) -> None:
        """Changes what a session or its class is called; None leaves it."""
        path = self._path(session)
        if name is not None and not name.strip():
            raise ValueError("name must not be empty")
        stated = {"name": name, "class_name": class_name}
        changes = {key: text for key, text in stated.items() if text is not None}
        with self._lock:
            changed = replace(read_facts(path), **changes)  # type: ignore[arg-type]
            write_json(path / SESSION, changed.as_json())
            if session in self._open:
                self._open[session].journal.facts = changed

    def delete(self, name: str) -> Path:
        """Moves a session below deleted/, where nothing lists it; returns where it is.

        Raises:
            RuntimeError: another process holds it.
        """
        path = self._path(name)
        with self._lock:
            held = self._open.pop(name, None)
            if held is not None:
                held.close()
            with exclusive(path, "session"):
                pass  # nobody else has it
            target = self.folder / DELETED / name
            target.parent.mkdir(exist_ok=True)
            return path.rename(target)

    def restore(self, name: str) -> str:
        """Brings a deleted session back."""
        path = self.folder / DELETED / name
        if not _ID.fullmatch(name) or not (path / SESSION).is_file():
            raise UnknownSession(
                f"session must be one that was deleted here; got {name!r}"
            )
        return path.rename(self.folder / name).name

    def _is_here(self, facts: SessionFacts) -> bool:
        """Whether a session is of this set, as it is or as it was before it grew."""
        stated = facts.embeddings["sha256"]
        return self.pool.embeddings.rows_when(stated) is not None

    def duplicate(self, name: str) -> str:
        """Copies a session, with its whole history; one of other embeddings of the same
        crops brings its marks alone.
        """
        path = self._path(name)
        facts, lines = read_any_session(path)
        kept = replace(facts, name=f"{facts.name} (copy)")
        if facts.classes and not self._is_here(facts):
            raise ValueError(
                f"session {facts.name!r} is of several classes of other embeddings: "
                "start one here and import its marks in Python"
            )
        if not self._is_here(facts):
            row_of = self.pool.table.row_of
            crops = [crop for crop in facts.query.crops if row_of(crop) is not None]
            marks = {
                crop: answer
                for crop, answer in replay(lines).marks.items()
                if row_of(crop) is not None
            }
            if not crops:
                raise ValueError(
                    f"session {facts.name!r} must have a query crop that is in "
                    "these embeddings"
                )
            kept = replace(
                kept,
                query=StatedQuery(tuple(crops)),
                embeddings=identity_of_set(self.pool),
                transform=self.pool.index.transform.name,
                pool_hash=self.pool.hash_of(facts.pool),
            )
            line = Line(n=1, time=now(), kind="mark", by="", marks=marks, sort="ask")
            lines = [line] if marks else []
        own = path.glob("u-*") if self._is_here(facts) else ()
        files = [file for file in own if file.suffix in (".npy", ".png")]
        return create_session(self.folder, kept, lines, files)

    def keep_upload(self, vector: np.ndarray, image: bytes) -> str:
        """Keeps an uploaded image and its embedding; returns its name."""
        name = f"u-{uuid.uuid4().hex[:16]}"
        folder = self.folder / "uploads"
        folder.mkdir(exist_ok=True)
        write_atomically(
            folder / f"{name}.npy",
            lambda file: np.save(file, vector.astype(np.float32)),
        )
        write_atomically(folder / f"{name}.png", lambda file: file.write(image))
        return name

    def bring(self, session: str, names: Iterable[str]) -> None:
        """Puts copies of uploads into a session's folder, which holds all it needs."""
        folder = self._path(session)
        for name in names:
            is_name = bool(_UPLOAD.fullmatch(name))
            if is_name and (folder / f"{name}.npy").is_file():
                continue
            path = self._upload(name)
            for ending in (".png", ".npy"):
                shutil.copyfile(path.with_suffix(ending), folder / f"{name}{ending}")

    def _upload(self, name: str) -> Path:
        path = self.upload_path(name)
        if path is None:
            raise ValueError(f"upload must be one that was sent before; got {name!r}")
        return path

    def upload_path(self, name: str) -> Path | None:
        """The image of an upload; None where there is none."""
        path = self.folder / "uploads" / f"{name}.png"
        return path if _UPLOAD.fullmatch(name) and path.is_file() else None
