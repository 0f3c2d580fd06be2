// @ts-check
// The crop in its photo, with its box and those of the other crops in it.

import { get } from "./api.js";
import { announce, byId, el, fail, svg } from "./dom.js";
import { bareButton } from "./icons.js";
import { T } from "./text.js";

/** Opens the dialog for the crop at a place of a grid; with marks, Y and N mark it. */
export async function openCrop(grid, index) {
  const dialog = byId("crop");
  let at = index;
  let unfolded = false; // the facts, kept from crop to crop
  let known = {}; // what the server said of the crop that is shown
  let zoomed = true; // on the crop, or all of the photo; kept from crop to crop
  const box = el("div");
  dialog.replaceChildren(box);

  async function draw() {
    const crop = grid.crop(at);
    if (!crop) return;
    if (known.id !== crop.id) {
      box.replaceChildren(el("p", { class: "faint" }, T.loading));
      if (!dialog.open) dialog.showModal();
      let facts;
      try {
        facts = await get(`api/crops/${crop.id}`);
      } catch (error) {
        facts = { facts: { crop_id: crop.id }, error };
      }
      if (grid.crop(at) !== crop) return;
      known = { id: crop.id, ...facts };
      known.view = facts.error ? null : photoView(crop.id, facts, zoomed, (value) => (zoomed = value));
    }
    const found = known;
    const picture = found.error ? el("p", {}, found.error.message) : found.view.element;
    const marked = T.photo.state(crop.mark);
    const facts = Object.entries(found.facts).filter(([, value]) => value !== null);
    const { marks, onmark, onmore, onclass, classNames = () => [] } = grid.options;
    const mark = (answer) => onmark([crop], crop.mark === answer ? null : answer);
    const more = (answer) => {
      dialog.close();
      onmore(crop, answer);
    };
    dialog.tabIndex = -1;
    dialog.focus(); // what had it is replaced; the keys go on working
    box.replaceChildren(
      picture,
      el("div", { class: "row" },
        el("button", { onclick: () => step(-1), "aria-label": T.photo.previous }, "←"),
        el("button", { onclick: () => step(1), "aria-label": T.photo.next }, "→"),
        ...(found.view ? found.view.buttons : []),
        ...(marks ? classNames().map((name, place) => el("button", { onclick: () => onclass([crop], place + 1), "aria-pressed": String(crop.of === name) }, `${place + 1} ${name}`)) : []),
        ...(marks ? [
          el("button", { onclick: () => mark(true), "aria-pressed": String(crop.mark === true) }, `✓ ${T.list.relevant}`),
          el("button", { onclick: () => mark(false), "aria-pressed": String(crop.mark === false) }, `✗ ${T.list.notRelevant}`),
          el("button", { onclick: () => more(true) }, T.photo.more),
          el("button", { onclick: () => more(false) }, T.photo.less),
          el("span", { class: "faint" }, [marked, crop.by && T.photo.by(crop.by), crop.disputed && T.list.disputed].filter(Boolean).join(", "))] : []),
        el("button", { onclick: () => dialog.close() }, T.close)),
      el("details", { open: unfolded, ontoggle: (event) => (unfolded = event.target.open) }, el("summary", {}, T.photo.facts),
        el("table", {}, ...facts.map(([name, value]) => el("tr", {}, el("td", { class: "faint" }, name), el("td", {}, String(value)))))));
    found.view?.fit();
  }

  async function step(by) {
    const to = at + by;
    if (to < 0 || to >= grid.total) return;
    if (!grid.crop(to)) await grid.pages.ready(to);
    at = to;
    draw();
  }

  /** A key marks what is looked at: nothing while the next crop is on its way. */
  function answer(relevant, onward = true, mark = grid.options.onmark) {
    const crop = grid.crop(at);
    if (!crop || known.id !== crop.id) return announce(T.photo.notMarked);
    mark([crop], relevant);
    if (onward) step(1);
  }

  dialog.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    const { marks } = grid.options;
    if (event.key === "ArrowRight") step(1);
    else if (event.key === "ArrowLeft") step(-1);
    else if (["+", "=", "-"].includes(key) && known.view) known.view.scale(key === "-" ? 1 / 1.4 : 1.4);
    else if (marks && grid.options.several?.() && /^[0-9]$/.test(key)) answer(Number(key), true, grid.options.onclass);
    else if (marks && ["y", "1"].includes(key)) answer(true);
    else if (marks && ["n", "0"].includes(key)) answer(false);
    else if (marks && key === "u") answer(null, false);
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

const MARGIN = 0.25; // of the crop's longer side, shown around it
const MOST_ZOOM = 40;

/** The photo, which can be zoomed and moved: the crop fills it first, in all the pixels that it has. */
function photoView(id, { width, height, box: [left, top, right, bottom], boxes, detail }, zoomed, onzoom) {
  const photo = el("img", { src: `photo/${id}`, alt: "the photo", draggable: false });
  const close = el("img", { class: "detail", src: `detail/${id}`, alt: "", draggable: false });
  const frame = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...boxes.map((other) => rectangle(other.box, other.id === id)));
  const sheet = el("div", { class: "sheet" }, photo, close, frame);
  const element = el("div", { class: "photo zoom", role: "img", "aria-label": "the crop in its photo" }, sheet);
  let zoom = 1; // screen pixels a photo pixel
  let x = 0; // photo pixel at the middle
  let y = 0;

  function place() {
    const { clientWidth, clientHeight } = element;
    const least = Math.min(clientWidth / width, clientHeight / height);
    zoom = Math.max(least, Math.min(zoom, MOST_ZOOM));
    const half = [clientWidth / zoom / 2, clientHeight / zoom / 2];
    x = 2 * half[0] >= width ? width / 2 : Math.min(width - half[0], Math.max(half[0], x));
    y = 2 * half[1] >= height ? height / 2 : Math.min(height - half[1], Math.max(half[1], y));
    const set = (style, [a, b, c, d]) => Object.assign(style, { left: `${a}px`, top: `${b}px`, width: `${c}px`, height: `${d}px` });
    set(sheet.style, [(half[0] - x) * zoom, (half[1] - y) * zoom, width * zoom, height * zoom]);
    const [a, b, c, d] = detail;
    set(close.style, [a * zoom, b * zoom, (c - a) * zoom, (d - b) * zoom]);
  }

  function fit(whole = !zoomed) {
    [x, y] = whole ? [width / 2, height / 2] : [(left + right) / 2, (top + bottom) / 2];
    const side = (1 + 2 * MARGIN) * Math.max(right - left, bottom - top);
    zoom = whole ? 0 : Math.min(element.clientWidth, element.clientHeight) / side;
    place();
  }

  /** Zooms by a factor; the photo pixel under a point of the screen stays there. */
  function scale(factor, event) {
    const frame = element.getBoundingClientRect();
    const from = event ? [event.clientX - frame.left - frame.width / 2, event.clientY - frame.top - frame.height / 2] : [0, 0];
    const before = zoom;
    zoom *= factor;
    place();
    x += from[0] / before - from[0] / zoom;
    y += from[1] / before - from[1] / zoom;
    place();
  }

  element.addEventListener("wheel", (event) => {
    event.preventDefault();
    scale(event.deltaY < 0 ? 1.2 : 1 / 1.2, event);
  }, { passive: false });
  element.addEventListener("pointerdown", (event) => element.setPointerCapture(event.pointerId));
  element.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    x -= event.movementX / zoom;
    y -= event.movementY / zoom;
    place();
  });
  element.addEventListener("dblclick", (event) => scale(2, event));
  const to = (whole) => () => {
    onzoom(!whole);
    fit(whole);
  };
  const buttons = [el("button", { onclick: to(false) }, T.photo.crop), el("button", { onclick: to(true) }, T.photo.whole),
    bareButton("plus", T.photo.zoomIn, { onclick: () => scale(1.4) }), bareButton("minus", T.photo.zoomOut, { onclick: () => scale(1 / 1.4) })];
  return { element, buttons, fit: () => fit(), scale };
}

function rectangle([left, top, right, bottom], chosen) {
  return svg("rect", { x: left, y: top, width: right - left, height: bottom - top, class: chosen ? "this" : "" });
}
