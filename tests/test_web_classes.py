"""Several classes in one session: behind the page, and on it."""

import json
import re
import threading

import numpy as np
import pytest
from playwright.sync_api import expect

from curation.classes import NONE
from curation.pool import Pool
from data.embeddings import EmbeddingSet
from data.where import rows_where
from tests.page_driver import FOCUSED, limit, saved, settled, wait_for
from web import answers
from web.exports import start_export
from web.overview import Overview
from web.requests import ExportAction
from web.sessions import Sessions

BEET, OTHER = "species = 'Sugar beet'", "species = 'Red-root amaranth'"
CELL = ".work .cell"


@pytest.fixture(scope="module")
def overview(field_set, tmp_path_factory):
    pool = Pool(EmbeddingSet.load(field_set))
    return Overview(pool)


@pytest.fixture(scope="module")
def kinds(field_set):
    """crop id -> beet, other or none."""
    table = EmbeddingSet.load(field_set).table
    beet, other = rows_where(table, BEET), rows_where(table, OTHER)
    names = np.where(beet, "beet", np.where(other, "other", "none"))
    return dict(zip(table.ids.tolist(), names.tolist(), strict=True))


def examples(kinds):
    ids = {
        name: next(crop for crop, kind in kinds.items() if kind == name)
        for name in ("beet", "other")
    }
    return {name: {"crops": [crop]} for name, crop in ids.items()}


@pytest.fixture
def several(overview, kinds, tmp_path):
    sessions = Sessions(overview, tmp_path / "sessions")
    name = sessions.create_classes(examples(kinds), name="two kinds")
    yield sessions.open(name).several
    sessions.close()


def told(name):
    return NONE if name == "none" else name


def say(several, kinds, count=40):
    ids = [str(overview_id) for overview_id in several.classes.pool.ids]
    query = {crop for one in examples(kinds).values() for crop in one["crops"]}
    crops = [crop for crop in ids if crop not in query][:count]
    changes = {crop: told(kinds[crop]) for crop in crops}
    several.mark(changes, "me", "one", {})
    return changes


def test_a_class_session_is_listed_opened_and_reopened(several, overview, kinds):
    folder = several.journal.folder
    say(several, kinds)
    sessions = Sessions(overview, folder.parent)
    (listed,) = sessions.listed()
    assert (listed.use, listed.name) == ("classes", "two kinds")
    assert listed.relevant == sum(
        name != NONE for name in several.classes.marks().values()
    )
    assert listed.error == ""
    with pytest.raises(RuntimeError, match="in use"):
        Sessions(overview, folder.parent).delete(folder.name)
    sessions._open[folder.name] = several
    with pytest.raises(ValueError, match="of must be one of beet, other"):
        sessions.open(folder.name, "maize")


def test_what_two_classes_claim_comes_first(several, kinds):
    say(several, kinds)
    takes, place = several.taken()
    state = several.state("other")
    assert state.of == "other"
    claimed = np.array(state.claimed)
    both = takes[0] & takes[1]
    assert claimed[0, 1] == claimed[1, 0] == both.sum()
    assert claimed[0, 0] == (takes[0] & ~takes[1]).sum()
    assert [count.taken for count in state.counts] == [
        (place == 0).sum(),
        (place == 1).sum(),
    ]
    # Taken by both at any threshold: then all unmarked ones are contested.
    for name in several.classes.names:
        several.of(name).set_threshold(0.0, "confidence", "me", f"all {name}")
    contested = several.contested()
    marked = several.classes.pool.rows(list(several.classes.marks()))
    assert not set(contested.tolist()) & set(marked)
    decisions = [several.classes[n].learned().decision for n in several.classes.names]
    near = np.abs(decisions[0] - decisions[1])[contested]
    assert (np.diff(near) >= 0).all()
    assert len(contested) > 50
    asked = several.of("").page(several.of("").journal.name_of_marks(), "ask", 0, 40)[0]
    assert asked[:20].tolist() == contested[:20].tolist()
    of_list = several.of("beet").page(0, "contested", 0, 10)[0]
    assert of_list.tolist() == contested[:10].tolist()
    assert several.both("beet", "other").sum() == both_now(several)


