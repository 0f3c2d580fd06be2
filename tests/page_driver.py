"""Drives the page in Chromium as people do; the tests of the page use it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
from playwright.sync_api import expect

from curation.journal import read_session, replay

ROOT = Path(__file__).parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=20_000)


class Server:
    """run_page.py in a process of its own."""

    def __init__(self, embeddings, sessions, *flags, port=0):
        script = [
            sys.executable,
            ROOT / "run_page.py",
            f"--embeddings={embeddings}",
            f"--sessions={sessions}",
        ]
        command = [
            *script,
            '--config={"browser": false}',
            f"--port={port or free_port()}",
            *flags,
        ]
        self.log = sessions.parent / f"{sessions.name}.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        self.sessions, self.embeddings = sessions, embeddings
        found = None
        for _ in range(600):
            found = re.findall(r"http://\S+token=\S+", self.log.read_text())
            if found and self.alive(found[-1]):
                break
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        self.url = found[-1]
        self.origin, self.token = self.url.split("/?token=")
        self.port = int(re.search(r":(\d+)", self.origin)[1])

    def alive(self, url):
        try:
            return httpx2.get(url).status_code == 200
        except httpx2.TransportError:
            return False

    def client(self):
        return httpx2.Client(
            base_url=self.origin,
            headers={"authorization": f"Bearer {self.token}"},
            timeout=60,
        )

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        self.process.terminate()
        self.process.wait(20)

    def memory(self):
        """Megabytes that the process holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def lines(self):
        """What was done in the session that was changed last."""
        folder = max(
            self.sessions.glob("s2*"),
            key=lambda path: (path / "feedback.jsonl").stat().st_mtime,
        )
        return read_session(folder)[1]

    def marks(self):
        """crop id -> relevant, of that session."""
        return replay(self.lines()).marks


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(page, crop, name="beets with 4 to 6 leaves"):
    """From the first screen to a session that starts from a crop."""
    limit(page, f"crop_id = '{crop}'")
    expect(page.locator(".pick .cell")).to_have_count(1)
    page.locator(".pick .cell").click()
    page.get_by_label("name of the new class").fill(name)
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(".work .cell").first).to_be_visible()
    settled(page)


def open_side(page, name):
    """Opens what stands beside the grid, Filter or Map, if it isn't open."""
    button = page.get_by_role("button", name=name, exact=True)
    if button.get_attribute("aria-pressed") == "false":
        button.click()


def drag(page, places):
    """Drags over places of the screen, from the first to the last."""
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def limit(page, condition):
    """Shows only what meets a condition, as those do who know SQL."""
    open_side(page, "Filter")
    field = page.get_by_label("condition in SQL")
    if not field.is_visible():
        page.get_by_text("Advanced").click()
    field.fill(condition)
    page.get_by_role("button", name="Apply").click()
    done = page.locator(".facets .done")
    if done.is_visible():  # on a phone, where they lie over the pictures
        settled(page)
        done.click()


def choose(page, column, value):
    """Ticks a value of a facet."""
    open_side(page, "Filter")
    name = re.compile(rf"^{column}[\d●]*$")
    summary = page.locator(".facets summary", has_text=name)
    if summary.locator("..").get_attribute("open") is None:
        summary.click()
    summary.locator("..").get_by_label(value).check()


def wished(truth, place=0):
    return [crop for crop, relevant in truth.items() if relevant][place]


FOCUSED = "document.activeElement?.dataset?.crop ?? ''"


def mark_by_keys(page, truth, count):
    """Marks as someone who knows the truth, and who looks before pressing: the focus
    goes on to the next crop by itself, a moment after the key.
    """
    settled(page)
    page.locator(".work .cell").first.focus()
    for place in range(count):
        crop = page.evaluate(FOCUSED)
        page.keyboard.press("y" if truth[crop] else "n")
        cell = page.locator(f'.work .cell[data-crop="{crop}"]')
        expect(cell).to_have_class(re.compile("yes" if truth[crop] else "no"))
        if place < count - 1:
            page.wait_for_function(f"crop => ({FOCUSED}) !== crop", arg=crop)


def draw_sample(page):
    """Draws the random sample, and waits until the grid shows it."""
    page.get_by_role("button", name="Draw a random sample").click()
    shown = page.get_by_role("button", name="Random sample", exact=True)
    expect(shown).to_have_attribute("aria-pressed", "true")
    settled(page)


def until(condition, seconds=20):
    """Waits for something that the page doesn't show."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def wait_for(page, condition, seconds=20):
    """Waits for something that happens while the page runs on."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        page.wait_for_timeout(20)


def settled(page):
    """Waits until the grid shows what was asked for."""
    expect(page.locator(".grid")).to_have_attribute("aria-busy", "false")


def saved(page):
    expect(page.locator("#saved")).to_have_text("saved")


def relevant_of_first(page, truth, count=20):
    crops = [
        page.locator(f'.work .cell[data-index="{index}"]').get_attribute("data-crop")
        for index in range(count)
    ]
    return sum(truth[crop] for crop in crops)


def picture(page, name):
    if os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(700)
        page.screenshot(
            path=Path(os.environ["SCREENSHOTS"]) / name, type="jpeg", quality=82
        )
