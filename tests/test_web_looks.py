"""How the page looks and is handled: every screen by axe, by keyboard, at 400 %, on a
phone, on a slow network; the map and the facets beside the grid.
"""

import io
import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from matplotlib.path import Path as Polygon
from PIL import Image
from playwright.sync_api import expect

from data.embeddings import EmbeddingSet
from tests.page_driver import (
    ROOT,
    choose,
    drag,
    draw_sample,
    limit,
    mark_by_keys,
    open_side,
    picture,
    saved,
    settled,
    start,
    until,
    wait_for,
    wished,
)

CELL = ".work .cell"
STATIC = ROOT / "web" / "static"


def pressed(page, name):
    return page.get_by_role("button", name=name, exact=True)


def open_map(page):
    open_side(page, "Map")
    # Laid out in the background, at the lowest priority; as soon as it is there.
    page.wait_for_selector(".plane[data-drawn]", timeout=150_000)


@pytest.fixture(scope="module")
def places(server):
    """The layout, as the server keeps it with the embeddings once it is made."""
    embeddings = EmbeddingSet.load(server.embeddings)
    with server.client() as client:
        until(lambda: client.get("/api/map").status_code == 200, 150)
    with np.load(server.embeddings / ".derived.npz") as stored:
        (name,) = (name for name in stored.files if "layout" in name)
        found = stored[name]
    assert found.shape == (len(embeddings.table), 2)
    return found


# axe


