"""The page in Chromium: filters in sight, marks looked at again, several people, and
an address that leads back.
"""

import base64
import csv
import json
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from curation.journal import read_session
from data.embeddings import EmbeddingSet
from tests.page_driver import (
    FOCUSED,
    choose,
    draw_sample,
    limit,
    mark_by_keys,
    saved,
    settled,
    start,
    until,
    wait_for,
    wished,
)

CELL = ".work .cell"


def ids(page, count=6):
    return [
        page.locator(f'{CELL}[data-index="{place}"]').get_attribute("data-crop")
        for place in range(count)
    ]


def total(page):
    return int(page.locator(".chips").text_content().split(" of ")[-1].split()[0])


def expected(open_page, *texts):
    """Leaves out problems that a test provokes."""
    open_page.problems[:] = [
        text for text in open_page.problems if not any(part in text for part in texts)
    ]


def only(page, what):
    page.get_by_label("which pictures").select_option(what)
    settled(page)


def test_a_filter_stays_in_sight_and_the_export_says_what_it_takes(
    server, open_page, truth
):
    page = open_page(server.url)
    start(page, wished(truth), "filtered")
    choose(page, "lighting", "sunny")
    settled(page)
    page.get_by_role("button", name="Filter", exact=True).click()  # the bar is closed
    expect(page.get_by_label("condition in SQL")).to_be_hidden()
    lighting = EmbeddingSet.load(server.embeddings).table.column("lighting")
    sunny = int((lighting == "sunny").sum())
    chips = page.locator(".chips")
    expect(chips).to_contain_text("lighting: sunny")
    expect(chips).to_contain_text(re.compile(rf"\d+ of {len(truth) - 1} pictures"))
    shown = int(re.search(r"(\d+) of", chips.text_content())[1])
    assert sunny - 1 <= shown <= sunny  # the query isn't listed
    page.locator(CELL).first.focus()
    page.keyboard.press("y")
    saved(page)
    page.get_by_role("button", name="Export …").click()
    dialog = page.locator("#export")
    part = dialog.get_by_label("of all, or what the filter leaves")
    expect(part).to_contain_text("the filter doesn't count")
    expect(part).to_contain_text("lighting: sunny")
    part.select_option("part")
    expect(dialog).to_contain_text("precision of this part was not estimated")
    dialog.get_by_label("format").select_option("csv")
    dialog.get_by_role("button", name="Write the files").click()
    expect(dialog).to_contain_text("written to")
    folder = next(server.sessions.glob("s2*/exports/filtered-csv-*"))
    card = json.loads((folder / "card.json").read_text())
    assert card["only"] == "lighting IN ('sunny')"
    table = EmbeddingSet.load(server.embeddings).table
    with open(folder / "crops.csv", newline="") as file:
        written = [line["crop_id"] for line in csv.DictReader(file)]
    of = dict(zip(table.ids.tolist(), lighting, strict=True))
    assert {of[crop] for crop in written} == {"sunny"}
    page.keyboard.press("Escape")
    chips.get_by_role("button").click()
    expect(chips).to_be_empty()


def test_reload_and_address_keep_list_and_place(server, open_page, truth):
    page = open_page(server.url)
    start(page, wished(truth), "kept")
    mark_by_keys(page, truth, 12)
    saved(page)
    page.keyboard.press("r")
    expect(page.locator(".changes")).to_contain_text("Sorted by what your marks tell")
    page.get_by_role("button", name="Worst").click()
    settled(page)
    page.locator(".work .grid").evaluate("grid => { grid.scrollTop = 600; }")
    first = "() => { const box = document.querySelector('.grid')"
    first += ".getBoundingClientRect(); return [...document.querySelectorAll('.cell')]"
    first += ".find((cell) => cell.getBoundingClientRect().bottom > box.top + 4)"
    first += "?.dataset.crop; }"
    wait_for(page, lambda: "at=" in page.url)
    looked_at = page.evaluate(first)
    page.reload()
    expect(page.get_by_role("button", name="Worst")).to_have_attribute(
        "aria-pressed", "true"
    )
    wait_for(page, lambda: page.evaluate(first) == looked_at)
    # The whole address, in a browser that has never been here.
    hash_ = page.url[page.url.index("#") :]
    other = open_page(f"{server.url}{hash_}")
    expect(other.locator("#title")).to_have_text("kept")
    wait_for(other, lambda: other.evaluate(first) == looked_at)


