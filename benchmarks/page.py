"""The page at scale: how long until the first crops are seen, how long a scroll stays
blank, how soon a mark is on the disk; and the map: its first points, what moves hold
up, and a lasso.

    python -m benchmarks.page --crops=100000 --width=1280

Renders part of the sample field, cuts it into many random boxes, gives them random
vectors (synthetic), serves them and drives the page in Chromium. Needs
requirements-dev.txt and a Chromium (its path in CHROMIUM, or on PATH). Everything lies
in --dir.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from artifacts.progress import progress_bar
from benchmarks.memory import memory
from data.crop_table import CropTable
from data.embedding_writer import EmbeddingWriter
from data.embeddings import EmbeddingSet
from data.images import read_size
from data.sample_field import draw_field

FLAGS = flags.FLAGS
flags.DEFINE_integer("crops", 100_000, "Crops in the pool.", lower_bound=1000)
flags.DEFINE_integer("width", 1280, "Dimensions of the embeddings.", lower_bound=2)
flags.DEFINE_integer(
    "images",
    120,
    "Photos that the crops are cut from, 1920 x 1088 pixels each.",
    lower_bound=2,
)
flags.DEFINE_integer(
    "steps", 30, "Screens to scroll, and marks to make.", lower_bound=5
)
flags.DEFINE_string(
    "dir", "runs/page", "Where photos and embeddings go; kept for another call."
)
flags.DEFINE_integer("seed", 0, "Of boxes and vectors.")

CLASSES = 12
_LOADED = (
    "() => { const box = document.querySelector('.grid').getBoundingClientRect();"
    " const cells = [...document.querySelectorAll('.cell')].filter((cell) => { const "
    "at = cell.getBoundingClientRect();"
    " return at.bottom > box.top && at.top < box.bottom; });"
    " const there = (img) => !img || (img.complete && img.naturalWidth > 0);"
    " return cells.length > 0 && cells.every((cell) => "
    "there(cell.querySelector('img'))); }"
)


def make_set(folder: Path) -> EmbeddingSet:
    """Random boxes on the sample field's photos, with vectors of a dozen classes."""
    target = folder / f"embeddings-{FLAGS.crops}-{FLAGS.width}"
    if target.exists():
        return EmbeddingSet.load(target)
    root = draw_field(folder / "field", FLAGS.images)
    images = sorted(
        path.relative_to(root).as_posix() for path in (root / "images").iterdir()
    )
    width, height = read_size(root / images[0])
    rng = np.random.default_rng(FLAGS.seed)
    count = FLAGS.crops
    sides = rng.integers(40, 200, count)
    left, top = (
        (rng.random(count) * (width - sides)).astype(int),
        (rng.random(count) * (height - sides)).astype(int),
    )
    label = rng.integers(0, CLASSES, count)
    columns: dict[str, Any] = {
        "image": [images[number] for number in rng.integers(0, len(images), count)]
    }
    columns |= {
        "left": left,
        "top": top,
        "right": left + sides,
        "bottom": top + sides,
        "label": label,
    }
    columns |= {
        "label_name": [f"class {number:02d}" for number in label],
        "session": [""] * count,
        "split": [""] * count,
    }
    table = CropTable.from_columns(
        root, {name: list(values) for name, values in columns.items()}
    )
    centres = rng.normal(size=(CLASSES, FLAGS.width)).astype(np.float32)
    identity = {"encoder_hash": "synthetic", "endpoint": "synthetic", "image_size": 96}
    writer = EmbeddingWriter(target, table, FLAGS.width, identity, 8192)
    for start in progress_bar(range(0, len(table), 8192), unit="part", desc="vectors"):
        part = table.column("label")[start : start + 8192]
        noise = rng.normal(0, 2.5, (len(part), FLAGS.width))
        writer.append(
            (centres[part] + noise).astype(np.float32), np.ones(len(part), bool)
        )
    return writer.finish({"encoder": "synthetic", "weights": "random"})


def wait_loaded(page: Any) -> float:
    """Seconds until every picture on the screen is there."""
    started = time.perf_counter()
    while not page.evaluate(_LOADED):
        if time.perf_counter() - started > 30:
            raise SystemExit("benchmarks.page: the pictures didn't come within 30 s")
        time.sleep(0.005)
    return time.perf_counter() - started


def show(name: str, seconds: list[float]) -> None:
    """Prints a row."""
    middle, most = np.median(seconds), max(seconds)
    print(
        f"{name:66s} {1000 * middle:8.1f} "
        f"{1000 * float(np.quantile(seconds, 0.95)):8.1f} {1000 * most:8.1f}"
    )