def check(page, where):
    """Nothing that axe finds, in light and dark."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.wait_for_timeout(100)
        found = Axe().run(page).response["violations"]
        told = [
            (one["id"], [node["html"][:160] for node in one["nodes"]][:3])
            for one in found
        ]
        assert not told, (where, scheme, told)
    page.emulate_media(color_scheme=None)


@pytest.mark.timeout(300)
def test_axe_finds_nothing_on_any_screen(server, open_page, truth):
    page = open_page(server.url, 1440, 900)
    settled(page)
    check(page, "start")
    open_side(page, "Filter")
    page.locator(".facets summary").nth(3).click()
    open_map(page)
    page.locator(".pick .cell").first.click()
    check(page, "start, with facets, map and an example")
    for tab in ("Split a class", "How often does a model fail?"):
        page.get_by_role("tab", name=tab).click()
        check(page, tab)
    page.get_by_role("tab", name="Split a class").click()
    page.get_by_role("button", name="Propose groups").click()
    expect(page.locator(".cluster").first).to_be_visible()
    check(page, "groups")
    page.get_by_role("tab", name="Collect more like it").click()
    pressed(page, "Help and keys (?)").click()
    check(page, "help")
    page.keyboard.press("Escape")
    start(page, wished(truth, 4), "axe")
    check(page, "a session")
    mark_by_keys(page, truth, 14)
    page.get_by_role("button", name="Show the new order (R)").click()
    settled(page)
    open_map(page)
    for kind in ("score", "mark", "recording", "density"):
        page.get_by_label("colour by").select_option(kind)
        check(page, f"a session with its map by {kind}")
    page.locator(CELL).first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#crop .photo")).to_be_visible()
    check(page, "a picture in its photo")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Export …").click()
    check(page, "export")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Another example").click()
    check(page, "another example")
    page.keyboard.press("Escape")
    page.get_by_label("size of the random sample").fill("10")
    draw_sample(page)
    mark_by_keys(page, truth, 10)
    expect(page.locator("#estimate .big")).to_contain_text("to")
    page.locator("#estimate summary").click()
    check(page, "a sample that is answered")
    page.locator("#home").click()
    expect(page.locator(".sessions li").first).to_be_visible()
    check(page, "saved sessions")
    page.set_viewport_size({"width": 390, "height": 844})
    check(page, "a phone")
    page.goto(f"{server.origin}/#no-such-session")
    expect(page.locator("#main")).to_contain_text("There is no such session here")
    check(page, "an address of nothing")
    expected = [text for text in open_page.problems if "404" not in text]
    open_page.problems[:] = expected


@pytest.mark.timeout(200)
def test_axe_finds_nothing_where_there_are_several_classes(server, open_page, truth):
    page = open_page(server.url, 1280, 800)
    settled(page)
    for place, name in enumerate(("one", "other")):
        page.locator(".pick .cell").nth(place).click()
        page.get_by_label("name of the new class").fill(name)
        page.get_by_role("button", name="Add as one of several classes").click()
    check(page, "two classes before the start")
    page.get_by_role("button", name="Start with these classes").click()
    expect(page.locator(".classes button").first).to_be_visible()
    settled(page)
    page.locator(CELL).first.focus()
    for key in "1212":
        page.keyboard.press(key)
        page.wait_for_timeout(100)
    check(page, "two classes")
    page.get_by_role("button", name="Matrix").click()
    check(page, "matrix")


# Facets


@pytest.mark.timeout(200)
def test_facets_take_several_values_and_ranges(server, open_page, truth):
    page = open_page(server.url, 1440, 900)
    table = EmbeddingSet.load(server.embeddings).table
    labels = table.column("label_name")
    names, counts = np.unique(labels[labels != ""], return_counts=True)
    two = names[np.argsort(-counts, kind="stable")][:2].tolist()
    settled(page)
    for name in two:
        choose(page, "class", name)
        settled(page)
    total = int(np.isin(labels, two).sum())
    chips = page.locator(".chips")
    expect(chips).to_contain_text(f"class: {' or '.join(two)}")
    expect(chips).to_contain_text(f"{total} of {len(table)} pictures")
    # The others still show how many they would add.
    other = page.locator(".facets label", has_text=re.compile(".")).nth(2)
    assert int(other.locator(".count").text_content()) > 0
    facet = page.locator(".facets details", has_text="true leaves")
    facet.locator("summary").click()
    low, high = facet.locator("input").all()
    low.fill("2")
    high.fill("4")
    high.press("Enter")
    leaves = np.asarray(table.column("true_leaves"), float)
    both = np.isin(labels, two) & (leaves >= 2) & (leaves <= 4)
    expect(chips).to_contain_text(f"{both.sum()} of {len(table)} pictures")
    expect(chips).to_contain_text("true leaves 2 to 4")
    # A drag over the bars chooses a range, too.
    box = None
    while box is None:  # it is drawn anew with every count
        box = facet.locator("svg").bounding_box()
    drag(page, [(box["x"] + x * box["width"], box["y"] + 10) for x in (0.5, 1)])
    expect(chips).not_to_contain_text("true leaves 2 to 4")
    chips.get_by_role("button", name="Clear").click()
    expect(chips).to_be_empty()
    search = page.locator(".facets").get_by_label("search class")
    search.fill(two[1].upper()[2:])
    found = page.locator(
        ".facets details", has=page.get_by_label("search class")
    ).locator("label")
    expect(found.first).to_contain_text(two[1])
    picture(page, "page_facets.jpg")


# The map


@pytest.mark.timeout(300)
def test_a_lasso_selects_into_the_grid(server, open_page, truth, places):
    page = open_page(server.url, 1440, 900)
    start(page, wished(truth), "on the map")
    pressed(page, "Filter").click()
    open_map(page)
    table = EmbeddingSet.load(server.embeddings).table
    box = page.locator(".plane").bounding_box()
    # The plane as it is first shown: all of it, square, in the middle.
    side = min(box["width"], box["height"]) - 28
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    screen = np.array(middle) + (places - 0.5) * side
    low, high = np.quantile(screen, [0.2, 0.8], axis=0)
    corners = [low, (high[0], low[1]), high, (low[0], high[1]), low + 3]
    drag(page, corners)
    expect(page.get_by_role("button", name="selected on the map")).to_be_visible()
    caught = Polygon([*corners, corners[0]]).contains_points(screen)
    near_the_line = Polygon([*corners, corners[0]]).contains_points(screen, radius=2)
    near_the_line ^= Polygon([*corners, corners[0]]).contains_points(screen, radius=-2)
    total = int(re.search(r"(\d+) of", page.locator(".chips").text_content())[1])
    query = table.ids.tolist().index(wished(truth))
    expected = caught.sum() - caught[query]
    assert abs(total - expected) <= near_the_line.sum()
    settled(page)
    shown = page.locator(CELL).evaluate_all("all => all.map((one) => one.dataset.crop)")
    allowed = set(table.ids[caught | near_the_line])
    assert set(shown) <= allowed
    picture(page, "page_map.jpg")
    # The picture in focus is ringed on the map.
    page.locator(CELL).first.focus()
    row = table.ids.tolist().index(shown[0])
    ring = page.locator(".cross.point").get_attribute("transform")
    at = np.array([float(part) for part in re.findall(r"[\d.]+", ring)])
    corner = np.array([box["x"], box["y"]])
    assert np.abs(at + corner - screen[row]).max() < 2
    # What is marked in the grid shows on the map.
    page.get_by_label("colour by").select_option("mark")
    drawn = int(page.locator(".plane").get_attribute("data-drawn"))
    page.locator(CELL).first.focus()
    page.keyboard.press("y")
    saved(page)
    wait_for(
        page,
        lambda: int(page.locator(".plane").get_attribute("data-drawn")) > drawn,
    )
    page.get_by_role("button", name="selected on the map").click()
    expect(page.locator(".chips")).to_be_empty()


@pytest.mark.timeout(300)
def test_the_map_shows_what_is_pointed_at_zooms_and_goes_by_keys(
    server, open_page, truth, places
):
    page = open_page(server.url, 1440, 900)
    settled(page)
    open_map(page)
    table = EmbeddingSet.load(server.embeddings).table
    box = page.locator(".plane").bounding_box()
    side = min(box["width"], box["height"]) - 28
    middle = np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
    gaps = ((places[:, None] - places[None]) ** 2).sum(axis=2)
    np.fill_diagonal(gaps, np.inf)
    alone = int(gaps.min(axis=1).argmax())  # the point farthest from its neighbors
    page.mouse.move(*(middle + (places[alone] - 0.5) * side))
    peek = page.locator(".peek")
    expect(peek).to_have_attribute("data-crop", str(table.ids[alone]))
    expect(peek).to_contain_text(str(table.column("label_name")[alone]))
    page.mouse.wheel(0, -800)
    page.wait_for_timeout(300)
    page.mouse.move(*(middle + (places[alone] - 0.5) * side + 1))
    expect(peek).to_have_attribute("data-crop", str(table.ids[alone]))  # it stayed
    page.get_by_role("button", name="All of it").click()
    # Density: the fullest place has the color of many, a lonely point that of few.
    page.get_by_label("colour by").select_option("density")
    page.mouse.move(1, 1)
    page.wait_for_timeout(500)
    shot = Image.open(io.BytesIO(page.locator(".plane").screenshot())).convert("RGB")
    pixels = np.asarray(shot).astype(int)
    own = [box["width"] / 2, box["height"] / 2] + (places - 0.5) * side
    around = np.exp(-((own[:, None] - own[None]) ** 2).sum(axis=2) / 50).sum(axis=1)

    def color_at(row):
        x, y = own[row].round().astype(int)
        return pixels[y, x]

    many, few = np.array([240, 200, 20]), np.array([59, 82, 139])
    assert np.abs(color_at(around.argmax()) - many).max() < 60
    lonely = color_at(around.argmin())
    assert np.abs(lonely - many).max() > 100
    assert np.abs(lonely - few).max() < 90
    page.get_by_label("colour by").select_option("label")
    # A class alone: the others are faint, and it can be taken back.
    legend = page.locator(".legend button").first
    legend.click()
    expect(page.locator(".legend button").first).to_have_attribute(
        "aria-pressed", "true"
    )
    page.locator(".legend button").first.click()
    # By keys: the cross goes to a place, Enter picks the point there.
    page.locator(".plane").focus()
    page.keyboard.press("+")
    for step in range(40):
        page.keyboard.press("ArrowRight" if step % 4 else "ArrowDown")
        page.wait_for_timeout(250)
        if peek.is_visible():
            break
    expect(peek).to_be_visible()
    picked = peek.get_attribute("data-crop")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="selected on the map")).to_be_visible()
    expect(page.locator(".pick .cell")).to_have_count(1)
    expect(page.locator(".pick .cell")).to_have_attribute("data-crop", picked)
    page.get_by_role("button", name="Take these 1 as examples").click()
    expect(page.locator(".tray .query img")).to_have_count(1)
    assert page.locator(".peek").evaluate("one => one.isConnected")


# Keys


@pytest.mark.timeout(200)
def test_arrow_keys_in_toolbars_and_tabs_and_letters_anywhere(server, open_page, truth):
    page = open_page(server.url, 1440, 900)
    settled(page)
    page.get_by_role("tab", name="Collect more like it").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Split a class")).to_be_focused()
    page.keyboard.press("End")
    expect(page.get_by_role("tab", name="How often")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Collect more like it")).to_be_focused()
    start(page, wished(truth, 1), "keys anywhere")
    pressed(page, "Best").focus()
    page.keyboard.press("ArrowRight")
    expect(pressed(page, "Ask me")).to_be_focused()
    # A toolbar is one stop for Tab.
    tab_stops = page.locator(".work .bar").evaluate(
        "bar => [...bar.querySelectorAll('button, select, input')]"
        ".filter((one) => one.tabIndex === 0).length"
    )
    assert tab_stops == 1
    # By the arrows one comes to a list of choices and out of it again.
    pressed(page, "Random sample").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("which pictures")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(pressed(page, "Filter")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(pressed(page, "Random sample")).to_be_focused()
    assert page.get_by_label("which pictures").input_value() == ""
    # A letter marks the picture that is the current one, wherever the focus is.
    pressed(page, "Best").focus()
    page.keyboard.press("y")
    first = page.locator(f'{CELL}[data-index="0"]')
    expect(first).to_have_class(re.compile("yes"))
    saved(page)
    assert len(server.marks()) == 1
    # Not one that isn't in sight: it is brought there.
    grid = page.locator(".work .grid")
    grid.evaluate("grid => { grid.scrollTop = 2000; }")
    page.wait_for_timeout(300)
    pressed(page, "Best").focus()
    page.keyboard.press("n")
    expect(page.locator("#announce")).to_contain_text("wasn't in sight")
    expect(page.locator(f'{CELL}[data-index="1"]')).to_be_focused()
    assert len(server.marks()) == 1
    # And nothing is marked by what is written.
    open_side(page, "Filter")
    page.locator(".facets").get_by_label("search class").fill("")
    page.keyboard.type("yn")
    page.wait_for_timeout(300)
    assert len(server.marks()) == 1


# Sizes


def wider_than(page):
    return page.evaluate(
        "[document.documentElement.scrollWidth - innerWidth,"
        " ...[...document.querySelectorAll('main *, header *')]"
        ".filter((one) => one.checkVisibility() && !one.closest('.sessions'))"
        ".map((one) => one.getBoundingClientRect().right - innerWidth)]"
    )


@pytest.mark.timeout(200)
def test_magnified_to_400_percent_all_can_be_reached(server, open_page, truth):
    """1280 x 1024 at 400 %: 320 x 256 pixels of the page's own."""
    page = open_page(server.url, 320, 256)
    settled(page)
    assert max(wider_than(page)) <= 1
    start(page, wished(truth, 2), "magnified")
    assert max(wider_than(page)) <= 1
    mark_by_keys(page, truth, 3)
    for name in ("Ask me", "Map", "Draw a random sample", "Export …"):
        button = pressed(page, name)
        if not button.is_visible():
            page.get_by_text("Results").click()
        button.scroll_into_view_if_needed()
        box = button.bounding_box()
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= 320, name
    pressed(page, "Export …").click()
    dialog = page.locator("#export")
    assert dialog.evaluate("one => one.scrollWidth <= one.clientWidth + 1")
    expect(dialog.get_by_role("button", name="Write the files")).to_be_enabled()


