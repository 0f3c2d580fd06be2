// @ts-check
// The tools above the grid: order, undo, marking what is selected, size, colours, filter, map.

import { el, fail } from "./dom.js";
import { filterBar } from "./filter.js";
import { openMap } from "./map.js";

const SORTS = [
  ["best", "Best", "highest score first"],
  ["ask", "Ask me", "what teaches the probe most"],
  ["boundary", "Boundary", "where the probe is least sure"],
  ["worst", "Worst", "lowest score first"],
  ["audit", "Random sample", "marked whole, it tells how good the list is; it isn't learned from"],
];
const NARROW = 800; // px

/** Returns the toolbar and the filter below it. */
export function toolBar(pool, session) {
  const { grid } = session;
  const sorts = SORTS.map(([sort, name, text]) => el("button", { "aria-pressed": "false", title: text, "data-sort": sort, onclick: () => session.show({ sort }) }, name));
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
  const filter = filterBar(pool.columns, (where) => session.show({ where }));
  filter.hidden = true;
  const filterButton = el("button", { "aria-pressed": "false", onclick: () => {
    filter.hidden = !filter.hidden;
    filterButton.setAttribute("aria-pressed", String(!filter.hidden));
    if (!filter.hidden) filter.condition.focus();
  } }, "Filter");
  const only = el("button", { hidden: true, onclick: () => session.show({ among: "" }) }, "map selection ✕");
  const mark = (answer) => (grid.choice.selected.size ? grid.choice.markSelection(answer) : grid.choice.markKey(answer));
  const actions = [{ name: "Show only these", act: (_, selection) => session.show({ among: selection }) }];
  const chosen = el("span", { class: "faint", role: "status" });
  const query = el("span", { class: "query", "aria-label": "Query" });

  function paint() {
    const classes = colours.checked ? pool.classes : [];
    grid.colors = classes.length ? new Map(classes.map(({ name, color }) => [name, color])) : null;
    grid.paintAll();
    session.tell("colors");
  }

  function drawQuery() {
    const { crops, uploads } = session.state.facts.query;
    query.append(...crops.slice(0, 6).map((crop) => el("img", { src: `/thumb/${crop}/96`, alt: "query crop", title: "query" })),
      ...uploads.map((upload) => el("img", { src: `/uploads/${upload}`, alt: "query image", title: "query" })));
  }

  grid.options.onselect = (count) => (chosen.textContent = count > 1 ? `${count} selected` : "");
  session.addEventListener("view", () => {
    sorts.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.sort === session.view.sort)));
    only.hidden = !session.view.among;
  });
  session.addEventListener("state", () => {
    undo.disabled = !session.state.can_undo;
    redo.disabled = !session.state.can_redo;
  });
  session.addEventListener("state", drawQuery, { once: true });
  const bar = el("div", { class: "bar", role: "toolbar", "aria-label": "Tools" }, query,
    el("span", { class: "group", role: "group", "aria-label": "Order" }, ...sorts), undo, redo, stepped,
    el("button", { title: "Select all visible (A), then mark them together", onclick: () => grid.choice.selectVisible() }, "All visible"),
    el("button", { onclick: () => mark(true), title: "Mark the selection relevant (Y)" }, "✓"),
    el("button", { onclick: () => mark(false), title: "Mark the selection not relevant (N)" }, "✗"),
    zoom, el("label", { class: "row" }, colours, "class colours"), filterButton, only,
    el("button", { onclick: () => openMap(pool, session.name, actions).catch(fail) }, "Map"), chosen);
  return { bar, filter, paint };
}
