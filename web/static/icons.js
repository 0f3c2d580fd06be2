// @ts-check
// The page's pictograms: lines on a field of 24 x 24, in the colour of the text.

import { el, svg } from "./dom.js";

const LINES = {
  home: "M4 11 12 4l8 7M6 10v10h12V10M10 20v-6h4v6",
  undo: "M9 7 4 12l5 5M4 12h10a6 6 0 0 1 0 8h-2",
  redo: "m15 7 5 5-5 5M20 12H10a6 6 0 0 0 0 8h2",
  yes: "m5 12 5 5L19 7",
  no: "m6 6 12 12M18 6 6 18",
  filter: "M4 5h16l-6 8v6l-4-2v-4z",
  map: "M4 6l5-2 6 2 5-2v14l-5 2-6-2-5 2zM9 4v14M15 6v14",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  more: "M4 9c3-4 6 4 9 0s5-3 7-1M4 16c3-4 6 4 9 0s5-3 7-1",
  select: "M4 8V4h4M16 4h4v4M20 16v4h-4M8 20H4v-4M9 12l2 2 4-4",
  theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  help: "M9 9a3 3 0 1 1 4 3c-1 .5-1 1-1 2M12 18v.1",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  pencil: "m5 19 1-4L16 5l3 3L9 18zM14 7l3 3",
  copy: "M9 9h10v11H9zM6 15H5V4h10v2",
  export: "M12 4v10M8 10l4 4 4-4M5 17v3h14v-3",
  lasso: "M7 15c-6-3-2-10 5-10s10 7 4 9-9 0-8 2 2 3-1 4",
  move: "M12 4v16M4 12h16M9 7l3-3 3 3M9 17l3 3 3-3M7 9l-3 3 3 3M17 9l3 3-3 3",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  frames: "M5 5h14v14H5zM9 9h6v6H9z",
  dots: "M5 12h.1M12 12h.1M19 12h.1",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9v.1",
};

/** A pictogram; what it means stands beside it, or is its button's name. */
export function icon(name) {
  return svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: LINES[name] }));
}

/** A button of a pictogram and, where there is room, its word, which is its name either way. hint: what it does, with its key. */
export function iconButton(name, label, properties = {}, hint = label) {
  return el("button", { type: "button", title: hint, "aria-label": label, ...properties }, icon(name), el("span", { class: "word" }, label));
}

/** A button of a pictogram alone. */
export function bareButton(name, label, properties = {}, hint = label) {
  return el("button", { type: "button", title: hint, "aria-label": label, ...properties, class: `bare ${properties.class || ""}`.trim() }, icon(name));
}