def whole_rows(page, bottom=None):
    """Rows of pictures that are wholly on the screen."""
    return page.evaluate(
        """(bottom) => {
            const grid = document.querySelector(".grid").getBoundingClientRect();
            const end = Math.min(grid.bottom, bottom ?? innerHeight);
            return new Set([...document.querySelectorAll(".cell .picture > img")]
                .map((one) => one.getBoundingClientRect())
                .filter((one) => one.top >= grid.top - 1 && one.bottom <= end + 1)
                .map((one) => Math.round(one.top))).size;
        }""",
        bottom,
    )


@pytest.mark.timeout(200)
def test_on_a_phone_two_rows_show_at_the_start(server, open_page, truth):
    page = open_page(server.url, 390, 844, has_touch=True, is_mobile=True)
    settled(page)
    expect(page.locator(".pick .cell img").first).to_be_visible()
    tray = page.locator(".tray").bounding_box()
    assert whole_rows(page, tray["y"]) >= 2
    assert max(wider_than(page)) <= 1
    assert page.get_by_role("tab").evaluate_all(
        "all => all.every((one) => one.getBoundingClientRect().right <= innerWidth)"
    )
    picture(page, "page_390_start.jpg")
    start(page, wished(truth, 3), "two rows")
    page.get_by_role("button", name="No name").click()
    assert whole_rows(page) >= 2
    assert max(wider_than(page)) <= 1
    # Buttons never lie over the picture, and there is no hint for a keyboard.
    boxes = page.locator(f'{CELL}[data-index="0"]').evaluate(
        "cell => [cell.querySelector('img'), cell.querySelector('.thumbs')]"
        ".map((one) => one.getBoundingClientRect()).map(({ top, bottom }) => "
        "[top, bottom])"
    )
    assert boxes[1][0] >= boxes[0][1] - 1
    expect(page.locator(".keys")).to_have_count(0)
    picture(page, "page_390.jpg")