def main(argv: list[str]) -> None:
    """What the command line does."""
    from playwright.sync_api import sync_playwright

    del argv
    folder = Path(FLAGS.dir)
    folder.mkdir(parents=True, exist_ok=True)
    embeddings = make_set(folder)
    chromium = (
        os.environ.get("CHROMIUM")
        or shutil.which("chromium")
        or shutil.which("google-chrome")
    )
    if not chromium:
        raise SystemExit(
            "benchmarks.page: Chromium must be on PATH, or its path in CHROMIUM"
        )
    sessions = folder / "sessions"
    shutil.rmtree(
        sessions, ignore_errors=True
    )  # of an earlier measurement: the cache must be cold
    command = [
        sys.executable,
        "run_page.py",
        f"--embeddings={embeddings.folder}",
        f"--sessions={sessions}",
        '--config={"browser": false}',
    ]
    started = time.perf_counter()
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = next(
            found[0]
            for line in server.stdout
            if (found := re.search(r"http://\S+token=\S+", line))
        )
        ready = time.perf_counter() - started
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            measure(page, url, server.pid, ready, len(embeddings.table))
            browser.close()
    finally:
        server.terminate()
        server.wait()


_PINGS = """() => {
    const channel = new MessageChannel();
    window.gaps = [];
    let last = performance.now();
    channel.port1.onmessage = () => {
        const now = performance.now();
        window.gaps.push(now - last);
        last = now;
        if (window.gaps.length < 1e6 && !window.stopped) channel.port2.postMessage(0);
    };
    channel.port2.postMessage(0);
}"""


_HANDLED = """async ([x, y, steps]) => {
    const plane = document.querySelector(".plane");
    const taken = [];
    const send = (kind, step, buttons) => {
        const [clientX, clientY] = [x + (step % 40), y + (step % 30)];
        const at = { clientX, clientY, buttons, pointerId: 1, bubbles: true };
        const started = performance.now();
        plane.dispatchEvent(new PointerEvent(kind, at));
        taken.push(performance.now() - started);
    };
    plane.setPointerCapture = () => {};
    for (const buttons of [0, 1]) {
        if (buttons) send("pointerdown", 0, 1);
        for (let step = 0; step < steps; step++) {
            send("pointermove", step, buttons);
            await new Promise((resolve) => setTimeout(resolve, 8));
        }
    }
    send("pointerup", steps, 0);
    delete plane.setPointerCapture;
    return taken;
}"""


@dataclass(frozen=True)
class Mapped:
    """What the map took.

    Attributes:
        laid_out: seconds waited for its layout after all else was measured.
        frames: pictures a second while it is moved.
        times: what -> seconds.
    """

    laid_out: float
    frames: float
    times: dict[str, list[float]]


def measure_map(page: Any) -> Mapped:
    """Opens the map, moves it, points at it, and draws a lasso."""
    started = time.perf_counter()
    laid_out = "async () => (await fetch('api/map')).status === 200"
    while not page.evaluate(laid_out):
        pass
    waited = time.perf_counter() - started
    started = time.perf_counter()
    page.get_by_role("button", name="Map", exact=True).click()
    page.wait_for_selector(".plane[data-drawn]", timeout=60_000)
    first = time.perf_counter() - started
    page.wait_for_timeout(2000)
    box = page.locator(".plane").bounding_box()
    at = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*at)
    page.get_by_role("button", name="Move", exact=True).click()
    page.evaluate(_PINGS)
    drawn = int(page.locator(".plane").get_attribute("data-drawn"))
    started = time.perf_counter()
    page.mouse.move(*at)
    page.mouse.wheel(0, -300)
    page.mouse.down()
    for step in range(4 * FLAGS.steps):
        page.mouse.move(at[0] + step % 40 - 20, at[1] + step % 30 - 15)
    page.mouse.up()
    for step in range(FLAGS.steps):  # pointing, too
        page.mouse.move(at[0] + 3 * step, at[1] - 2 * step)
    page.wait_for_timeout(500)
    passed = time.perf_counter() - started - 0.5
    shown = int(page.locator(".plane").get_attribute("data-drawn")) - drawn
    gaps = page.evaluate("() => { window.stopped = true; return window.gaps; }")
    handled = page.evaluate(_HANDLED, [*at, FLAGS.steps * 4])
    page.get_by_role("button", name="Select", exact=True).click()
    page.mouse.move(at[0] - 80, at[1] - 80)
    page.mouse.down()
    for left, top in ((80, -80), (80, 80), (-80, 80), (-80, -70)):
        page.mouse.move(at[0] + left, at[1] + top, steps=4)
    started = time.perf_counter()
    page.mouse.up()
    page.get_by_role("button", name="selected on the map").wait_for()
    wait_loaded(page)
    caught = time.perf_counter() - started
    return Mapped(
        waited,
        shown / passed,
        {
            "map, from the click to its first points": [first],
            "map, what a move of the pointer holds the page's thread up": [
                one / 1000 for one in handled
            ],
            "map, any task of that thread meanwhile, those of others included": [
                gap / 1000 for gap in gaps
            ],
            "map, from a lasso to its pictures in the grid": [caught],
        },
    )


