import { failed, pause, refusal, said, serve, until, waits } from "./browser.js";

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { by, person, queue } from "../../web/static/api.js";
import { Session } from "../../web/static/session.js";
import { T } from "../../web/static/text.js";

let session, grid, calls, asked, stop, told, server;

const answers = {
  "": () => ({ lines: 3, newest: 3, learning: false, relevant: 1, panel: { scale: "margin", threshold: 0.5 } }),
  "/crops": () => ({ total: 2, crops: [{ id: "a" }, { id: "b" }], lines: "3" }),
  "/mark": () => ({ line: 4, left_out: [], disputed: [] }),
  "/classify": () => ({ line: 4, left_out: [], disputed: [] }),
  "/undo": () => ({ line: 5, what: "3 marks" }),
  "/redo": () => ({ line: null, what: null }),
};

/** Opens a session at an address, as it is shown. */
function open(address = "") {
  stop = new AbortController();
  session = new Session("s", new URLSearchParams(address), stop.signal);
  grid = {
    choice: { marking: null },
    total: 2,
    load: null,
    async reset(load) {
      calls.push("reset");
      grid.load = load;
      await load(0, 200);
      return true;
    },
    async refresh() {
      calls.push("refresh");
    },
    async hold(work) {
      calls.push("hold");
      await work;
    },
    paintAll: () => calls.push("paint"),
    focus: (place) => calls.push(`focus ${place}`),
    scrollTo: (place) => calls.push(`to ${place}`),
    first: () => 40,
  };
  session.grid = grid;
  for (const kind of ["state", "view", "wanted", "said", "stepped", "estimate"]) {
    session.addEventListener(kind, (event) => told.push([kind, event.detail]));
  }
}

/** Opens it and lets it show its list. */
async function shown(address = "") {
  open(address);
  await session.update();
  await until(() => session.view.ranking >= 0 && location.hash);
  clearTimeout(session.timer);
  session.later = (delay) => calls.push(`later ${delay}`); // from here on it asks when it is told to
  calls.length = told.length = asked.length = waits.length = 0;
}

beforeEach(() => {
  calls = [];
  told = [];
  location.hash = "";
  server = { ...answers };
  localStorage.removeItem("person");
  document.getElementById("announce").textContent = document.getElementById("error").textContent = "";
  asked = serve(({ path, body }) => {
    const [address, query] = path.split("?");
    return server[address.replace("api/sessions/s", "")](Object.fromEntries(new URLSearchParams(query)), body);
  });
});

afterEach(async () => {
  stop.abort();
  queue.items.length = 0; // of a test that failed
  await pause(5);
});

const crop = (id, more = {}) => ({ id, mark: null, ...more });
const bodies = (end) => asked.filter(({ path }) => path.split("?")[0].endsWith(end)).map(({ body }) => body);
const of = (kind) => told.filter(([name]) => name === kind).map(([, detail]) => detail);

test("it shows the newest list, asks again, and says where it is", async () => {
  open();
  await session.update();
  assert.deepEqual(session.view, { ranking: 3, sort: "best", where: "", among: "", only: "", marked_by: "" });
  await until(() => location.hash);
  assert.equal(location.hash, "#s?ranking=3&at=40");
  assert.deepEqual(calls.filter((name) => name !== "focus 40"), ["reset", "to 0"]);
  assert.equal(asked.find(({ path }) => path.includes("/crops")).path, "api/sessions/s/crops?ranking=3&sort=best&start=0&count=200");
  const before = asked.length;
  await until(() => asked.length > before + 1);
  assert.ok(waits.includes(2500)); // idle
  assert.match(asked.at(-1).path, new RegExp(`^api/sessions/s\\?by=${by}&ranking=3$`));
  stop.abort();
  await pause(30);
  const after = asked.length;
  await pause(60);
  assert.equal(asked.length, after);
});