@pytest.mark.timeout(200)
def test_pictures_fill_the_line_and_nothing_moves_when_one_is_picked(
    server, open_page, truth
):
    page = open_page(server.url, 1440, 900)
    for width in (1440, 1280, 1024, 700):
        page.set_viewport_size({"width": width, "height": 900})
        settled(page)
        page.wait_for_timeout(200)
        left = page.locator(".pick .grid").evaluate(
            "grid => grid.getBoundingClientRect().left + grid.clientWidth - "
            "Math.max(...[...grid.querySelectorAll('.cell')]"
            ".map((one) => one.getBoundingClientRect().right))"
        )
        assert 0 <= left < 8 + 16, width  # the edge, and a pixel a column
    page.set_viewport_size({"width": 1440, "height": 900})
    settled(page)
    page.wait_for_timeout(200)

    def where():
        return page.locator(".grid, .tray, .tabs").evaluate_all(
            "all => all.map((one) => JSON.stringify(one.getBoundingClientRect()))"
        )

    before = where()
    page.locator(".pick .cell").nth(2).click()
    expect(page.locator(".tray .query img")).to_have_count(1)
    assert where() == before
    page.locator(".pick .cell").nth(3).click()
    expect(page.locator(".tray")).to_contain_text("2 examples")
    assert where() == before