def test_hidden_marks_and_ones_own(server, open_page, truth):
    page = open_page(server.url)
    start(page, wished(truth), "hidden")
    mark_by_keys(page, truth, 5)
    saved(page)
    marked = ids(page, 5)
    only(page, "unmarked")
    expect(page.locator(".chips")).to_contain_text("hide marked")
    shown = ids(page, 5)
    assert not set(shown) & set(marked)
    assert total(page) == len(truth) - 1
    # What is marked here stays where it is until another list is asked for.
    page.locator(CELL).first.focus()
    page.keyboard.press("n")
    saved(page)
    page.wait_for_timeout(400)
    assert ids(page, 5) == shown
    only(page, "marked")
    expect(page.locator(CELL)).to_have_count(6)
    only(page, "")
    expect(page.locator(".chips")).to_be_empty()


def test_marks_that_the_others_contradict_come_first(server, open_page, truth):
    page = open_page(server.url)
    start(page, wished(truth), "doubted")
    mark_by_keys(page, truth, 20)
    saved(page)
    for _ in range(2):
        page.keyboard.press("r")
        settled(page)
        page.get_by_role("button", name="Ask me").click()
        settled(page)
        mark_by_keys(page, truth, 15)
        saved(page)
    marks = server.marks()
    slip = next(crop for crop, answer in marks.items() if answer)
    with server.client() as client:
        session = page.url.split("#")[1].split("?")[0]
        body = {"marks": {slip: False}, "by": "slip", "action": "slip"}
        body |= {"ranking": 0, "sort": "best"}
        client.post(f"/api/sessions/{session}/mark", json=body).raise_for_status()
    page.get_by_label("which pictures").select_option("doubtful")
    settled(page)
    expect(page.locator(CELL).first).to_be_visible()
    doubted = [cell.get_attribute("data-crop") for cell in page.locator(CELL).all()]
    assert slip in doubted[:3]
    only(page, "")
    expect(page.get_by_role("button", name="Best", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )


def test_a_sample_s_answers_show_elsewhere_and_marks_there_explain(
    server, open_page, truth
):
    page = open_page(server.url)
    start(page, wished(truth), "elsewhere")
    mark_by_keys(page, truth, 8)
    page.get_by_label("size of the random sample").fill("10")
    draw_sample(page)
    cell = page.locator(CELL).first
    assert "score" not in cell.get_attribute("aria-label")  # judged blindly
    crop = cell.get_attribute("data-crop")
    cell.focus()
    page.keyboard.press("y")
    saved(page)
    page.get_by_role("button", name="Best", exact=True).click()
    settled(page)
    page.locator(CELL).first.focus()
    page.keyboard.press("End")
    there = page.locator(f'{CELL}[data-crop="{crop}"]')
    with server.client() as client:
        session = page.url.split("#")[1].split("?")[0]
        listed = client.get(
            f"/api/sessions/{session}/crops", params={"ranking": 0, "count": 400}
        ).json()["crops"]
    place = [one["id"] for one in listed].index(crop)
    columns = int(page.locator(".work .grid").get_attribute("aria-colcount"))
    page.locator(".work .grid").evaluate(
        "(grid, share) => { grid.scrollTop = share * grid.scrollHeight; }",
        (place // columns) / -(-len(listed) // columns),
    )
    expect(there).to_have_class(re.compile("sampled"))
    expect(there).to_have_class(re.compile("yes"))
    there.click()
    page.keyboard.press("n")
    expect(page.locator("#error")).to_contain_text("Mark under Random sample")
    assert crop not in server.marks()


def test_an_aged_estimate_is_gray_and_says_so(server, open_page, truth):
    page = open_page(server.url)
    start(page, wished(truth), "aged")
    mark_by_keys(page, truth, 8)
    page.get_by_label("size of the random sample").fill("10")
    draw_sample(page)
    mark_by_keys(page, truth, 10)
    estimate = page.locator("#estimate")
    expect(estimate).to_contain_text("95 % interval")
    expect(estimate).not_to_have_class(re.compile("aged"))
    expect(estimate.locator(".big")).to_have_count(1)
    page.get_by_role("button", name="Learn from its answers too").click()
    expect(estimate).to_have_class(re.compile("aged"))
    expect(estimate).to_contain_text("Not known of this list")
    expect(estimate.locator(".big")).to_have_count(0)  # no headline beside another list


def test_a_message_opens_above_a_dialog(server, open_page, truth):
    page = open_page(server.url)
    start(page, wished(truth), "above")
    # One that shows already when the dialog opens, then another from within it.
    page.evaluate(
        "import(new URL('static/dom.js', location.href)).then((dom) => "
        "dom.fail(new Error('before')))"
    )
    expect(page.locator("#error")).to_have_text("before")
    page.get_by_role("button", name="Export …").click()
    page.locator("#export").get_by_label("name of the class").fill(" ")
    page.get_by_role("button", name="Write the files").click()
    error = page.locator("#export #error")
    expect(error).to_be_visible()
    box = error.bounding_box()
    on_top = page.evaluate(
        "([x, y]) => document.elementFromPoint(x, y).id",
        [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2],
    )
    assert on_top == "error"
    error.click()  # and it can be reached
    expect(page.locator("#error")).to_be_hidden()
    expected(open_page, "400")


@pytest.mark.timeout(200)
def test_keys_mark_nothing_while_the_list_is_on_its_way(server, open_page, truth):
    page = open_page(server.url)
    start(page, wished(truth), "on its way")
    # Faster than any answer: each key finds the focus on the next crop.
    page.locator(CELL).first.focus()
    looked_at = ids(page, 6)
    page.evaluate(
        """() => {
            for (let turn = 0; turn < 6; turn++) {
                const options = { key: "n", bubbles: true, cancelable: true };
                document.activeElement.dispatchEvent(new KeyboardEvent("keydown", options));
            }
        }"""
    )
    saved(page)
    assert list(server.marks()) == looked_at
    held = []
    page.route("**/crops?*", lambda route: held.append(route))
    page.get_by_role("button", name="Worst").click()
    wait_for(page, lambda: held)
    page.locator(CELL).nth(8).focus()
    page.keyboard.press("y")  # the list that this looks at is about to be replaced
    page.wait_for_timeout(300)
    assert len(server.marks()) == 6
    for route in held:
        route.continue_()
    page.unroute("**/crops?*")
    settled(page)
    page.locator(CELL).first.focus()
    page.keyboard.press("y")
    saved(page)
    until(lambda: len(server.marks()) == 7)
    # A list that is refused leaves the one that there was, and its keys.
    limit(page, "no such column")
    expect(page.locator("#error")).to_contain_text("where must be an SQL condition")
    settled(page)
    page.locator(CELL).nth(2).focus()
    page.keyboard.press("y")
    saved(page)
    until(lambda: len(server.marks()) == 8)
    expected(open_page, "400")


def test_two_people_see_what_the_other_says(server, open_page, truth):
    pages = []
    for name in ("Anna", "Ben"):
        page = open_page(server.url)
        if pages:
            hash_ = pages[0].url[pages[0].url.index("#") :]
            page = open_page(f"{server.url}{hash_}")
        else:
            start(page, wished(truth), "two people")
        expect(page.locator(CELL).first).to_be_visible()
        page.get_by_label("your name", exact=True).fill(name)
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_label("your name", exact=True)).to_have_count(0)
        pages.append(page)
    anna, ben = pages
    crop = anna.locator(CELL).first.get_attribute("data-crop")
    # Ben's browser doesn't hear of Anna's mark before he marks.
    ben.route("**/api/sessions/s*?*", lambda route: route.abort())
    ben.route("**/crops?*", lambda route: route.abort())
    anna.locator(CELL).first.focus()
    anna.keyboard.press("y")
    saved(anna)
    ben.locator(CELL).first.focus()
    ben.keyboard.press("n")
    expect(ben.locator("#error")).to_contain_text(
        "Anna has marked this picture as rele"
    )
    assert server.marks() == {crop: True}  # not overwritten
    ben.unroute("**/api/sessions/s*?*")
    ben.unroute("**/crops?*")
    seen = ben.locator(f'{CELL}[data-crop="{crop}"]')
    expect(seen).to_have_class(re.compile("yes.*disputed|disputed.*yes"))
    expect(seen).to_have_attribute("aria-label", re.compile("relevant by Anna"))
    expect(anna.locator(f'{CELL}[data-crop="{crop}"]')).to_have_class(
        re.compile("disputed")
    )
    option = anna.get_by_label("which pictures").locator("option").last
    expect(option).to_have_text("people disagree (1)")
    only(anna, "conflicts")
    expect(anna.locator(CELL)).to_have_count(1)
    seen.focus()
    ben.keyboard.press("n")  # he has seen it now, and decides
    saved(ben)
    until(lambda: server.marks() == {crop: False})
    lines = server.lines()
    assert [(line.kind, line.person) for line in lines] == [
        ("mark", "Anna"),
        ("conflict", "Ben"),
        ("mark", "Ben"),
    ]
    expect(anna.locator(CELL).first).to_have_attribute(
        "aria-label", re.compile("not relevant by Ben, people disagree")
    )
    anna.reload()  # the name is asked for once
    expect(anna.locator(CELL).first).to_be_visible()
    expect(anna.get_by_label("your name", exact=True)).to_have_count(0)
    expected(open_page, "net::ERR_FAILED")


def test_the_photo_zooms_to_the_crop_and_moves(server, open_page, truth):
    page = open_page(server.url)
    start(page, wished(truth), "counted")
    page.locator(CELL).first.focus()
    page.keyboard.press("Enter")
    frame, box = page.locator("#crop .photo"), page.locator("#crop rect.this")
    expect(box).to_be_visible()

    def share():
        outer, inner = frame.bounding_box(), box.bounding_box()
        return max(inner["width"], inner["height"]) / min(
            outer["width"], outer["height"]
        )

    wait_for(page, lambda: 0.6 < share() < 0.75)  # a quarter of it on either side
    detail = page.locator("#crop .detail")
    wait_for(page, lambda: detail.evaluate("image => image.naturalWidth") > 0)
    before = share()
    page.keyboard.press("+")
    assert share() == pytest.approx(1.4 * before, rel=0.02)
    x = box.bounding_box()["x"]
    middle = frame.bounding_box()
    page.mouse.move(middle["x"] + 200, middle["y"] + 200)
    page.mouse.down()
    page.mouse.move(middle["x"] + 230, middle["y"] + 200, steps=3)
    page.mouse.up()
    assert box.bounding_box()["x"] == pytest.approx(x + 30, abs=2)
    page.get_by_role("button", name="Whole photo").click()
    assert share() < before
    page.keyboard.press("ArrowRight")  # and stays so
    page.wait_for_timeout(500)
    assert share() < before


def test_a_threshold_for_a_precision_and_what_it_changes(server, open_page, truth):
    page = open_page(server.url)
    start(page, wished(truth), "precise")
    mark_by_keys(page, truth, 20)
    saved(page)
    page.keyboard.press("r")
    expect(page.locator(".changes")).to_contain_text("Sorted by what your marks tell")
    expect(page.get_by_role("button", name="Threshold for")).to_be_hidden()
    draw_sample(page)
    mark_by_keys(page, truth, 60)
    saved(page)
    page.get_by_role("button", name="Best", exact=True).click()
    settled(page)
    expect(page.locator("#estimate")).to_contain_text("95 % interval")
    page.get_by_label("share that is right, in percent").fill("30")
    page.get_by_role("button", name="Threshold for").click()
    until(lambda: any(line.kind == "threshold" for line in server.lines()))
    session = page.url.split("#")[1].split("?")[0]
    with server.client() as client:
        told = client.get(
            f"/api/sessions/{session}",
            params={"ranking": 20, "by": "x"},
        ).json()
        listed = client.get(
            f"/api/sessions/{session}/crops", params={"ranking": 20, "count": 400}
        ).json()["crops"]
    assert told["estimate"]["precision"]["estimate"] >= 0.3
    cut, slider = page.locator(f"{CELL}.cut"), page.locator("#threshold")
    above = sum(crop["score"] >= told["panel"]["threshold"] for crop in listed)
    columns = int(page.locator(".work .grid").get_attribute("aria-colcount"))
    page.locator(".work .grid").evaluate(
        "(grid, share) => { grid.scrollTop = share * grid.scrollHeight; }",
        (above // columns) / -(-len(listed) // columns),
    )
    slider.focus()
    expect(cut).to_have_count(1)
    place = int(cut.get_attribute("data-index"))
    scores = [
        float(re.search(r"score ([\d.]+)", one)[1])
        for one in (
            page.locator(f'{CELL}[data-index="{at}"]').get_attribute("aria-label")
            for at in (place - 1, place)
        )
    ]
    threshold = float(slider.input_value())
    assert scores[0] >= threshold - 5e-4
    assert scores[1] <= threshold + 5e-4
    for _ in range(25):
        slider.press("ArrowLeft")
    expect(page.locator("#moved")).to_contain_text("added")
    expect(page.locator("#moved img").first).to_be_visible()


@pytest.mark.timeout(200)
def test_boxes_on_an_uploaded_photo_are_examples(server, open_page, truth):
    page = open_page(server.url)
    table = EmbeddingSet.load(server.embeddings).table
    row = table.row_of(wished(truth))
    left, top, right, bottom = table.boxes[row].tolist()
    page.set_input_files("input[type=file]", [table.path(row), table.path(0)])
    dialog = page.locator("#example")
    expect(dialog).to_contain_text("Example 1 of 2")
    image = dialog.locator("img")
    wait_for(page, lambda: image.evaluate("image => image.naturalWidth") > 0)
    frame = image.bounding_box()
    scale = frame["width"] / image.evaluate("image => image.naturalWidth")
    page.mouse.move(frame["x"] + left * scale, frame["y"] + top * scale)
    page.mouse.down()
    page.mouse.move(frame["x"] + right * scale, frame["y"] + bottom * scale, steps=4)
    page.mouse.up()
    dialog.get_by_role("button", name="Use the box").click()
    expect(dialog).to_contain_text("Example 2 of 2", timeout=90_000)
    dialog.get_by_role("button", name="Leave it out").click()
    expect(page.locator(".query img")).to_have_count(1)
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(CELL).first).to_be_visible()
    # The box is the crop but for rounding on the screen.
    with Image.open(next(server.sessions.glob("uploads/u-*.png"))) as kept:
        sides = np.subtract(kept.size, (right - left, bottom - top))
    assert np.abs(sides).max() <= 2 / scale

    # Another one later, dropped on the row of examples; and the first taken off.
    page.get_by_role("button", name="Another example").click()
    page.locator("#example input[type=file]").set_input_files(table.path(0))
    dialog.get_by_role("button", name="Use the whole image").click()
    expect(page.locator(".work .query img")).to_have_count(2, timeout=90_000)
    until(lambda: [line.kind for line in server.lines()][:1] == ["examples"])
    before = ids(page)
    page.get_by_role("button", name="an example").first.click()
    dialog.get_by_role("button", name="Take it off").click()
    expect(page.locator(".work .query img")).to_have_count(1)
    wait_for(page, lambda: ids(page) != before)
    page.keyboard.press("Control+z")
    expect(page.locator(".stepped")).to_contain_text("change of the examples")
    expect(page.locator(".work .query img")).to_have_count(2)
    folder = max(server.sessions.glob("s2*"), key=lambda path: path.stat().st_mtime)
    facts, lines = read_session(folder)
    names = {*facts.query.uploads, *(name for line in lines for name in line.uploads)}
    assert {path.stem for path in folder.glob("u-*.npy")} == names
    assert np.load(next(folder.glob("u-*.npy"))).dtype == np.float32


@pytest.mark.timeout(200)
def test_images_are_dropped_and_pasted(server, open_page, truth):
    page = open_page(server.url)
    path = EmbeddingSet.load(server.embeddings).table.path(0)
    given = """([selector, kind, bytes]) => {
        const data = new DataTransfer();
        const pixels = Uint8Array.from(atob(bytes), (one) => one.charCodeAt(0));
        data.items.add(new File([pixels], "mine.jpg", { type: "image/jpeg" }));
        const options = { bubbles: true, cancelable: true };
        const event = kind === "drop" ? new DragEvent("drop", { ...options,
            dataTransfer: data }) : new ClipboardEvent("paste", { ...options,
            clipboardData: data });
        document.querySelector(selector).dispatchEvent(event);
    }"""
    content = base64.b64encode(path.read_bytes()).decode()
    expect(page.locator(".pick")).to_be_visible()
    for kind, selector, count in (("drop", ".pick", 1), ("paste", "body", 2)):
        page.evaluate(given, [selector, kind, content])
        page.get_by_role("button", name="Use the whole image").click()
        images = page.locator(".query img")
        expect(images).to_have_count(count, timeout=90_000)
    page.evaluate(given, [".pick", "drop", content])
    page.keyboard.press("Escape")  # it isn't wanted
    expect(page.locator("#example")).to_be_hidden()
    expect(images).to_have_count(2)


@pytest.mark.timeout(200)
def test_a_list_that_is_taller_than_an_element_can_be(server, open_page, truth):
    """As a million crops on a narrow screen, with the limit set low."""
    page = open_page(server.url)
    page.evaluate(
        "import(new URL('static/grid.js', location.href)).then((module) => "
        "{ module.Grid.TALLEST = 3000; })"
    )
    start(page, wished(truth), "tall")
    grid = page.locator(".work .grid")
    assert grid.evaluate("grid => grid.scrollHeight") == 3000
    rows, columns = (
        int(grid.get_attribute(name)) for name in ("aria-rowcount", "aria-colcount")
    )
    seen = """grid => {
        const box = grid.getBoundingClientRect();
        return [...grid.querySelectorAll(".cell")].filter((cell) => {
            const own = cell.getBoundingClientRect();
            return own.bottom > box.top + 1 && own.top < box.bottom - 1;
        }).map((cell) => Number(cell.dataset.index));
    }"""
    box = grid.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    met, last = set(), -1
    for step in range(400):  # by the wheel one passes every crop
        now = grid.evaluate(seen)
        assert min(now) - last <= 1, (step, last, min(now))
        met |= set(now)
        if max(now) == len(truth) - 2 and last == max(now):
            break
        last = max(now)
        page.mouse.wheel(0, 150)
        page.wait_for_timeout(40 if step % 9 else 450)  # and it comes to rest
    assert met == set(range(len(truth) - 1))
    assert rows * columns >= len(met)
    page.wait_for_timeout(700)
    for share, place in ((0.5, 0.5), (0.0, 0.0), (1.0, 1.0)):  # by the bar
        grid.evaluate(
            "(grid, share) => { grid.scrollTop = "
            "share * (grid.scrollHeight - grid.clientHeight); }",
            share,
        )
        page.wait_for_timeout(700)
        middle = np.mean(grid.evaluate(seen)) / len(met)
        assert abs(middle - place) < 0.08, (share, middle)
    page.locator(f"{CELL}").last.focus()
    page.keyboard.press("Home")
    wait_for(page, lambda: page.evaluate("document.activeElement.dataset.index") == "0")
    page.wait_for_timeout(500)
    assert grid.evaluate(seen)[0] == 0
    page.keyboard.press("End")
    end = str(len(truth) - 2)
    wait_for(page, lambda: page.evaluate("document.activeElement.dataset.index") == end)
    page.wait_for_timeout(500)
    assert max(grid.evaluate(seen)) == len(truth) - 2


def test_more_like_this_from_any_cell(server, open_page, truth):
    page = open_page(server.url)
    start(page, wished(truth), "more")
    settled(page)
    before = ids(page)
    page.locator(CELL).nth(2).focus()
    crop = page.evaluate(FOCUSED)
    page.keyboard.press("m")
    wait_for(page, lambda: ids(page) != before)
    assert server.marks() == {crop: True}
    settled(page)
    other = page.locator(CELL).nth(5)
    name = other.get_attribute("data-crop")
    other.focus()
    page.keyboard.press("l")
    until(lambda: server.marks() == {crop: True, name: False})
    # An example that is one no more: it stays of the class.
    page.get_by_role("button", name="an example").first.click()
    page.get_by_role("button", name="Of the class, but don't look for it").click()
    expect(page.locator(".work .query img")).to_have_count(0)
    until(lambda: server.marks()[wished(truth)] is True)


def test_saved_sessions_come_first_and_can_be_deleted(
    serve, field_set, tmp_path, open_page, truth
):
    server = serve(field_set, tmp_path / "sessions")
    page = open_page(server.url, timezone_id="Asia/Tokyo")
    for number in range(7):
        start(page, wished(truth, number), f"number {number}")
        page.locator("#home").click()
        expect(page.locator(".sessions")).to_contain_text(f"number {number}")
    first = page.locator(".start > *").first
    expect(first).to_have_attribute("aria-label", "Saved sessions")
    entries = page.locator(".sessions li")
    expect(entries).to_have_count(7)
    expect(entries.first).to_contain_text("collected")
    time = entries.first.locator("time")
    local = page.evaluate(
        "text => new Date(text.slice(0, 19) + 'Z').toLocaleString([], "
        "{ dateStyle: 'medium', timeStyle: 'short' })",
        time.get_attribute("datetime"),
    )
    expect(time).to_have_text(local)
    page.get_by_label("search the sessions").fill("number 3")
    expect(entries).to_have_count(1)
    entries.get_by_role("button", name="Delete").click()
    expect(page.locator(".sessions")).not_to_contain_text("number 3")
    expect(page.get_by_role("status").filter(has_text="is deleted")).to_be_visible()
    kept = list((server.sessions / "deleted").iterdir())
    assert len(kept) == 1
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".sessions")).to_contain_text("number 3")
    assert not list((server.sessions / "deleted").iterdir())
