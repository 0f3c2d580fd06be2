import { failed, said } from "./browser.js";

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Choice } from "../../web/static/choice.js";

const TOTAL = 5000;
let grid, choice, done;

/** A grid of 4 columns of which the lines 2 to 4 are in sight, where the crop at place 9 has the focus. */
beforeEach(() => {
  done = [];
  const note = (name) => (...what) => done.push([name, ...what]);
  const crops = new Map();
  grid = {
    total: TOTAL, current: 9, columns: 4, lineHeight: 100, element: { clientHeight: 350 },
    isChanging: false, isStill: true, replacing: null,
    seen: () => [8, 20],
    crop: (place) => {
      if (!crops.has(place)) crops.set(place, { id: `c${place}`, mark: place === 7 ? true : null });
      return crops.get(place);
    },
    pages: { crops: async (places) => places.map(grid.crop) },
    paintAll: note("paint"),
    focus: note("focus"),
    take: note("take"),
    options: {
      marks: true,
      onselect: note("selected"),
      onmark: (marked, answer) => done.push(["mark", marked.map(({ id }) => id), answer]),
      onclass: (marked, place) => done.push(["class", marked.map(({ id }) => id), place]),
      onmore: ({ id }, answer) => done.push(["more", id, answer]),
      onopen: note("open"),
      several: () => false,
    },
  };
  choice = new Choice(grid);
});

const places = () => [...choice.selected];
const of = (kind) => done.filter(([name]) => name === kind).map(([, ...what]) => what);

function press(key, more = {}) {
  let prevented = 0, stopped = 0;
  choice.key({ key, target: { tagName: "DIV" }, preventDefault: () => prevented++, stopPropagation: () => stopped++, ...more });
  assert.equal(prevented, stopped);
  return prevented === 1;
}

function click(place, more = {}) {
  choice.click({ shiftKey: false, ctrlKey: false, metaKey: false, ...more }, place);
}

test("a click selects one, Ctrl one more or less, Shift all between", () => {
  click(3);
  assert.deepEqual(places(), [3]);
  click(5, { ctrlKey: true });
  assert.deepEqual(places(), [3, 5]);
  click(3, { metaKey: true });
  assert.deepEqual(places(), [5]);
  click(6, { shiftKey: true });
  assert.deepEqual(places(), [3, 4, 5, 6]); // from where Ctrl was used last
  click(1, { shiftKey: true });
  assert.deepEqual(places(), [1, 2, 3]);
  click(8);
  click(6, { shiftKey: true });
  assert.deepEqual(places(), [6, 7, 8]);
  assert.deepEqual(of("take"), [[3], [5], [3], [6], [1], [8], [6]]);
  assert.deepEqual(of("selected").map(([size]) => size), [1, 2, 1, 4, 3, 1, 3]);
  assert.equal(of("paint").length, 7);
  delete grid.options.onselect; // where nobody asks how many
  click(1);
  assert.deepEqual(places(), [1]);
});

test("Shift alone selects from the one in focus", () => {
  click(11, { shiftKey: true });
  assert.deepEqual(places(), [9, 10, 11]);
});

test("a click picks where crops are picked", () => {
  grid.options.onpick = (crop) => done.push(["pick", crop.id]);
  click(3, { shiftKey: true });
  assert.deepEqual(of("pick"), [["c3"]]);
  assert.deepEqual(places(), []);
});

test("no more are selected than the server takes", () => {
  for (const [from, to] of [[0, 1999], [1999, 0], [4000, 4100]]) assert.equal(choice.range(from, to).length, Math.abs(to - from) + 1);
  assert.equal(said(), "");
  assert.equal(choice.range(0, 2000).length, 2000);
  assert.match(said(), /at most 2000 /);
  const down = choice.range(10, 3000);
  assert.deepEqual([down.length, down[0], down.at(-1)], [2000, 10, 2009]);
  const up = choice.range(3000, 10);
  assert.deepEqual([up.length, up[0], up.at(-1)], [2000, 1001, 3000]);
  assert.deepEqual(choice.range(4, 4), [4]);
});

test("A selects what is in sight", () => {
  assert.ok(press("A"));
  assert.deepEqual(places(), Array.from({ length: 12 }, (_, place) => place + 8));
  choice.select([]);
  grid.seen = () => [4, 4];
  press("a");
  assert.deepEqual(places(), []);
  grid.options.onpick = () => {};
  assert.ok(!press("a"));
});