# Slow networks


@pytest.mark.timeout(200)
def test_a_slow_network_shows_a_sign_at_once_and_takes_marks_in_batches(
    server, open_page, truth
):
    page = open_page(server.url, 1280, 800)
    start(page, wished(truth, 5), "slow")
    held = []
    page.route("**/mark*", lambda route: held.append(route))
    page.locator(CELL).first.focus()
    for key in "ynynyn":
        page.keyboard.press(key)
    expect(page.locator(f"{CELL}.yes, {CELL}.no")).to_have_count(6)  # at once
    wait_for(page, lambda: len(held) == 1)
    assert "batch" not in held[0].request.post_data_json
    held.pop().continue_()
    wait_for(page, lambda: len(held) == 1)
    assert len(held[0].request.post_data_json["batch"]) == 5
    held.pop().continue_()
    saved(page)
    assert len(server.marks()) == 6
    page.unroute("**/mark*")
    # Another list: a sign within 100 ms, though it takes seconds to come.
    page.route("**/crops?*", lambda route: held.append(route))
    seen = page.evaluate(
        """() => {
            const button = document.querySelector('[data-sort="worst"]');
            button.click();
            return new Promise((resolve) => setTimeout(() => resolve([
                button.getAttribute("aria-pressed"),
                document.querySelector(".grid").getAttribute("aria-busy"),
            ]), 100));
        }"""
    )
    assert seen == ["true", "true"]
    held.pop().continue_()
    settled(page)


def test_each_of_a_batch_is_answered_by_itself(server, truth):
    crops = list(truth)
    with server.client() as client:
        body = {"name": "batch", "use": "collect", "crops": crops[:1]}
        session = client.post("/api/sessions", json=body).json()["session"]
        path = f"/api/sessions/{session}/mark"

        def action(number, crop, answer=True):
            told = {"by": "me", "action": f"a{number}", "sort": "best", "ranking": 0}
            return {"marks": {crop: answer}, **told}

        batch = [action(1, crops[1]), action(2, "no crop"), action(3, crops[2], False)]
        batch.append({"marks": "nonsense"})
        found = client.post(path, json={"batch": batch}).json()["answers"]
        assert [one.get("line") for one in found] == [1, None, 2, None]
        assert [one.get("status") for one in found] == [None, 400, None, 400]
        assert "no crop" in found[1]["error"]
        # Sent again after a broken connection: nothing is written twice.
        again = client.post(path, json={"batch": batch[:1] + batch[2:3]}).json()
        assert [one["line"] for one in again["answers"]] == [1, 2]
        state = client.get(f"/api/sessions/{session}").json()
        assert (state["lines"], state["relevant"], state["not_relevant"]) == (2, 1, 1)
        for wrong in ([], "x", [1], [batch[0]] * 101):
            assert client.post(path, json={"batch": wrong}).status_code == 400


# Words