test("it shows the list that the address names", async () => {
  person.name = "Ada";
  open("ranking=2&sort=ask&only=conflicts&among=m&at=7&where=a+%3D+1&where=b+%3D+2&of=beet");
  await session.update();
  const view = { ranking: 2, sort: "ask", where: "(a = 1) AND (b = 2)", among: "m", only: "conflicts", marked_by: "Ada" };
  assert.deepEqual(session.view, view);
  assert.ok(calls.includes("to 7"));
  assert.ok(asked.every(({ path }) => path.includes("of=beet")));
  await until(() => location.hash);
  assert.equal(location.hash, "#s?ranking=2&of=beet&sort=ask&only=conflicts&among=m&where=a+%3D+1&where=b+%3D+2&at=40");
});

test("a ranking that isn't there is the newest", async () => {
  for (const [address, ranking] of [["ranking=4", 3], ["ranking=-2", 3], ["ranking=x", 3], ["ranking=0", 0], ["ranking=3", 3]]) {
    open(address);
    await session.update();
    assert.equal(session.view.ranking, ranking, address);
    stop.abort();
  }
});

test("a list that the server refuses gives way to one without conditions", async () => {
  server["/crops"] = ({ where }) => {
    if (where) throw refusal("no such column", 400);
    return answers["/crops"]();
  };
  open("where=nonsense&sort=ask&among=m");
  await session.update();
  assert.equal(failed(), "no such column");
  assert.deepEqual([session.conditions, session.view.where, session.view.sort, session.view.among, session.view.ranking], [[], "", "best", "", 3]);
});

test("nothing is shown until there is an order", async () => {
  server[""] = () => ({ ...answers[""](), newest: -1, lines: 0, learning: true });
  open();
  await session.update();
  assert.equal(session.view.ranking, -1);
  assert.ok(waits.includes(60));
  server[""] = answers[""];
  await until(() => session.view.ranking === 3);
});

test("a mark shows at once and is told with what was seen", async () => {
  await shown();
  const [a, b] = [crop("a"), crop("b", { mark: false })];
  person.name = "Ada";
  session.mark([a, b, crop("c", { mark: true })], true);
  assert.deepEqual([a.mark, b.mark, a.by], [true, true, "Ada"]);
  assert.equal(said(), "2 pictures marked relevant");
  assert.deepEqual([calls, of("said")], [["paint"], [[a, b]]]);
  assert.ok(session.isNewer("a", performance.now() + 1e6)); // it is on its way
  const sent = performance.now();
  await until(() => calls.includes("later undefined"));
  const [{ marks, seen, ranking, sort }] = bodies("/mark");
  assert.deepEqual([marks, seen, ranking, sort], [{ a: true, b: true }, { a: null, b: false }, 3, "best"]);
  assert.equal(session.lines, 4); // its own line
  assert.ok(session.isNewer("a", sent));
  assert.ok(!session.isNewer("a", performance.now() + 1e6));
  assert.ok(!session.isNewer("other", 0));
  assert.equal(session.pending.size, 0);
  session.mark([a], true); // says nothing new
  assert.equal(bodies("/mark").length, 1);
  session.mark([crop("d", { mark: undefined })], null);
  assert.equal(bodies("/mark").length, 1);
  assert.ok(!calls.includes("refresh"));
});

test("a line of another stands between: it isn't taken for known", async () => {
  await shown();
  server["/mark"] = () => ({ line: 6, left_out: [], disputed: [] });
  session.mark([crop("a")], true);
  await until(() => calls.includes("later undefined"));
  assert.equal(session.lines, 3);
});

test("what the server refuses shows what it did before", async () => {
  await shown();
  server["/mark"] = () => {
    throw refusal("no", 422);
  };
  const a = crop("a", { mark: false, of: "x", by: "Bob" });
  session.mark([a], true);
  await until(failed);
  assert.equal(failed(), "no");
  assert.deepEqual([a.mark, a.of, a.by], [false, "x", "Bob"]);
  assert.deepEqual(calls, ["paint", "paint"]);
  assert.equal(of("said").length, 2);
  assert.equal(session.pending.size, 0);
});