def both_now(several):
    takes, _ = several.taken()
    return (takes[0] & takes[1]).sum()


def test_marks_show_in_every_class_and_undo_is_common(several, kinds):
    changes = say(several, kinds)
    beet = several.of("beet")
    number = beet.journal.name_of_marks()
    crops = answers.crops_of(beet, number, "best", 0, 400).crops
    shown = {crop.id: (crop.of, crop.mark) for crop in crops}
    for crop, name in changes.items():
        assert shown[crop] == (name or "none", name == "beet")
    several.of("other").step("undo", "me", "two")
    assert several.classes.marks() == {}
    assert answers.crops_of(beet, number, "best", 0, 5).crops[0].mark is None
    several.of("beet").step("redo", "me", "three")
    assert several.classes.marks() == changes


def test_no_crop_is_exported_in_two_classes(several, kinds):
    say(several, kinds)
    for name in several.classes.names:
        several.of(name).set_threshold(0.2, "confidence", "me", f"low {name}")
    chosen = []
    for name in several.classes.names:
        session = several.of(name)
        number = session.journal.name_of_marks()
        asked = ExportAction(
            format="csv", what="threshold", class_name=name, ranking=number
        )
        chosen.append(set(start_export(session, asked).selection.rows.tolist()))
    assert chosen[0]
    assert chosen[1]
    assert not chosen[0] & chosen[1]
    assert sum(map(len, chosen)) == (several.classes.assigned() >= 0).sum()


def test_one_number_to_take_home_wherever_it_stands(several, kinds):
    for marked in (False, True):
        if marked:
            say(several, kinds)
        for count in several.state("").counts:
            session = several.of(count.name)
            number = session.journal.name_of_marks()
            asked = ExportAction(
                format="csv", what="threshold", class_name=count.name, ranking=number
            )
            exported = start_export(session, asked).selection.rows
            assert session.panel(number).taken == count.taken == len(exported)
            shown = session.panel(number).threshold
            at = answers.estimate_at(session, number, shown)
            assert (at.would_take, at.added, at.dropped) == (count.taken, 0, 0)


def test_another_s_mark_of_a_class_is_not_overwritten_unseen(several, kinds):
    crop = next(crop for crop in kinds if kinds[crop] == "none")
    several.mark({crop: "beet"}, "anna", "a", {})
    told = several.mark({crop: "other"}, "ben", "b", {crop: None})
    assert [(one.id, one.of) for one in told.disputed] == [(crop, "beet")]
    assert several.classes.marks() == {crop: "beet"}
    for name in several.classes.names:  # both views are kept, and shown
        assert several.of(name).state.conflicts == [crop]
    told = several.mark({crop: "other"}, "ben", "c", {crop: "beet"})
    assert not told.disputed
    assert several.classes.marks() == {crop: "other"}


def test_many_threads_see_the_same_lines(several, kinds):
    crops = list(kinds)[:60]
    beet, other = several.of("beet"), several.of("other")

    def read():
        for _ in range(200):
            lines = list(beet.journal.lines)
            assert [line.n for line in lines] == list(range(1, len(lines) + 1))
            _ = other.state.marks

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for place, crop in enumerate(crops):
        several.mark({crop: told(kinds[crop])}, "me", f"a{place}", {})
    for thread in threads:
        thread.join()
    for one in (beet, other):
        assert [line.n for line in one.journal.lines] == list(range(1, 61))