def test_what_the_page_says_stands_in_one_module():
    """Words in a text outside of it would never be translated."""
    texts = re.compile(r'"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`')
    words = re.compile(r"[A-Z][a-z]+ [a-z]+ |[a-z]{3,} [a-z]{2,} [a-z]{2,}")
    code = re.compile(r"\$\{[^}]*\}|SELECT|linear-gradient")
    found = []
    for path in STATIC.glob("*.js"):
        if path.name in ("text.js", "enter.js"):
            continue
        for line in path.read_text().splitlines():
            if line.lstrip().startswith(("//", "*", "/*")):
                continue
            for text in texts.findall(line.split(" // ")[0]):
                bare = code.sub("", text)
                if words.search(bare) and "class:" not in line:
                    found.append((path.name, text))
    assert not found


@pytest.mark.timeout(300)
def test_the_page_at_four_sizes(server, open_page, truth):
    """Pictures for docs/page.md, and what must hold at any size."""
    sizes = ((1920, 1080), (1440, 900), (1024, 768), (390, 844))
    page = open_page(server.url, *sizes[0])
    settled(page)
    start(page, wished(truth, 6), "beets with 4 to 6 leaves")
    pressed(page, "Filter").click()
    page.get_by_role("button", name="No name").click()
    page.get_by_role("button", name="Got it").click()
    mark_by_keys(page, truth, 16)
    page.get_by_role("button", name="Show the new order (R)").click()
    settled(page)
    open_map(page)
    page.get_by_label("colour by").select_option("score")
    for width, height in sizes:
        page.set_viewport_size({"width": width, "height": height})
        if width == 390:
            pressed(page, "Map").click()
            pressed(page, "Filter").click()
        settled(page)
        page.wait_for_timeout(300)
        assert max(wider_than(page)) <= 1, width
        assert whole_rows(page) >= (1 if width == 1024 else 2), width
        if width > 390:  # with its buttons that one is made above
            picture(page, f"page_{width}.jpg")


@pytest.mark.timeout(300)
def test_what_a_first_visitor_stumbled_over(server, open_page, truth, places):
    """Found by people who had never seen the page."""
    page = open_page(server.url, 1440, 900)
    settled(page)
    # The key that opens the help isn't written into the field for one's name.
    page.keyboard.press("?")
    expect(page.locator("#help").get_by_role("button")).to_be_focused()
    page.keyboard.press("Escape")
    assert page.evaluate("localStorage.getItem('person')") is None
    # A lasso stays over a reload.
    start(page, wished(truth, 7), "stumbled")
    pressed(page, "Filter").click()
    open_map(page)
    box = page.locator(".plane").bounding_box()
    corners = [(0.1, 0.1), (0.9, 0.1), (0.9, 0.5), (0.1, 0.5), (0.1, 0.12)]
    size, corner = (box["width"], box["height"]), (box["x"], box["y"])
    drag(page, (np.array(corners) * size + corner).tolist())
    chip = page.get_by_role("button", name="selected on the map")
    expect(chip).to_be_visible()
    told = page.locator(".chips").text_content()
    page.wait_for_url(re.compile("among="))
    page.reload()
    expect(chip).to_be_visible()
    expect(page.locator(".chips")).to_have_text(told)
    # A sample is of all pictures: what limits the list doesn't show as if it counted.
    page.get_by_label("size of the random sample").fill("10")
    draw_sample(page)
    expect(page.locator(".chips")).to_contain_text("of all pictures")
    expect(chip).to_have_count(0)
    pressed(page, "Best").click()
    expect(chip).to_be_visible()
    # The message of a refused condition goes with the next one.
    limit(page, "nonsense")
    expect(page.locator("#error")).to_be_visible()
    page.get_by_label("condition in SQL").fill("true_leaves > 2")
    page.keyboard.press("Enter")
    expect(page.locator("#error")).to_be_hidden()
    # Around nothing: it says so.
    open_map(page)
    plane = page.locator(".plane").bounding_box()
    corners = ((3, 3), (9, 3), (9, 9), (3, 9), (3, 4))
    drag(page, [(plane["x"] + x, plane["y"] + y) for x, y in corners])
    expect(page.locator(".map .status")).to_have_text("nothing there")
    # On a phone there is room for the filter or the map.
    page.set_viewport_size({"width": 390, "height": 844})
    pressed(page, "Map").click()
    pressed(page, "Map").click()
    expect(page.locator(".facets")).to_be_hidden()
    expect(page.locator(".plane")).to_be_visible()
    open_page.problems[:] = [
        text for text in open_page.problems if "400" not in text
    ]  # the condition that isn't SQL