test("a mark is on its way until the last one of its crop is there", async () => {
  await shown();
  const free = [];
  server["/mark"] = () => new Promise((resolve) => free.push(() => resolve(answers["/mark"]())));
  const a = crop("a");
  session.mark([a], true);
  session.mark([a], false);
  assert.equal(session.pending.get("a"), 2);
  await until(() => free.length === 1);
  free[0]();
  await until(() => session.pending.get("a") === 1);
  await until(() => free.length === 2);
  free[1]();
  await until(() => !session.pending.has("a"));
  assert.deepEqual(bodies("/mark").map(({ seen }) => seen), [{ a: null }, { a: true }]);
});

test("what is of a random sample is left out of the other lists", async () => {
  await shown();
  const [a, b] = [crop("a", { sampled: true }), crop("b")];
  session.mark([a, b], true);
  await queue.done();
  assert.equal(failed(), T.list.leftOut(1));
  assert.deepEqual(bodies("/mark")[0].marks, { b: true });
  assert.equal(a.mark, null);
  session.view.sort = "audit";
  session.mark([a], false);
  await queue.done();
  assert.deepEqual(bodies("/mark")[1].marks, { a: false });
});

test("where people may disagree, the list is asked for again", async () => {
  await shown();
  person.name = "Ada";
  const cases = [[{ by: "Ada" }, false], [{}, false], [{ by: "Bob" }, true], [{ by: "Ada", disputed: true }, true]];
  for (const [more, isAsked] of cases) {
    calls.length = 0;
    session.mark([crop("a", more)], true);
    await until(() => calls.includes("later undefined"));
    assert.equal(calls.includes("refresh"), isAsked, JSON.stringify(more));
  }
  calls.length = 0;
  server["/mark"] = () => ({ line: 5, left_out: ["a"], disputed: [] });
  session.mark([crop("a")], true);
  await until(() => calls.includes("later undefined"));
  assert.ok(calls.includes("refresh"));
});

test("what another has marked meanwhile stands, and is said", async () => {
  await shown();
  server["/mark"] = () => ({ line: 5, left_out: [], disputed: [{ id: "b", mark: false, person: "Bob", of: "" }] });
  const [a, b] = [crop("a"), crop("b", { of: "x" })];
  session.mark([a, b], true);
  await until(failed);
  assert.equal(failed(), T.list.disputedBy("Bob", "this picture as not relevant"));
  assert.deepEqual([a.mark, a.disputed], [true, undefined]);
  assert.deepEqual([b.mark, b.by, b.disputed], [false, "Bob", true]);
  assert.ok(!calls.includes("refresh"));
  session.dispute([a, b], [{ id: "a", mark: true, person: "", of: "y" }, { id: "b", mark: true, person: "", of: "y" }]);
  assert.equal(failed(), T.list.disputedBy("", "2 of these pictures otherwise"));
  assert.deepEqual([a.of, b.of], ["y", "y"]);
  session.dispute([a], [{ id: "a", mark: true, person: "", of: "y" }]);
  assert.equal(failed(), T.list.disputedBy("", "this picture as y"));
});

async function shownClasses() {
  server[""] = () => ({ ...answers[""](), several: { of: "beet", counts: [{ name: "beet" }, { name: "pea" }] } });
  await shown();
}

