"""The audit of a list in the terminal: a random sample to mark, then what it says."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from artifacts.files import write_json
from artifacts.provenance import provenance
from curation.estimate import facts_of_audit, known_audit, predicted_positive
from curation.lists import write_audit
from curation.pool import Pool
from curation.session import Session
from data.embeddings import EmbeddingSet
from probe.marks import Marks
from probe.saved_probe import SavedProbe, hash_of_marks


@dataclass(frozen=True, kw_only=True)
class AuditRequest:
    """What to audit; see run_evaluate.py for each."""

    audit: str  # .csv to write, and to read the marks from
    probe: str
    where: str = ""
    size: int = 100
    target_precision: float = 0.95
    seed: int = 0


def audit(request: AuditRequest, embeddings: EmbeddingSet) -> None:
    """Writes a random sample to mark, or, where that is done, what it says of the whole
    ranking; see `probe.estimate`.
    """
    saved = SavedProbe.load(request.probe)
    pool = Pool(embeddings, transform=saved.transform)
    # Answers of an earlier audit are asked anew: this one judges the ranking by itself.
    session = Session(
        pool,
        where=request.where,
        probe=dataclasses.replace(saved, answers={}),
        seed=request.seed,
    )
    note = Path(f"{request.audit}.audit.json")
    facts = _facts_of_audit(saved, session)
    if not Path(request.audit).exists():
        ids = session.audit(request.size)
        origin = {"provenance": provenance(request.seed)}
        write_json(note, {**facts, "rows": ids, **origin})
        known = {name: saved.answers[name] for name in ids if name in saved.answers}
        pictures = write_audit(request.audit, pool.table, ids, embeddings.window, known)
        if known:
            print(f"{len(known)} of them were answered in an earlier audit: filled in")
        fewer = ", all that nobody marked" if len(ids) < request.size else ""
        print(
            f"{len(ids)} crops{fewer}, drawn at random -> {request.audit}, their "
            f"pictures in {pictures}. Mark all of them, blindly, and give the same "
            "command again."
        )
        return
    _take_up_answers(request, session, note, facts)
    _report_audit(request, session, saved)


def _facts_of_audit(saved: SavedProbe, session: Session) -> dict[str, str]:
    """What an audit is about: a probe, embeddings, and the crops it ranks."""
    coef = np.ascontiguousarray(saved.ranker.coef, np.float64)
    ranked = hashlib.sha256(np.packbits(session.searched).tobytes() + coef.tobytes())
    return {
        "probe": hash_of_marks(saved.marks),
        "embeddings": session.pool.embeddings.meta["sha256"],
        "ranked": ranked.hexdigest(),
    }


def _old_ranking(session: Session) -> str:
    """The hash of a ranking by which version 0.5.0 knew its audits again."""
    ranker, mask = session.ranker(), session.searched.copy()
    mask[list(session.marks())] = False
    index = session.pool.index_of(ranker)
    scores = index.scores(ranker.coef)[0]
    order = np.lexsort((index.place_of_id, -scores.round(6)))
    return hashlib.sha256(order.tobytes() + (~mask).tobytes()).hexdigest()


def _take_up_answers(
    request: AuditRequest, session: Session, note: Path, facts: Mapping[str, str]
) -> None:
    """Enters the answered sample into the session, as it was drawn."""
    if not note.is_file():
        raise ValueError(
            f"audit {request.audit!r} must be a list that --audit drew; {str(note)!r}, "
            "which it wrote too, is missing"
        )
    drawn = json.loads(note.read_text(encoding="utf-8"))
    print(f"{request.audit} was drawn before, {len(drawn['rows'])} crops")
    if "ranking" in drawn:  # of version 0.5.0
        known = {**facts, "ranking": _old_ranking(session)}
        known.pop("ranked")
    else:
        known = dict(facts)
    words = {
        "probe": "another probe",
        "embeddings": "other embeddings",
        "ranked": "another ranking or --where",
        "ranking": "another ranking or --where",
    }
    for name, value in known.items():
        if drawn.get(name) != value:
            raise ValueError(
                f"audit {request.audit!r} was drawn for {words[name]}; draw a new one "
                "under another name"
            )
    stated = Marks.read(request.audit).relevant
    missing = [crop_id for crop_id in drawn["rows"] if crop_id not in stated]
    if missing:
        raise ValueError(
            f"audit must be marked whole, or it isn't random; {len(missing)} of "
            f"{len(drawn['rows'])} are missing"
        )
    number = session.journal.name_of_marks()
    session.journal.add("audit", rows=drawn["rows"], ranking=number)
    session.answer({crop_id: stated[crop_id] for crop_id in drawn["rows"]})


def _report_audit(request: AuditRequest, session: Session, saved: SavedProbe) -> None:
    known = known_audit(session)
    assert known is not None
    result, learned = known
    size, population = result.size(), int(session.members.sum())
    rate = size.scaled(1 / population)
    print(
        f"from {len(result.answers)} crops drawn at random, none of which was learned "
        "from; 95 % intervals"
    )
    print(f"class size             {size}   (with the query)")
    print(f"rate                   {rate}   (of the {population} crops searched)")
    predicted = predicted_positive(session, learned, result.order)
    top = min(max(1, predicted), len(result.order))
    print(
        f"precision of top {top:5d} {result.precision(top)}   (unmarked crops; so many "
        "are predicted to be relevant)"
    )
    print(
        f"recall of top {top:8d} {result.recall(top)}   (with what is known to be "
        "relevant)"
    )
    target = request.target_precision
    estimated, certain = result.pick(target), result.pick(target, certain=True)
    print(
        f"at {target:.0%} estimated precision: the best {estimated} unmarked crops; "
        f"certain of it, with 95 % confidence: {certain}"
    )
    answered = dataclasses.replace(
        saved, answers={**saved.answers, **session.state.answers}
    )
    if estimated:
        threshold = float(learned.decision[result.order[estimated - 1]])
    elif saved.threshold is None:
        answered.save(request.probe)
        print(f"no threshold is that precise; answers -> {request.probe}")
        return
    else:
        threshold = saved.threshold
        tolerance = session.pool.index.tolerance(learned.ranker)
        above = learned.decision[result.order] >= threshold - tolerance
        estimated = max(1, int(above.sum()))
        print("no threshold is that precise: the probe's own stays. From it on")
    precision, recall = result.precision(estimated), result.recall(estimated)
    print(f"  their precision      {precision}, recall {recall}")
    intervals = {"precision": precision, "recall": recall, "size": size, "rate": rate}
    found = {
        **facts_of_audit(intervals, estimated, len(result.answers)),
        "where": request.where,
        "embeddings": session.pool.embeddings.meta["sha256"],
    }
    dataclasses.replace(
        answered, threshold=threshold, facts={**saved.facts, "estimates": found}
    ).save(request.probe)
    print(
        f"threshold and answers -> {request.probe}: run_search.py "
        f"--probe={request.probe} --out=class.csv lists the class"
    )
