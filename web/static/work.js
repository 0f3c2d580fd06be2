// @ts-check
// The screen of a session: the grid, the tools above it, the line that says what is new, and the panel beside it.

import { person } from "./api.js";
import { classTabs } from "./several.js";
import { byId, el, fail, many } from "./dom.js";
import { Grid } from "./grid.js";
import { knownPanel } from "./known.js";
import { openCrop } from "./photo.js";
import { Session } from "./session.js";
import { toolBar } from "./tools.js";

/** Shows a session until the signal says that another screen has taken its place. */
export async function workScreen(pool, name, place, signal) {
  const session = new Session(name, place, signal);
  const grid = (session.grid = new Grid({
    label: "Crops",
    sizes: pool.sizes,
    marks: true,
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
  grid.element.classList.toggle("touch", matchMedia("(hover: none)").matches);
  const tools = toolBar(pool, session);
  const panel = knownPanel(pool, session);
  const empty = el("div", { class: "empty", hidden: true });
  session.addEventListener("view", () => {
    empty.hidden = grid.total > 0;
    const { only, sort } = session.view;
    empty.textContent = sort === "doubtful" ? "No mark contradicts the others." : only === "conflicts" ? "Nobody disagrees." : session.hasNoSample ? "No random sample yet: draw one in the panel." : session.view.sort === "ask" ? "Nothing to ask: all is marked." : "No crops here.";
  });
  session.addEventListener("state", () => {
    const { facts } = session.state;
    byId("title").textContent = facts.name;
    document.title = `${facts.name} – find more like it`;
  });
  byId("main").replaceChildren(el("div", { class: "work" }, tools.bar, changesLine(session), el("div", { class: "area" }, nameBar(), classTabs(session), tools.filter, tools.chips, empty, grid.element), panel));
  tools.paint();
  document.addEventListener("keydown", (event) => key(session, event), { signal });
  await session.update();
}

/** Asks once, in this browser, what the person is called. */
function nameBar() {
  if (person.name !== null) return "";
  const input = el("input", { "aria-label": "your name", placeholder: "your name", title: "Others see it beside your marks", class: "grow", maxLength: 100 });
  const done = (name) => {
    person.name = name;
    bar.remove();
  };
  const bar = el("form", { class: "filter who", onsubmit: (event) => (event.preventDefault(), done(input.value)) },
    el("span", {}, "Who marks here? Others see it beside your marks."), input, el("button", {}, "Save"),
    el("button", { type: "button", class: "plain", onclick: () => done("") }, "No name"));
  return bar;
}

/** The line above the grid: what the newest order would change, or what to do next. */
function changesLine(session) {
  const text = el("span");
  const show = el("button", { class: "main", id: "show-new", hidden: true, onclick: () => session.showNew().catch(fail) }, "Show the new order (R)");

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
    const learning = state.learning ? "learning …" : "";
    if (state.changes) say(`${changesText(state.changes)}. ${learning}`, true);
    else say(learning || hint(session), false);
  });
  return el("div", { class: "changes", "aria-live": "polite" }, text, show);
}

function changesText({ new_marks, entered, top, taken_before, taken }) {
  const marks = new_marks < 0 ? `${many(-new_marks, "mark")} taken back` : many(new_marks, "new mark");
  return [marks, `${entered} of the first ${top} would be new`, `${taken_before.toLocaleString("en")} → ${taken.toLocaleString("en")} to take home`].join("; ");
}

function hint({ state, view }) {
  if (view.sort === "contested") return state.several.contested ? "Crops that two classes claim, the closest first: say of which they are (keys 1 to 9, 0 for none)." : "No crop is claimed by two classes.";
  if (state.several && !state.relevant) return "Say of which class crops are: keys 1 to 9, 0 for none of them.";
  if (view.sort === "audit" && state.estimate.learned) return "The answers of this sample have been learned from.";
  if (view.sort === "audit" && state.audit?.answered === state.audit?.drawn) return "All of the sample is marked: how good the list is stands beside it.";
  if (view.sort === "audit") return "Mark every crop of the sample ✓ or ✗ (keys Y, N). These answers aren't learned from.";
  if (!state.relevant && !state.not_relevant) return "Mark some of the first crops: ✓ relevant, ✗ not relevant (keys Y, N). The order stays as it is until you ask for the new one.";
  const { reason, scale } = state.panel;
  if (scale === "cosine") return reason ? `Ranked by cosine: ${reason}.` : "Ranked by cosine. A few marks of both kinds make a probe.";
  return `Ranked by a probe. ${reason ? `${reason[0].toUpperCase()}${reason.slice(1)}.` : ""}`;
}

function key(session, event) {
  if (event.target.closest?.("input, select, textarea") && event.target.type !== "range" && event.target.type !== "checkbox") return;
  const control = event.ctrlKey || event.metaKey;
  const pressed = event.key.toLowerCase();
  if (control && pressed === "z") session.step(event.shiftKey ? "redo" : "undo");
  else if (control && pressed === "y") session.step("redo");
  else if (control || event.altKey || document.querySelector("dialog[open]")) return;
  else if (pressed === "r" && session.state) session.showNew().catch(fail);
  else return;
  event.preventDefault();
}