test("several classes: a figure says of which", async () => {
  await shownClasses();
  const [a, b, c] = [crop("a"), crop("b", { of: "pea" }), crop("c", { of: "pea", mark: false })];
  session.classify([a, b], 1);
  assert.deepEqual([a.of, a.mark, b.of, b.mark], ["beet", true, "beet", true]);
  assert.equal(said(), "2 pictures marked beet");
  session.classify([c], 2); // is said already
  session.classify([c], 0);
  assert.deepEqual([c.of, c.mark], ["none", false]);
  assert.equal(said(), "marked none");
  session.classify([c], null);
  assert.deepEqual([c.of, c.mark], [null, null]);
  assert.equal(said(), "marked without a mark");
  session.classify([a], 2);
  assert.deepEqual([a.of, a.mark], ["pea", false]);
  await queue.done();
  const sent = bodies("/classify").flatMap((body) => body.batch ?? [body]);
  assert.deepEqual(sent.map(({ marks, seen }) => [marks, seen]), [
    [{ a: "beet", b: "beet" }, { a: null, b: "pea" }], [{ c: "none" }, { c: "pea" }], [{ c: null }, { c: "none" }], [{ a: "pea" }, { a: "beet" }],
  ]);
  assert.ok(sent.every((body) => !("ranking" in body) && !("sort" in body)));
  session.classify([a], 3);
  assert.equal(said(), T.several.there(2));
  session.classify([crop("e", { of: undefined })], null);
  await queue.done();
  assert.equal(bodies("/classify").flatMap((body) => body.batch ?? [body]).length, 4);
});

test("several classes: a mark says so in the class that is looked at", async () => {
  await shownClasses();
  const [a, b, c] = [crop("a", { of: "pea", mark: false }), crop("b", { of: "beet", mark: true }), crop("c", { of: "pea" })];
  session.mark([a], true);
  assert.equal(a.of, "beet");
  session.mark([b], false);
  assert.equal(b.of, null);
  session.mark([c], false);
  assert.equal(c.of, "pea");
  await queue.done();
  // In a sample, which is of the class that is looked at, a figure answers.
  session.view.sort = "audit";
  asked.length = 0;
  for (const [place, mark] of [[1, true], [2, false], [0, false], [null, null]]) {
    const one = crop("d", { mark: place === null ? true : null, sampled: true });
    session.classify([one], place);
    assert.equal(one.mark, mark);
  }
  await queue.done();
  assert.equal(bodies("/classify").length, 0);
});

test("one class: a mark says nothing of classes", async () => {
  await shown();
  const a = crop("a", { of: "x" });
  session.mark([a], true);
  assert.equal(a.of, undefined);
  await queue.done();
});

test("undo and redo say what they did, and the list shows it", async () => {
  await shown();
  session.step("undo");
  await until(() => of("state").length);
  assert.equal(said(), "undone: 3 marks");
  assert.deepEqual([calls.filter((name) => name === "refresh").length, of("stepped")], [1, ["undone: 3 marks"]]);
  assert.deepEqual(asked.map(({ path }) => path.split("?")[0]), ["api/sessions/s/undo", "api/sessions/s"]);
  session.step("redo");
  await until(() => of("stepped").length === 2);
  assert.equal(said(), "nothing to redo");
  server["/undo"] = () => {
    throw refusal("those marks can't be brought back", 422);
  };
  session.step("undo");
  await until(failed);
  assert.equal(failed(), "those marks can't be brought back");
});

test("an undo waits for the marks of a selection that are under way", async () => {
  await shown();
  let free;
  grid.choice.marking = new Promise((resolve) => (free = resolve));
  session.step("undo");
  await pause(5);
  assert.equal(bodies("/undo").length, 0);
  free();
  await until(() => bodies("/undo").length);
});

test("conditions hold for the list, and come back where it is refused", async () => {
  await shown();
  session.filter(["a = 1"], { among: "m" });
  await until(() => of("view").length);
  assert.deepEqual([session.conditions, session.view.where, session.view.among], [["a = 1"], "a = 1", "m"]);
  server["/crops"] = () => {
    throw refusal("no", 400);
  };
  session.filter(["a = 1", "b"]);
  assert.equal(session.conditions.length, 2);
  await until(failed);
  await pause();
  assert.deepEqual([session.conditions, session.view.where, session.wanted.where], [["a = 1"], "a = 1", "a = 1"]);
});