@pytest.mark.timeout(200)
def test_splitting_a_class_is_one_session_marked_by_number(server, open_page, kinds):
    page = open_page(server.url)
    page.get_by_role("tab", name="Split a class").click()
    page.get_by_label("class", exact=True).select_option("")
    page.get_by_label("groups", exact=True).fill("3")
    page.get_by_role("button", name="Propose groups").click()
    error = page.locator("#error")
    wait_for(page, lambda: page.locator(".cluster").count() or error.is_visible(), 60)
    assert error.text_content() == ""
    expect(page.locator(".cluster")).to_have_count(3)
    page.get_by_role("button", name="Browse all of it").first.click()
    whole = page.get_by_role("grid", name="The whole group")
    stated = page.locator(".cluster b").first.text_content()
    expect(whole.locator(".cell").first).to_be_visible()
    rows = int(whole.get_attribute("aria-rowcount"))
    columns = int(whole.get_attribute("aria-colcount"))
    assert 0 <= rows * columns - int(stated.split()[0]) < columns
    page.get_by_label("name of group 1").fill("beet")
    page.get_by_label("name of group 2").fill("other")
    page.get_by_role("button", name="Start with the named groups").click()
    expect(page.locator("#title")).to_have_text("all: beet, other")
    tabs = page.locator(".classes button")
    expect(tabs).to_have_count(4)
    expect(page.locator(CELL).first).to_be_visible()
    settled(page)
    page.locator(CELL).first.focus()
    for _ in range(30):
        crop = page.evaluate(FOCUSED)
        key = {"beet": "1", "other": "2", "none": "0"}[kinds[crop]]
        page.keyboard.press(key)
        expect(page.locator(f'{CELL}[data-crop="{crop}"] .of')).to_have_text(
            kinds[crop]
        )
    saved(page)
    folder = max(server.sessions.glob("s2*"), key=lambda path: path.stat().st_mtime)
    lines = [
        json.loads(line)
        for line in (folder / "feedback.jsonl").read_text().splitlines()
    ]
    marks = {
        crop: one["class"] or "none"
        for line in lines
        if line["kind"] == "mark"
        for crop, one in line["marks"].items()
    }
    assert marks == {crop: kinds[crop] for crop in marks}
    assert len(marks) == 30
    counts = {name: list(marks.values()).count(name) for name in ("beet", "other")}
    expect(tabs.nth(0)).to_contain_text(f"{counts['beet']} ✓")
    expect(tabs.nth(1)).to_contain_text(f"{counts['other']} ✓")
    tabs.nth(1).click()
    expect(tabs.nth(1)).to_have_attribute("aria-pressed", "true")
    settled(page)
    wait_for(page, lambda: "of=other" in page.url)
    page.reload()
    expect(tabs.nth(1)).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Matrix").click()
    matrix = page.locator("#example table")
    expect(matrix.locator("td button")).to_have_count(4)
    figure = matrix.locator("td button:enabled").first
    count = int(figure.text_content())
    figure.click()
    expect(page.locator(".chips")).to_contain_text("selected on the map")
    assert int(re.search(r"(\d+)", page.locator(".chips .faint").text_content())[1])
    assert count > 0
    page.locator(".chips button").click()
    settled(page)
    page.keyboard.press("Control+z")
    expect(page.locator(".stepped")).to_have_text("undone: a mark")
    page.get_by_role("button", name="Export …").click()
    page.locator("#export").get_by_role("button", name="Write the files").click()
    expect(page.locator("#export")).to_contain_text("written to")


def test_classes_named_from_the_start(server, open_page, kinds):
    page = open_page(server.url)
    for name, given in examples(kinds).items():
        limit(page, f"crop_id = '{given['crops'][0]}'")
        expect(page.locator(".pick .cell")).to_have_count(1)
        page.locator(f'.pick .cell[data-crop="{given["crops"][0]}"]').click()
        page.get_by_label("name of the new class").fill(name)
        page.get_by_role("button", name="Add as one of several classes").click()
        expect(page.locator(".tray .chip").last).to_contain_text(f"{name}: 1")
    page.get_by_role("button", name="Start with these classes").click()
    expect(page.locator("#title")).to_have_text("beet, other")
    expect(page.locator(".classes button")).to_have_count(4)
    page.locator("#home").click()
    expect(page.locator(".sessions li").first).to_contain_text("several classes")
    page.get_by_role("button", name="Duplicate").first.click()
    expect(page.locator(".sessions li").first).to_contain_text("beet, other (copy)")
    page.get_by_role("button", name="Resume").first.click()
    expect(page.locator(".classes button")).to_have_count(4)
