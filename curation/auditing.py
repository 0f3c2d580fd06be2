"""The audit of a list in the terminal: a random sample to mark, then what it says."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from artifacts.files import write_json
from artifacts.provenance import provenance
from curation.estimate import (
    Sample,
    audit_of,
    facts_of_audit,
    population_of,
    predicted_positive,
)
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
    drawn_by: str = "rank"
    target_precision: float = 0.95
    seed: int = 0


def audit(request: AuditRequest, embeddings: EmbeddingSet) -> None:
    """Writes a random sample to mark, or, where that is done, what it says of the whole
    ranking; see `probe.estimate`.

    A copy of the probe that it was drawn for lies beside the list, so that its answers
    can judge probes that learned from more marks.
    """
    saved = SavedProbe.load(request.probe)
    note = Path(f"{request.audit}.audit.json")
    session = _session_of(saved, request, _as_drawn(embeddings, note))
    if Path(request.audit).exists():
        sample = _answered(request, session, note)
        return _report_audit(request, saved, session, sample)
    # Another audit is of other crops, as far as there are: what was answered is known.
    session.prior_answers = session.known(saved.answers)
    ids = session.audit(request.size, drawn_by=request.drawn_by)
    origin = {"drawn_by": request.drawn_by, "provenance": provenance(request.seed)}
    saved.save(_drawn_for(request))
    write_json(note, {**_facts_of_audit(saved, session), "rows": ids, **origin})
    table, window = session.pool.table, embeddings.window
    pictures = write_audit(request.audit, table, ids, window)
    if session.prior_answers:
        print(
            f"the {len(session.prior_answers)} crops that were answered in earlier "
            "audits are known, and aren't asked again"
        )
    fewer = ", all that nobody marked" if len(ids) < request.size else ""
    print(
        f"{len(ids)} crops{fewer}, drawn at random -> {request.audit}, their "
        f"pictures in {pictures}. Mark all of them, blindly, and give the same "
        "command again."
    )
    return None


def _as_drawn(embeddings: EmbeddingSet, note: Path) -> EmbeddingSet:
    """The set as it was when a sample was drawn from it."""
    drawn = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    rows = embeddings.rows_when(drawn.get("embeddings"))
    if rows is None or rows == len(embeddings.table):
        return embeddings
    print(
        f"the pool has grown since by {len(embeddings.table) - rows:,} crops; what "
        f"follows is of the {rows:,} that there were when the sample was drawn. Draw a "
        "new one for all"
    )
    return embeddings.as_when(rows)


def _session_of(
    saved: SavedProbe, request: AuditRequest, embeddings: EmbeddingSet
) -> Session:
    """Answers of an earlier audit are left out: this one judges the ranking alone."""
    return Session(
        Pool(embeddings, transform=saved.transform),
        where=request.where,
        probe=dataclasses.replace(saved, answers={}),
        seed=request.seed,
    )


def _drawn_for(request: AuditRequest) -> Path:
    """The copy of the probe that a sample was drawn for."""
    return Path(f"{request.audit}.probe")


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


def _answered(request: AuditRequest, session: Session, note: Path) -> Sample:
    """The answered sample as it was drawn, for this probe or for an earlier one."""
    assert session.probe is not None
    if not note.is_file():
        raise ValueError(
            f"audit {request.audit!r} must be a list that --audit drew; {str(note)!r}, "
            "which it wrote too, is missing"
        )
    drawn = json.loads(note.read_text(encoding="utf-8"))
    print(f"{request.audit} was drawn before, {len(drawn['rows'])} crops")
    judged, saved = session, session.probe
    if _drawn_for(request).is_dir():
        first = SavedProbe.load(_drawn_for(request))
        if not saved.continues(first):
            raise ValueError(
                f"audit {request.audit!r} was drawn for another probe, whose queries "
                "and marks this one hasn't; draw a new one under another name"
            )
        judged = _session_of(first, request, session.pool.embeddings)
        judged.prior_answers = judged.known(first.answers)
        saved = dataclasses.replace(first, answers={})
    _check_drawn(request, drawn, saved, judged)
    stated = Marks.read(request.audit).relevant
    missing = [crop_id for crop_id in drawn["rows"] if crop_id not in stated]
    if missing:
        raise ValueError(
            f"audit must be marked whole, or it isn't random; {len(missing)} of "
            f"{len(drawn['rows'])} are missing"
        )
    passed = _learned_since(request, session, drawn["rows"], stated)
    how = str(drawn.get("drawn_by", ""))
    population = population_of(judged, judged.learned(), judged.state, how)
    answers = {name: stated[name] for name in drawn["rows"]}
    known, rows = judged.marks() | judged.prior_answers, session.pool.rows(passed)
    return Sample(*population, session.known(answers), known, rows)


def _learned_since(
    request: AuditRequest,
    session: Session,
    drawn: Sequence[str],
    stated: Mapping[str, bool],
) -> list[str]:
    """Crops of the sample that the probe learned from since: known, as what else it
    learned from, so that the others judge it. Where those are few it is as if they
    hadn't been drawn.
    """
    assert session.probe is not None
    marks = session.probe.marks
    learned = [name for name in drawn if name in marks]
    if 2 * len(learned) > len(drawn):
        raise ValueError(
            f"probe {request.probe!r} must not have learned from the audit that judges "
            f"it; it did from {len(learned)} of {len(drawn)} crops, so the audit has "
            "aged: draw a new one under another name"
        )
    if learned:
        print(
            f"it learned from {len(learned)} of them since, which count as known; the "
            "others judge it"
        )
    differ = sum(stated[name] != marks[name] for name in learned)
    if differ:
        print(f"{differ} of those were marked otherwise than they were answered")
    return learned


def _check_drawn(
    request: AuditRequest,
    drawn: Mapping[str, object],
    saved: SavedProbe,
    session: Session,
) -> None:
    """Refuses a sample of something else.

    Args:
        request: names it in messages.
        drawn: what was noted of it.
        saved: the probe that it was drawn for.
        session: on that probe.
    """
    known = _facts_of_audit(saved, session)
    if "ranking" in drawn:  # of version 0.5.0
        known = {**known, "ranking": _old_ranking(session)}
        known.pop("ranked")
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


def _report_audit(
    request: AuditRequest, saved: SavedProbe, session: Session, sample: Sample
) -> None:
    learned = session.learned()
    marks = session.marks() | session.known(saved.answers)
    marks = {row: one for row, one in marks.items() if row not in sample.answers}
    marks |= {row: session.marks()[row] for row in sample.passed}
    result = audit_of(session, sample, learned, marks)
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
    ids = session.pool.ids
    told = {str(ids[row]): answer for row, answer in sample.answers.items()}
    answered = dataclasses.replace(saved, answers={**saved.answers, **told})
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