test("the last list that is asked for is the one that counts", async () => {
  await shown();
  grid.reset = async () => false; // another was asked for meanwhile
  assert.equal(await session.show({ sort: "worst" }), false);
  assert.equal(session.view.sort, "best");
  assert.equal(session.wanted.sort, "worst");
  grid.reset = async () => {
    session.wanted = { ...session.wanted, sort: "ask" };
    throw new Error("no");
  };
  assert.equal(await session.show({ sort: "worst" }), false);
  assert.equal(session.wanted.sort, "ask"); // what is wanted by now
});

test("lists by what is marked wait for the marks", async () => {
  await shown();
  for (const [changed, isAwaited] of [[{ only: "marked" }, true], [{ only: "", sort: "doubtful" }, true], [{ sort: "ask" }, false]]) {
    let free;
    server["/mark"] = () => new Promise((resolve) => (free = () => resolve(answers["/mark"]())));
    session.mark([crop("a")], true);
    await until(() => free);
    calls.length = 0;
    const showing = session.show(changed);
    await pause(5);
    assert.equal(calls.includes("reset"), !isAwaited, JSON.stringify(changed));
    free();
    await showing;
    await queue.done();
    assert.ok(calls.includes("reset"));
  }
});

test("later pages are asked for with the lines of the first", async () => {
  await shown();
  await grid.load(200, 200);
  const { path } = asked.at(-1);
  assert.match(path, /lines=3&start=200&count=200$/);
});

test("a sample that isn't drawn is an empty list", async () => {
  await shown();
  assert.ok(!session.hasNoSample);
  await session.show({ sort: "audit" });
  assert.ok(session.hasNoSample);
  assert.deepEqual(await grid.load(0, 200), { total: 0, crops: [] });
  assert.ok(!asked.some(({ path }) => path.includes("/crops")));
  assert.equal(session.isSampleWhole, false);
  session.state.audit = { drawn: 30, answered: 29 };
  assert.ok(!session.hasNoSample && !session.isSampleWhole);
  session.state.audit.answered = 30;
  assert.ok(session.isSampleWhole);
});

test("the new order is shown once it is learned", async () => {
  await shown();
  let left = 2;
  server[""] = () => ({ ...answers[""](), newest: left ? 3 : 4, learning: left-- > 0 });
  server["/shown"] = () => ({});
  await session.showNew();
  assert.equal(session.view.ranking, 4);
  assert.deepEqual(bodies("/shown").map(({ ranking }) => ranking), [4]);
  assert.equal(said(), T.list.newOrder);
  assert.ok(calls.includes("focus 0"));
  calls.length = 0;
  server[""] = () => ({ ...answers[""](), newest: 4 });
  await session.showNew(); // it is shown already
  assert.ok(!calls.includes("reset"));
});

test("a list of another class begins anew", async () => {
  await shownClasses();
  session.view.among = "m";
  session.showClass("pea");
  assert.deepEqual([session.of, session.view.ranking, session.view.among, session.wanted.ranking], ["pea", -1, "", -1]);
  await until(() => session.view.ranking === 3);
  assert.match(asked[0].path, /of=pea/);
  session.act("/undo", {});
  await queue.done();
  assert.match(asked.find(({ path }) => path.includes("/undo")).path, /undo\?of=pea$/);
});

test("marks of others are asked for, one's own aren't", async () => {
  await shown();
  server[""] = () => ({ ...answers[""](), lines: 4 });
  session.lines = 4; // this tab wrote it
  await session.update();
  assert.ok(!calls.includes("refresh"));
  server[""] = () => ({ ...answers[""](), lines: 5 });
  await session.update();
  assert.ok(calls.includes("refresh"));
  assert.equal(session.lines, 5);
  calls.length = 0;
  await session.update();
  assert.ok(!calls.includes("refresh"));
});

