// @ts-check
// The screen of a session: the grid, the tools above it, the line that says what is new, the panel, and the map beside it.

import { person } from "./api.js";
import { byId, classColors, el, fail } from "./dom.js";
import { Grid } from "./grid.js";
import { knownPanel } from "./known.js";
import { openCrop } from "./photo.js";
import { Session } from "./session.js";
import { classTabs } from "./several.js";
import { withSides } from "./sides.js";
import { T } from "./text.js";
import { toolBar } from "./tools.js";

/** Shows a session until the signal says that another screen has taken its place. */
export async function workScreen(pool, name, place, signal) {
  const session = new Session(name, place, signal);
  const grid = (session.grid = new Grid({
    label: T.list.label,
    sizes: pool.sizes,
    classColors: classColors(pool),
    marks: true,
    touch: matchMedia("(hover: none)").matches,
    onmark: (crops, answer) => session.mark(crops, answer),
    isNewer: (id, time) => session.isNewer(id, time),
    several: () => Boolean(session.state?.several),
    classNames: () => session.state?.several?.counts.map(({ name }) => name) ?? [],
    onclass: (crops, place) => session.classify(crops, place),
    onmore: (crop, answer) => session.moreLike(crop, answer),
    onopen: (index) => openCrop(grid, index),
    onscroll: () => session.remember(),
    onerror: fail,
  }));
  grid.element.classList.toggle("touch", grid.options.touch);
  const sides = withSides(pool, grid, {
    apply: (conditions) => session.filter(conditions),
    asked: () => {
      const { ranking, sort, marked_by } = session.view;
      const { where, among, only } = sort === "audit" ? { where: "", among: "", only: "" } : session.view; // a sample is of all
      return { session: name, of: session.of, ranking: Math.max(0, ranking), where, among, only, marked_by };
    },
    onselect: ({ selection }) => session.show({ among: selection }),
  });
  const tools = toolBar(pool, session, sides);
  const panel = knownPanel(pool, session);
  const empty = el("div", { class: "empty", hidden: true });
  session.addEventListener("view", () => {
    empty.hidden = grid.total > 0;
    const { only, sort } = session.view;
    const kind = sort === "doubtful" ? sort : only === "conflicts" ? only : session.hasNoSample ? "audit" : sort === "ask" ? sort : "other";
    empty.textContent = T.list.empty[kind];
    sides.facets.say(session.conditions, grid.total);
    sides.map.changed().catch(fail);
  });
  session.addEventListener("said", ({ detail }) => sides.map.marked(detail));
  session.addEventListener("state", () => {
    const { facts } = session.state;
    byId("title").textContent = facts.name;
    document.title = T.titleOf(facts.name);
  });
  const main = el("div", { class: "main" }, tools.bar, changesLine(session), nameBar(), classTabs(session), sides.around(tools.chips, empty, grid.element));
  byId("slot").replaceChildren(tools.history);
  byId("main").replaceChildren(el("div", { class: "work" }, main, panel));
  tools.paint();
  signal.addEventListener("abort", () => {
    sides.map.stop();
    byId("slot").replaceChildren();
  });
  document.addEventListener("keydown", (event) => key(session, event), { signal });
  await session.update();
}

/** Asks once, in this browser, what the person is called; and says once how keys mark, where there are keys. */
function nameBar() {
  const bar = el("div", { class: "once" });
  if (person.name === null) {
    const input = el("input", { "aria-label": T.list.yourName, placeholder: T.list.yourNameHint, title: T.list.who, maxLength: 100 });
    const done = (name) => {
      person.name = name;
      bar.replaceChildren(...keyHint());
    };
    const form = el("form", { class: "who", onsubmit: (event) => (event.preventDefault(), done(input.value)) },
      el("span", {}, T.list.who), input, el("button", {}, T.save),
      el("button", { type: "button", class: "plain", onclick: () => done("") }, T.list.noName));
    bar.append(form);
  } else bar.append(...keyHint());
  return bar;
}

/** Said once, where there are keys: nothing on a touch screen. */
function keyHint() {
  if (localStorage.getItem("keys") || !matchMedia("(hover: hover)").matches) return [];
  const hint = el("div", { class: "keys" }, el("span", {}, T.list.firstRun), el("button", { type: "button", class: "plain", onclick: () => {
    localStorage.setItem("keys", "known");
    hint.remove();
  } }, T.list.gotIt));
  return [hint];
}

/** The line above the grid: what the newest order would change, or what to do next. */
function changesLine(session) {
  const text = el("span");
  const show = el("button", { class: "main", id: "show-new", hidden: true, onclick: () => session.showNew().catch(fail) }, T.list.showNew);

  // Left alone where it says the same already, so that nothing is read out or loses the focus twice.
  function say(words, isNew) {
    if (text.textContent === words && show.hidden === !isNew) return;
    text.textContent = words;
    text.className = isNew ? "" : "faint";
    show.hidden = !isNew;
  }

  session.addEventListener("state", () => {
    const { state } = session;
    if (!state.panel) return;
    const learning = state.learning ? T.list.learning : "";
    if (state.changes) say(`${T.list.changes(state.changes)} ${learning}`.trim(), true);
    else say(learning || hint(session), false);
    text.title = state.panel.reason;
  });
  return el("div", { class: "changes", "aria-live": "polite" }, text, show);
}

function hint({ state, view }) {
  const { hints } = T.list;
  if (view.sort === "contested") return state.several.contested ? hints.contested : hints.uncontested;
  if (state.several && !state.relevant) return hints.classes;
  if (view.sort === "audit" && state.estimate.learned) return hints.learned;
  if (view.sort === "audit" && state.audit?.answered === state.audit?.drawn) return hints.sampleDone;
  if (view.sort === "audit") return hints.sample;
  if (!state.relevant && !state.not_relevant) return hints.begin;
  if (state.panel.scale !== "cosine") return hints.learnedFrom;
  return !state.not_relevant ? hints.onlyYes : state.panel.reason ? hints.mixed : hints.alike;
}

function key(session, event) {
  if (event.target.closest?.("input, select, textarea") && event.target.type !== "range" && event.target.type !== "checkbox") return;
  const control = event.ctrlKey || event.metaKey;
  const pressed = event.key.toLowerCase();
  if (control && pressed === "z") session.step(event.shiftKey ? "redo" : "undo");
  else if (control && pressed === "y") session.step("redo");
  else if (control || event.altKey || document.querySelector("dialog[open]")) return;
  else if (pressed === "r" && session.state) session.showNew().catch(fail);
  else if (!session.grid.choice.letterFromElsewhere(pressed)) return;
  event.preventDefault();
}
