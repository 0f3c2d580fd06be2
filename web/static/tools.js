// @ts-check
// The tools above the grid: order, undo, marking what is selected, size, colours, filter, map.

import { person } from "./api.js";
import { el, fail } from "./dom.js";
import { queryStrip } from "./examples.js";
import { chips, filterBar } from "./filter.js";
import { openMap } from "./map.js";

const SORTS = [
  ["best", "Best", "highest score first"],
  ["ask", "Ask me", "what teaches the probe most"],
  ["boundary", "Boundary", "where the probe is least sure"],
  ["worst", "Worst", "lowest score first"],
  ["audit", "Random sample", "marked whole, it tells how good the list is; it isn't learned from"],
];
const ONLY = [
  ["", "everything"],
  ["unmarked", "hide marked"],
  ["marked", "only marked"],
  ["mine", "my marks"],
  ["doubtful", "marks worth a second look"],
  ["conflicts", "people disagree"],
];
const NARROW = 800; // px

/** Returns the toolbar, the filter below it, and what limits the list. */
export function toolBar(pool, session) {
  const { grid } = session;
  const sorts = SORTS.map(([sort, name, text]) => el("button", { "aria-pressed": "false", title: text, "data-sort": sort, onclick: () => session.show({ sort }) }, name));
  const only = el("select", { "aria-label": "which crops", onchange: () => {
    const doubtful = only.value === "doubtful";
    const sort = doubtful ? "doubtful" : session.view.sort === "doubtful" ? "best" : session.view.sort;
    session.show({ only: doubtful ? "" : only.value, sort, marked_by: person.name || "" }).then(sayOnly);
  } }, ...ONLY.map(([value, text]) => el("option", { value }, text)));
  const sayOnly = () => (only.value = session.view.sort === "doubtful" ? "doubtful" : session.view.only);
  const undo = el("button", { title: "Undo (Ctrl+Z)", "aria-label": "Undo", onclick: () => session.step("undo") }, "↶");
  const redo = el("button", { title: "Redo (Ctrl+Shift+Z)", "aria-label": "Redo", onclick: () => session.step("redo") }, "↷");
  const stepped = el("span", { class: "faint stepped", "aria-hidden": "true" });
  session.addEventListener("stepped", (event) => {
    stepped.textContent = event.detail;
    clearTimeout(stepped.timer);
    stepped.timer = setTimeout(() => (stepped.textContent = ""), 6000);
  });
  const zoom = el("input", { type: "range", min: 48, max: 320, step: 8, "aria-label": "size of the crops", oninput: () => {
    grid.setZoom(Number(zoom.value));
    localStorage.setItem("zoom", zoom.value);
  } });
  zoom.value = localStorage.getItem("zoom") || (innerWidth < NARROW ? 104 : 128);
  grid.zoom = Number(zoom.value);
  const colours = el("input", { type: "checkbox", checked: localStorage.getItem("colours") !== "no", onchange: () => {
    localStorage.setItem("colours", colours.checked ? "yes" : "no");
    paint();
  } });
  const filter = filterBar(pool.columns, (conditions) => session.filter(conditions), session.conditions);
  const limits = el("div", { class: "chips", "aria-live": "polite" });
  filter.hidden = true;
  const filterButton = el("button", { "aria-pressed": "false", onclick: () => {
    filter.hidden = !filter.hidden;
    filterButton.setAttribute("aria-pressed", String(!filter.hidden));
    if (!filter.hidden) filter.condition.focus();
  } }, "Filter");
  const mark = (answer) => (grid.choice.selected.size ? grid.choice.markSelection(answer) : grid.choice.markKey(answer));
  const actions = [{ name: "Show only these", act: (_, selection) => session.show({ among: selection }) }];
  const chosen = el("span", { class: "faint", role: "status" });

  function paint() {
    const classes = colours.checked ? pool.classes : [];
    grid.colors = classes.length ? new Map(classes.map(({ name, color }) => [name, color])) : null;
    grid.paintAll();
    session.tell("colors");
  }

  function drawLimits() {
    const { view, conditions, state } = session;
    const parts = conditions.map((text, place) => ({ text, off: () => session.filter(conditions.filter((_, other) => other !== place)) }));
    if (view.among) parts.push({ text: "map selection", off: () => session.show({ among: "" }) });
    if (view.only) parts.push({ text: ONLY.find(([value]) => value === view.only)[1], off: () => session.show({ only: "" }) });
    const whole = ["best", "worst", "boundary"].includes(view.sort) && state?.panel ? ` of ${state.panel.crops.toLocaleString("en")}` : "";
    limits.replaceChildren(...chips(parts, `${grid.total.toLocaleString("en")}${whole} crops`).filter(Boolean));
  }

  grid.options.onselect = (count) => (chosen.textContent = count > 1 ? `${count} selected` : "");
  session.addEventListener("view", () => {
    sorts.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.sort === session.view.sort)));
    sayOnly();
    filter.say(session.conditions);
    drawLimits();
  });
  session.addEventListener("state", () => {
    undo.disabled = !session.state.can_undo;
    redo.disabled = !session.state.can_redo;
    const { conflicts } = session.state;
    only.lastChild.textContent = conflicts ? `people disagree (${conflicts})` : "people disagree";
    cutAt(session.state.panel?.threshold);
  });
  session.addEventListener("threshold", ({ detail }) => cutAt(detail));

  /** Draws the threshold where the list is in the order of the score. */
  function cutAt(threshold) {
    const cut = ["best", "worst"].includes(session.view.sort) ? threshold ?? null : null;
    if (cut === grid.cut) return;
    grid.cut = cut;
    grid.paintAll();
  }
  const bar = el("div", { class: "bar", role: "toolbar", "aria-label": "Tools" }, queryStrip(pool, session),
    el("span", { class: "group", role: "group", "aria-label": "Order" }, ...sorts), only,
    el("span", { class: "group", role: "group", "aria-label": "History" }, undo, redo), stepped,
    el("span", { class: "group", role: "group", "aria-label": "Mark" }, el("button", { title: "Select all visible (A), then mark them together", onclick: () => grid.choice.selectVisible() }, "All visible"),
    el("button", { onclick: () => mark(true), title: "Mark the selection relevant (Y)" }, "✓"),
    el("button", { onclick: () => mark(false), title: "Mark the selection not relevant (N)" }, "✗")),
    zoom, el("label", { class: "row" }, colours, "class colours"), filterButton,
    el("button", { onclick: () => openMap(pool, session.name, actions).catch(fail) }, "Map"), chosen);
  return { bar, filter, chips: limits, paint };
}