test("a session that is gone is said once, and what was kept is sent when it is back", async () => {
  await shown();
  session.missing({ status: 404 });
  assert.equal(failed(), T.sessionGone);
  document.getElementById("error").textContent = "";
  session.missing({ status: 404 });
  assert.equal(failed(), "");
  assert.deepEqual(calls, ["later 2000", "later 2000"]);
  queue.kept = [{ path: "api/sessions/s/undo", body: { action: "k" } }];
  await session.update();
  await queue.done();
  assert.deepEqual([bodies("/undo").length, session.isGone], [1, false]);
  session.missing({ status: 500 });
  assert.equal(session.isGone, false);
});

test("what is wrong on the server is said when it is new", async () => {
  await shown();
  server[""] = () => ({ ...answers[""](), trouble: "the disk is full" });
  await session.update();
  assert.equal(failed(), "the disk is full");
  document.getElementById("error").textContent = "";
  await session.update();
  assert.equal(failed(), "");
});

test("more like this marks, and holds the keys until the new order shows", async () => {
  await shown();
  const a = crop("a");
  session.moreLike(a, true);
  assert.equal(a.mark, true);
  assert.deepEqual(calls, ["paint", "hold"]);
  await until(() => of("state").length);
});

test("a threshold that is dragged is only asked about; let go of, it is set", async () => {
  await shown();
  server["/estimate"] = ({ threshold, since }) => ({ threshold, since });
  server["/threshold"] = () => ({});
  session.setThreshold(0.6, false);
  session.setThreshold(0.7, false); // the last one counts
  await until(() => of("estimate").length);
  assert.deepEqual(of("estimate"), [{ threshold: "0.7", since: "0.5" }]);
  assert.equal(bodies("/threshold").length, 0);
  session.state.panel.threshold = 0.7;
  session.setThreshold(0.8, true);
  await until(() => of("estimate").length === 2);
  const [{ value, scale }] = bodies("/threshold");
  assert.deepEqual([value, scale, of("estimate")[1]], [0.8, "margin", { threshold: "0.8", since: "0.5" }]); // since it was taken hold of
});

test("a random sample is drawn of the newest order, and asked about before another", async () => {
  await shown();
  const sizes = [];
  server["/audit"] = (_, { size }) => {
    sizes.push(size);
    server[""] = () => ({ ...answers[""](), audit: { drawn: 30, answered: 0 } });
    return {};
  };
  const questions = [];
  globalThis.confirm = (question) => questions.push(question) > 2;
  await session.drawSample(30);
  assert.deepEqual([sizes, session.view.sort, questions], [[30], "audit", []]);
  assert.ok(calls.includes("focus 0"));
  for (const answered of [29, 30, 30]) {
    session.state = { ...session.state, audit: { drawn: 30, answered }, estimate: {} };
    await session.drawSample(60);
  }
  const { part, whole } = T.results.again;
  assert.deepEqual([questions, sizes], [[part, whole, whole], [30, 60]]);
  session.state = { ...session.state, audit: { drawn: 30, answered: 30 }, estimate: { learned: true } };
  await session.drawSample(90);
  assert.deepEqual([questions.length, sizes.at(-1)], [3, 90]);
  server["/audit"] = () => {
    throw refusal("too many", 422);
  };
  await session.drawSample(1e9);
  assert.equal(failed(), "too many");
});

test("answers of a sample, and pictures from elsewhere, are told the server", async () => {
  await shown();
  server["/learn"] = () => ({});
  server["/examples"] = () => ({});
  session.learnSample();
  await until(() => of("state").length);
  assert.equal(bodies("/learn").length, 1);
  await session.changeExamples({ "a.jpg": true });
  assert.deepEqual(bodies("/examples")[0].uploads, { "a.jpg": true });
});