def measure(page: Any, url: str, process: int, ready: float, crops: int) -> None:
    """Drives the page and prints the table."""
    started = time.perf_counter()
    page.goto(url)
    page.wait_for_selector(".pick .cell")
    wait_loaded(page)
    first = time.perf_counter() - started
    time.sleep(3)  # as long as it takes to find an example, at least
    page.locator(".pick .cell").first.click()
    page.get_by_label("name of the new class").fill("measured")
    started = time.perf_counter()
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_selector(".work .cell")
    wait_loaded(page)
    ranked = time.perf_counter() - started
    session = page.url.split("#")[1].partition("?")[0]
    screen = page.evaluate("document.querySelector('.grid').clientHeight")
    page.mouse.move(400, 400)
    blank = []
    for _ in range(FLAGS.steps):
        page.mouse.wheel(0, screen)
        blank.append(wait_loaded(page))
        time.sleep(0.3)  # as long as one looks at least
    jumps = []
    for step in range(FLAGS.steps):
        place = (step * 37 % 100) / 100
        page.evaluate(
            "() => { const grid = document.querySelector('.grid'); grid.scrollTop = "
            f"grid.scrollHeight * {place}; }}"
        )
        jumps.append(wait_loaded(page))
    acknowledged = page.evaluate(
        """async ([session, steps]) => {
            const base = `/api/sessions/${session}`;
            const part = `${base}/crops?ranking=0&count=${steps + 1}`;
            const found = await (await fetch(part)).json();
            const taken = [];
            for (const [place, crop] of found.crops.entries()) {
                const marks = { [crop.id]: place % 2 === 0 };
                const action = { by: "m", action: `m${place}` };
                const body = { marks, ...action, ranking: 0, sort: "best" };
                const started = performance.now();
                const headers = { "content-type": "application/json" };
                const sent = { method: "POST", headers, body: JSON.stringify(body) };
                await fetch(`${base}/mark`, sent);
                taken.push((performance.now() - started) / 1000);
                await new Promise((resolve) => setTimeout(resolve, 100));
            }
            return taken;
        }""",
        [session, FLAGS.steps],
    )
    learned = page.evaluate(
        """async (session) => {
            const taken = [];
            for (let turn = 0; turn < 5; turn++) {
                const started = performance.now();
                const headers = { "content-type": "application/json" };
                const path = `/api/sessions/${session}/${turn % 2 ? "redo" : "undo"}`;
                const body = JSON.stringify({ by: "m", action: `u${turn}` });
                await fetch(path, { method: "POST", headers, body });
                for (;;) {
                    const asked = `/api/sessions/${session}?by=m&ranking=0`;
                    const state = await (await fetch(asked)).json();
                    if (!state.learning) break;
                }
                taken.push((performance.now() - started) / 1000);
            }
            return taken;
        }""",
        session,
    )
    mapped = measure_map(page)
    print(
        f"\n{crops:,} crops (synthetic) of {FLAGS.images} photos, {FLAGS.width} "
        "dimensions; Chromium and server on one machine"
    )
    print(f"{'milliseconds':66s} {'median':>8s} {'95 %':>8s} {'most':>8s}")
    show("first crops on the screen, no thumbnail cut before", [first])
    show("from the example to the ranked list, pictures included", [ranked])
    show("scrolling by a screen: until nothing is blank", blank)
    show("jumping anywhere: until nothing is blank", jumps)
    show("mark, until it is on the disk and acknowledged", acknowledged)
    show("mark, until everything is ranked anew", learned)
    for name, seconds in mapped.times.items():
        show(name, seconds)
    print(
        f"map: laid out after {mapped.laid_out:.0f} s of waiting, "
        f"{mapped.frames:.0f} pictures a second while it is moved"
    )
    held = ", ".join(
        f"{value:.0f} MB {name}" for name, value in memory(process).items()
    )
    print(f"server ready after {ready:.1f} s; it holds {held}")


if __name__ == "__main__":
    app.run(main)
