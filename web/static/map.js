// @ts-check
// All crops at places in the plane, alike ones near each other: colour by label, score or mark; a lasso selects.

import { getBytes, send } from "./api.js";
import { byId, classNames, el, fail, many } from "./dom.js";

const MARKS = ["#9aa5a0", "#2fae62", "#d8483e"];

/** Opens the map. session may be ""; chosen(crops, selection) gets what the lasso caught. */
export async function openMap(pool, session, actions) {
  const dialog = byId("map");
  const canvas = el("canvas", { tabIndex: 0, role: "application", "aria-label": "Map. Arrow keys move the cross, Enter picks the crop under it." });
  const colour = el("select", { "aria-label": "colour by" },
    ...[["label", "class"], ["recording", "recording session"], ["score", "score"], ["mark", "mark"]].filter(([value]) => session || ["label", "recording"].includes(value)).map(([value, name]) => el("option", { value }, `colour: ${name}`)));
  const state = el("span", { class: "faint", role: "status" }, "laying out the map; the first time this takes a minute …");
  const peek = el("div", { class: "peek", "aria-live": "polite" });
  const controls = el("div", { class: "row" }, colour, state, el("button", { onclick: () => dialog.close() }, "Close"));
  const legend = el("div", { class: "legend", hidden: !pool.classes.length }, ...classNames(pool.classes));
  dialog.replaceChildren(el("h2", {}, "Map"), controls, canvas, legend, peek,
    el("p", { class: "faint" }, "Alike crops lie near each other; how far apart groups are means nothing. Drag around crops to select them, click one to pick it."));
  dialog.showModal();
  let open = true;
  dialog.onclose = () => {
    open = false;
    watch.disconnect();
    dialog.replaceChildren();
  };

  let content = null;
  let places, labels, recordings, scores, marks;
  const cross = { x: 0.5, y: 0.5 };
  let lasso = [];
  let caught = [];
  const context = canvas.getContext("2d");
  const colours = pool.classes.map(({ color }) => color);
  const watch = new ResizeObserver(() => draw());
  watch.observe(canvas);

  const side = () => ({ width: canvas.clientWidth, height: canvas.clientHeight });
  const at = (row) => {
    const { width, height } = side();
    return [8 + (places[2 * row] / 65535) * (width - 16), 8 + (places[2 * row + 1] / 65535) * (height - 16)];
  };

  function colourOf(row) {
    if (colour.value === "mark") return MARKS[marks[row]];
    if (colour.value === "recording") return `hsl(${(recordings[row] * 137.5) % 360} 65% ${40 + 8 * (recordings[row] % 3)}%)`;
    if (colour.value === "score") return `hsl(${240 - (240 * scores[row]) / 255} 75% 50%)`;
    return colours[labels[row]] || "#8a8f8c";
  }

  function draw() {
    if (!content) return;
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = side();
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    context.scale(ratio, ratio);
    const dot = places.length > 60000 ? 2 : places.length > 10000 ? 3 : 5;
    // One colour after the other: changing the fill is what costs.
    const groups = new Map();
    for (let row = 0; row < labels.length; row++) {
      const fill = colourOf(row);
      if (!groups.has(fill)) groups.set(fill, []);
      groups.get(fill).push(row);
    }
    for (const [fill, rows] of groups) {
      context.fillStyle = fill;
      for (const row of rows) {
        const [x, y] = at(row);
        context.fillRect(x - dot / 2, y - dot / 2, dot, dot);
      }
    }
    context.strokeStyle = getComputedStyle(canvas).color;
    for (const row of caught.slice(0, 4000)) {
      const [x, y] = at(row);
      context.strokeRect(x - dot, y - dot, 2 * dot, 2 * dot);
    }
    if (lasso.length > 1) {
      context.setLineDash([5, 4]);
      context.beginPath();
      lasso.forEach(([x, y], place) => (place ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.stroke();
      context.setLineDash([]);
    }
    if (document.activeElement === canvas && !lasso.length) {
      const [x, y] = [cross.x * width, cross.y * height];
      context.beginPath();
      context.moveTo(x - 9, y);
      context.lineTo(x + 9, y);
      context.moveTo(x, y - 9);
      context.lineTo(x, y + 9);
      context.stroke();
    }
  }

  function nearest(x, y) {
    let best = -1;
    let least = 20 * 20;
    for (let row = 0; row < labels.length; row++) {
      const [left, top] = at(row);
      const distance = (left - x) ** 2 + (top - y) ** 2;
      if (distance < least) [best, least] = [row, distance];
    }
    return best;
  }

  function inside(x, y) {
    let odd = false;
    for (let i = 0, j = lasso.length - 1; i < lasso.length; j = i++) {
      const [[ax, ay], [bx, by]] = [lasso[i], lasso[j]];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
    }
    return odd;
  }

  async function pick(rows) {
    caught = rows;
    draw();
    if (!rows.length) return peek.replaceChildren();
    const { selection, crops } = await send("api/selections", { rows });
    peek.replaceChildren(...crops.slice(0, 8).map((crop) => el("img", { src: `thumb/${crop}/96`, alt: "" })), many(rows.length, "crop"),
      ...actions.map(({ name, act, most }) => el("button", {
        disabled: rows.length > (most || Infinity),
        onclick: () => (dialog.close(), act(crops, selection)),
      }, name)));
  }

  const point = (event) => {
    const frame = canvas.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!content) return;
    canvas.setPointerCapture(event.pointerId);
    lasso = [point(event)];
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!event.buttons || !lasso.length) return;
    lasso.push(point(event));
    draw();
  });
  canvas.addEventListener("pointerup", () => {
    if (!content || !lasso.length) return;
    let rows = [];
    if (lasso.length > 4) for (let row = 0; row < labels.length; row++) if (inside(...at(row))) rows.push(row);
    if (lasso.length <= 4) rows = [nearest(...lasso[0])].filter((row) => row >= 0);
    lasso = [];
    pick(rows).catch(fail);
  });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in steps) {
      cross.x = Math.min(1, Math.max(0, cross.x + 0.02 * steps[event.key][0]));
      cross.y = Math.min(1, Math.max(0, cross.y + 0.02 * steps[event.key][1]));
      draw();
    } else if (event.key === "Enter" && content) {
      const row = nearest(cross.x * side().width, cross.y * side().height);
      pick(row < 0 ? [] : [row]).catch(fail);
    } else return;
    event.preventDefault();
  });
  canvas.addEventListener("focus", draw);
  canvas.addEventListener("blur", draw);
  colour.addEventListener("change", () => {
    legend.hidden = colour.value !== "label" || !pool.classes.length;
    draw();
  });

  try {
    while (open && !content) content = await getBytes("api/map");
    if (!open) return;
    places = new Uint16Array(content, 0, 2 * pool.crops);
    labels = new Int16Array(content, 4 * pool.crops, pool.crops);
    recordings = new Uint16Array(content, 6 * pool.crops, pool.crops);
    if (session) {
      const levels = await getBytes("api/map/scores", { session });
      scores = new Uint8Array(levels, 0, pool.crops);
      marks = new Uint8Array(levels, pool.crops, pool.crops);
    }
    state.textContent = many(pool.crops, "crop");
    draw();
  } catch (error) {
    fail(error);
  }
}

