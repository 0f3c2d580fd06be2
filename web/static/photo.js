// @ts-check
// The crop in its photo, with its box and those of the other crops in it.

import { get } from "./api.js";
import { byId, el, fail, svg } from "./dom.js";

/** Opens the dialog for the crop at a place of a grid; with marks, Y and N mark it. */
export async function openCrop(grid, index) {
  const dialog = byId("crop");
  let at = index;
  let unfolded = false; // the facts, kept from crop to crop
  let known = {}; // what the server said of the crop that is shown
  const box = el("div");
  dialog.replaceChildren(box);

  async function draw() {
    const crop = grid.crop(at);
    if (!crop) return;
    if (known.id !== crop.id) {
      box.replaceChildren(el("p", { class: "faint" }, "loading …"));
      if (!dialog.open) dialog.showModal();
      let facts;
      try {
        facts = await get(`/api/crops/${crop.id}`);
      } catch (error) {
        facts = { facts: { crop_id: crop.id }, error };
      }
      if (grid.crop(at) !== crop) return;
      known = { id: crop.id, ...facts };
    }
    const found = known;
    const picture = found.error ? el("p", {}, found.error.message) : el("div", { class: "photo" },
      el("img", { src: `/photo/${crop.id}`, alt: "the photo", width: found.width, height: found.height }),
      svg("svg", { viewBox: `0 0 ${found.width} ${found.height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
        ...found.boxes.map((other) => rectangle(other.box, other.id === crop.id))));
    const picked = picture.querySelector?.("img");
    if (picked) picked.style.height = "auto";
    const marked = crop.mark === true ? "relevant" : crop.mark === false ? "not relevant" : "not marked";
    const facts = Object.entries(found.facts).filter(([, value]) => value !== null);
    const mark = (answer) => grid.options.onmark([crop], crop.mark === answer ? null : answer);
    dialog.tabIndex = -1;
    dialog.focus(); // what had it is replaced; the keys go on working
    box.replaceChildren(
      picture,
      el("div", { class: "row" },
        el("button", { onclick: () => step(-1), "aria-label": "previous" }, "←"),
        el("button", { onclick: () => step(1), "aria-label": "next" }, "→"),
        ...(grid.options.marks ? [
          el("button", { onclick: () => mark(true), "aria-pressed": String(crop.mark === true) }, "✓ relevant"),
          el("button", { onclick: () => mark(false), "aria-pressed": String(crop.mark === false) }, "✗ not relevant"),
          el("span", { class: "faint" }, marked)] : []),
        el("button", { onclick: () => dialog.close() }, "Close")),
      el("details", { open: unfolded, ontoggle: (event) => (unfolded = event.target.open) }, el("summary", {}, "What is known of it"),
        el("table", {}, ...facts.map(([name, value]) => el("tr", {}, el("td", { class: "faint" }, name), el("td", {}, String(value)))))));
  }

  async function step(by) {
    const to = at + by;
    if (to < 0 || to >= grid.total) return;
    await grid.pages.ready(to);
    at = to;
    draw();
  }

  function answer(relevant) {
    grid.options.onmark([grid.crop(at)], relevant);
    step(1);
  }

  dialog.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowRight") step(1);
    else if (event.key === "ArrowLeft") step(-1);
    else if (grid.options.marks && ["y", "1"].includes(event.key.toLowerCase())) answer(true);
    else if (grid.options.marks && ["n", "0"].includes(event.key.toLowerCase())) answer(false);
    else if (grid.options.marks && event.key.toLowerCase() === "u") grid.options.onmark([grid.crop(at)], null);
    else return;
    event.preventDefault();
  };
  const redraw = () => draw().catch(fail);
  grid.element.addEventListener("marks", redraw);
  dialog.onclose = () => {
    grid.element.removeEventListener("marks", redraw);
    dialog.replaceChildren();
    grid.focus(at);
  };
  draw().catch(fail);
}

function rectangle([left, top, right, bottom], chosen) {
  return svg("rect", { x: left, y: top, width: right - left, height: bottom - top, class: chosen ? "this" : "" });
}