test("keys mark the one in focus, and the next has it then", () => {
  const keys = { y: true, Y: true, 1: true, n: false, 0: false, u: null };
  for (const [key, answer] of Object.entries(keys)) {
    done = [];
    assert.ok(press(key), key);
    assert.deepEqual(of("mark"), [[["c9"], answer]]);
    assert.deepEqual(of("focus"), [[10]]);
  }
  assert.ok(!press("q"));
  assert.ok(!press("2"));
});

test("at the end of the list the focus stays", () => {
  grid.current = TOTAL - 1;
  press("y");
  assert.deepEqual(of("mark"), [[[`c${TOTAL - 1}`], true]]);
  assert.deepEqual(of("focus"), []);
  done = [];
  grid.current = TOTAL - 2;
  press("y");
  assert.deepEqual(of("focus"), [[TOTAL - 1]]);
});

test("keys mark a selection in the list's order, as one", async () => {
  choice.select([12, 3]);
  press("n");
  assert.deepEqual(places(), []);
  assert.deepEqual(of("focus"), [[13]]);
  await choice.marking;
  assert.deepEqual(of("mark"), [[["c3", "c12"], false]]);
  done = [];
  grid.pages.crops = async () => []; // none of them is there any more
  await choice.markSelection(true);
  assert.deepEqual(of("mark"), []);
});

test("nothing is marked that one doesn't look at", async () => {
  grid.isStill = false; // the focus is on its way
  press("y");
  assert.match(said(), /not marked/);
  assert.deepEqual(done, []);
  choice.select([3]); // what is selected doesn't move with the focus
  press("y");
  await choice.marking;
  assert.deepEqual(of("mark"), [[["c3"], true]]);
  done = [];
  grid.isChanging = true;
  choice.select([3]);
  press("y");
  grid.replacing = {};
  await choice.markSelection(true);
  assert.deepEqual(of("mark"), []);
  assert.deepEqual(places(), [3]);
  grid.crop = () => undefined; // its page is on its way
  grid.isStill = true;
  choice.select([]);
  press("y");
  assert.deepEqual(of("mark"), []);
});

test("a cell's button marks its crop, or takes the mark back", async () => {
  let stopped = 0;
  const event = { stopPropagation: () => stopped++ };
  choice.markAt(event, 7, false);
  choice.markAt(event, 7, true);
  assert.deepEqual(of("mark"), [[["c7"], false], [["c7"], null]]);
  assert.deepEqual(of("take"), [[7], [7]]);
  done = [];
  choice.select([7]);
  choice.markAt(event, 7, true);
  assert.deepEqual(of("mark"), [[["c7"], null]]);
  done = [];
  choice.select([5, 6]);
  choice.markAt(event, 7, true); // isn't of the selection
  assert.deepEqual(of("mark"), [[["c7"], null]]);
  done = [];
  choice.select([5, 7]);
  choice.markAt(event, 7, true);
  await choice.marking;
  assert.deepEqual(of("mark"), [[["c5", "c7"], true]]);
  assert.equal(stopped, 5);
});

test("figures say of which class, where there are several", async () => {
  grid.options.several = () => true;
  press("3");
  press("0");
  press("u");
  assert.deepEqual(of("class"), [[["c9"], 3], [["c9"], 0], [["c9"], null]]);
  press("y"); // and the letters still mark in the class that is looked at
  assert.deepEqual(of("mark"), [[["c9"], true]]);
  for (const key of ["F1", "unidentified"]) assert.ok(!press(key), key);
  choice.select([4, 5]);
  press("2");
  await choice.marking;
  assert.deepEqual(of("class").at(-1), [["c4", "c5"], 2]);
});

test("without marks letters do nothing", () => {
  grid.options = { onmore: null };
  for (const key of ["y", "1", "u", "m", "l"]) assert.ok(!press(key), key);
});

test("M asks for more like it, L for less, once the list stands", () => {
  press("m");
  press("L");
  assert.deepEqual(of("more"), [["c9", true], ["c9", false]]);
  grid.isStill = false;
  assert.ok(press("m"));
  assert.equal(of("more").length, 2);
});

