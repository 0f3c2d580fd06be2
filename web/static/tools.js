// @ts-check
// The tools above a session's grid, in groups: examples, view, marks, display.

import { person } from "./api.js";
import { inWords } from "./conditions.js";
import { el, roving } from "./dom.js";
import { queryStrip } from "./examples.js";
import { chips } from "./facets.js";
import { bareButton, iconButton } from "./icons.js";
import { T } from "./text.js";

const NARROW = 800; // px

/** A slider for the size of a grid's pictures, kept from visit to visit. */
export function sizeSlider(grid, wide = 128, narrow = 104) {
  const slider = el("input", { type: "range", min: 48, max: 320, step: 8, "aria-label": T.list.size, title: T.list.size, oninput: () => {
    grid.setZoom(Number(slider.value));
    localStorage.setItem("zoom", slider.value);
  } });
  slider.value = localStorage.getItem("zoom") || String(innerWidth < NARROW ? narrow : wide);
  grid.zoom = Number(slider.value);
  return slider;
}

/** Returns the toolbar, and what limits the list. sides: see `withSides`. */
export function toolBar(pool, session, sides) {
  const { grid } = session;
  const sorts = T.list.sorts.map(([sort, name, text]) => el("button", { "aria-pressed": "false", title: text, "data-sort": sort, onclick: () => session.show({ sort }) }, name));
  const only = el("select", { "aria-label": T.list.which, title: T.list.which, onchange: () => {
    const doubtful = only.value === "doubtful";
    const sort = doubtful ? "doubtful" : session.view.sort === "doubtful" ? "best" : session.view.sort;
    session.show({ only: doubtful ? "" : only.value, sort, marked_by: person.name || "" }).then(sayOnly);
  } }, ...T.list.only.map(([value, text]) => el("option", { value }, text)));
  const sayOnly = () => (only.value = session.view.sort === "doubtful" ? "doubtful" : session.view.only);
  const undo = bareButton("undo", T.undo, { onclick: () => session.step("undo") }, `${T.undo} (Ctrl+Z)`);
  const redo = bareButton("redo", T.redo, { onclick: () => session.step("redo") }, `${T.redo} (Ctrl+Shift+Z)`);
  const stepped = el("span", { class: "stepped", "aria-hidden": "true" });
  session.addEventListener("stepped", (event) => {
    stepped.textContent = event.detail;
    clearTimeout(stepped.timer);
    stepped.timer = setTimeout(() => (stepped.textContent = ""), 6000);
  });
  const frames = bareButton("frames", T.list.frames, { class: "rest", onclick: () => {
    localStorage.setItem("frames", localStorage.getItem("frames") === "yes" ? "no" : "yes");
    paint();
  } });
  const limits = el("div", { class: "chips", "aria-live": "polite" });
  const mark = (answer) => (grid.choice.selected.size ? grid.choice.markSelection(answer) : grid.choice.markKey(answer));
  const chosen = el("span", { class: "faint", role: "status" });

  function paint() {
    const on = localStorage.getItem("frames") === "yes";
    frames.setAttribute("aria-pressed", String(on));
    grid.colors = on && pool.classes.length ? grid.classColors : null;
    grid.paintAll();
  }

  function drawLimits() {
    const { view, conditions, state } = session;
    const parts = conditions.map((text, place) => ({ text: inWords(text), off: () => session.filter(conditions.filter((_, other) => other !== place)) }));
    if (view.among) parts.push({ text: T.filter.onMap, off: () => session.show({ among: "" }) });
    if (view.only) parts.push({ text: T.list.only.find(([value]) => value === view.only)[1], off: () => session.show({ only: "" }) });
    if (view.sort === "audit") return limits.replaceChildren(el("span", { class: "faint", role: "status" }, `${T.filter.left(grid.total, 0)} ${T.filter.notOfSample}`));
    const whole = parts.length && ["best", "worst", "boundary"].includes(view.sort) ? state?.panel?.crops : 0;
    limits.replaceChildren(...chips(parts, parts.length || view.sort !== "best" ? T.filter.left(grid.total, whole) : "", () => session.filter([], { among: "", only: "" })));
  }

  grid.options.onselect = (count) => (chosen.textContent = count > 1 ? T.list.selected(count) : "");
  session.addEventListener("view", () => {
    sayOnly();
    drawLimits();
  });
  // Pressed at once, before the list is there.
  session.addEventListener("wanted", () => sorts.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.sort === session.wanted.sort))));
  session.addEventListener("state", () => {
    undo.disabled = !session.state.can_undo;
    redo.disabled = !session.state.can_redo;
    only.lastChild.textContent = T.list.disagree(session.state.conflicts);
    const { panel } = session.state;
    grid.scores = panel ? (panel.scale === "cosine" ? [panel.low, panel.high] : [0, 1]) : null;
    cutAt(panel?.threshold);
  });
  session.addEventListener("threshold", ({ detail }) => cutAt(detail));

  /** Draws the threshold where the list is in the order of the score. */
  function cutAt(threshold) {
    const cut = ["best", "worst"].includes(session.view.sort) ? threshold ?? null : null;
    if (cut === grid.cut) return;
    grid.cut = cut;
    grid.paintAll();
  }
  const group = (name, ...parts) => el("span", { class: "tools", role: "group", "aria-label": name }, ...parts);
  const slider = sizeSlider(grid);
  slider.classList.add("rest");
  const more = bareButton("dots", T.list.moreTools, { class: "phone", "aria-expanded": "false", onclick: () => more.setAttribute("aria-expanded", String(bar.classList.toggle("all"))) });
  const bar = roving(el("div", { class: "bar", role: "toolbar", "aria-label": T.list.tools }, queryStrip(pool, session),
    group(T.list.view, el("span", { class: "group orders", role: "group", "aria-label": T.list.order }, ...sorts), only, ...sides.buttons),
    group(T.list.marking, el("span", { class: "group" }, bareButton("yes", T.list.yes, { class: "yes", onclick: () => mark(true) }, T.list.yesHint), bareButton("no", T.list.no, { class: "no", onclick: () => mark(false) }, T.list.noHint)),
      iconButton("select", T.list.selectVisible, { class: "rest", onclick: () => grid.choice.selectVisible() }, T.list.selectVisibleHint)),
    more, group(T.list.display, slider, frames), chosen, stepped));
  return { bar, chips: limits, paint, history: el("span", { class: "group", role: "group", "aria-label": T.list.history }, undo, redo) };
}
