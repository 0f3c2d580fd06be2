// @ts-check
// One picture of a grid: the picture, its class, its score, its marks, its buttons.

import { UNLABELLED, dot, el, middleCut } from "./dom.js";
import { icon } from "./icons.js";
import { T } from "./text.js";

/** A cell for the crop at a place. */
export function drawCell(grid, index) {
  const crop = grid.crop(index);
  const needed = grid.side * (window.devicePixelRatio || 1);
  const sizes = grid.options.sizes;
  const size = sizes.find((side) => side >= needed) || sizes[sizes.length - 1];
  const picture = el("img", { alt: "", draggable: false, decoding: "async", "data-src": `thumb/${crop.id}/${size}` });
  picture.addEventListener("error", () => picture.replaceWith(el("span", { class: "broken" }, T.cantRead)));
  const button = (kind, name, hint, act) => el("button", { class: kind, tabIndex: -1, "aria-label": name, title: hint, onclick: act }, icon(kind));
  const thumbs = !grid.options.marks ? null : el("span", { class: "thumbs" },
    button("more", T.list.more, T.list.moreHint, (event) => (event.stopPropagation(), grid.options.onmore(grid.crop(index), true))),
    button("no", T.list.notRelevant, T.list.notRelevantHint, (event) => grid.choice.markAt(event, index, false)),
    button("yes", T.list.relevant, T.list.relevantHint, (event) => grid.choice.markAt(event, index, true)));
  const share = scoreShare(grid, crop);
  const bar = share === null ? null : el("span", { class: "score" }, el("span", {}));
  if (bar) bar.firstChild.style.width = `${100 * share}%`;
  const cell = el("div", {
    class: "cell",
    role: "gridcell",
    tabIndex: index === grid.current ? 0 : -1,
    "data-index": index,
    "data-crop": crop.id,
    onclick: (event) => grid.choice.click(event, index),
    ondblclick: () => grid.options.onopen?.(index),
    onfocus: () => grid.setCurrent(index),
    onpointerenter: () => grid.look(index),
    onpointerleave: () => grid.look(grid.current),
  }, el("span", { class: "picture" }, picture, bar, thumbs, el("span", { class: "badge" }), el("span", { class: "of" })),
  el("span", { class: "text" }, crop.label ? dot(grid.classColors?.get(crop.label) || UNLABELLED) : "", crop.label ? middleCut(crop.label) : ""));
  cell.style.width = `${grid.side + 6}px`;
  paintCell(grid, cell, index);
  return cell;
}

/** How far along the scores a crop is, in [0, 1]; null without a score. */
function scoreShare(grid, crop) {
  if (crop.score === null || crop.score === undefined) return null;
  const [low, high] = grid.scores ?? [0, 1];
  return Math.max(0, Math.min(1, (crop.score - low) / Math.max(1e-9, high - low)));
}

/** Brings mark, selection and frame of a cell up to date. */
export function paintCell(grid, cell, index) {
  const crop = grid.crop(index);
  if (!crop) return;
  cell.classList.toggle("yes", crop.mark === true);
  cell.classList.toggle("no", crop.mark === false);
  cell.classList.toggle("sampled", Boolean(crop.sampled));
  cell.classList.toggle("disputed", Boolean(crop.disputed));
  const cut = isCut(grid, index);
  cell.classList.toggle("cut", cut);
  if (cut) cell.dataset.cut = T.list.cut;
  cell.querySelector(".of").textContent = crop.of ?? "";
  cell.querySelector(".badge").textContent = crop.disputed ? T.list.disputed : crop.new ? T.list.isNew : "";
  cell.setAttribute("aria-selected", grid.options.picked ? grid.options.picked(crop.id) : grid.choice.selected.has(index));
  const border = grid.colors?.get(crop.label) || (grid.colors && crop.label === "" ? UNLABELLED : "");
  if (border) cell.style.setProperty("--border", border);
  else cell.style.removeProperty("--border");
  const known = [
    typeof crop.mark === "boolean" && T.list.marked(crop.mark, crop.by),
    crop.of && T.list.ofClass(crop.of),
    crop.sampled && T.list.sampled,
    crop.disputed && T.list.disputed,
    crop.new && T.list.isNew,
  ].filter(Boolean);
  const score = crop.score === null || crop.score === undefined ? "" : crop.score.toFixed(3);
  cell.setAttribute("aria-label", [T.list.place(index + 1, crop.label || T.list.noClass), score && T.list.score(score), ...known].filter(Boolean).join(", "));
  cell.title = [crop.label, score, ...known].filter(Boolean).join(" · ");
}

/** Whether the threshold lies between a crop and the one before it. */
function isCut(grid, index) {
  if (grid.cut === null || !index) return false;
  const [before, here] = [grid.crop(index - 1)?.score, grid.crop(index)?.score];
  return before != null && here != null && before >= grid.cut !== here >= grid.cut;
}

/** Asks for the pictures of a line. */
export function fetchPictures(line) {
  for (const picture of line.querySelectorAll("img[data-src]")) {
    picture.src = picture.dataset.src;
    picture.removeAttribute("data-src");
  }
}

/** Takes a line away; pictures on their way are given up, or those of a long scroll would hold up the ones on the screen. */
export function removeLine(line) {
  for (const picture of line.querySelectorAll("img")) if (!picture.complete) picture.removeAttribute("src");
  line.remove();
}