test("keys move, and with Shift select", () => {
  const moves = { ArrowRight: 10, ArrowLeft: 8, ArrowDown: 13, ArrowUp: 5, PageDown: 21, Home: 0, End: TOTAL - 1 };
  for (const [key, to] of Object.entries(moves)) {
    done = [];
    assert.ok(press(key), key);
    assert.deepEqual(of("focus"), [[to]]);
  }
  grid.current = 14;
  done = [];
  press("PageUp");
  assert.deepEqual(of("focus"), [[2]]);
  grid.element.clientHeight = 50; // less than a line
  press("PageUp");
  assert.deepEqual(of("focus")[1], [10]);
  done = [];
  grid.current = 2;
  press("ArrowUp");
  grid.current = TOTAL - 2;
  press("ArrowDown");
  assert.deepEqual(of("focus"), []);
  grid.current = 0;
  press("ArrowLeft");
  grid.current = TOTAL - 1;
  press("ArrowRight");
  assert.deepEqual(of("focus"), []);
});

test("Shift and arrows select from where they began", () => {
  press("ArrowRight", { shiftKey: true });
  assert.deepEqual(places(), [9, 10]);
  grid.current = 10;
  press("ArrowRight", { shiftKey: true });
  assert.deepEqual(places(), [9, 10, 11]);
  grid.current = 11;
  press("ArrowUp", { shiftKey: true });
  assert.deepEqual(places(), [7, 8, 9]);
  grid.current = 7;
  press("ArrowRight");
  assert.deepEqual(places(), []);
  grid.current = 8;
  press("ArrowRight", { shiftKey: true }); // begins anew
  assert.deepEqual(places(), [8, 9]);
  choice.select([20, 21]);
  choice.anchor = null; // selected by other means, such as A
  press("ArrowRight", { shiftKey: true });
  assert.deepEqual(places(), [8, 9]);
  grid.options.onpick = () => {};
  choice.select([]);
  press("ArrowRight", { shiftKey: true });
  assert.deepEqual(places(), []);
});

test("a move without Shift says nothing of a selection that isn't there", () => {
  press("ArrowRight");
  assert.deepEqual(of("selected"), []);
});

test("Enter opens, Space selects, Escape lets go", () => {
  assert.ok(press("Enter"));
  assert.deepEqual(of("open"), [[9]]);
  assert.ok(press(" "));
  assert.deepEqual(places(), [9]);
  assert.ok(press("Escape"));
  assert.deepEqual(places(), []);
  assert.ok(!press("Escape"));
  const button = { target: { tagName: "BUTTON" } }; // does what it says
  assert.ok(!press("Enter", button));
  assert.ok(!press(" ", button));
  grid.options.onpick = (crop) => done.push(["pick", crop.id]);
  assert.ok(!press(" ", button));
  assert.ok(press(" "));
  assert.deepEqual(of("pick"), [["c9"]]);
  assert.deepEqual(places(), []);
  delete grid.options.onopen;
  assert.ok(press("Enter"));
});

test("keys with Ctrl, Alt or the command key are the browser's", () => {
  for (const held of ["ctrlKey", "metaKey", "altKey"]) assert.ok(!press("y", { [held]: true }), held);
  assert.deepEqual(done, []);
});

test("a letter from elsewhere marks only what is in sight", () => {
  for (const [place, isInSight] of [[7, false], [8, true], [19, true], [20, false]]) {
    done = [];
    grid.current = place;
    assert.ok(choice.letterFromElsewhere("y"));
    assert.equal(of("mark").length, isInSight ? 1 : 0, String(place));
    if (!isInSight) assert.deepEqual(done, [["focus", place]]);
  }
  assert.match(said(), /not marked: the picture wasn't in sight/);
  for (const key of "ynuml019") {
    done = [];
    assert.ok(choice.letterFromElsewhere(key), key);
    assert.deepEqual(done, [["focus", 20]]);
  }
  for (const key of ["f1", "unidentified"]) assert.ok(!choice.letterFromElsewhere(key), key);
  assert.ok(choice.letterFromElsewhere("a")); // marks nothing
  assert.equal(choice.selected.size, 12);
  done = [];
  choice.letterFromElsewhere("y"); // what is selected has been seen
  assert.deepEqual(of("focus"), [[20]]);
  assert.equal(choice.selected.size, 0);
  assert.ok(!choice.letterFromElsewhere("q"));
  assert.ok(!choice.letterFromElsewhere("enter"));
  grid.total = 0;
  done = [];
  choice.letterFromElsewhere("m");
  assert.equal(of("more").length, 1);
  assert.equal(failed(), "");
});
