"""What run_export.py does: a saved probe or a session becomes a class in another tool's
format.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from artifacts.progress import progress_bar
from curation.card import MARKED, THRESHOLD
from curation.export import export
from curation.journal import SESSION
from curation.pool import Pool
from curation.query import query_of_probe
from curation.searching import load
from curation.session import Session
from probe.saved_probe import SavedProbe


@dataclass(frozen=True)
class ExportRequest:
    """What to export; see run_export.py for each."""

    embeddings: str = ""
    images_root: str = ""
    where: str = ""
    probe: str = ""
    session: str = ""
    format: str = "coco"
    folder: str = ""
    class_name: str = ""
    selected: str = THRESHOLD
    predictions: str = ""
    seed: int = 0

    def check(self) -> None:
        """Refuses combinations that make no sense, before work starts."""
        if bool(self.probe) == bool(self.session):
            raise ValueError("one of probe and session must be given")
        if not self.folder:
            raise ValueError("folder must be given, a new one")
        if Path(self.folder).exists():
            raise ValueError(f"folder must be a new one; {self.folder!r} exists")
        if self.probe and not self.class_name.strip():
            raise ValueError("class_name must be given")
        if self.session and not (Path(self.session) / SESSION).is_file():
            raise ValueError(
                f"session must be the folder of one session, with {SESSION}; got "
                f"{self.session!r}"
            )
        if self.session and self.where:
            raise ValueError("where goes with probe; a session has its own")


def run_export(request: ExportRequest) -> None:
    """Exports the class.

    Raises:
        ValueError, OSError, RuntimeError: with a message for the user.
    """
    request.check()
    embeddings = load(request.embeddings, request.images_root, request.predictions)
    if request.probe:
        saved = SavedProbe.load(request.probe)
        pool = Pool(embeddings, transform=saved.transform)
        session = Session(
            pool,
            query=query_of_probe(pool, saved),
            where=request.where,
            probe=saved,
            class_name=request.class_name,
            seed=request.seed,
        )
        if saved.threshold is None and request.selected != MARKED:
            raise ValueError(
                "export needs a threshold, which this ranking by cosine has not: audit "
                "it, or give --selected=marked"
            )
    else:
        session = Session(Pool(embeddings), folder=request.session)
    try:
        name = request.class_name or session.journal.facts.get("class_name", "")
        selection = session.select(request.selected, class_name=name)
        report = export(
            selection,
            format=request.format,
            folder=request.folder,
            card=session.card(request.selected),
            progress=progress_bar,
        )
    finally:
        session.close()
    lost = len(selection.rows) - report.written
    if lost:
        print(
            f"{lost} crops of the class are left out, since their images can't be "
            "read; where they have moved, say where with --images_root"
        )
    for line in report.left_out():
        print(f"left out: {line}")
    print(
        f"{report.written} crops of {name!r} as {request.format} -> "
        f"{request.folder} (with card.md)"
    )