test("by keyboard alone one goes on from the first crop", async () => {
  document.activeElement = document.body;
  open();
  await session.update();
  assert.ok(calls.includes("focus 40"));
  stop.abort();
  document.activeElement = null;
  calls.length = 0;
  open();
  await session.update();
  assert.ok(!calls.some((name) => name.startsWith("focus")));
  stop.abort();
  grid.reset = async () => {
    throw new Error("no");
  };
  document.activeElement = document.body;
  session = Object.assign(session, { signal: new AbortController().signal, view: { ...session.view, ranking: -1 } });
  session.later = () => {};
  await session.update();
  assert.ok(!calls.some((name) => name.startsWith("focus")));
  document.activeElement = null;
});

test("a session without marks shows its first order", async () => {
  server[""] = () => ({ ...answers[""](), newest: 0, lines: 0 });
  await shown();
  assert.equal(session.view.ranking, 0);
  assert.match(location.hash, /ranking=0/);
  server[""] = () => ({ ...answers[""](), newest: 4, lines: 0 });
  await session.update();
  assert.equal(session.view.ranking, 0); // the new one is shown when it is asked for
  assert.deepEqual(calls, ["later 2500"]);
});

test("it asks soon while there is something to come", async () => {
  await shown();
  server[""] = () => ({ ...answers[""](), learning: true });
  await session.update();
  session.view.ranking = -1;
  server[""] = () => ({ ...answers[""](), newest: -1 });
  await session.update();
  assert.deepEqual(calls, ["later 60", "later 60"]);
});

test("an answer for another class, or another screen, comes too late", async () => {
  await shownClasses();
  let free;
  server[""] = () => new Promise((resolve) => (free = () => resolve({ ...answers[""](), lines: 9 })));
  const updating = session.update();
  await until(() => free);
  session.of = "pea";
  free();
  await updating;
  assert.notEqual(session.state.lines, 9);
  free = null;
  const last = session.update();
  await until(() => free);
  stop.abort();
  free();
  await last;
  assert.notEqual(session.state.lines, 9);
  assert.deepEqual([of("state"), calls], [[], []]);
});

test("the address is written of what is shown, and by its screen alone", async () => {
  await shown();
  location.hash = "#other";
  session.remember();
  stop.abort();
  await pause(10);
  assert.equal(location.hash, "#other");
  open();
  session.remember(); // nothing is shown yet
  await pause(10);
  assert.equal(location.hash, "#other");
  session.view.ranking = 0;
  grid.first = () => 0;
  session.remember();
  session.remember();
  await pause(10);
  assert.equal(location.hash, "#s?ranking=0");
});

test("what is kept for a session stays kept while it is here", async () => {
  await shown();
  queue.kept = [{ path: "api/sessions/s/undo", body: { action: "k" } }];
  await session.update();
  await queue.done();
  assert.equal(queue.kept.length, 1);
  queue.kept = [];
  session.missing({ status: 500 });
  assert.equal(failed(), "");
});

test("who listens is told what is wanted, and what came of it", async () => {
  await shown();
  await session.show({ sort: "worst" });
  assert.deepEqual([of("wanted").length, of("view").length, calls.at(-1)], [1, 1, "later 0"]);
  server["/crops"] = () => {
    throw refusal("no", 400);
  };
  await session.show({ sort: "ask" });
  assert.deepEqual([of("wanted").length, of("view").length], [3, 1]);
  const time = 5;
  session.arrived.set("a", time);
  assert.deepEqual([time, time + 1].map((one) => session.isNewer("a", one)), [true, false]);
});

test("learning goes on however long it takes, but a list waits for it only so long", async () => {
  await shown();
  server[""] = () => ({ ...answers[""](), learning: true });
  await session.showNew();
  assert.equal(asked.length, 101);
});

test("one crop of several that people disagree on is enough to ask again", async () => {
  await shown();
  person.name = "Ada";
  session.mark([crop("a", { by: "Bob" }), crop("b")], true);
  await until(() => calls.includes("later undefined"));
  assert.ok(calls.includes("refresh"));
});
