// @ts-check
// One crop of a grid: its picture, what is known of it, its two buttons.

import { el } from "./dom.js";

const UNLABELLED = "#969696";

/** A cell for the crop at a place. */
export function drawCell(grid, index) {
  const crop = grid.crop(index);
  const needed = grid.zoom * (window.devicePixelRatio || 1);
  const sizes = grid.options.sizes;
  const size = sizes.find((side) => side >= needed) || sizes[sizes.length - 1];
  const picture = el("img", { alt: "", draggable: false, decoding: "async", "data-src": `thumb/${crop.id}/${size}` });
  picture.addEventListener("error", () => picture.replaceWith(el("span", { class: "broken" }, "can't be read")));
  const score = crop.score == null ? "" : crop.score.toFixed(3);
  const thumbs = !grid.options.marks ? null : el("span", { class: "thumbs" },
    el("button", { class: "more", tabIndex: -1, "aria-label": "more like this", title: "More like this: relevant, and show the new order (M; not like this: L)", onclick: (event) => (event.stopPropagation(), grid.options.onmore(grid.crop(index), true)) }, "≈"),
    el("button", { class: "no", tabIndex: -1, "aria-label": "not relevant", title: "not relevant (N)", onclick: (event) => grid.choice.markAt(event, index, false) }, "✗"),
    el("button", { class: "yes", tabIndex: -1, "aria-label": "relevant", title: "relevant (Y)", onclick: (event) => grid.choice.markAt(event, index, true) }, "✓"));
  if (thumbs) thumbs.style.top = `${grid.zoom - 38}px`;
  const cell = el("div", {
    class: "cell",
    role: "gridcell",
    tabIndex: index === grid.current ? 0 : -1,
    "data-index": index,
    "data-crop": crop.id,
    onclick: (event) => grid.choice.click(event, index),
    ondblclick: () => grid.options.onopen?.(index),
    onfocus: () => grid.setCurrent(index),
  }, picture, thumbs, score && el("span", { class: "text" }, score), el("span", { class: "text faint" }, crop.label),
    el("span", { class: "badge" }), el("span", { class: "of" }));
  cell.style.width = `${grid.zoom + 6}px`;
  paintCell(grid, cell, index);
  return cell;
}

/** Brings mark, selection and border of a cell up to date. */
export function paintCell(grid, cell, index) {
  const crop = grid.crop(index);
  if (!crop) return;
  cell.classList.toggle("yes", crop.mark === true);
  cell.classList.toggle("no", crop.mark === false);
  cell.classList.toggle("sampled", Boolean(crop.sampled));
  cell.classList.toggle("disputed", Boolean(crop.disputed));
  cell.classList.toggle("cut", isCut(grid, index));
  cell.querySelector(".of").textContent = crop.of ?? "";
  cell.querySelector(".badge").textContent = crop.disputed ? "people disagree" : crop.new ? "new" : "";
  cell.setAttribute("aria-selected", grid.options.picked ? grid.options.picked(crop.id) : grid.choice.selected.has(index));
  const border = grid.colors?.get(crop.label) || (grid.colors && crop.label === "" ? UNLABELLED : "");
  if (border) cell.style.setProperty("--border", border);
  else cell.style.removeProperty("--border");
  const isMarked = typeof crop.mark === "boolean";
  const known = [
    isMarked && `marked ${crop.mark ? "" : "not "}relevant${crop.by ? ` by ${crop.by}` : ""}`,
    crop.of && `class ${crop.of}`,
    crop.sampled && "in the random sample",
    crop.disputed && "people disagree",
    crop.new && "new",
  ].filter(Boolean);
  const score = crop.score == null ? "" : crop.score.toFixed(3);
  cell.setAttribute("aria-label", [`${index + 1}. ${crop.label || "no class"}`, score && `score ${score}`, ...known].filter(Boolean).join(", "));
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
