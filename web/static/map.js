// @ts-check
// All pictures at places in the plane, alike ones near each other, beside the grid and linked to it. It is drawn by a worker; here
// is what moves, points and selects.

import { get, getBytes, sendRaw } from "./api.js";
import { UNLABELLED, announce, dot, el, fail, middleCut, roving, svg } from "./dom.js";
import { bareButton } from "./icons.js";
import { SIDE, toPlace, toScreen } from "./map_view.js";
import { T } from "./text.js";

const MARKS = [[150, 156, 153], [0, 148, 110], [203, 77, 10]]; // apart for the colour-blind, too
// From blue over teal to yellow, of even steps in lightness; none too dark for a dark ground.
const SCALES = { light: [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [240, 200, 20]], dark: [[98, 84, 176], [76, 122, 190], [60, 170, 165], [122, 209, 105], [253, 231, 37]] };
const RECORDINGS = [[230, 159, 0], [86, 180, 233], [204, 121, 167], [0, 114, 178], [153, 153, 51], [170, 68, 153], [68, 170, 153], [136, 136, 136]];
const LOW = "(max-height: 520px)";
const NEAR = 18; // px within which a point is meant
const MOST = 64; // times nearer
const POINTED = 80; // ms until the picture of what is pointed at is asked for

const rgb = (color) => [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16));
const figure = (score) => String(Number(score.toFixed(2)));
const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;
const along = (scale, share) => {
  const at = share * (scale.length - 1);
  const [from, to] = [scale[Math.floor(at)], scale[Math.min(scale.length - 1, Math.floor(at) + 1)]];
  return from.map((part, place) => Math.round(part + (to[place] - part) * (at % 1)));
};

export class PileMap {
  /**
   * @param {any} pool
   * @param {object} options
   *   asked(): what the state of the list is asked with (session, ranking, where, among, only, marked_by); session "" for none;
   *   onselect({selection, total, crops}): a lasso has caught these.
   */
  constructor(pool, options) {
    this.pool = pool;
    this.options = options;
    this.view = { x: 0.5, y: 0.5, zoom: 1, width: 1, height: 1, ratio: window.devicePixelRatio || 1 };
    this.cross = null; // where the keyboard is, a place
    this.alone = -1;
    this.asking = 0;
    this.element = el("section", { class: "map", "aria-label": T.map.label, hidden: true });
    this.ready = null; // a promise, once it was opened
  }

  get isOpen() {
    return !this.element.hidden;
  }

  /** Opens or closes it. */
  toggle(open = !this.isOpen) {
    this.element.hidden = !open;
    if (open && !this.ready) this.ready = this.start().catch((error) => this.say(error.message));
    else if (open) this.changed();
  }

  build() {
    const isSession = Boolean(this.options.asked().session);
    const kinds = Object.entries(T.map.colors).filter(([kind]) => isSession || !["score", "mark"].includes(kind));
    const kept = sessionStorage.getItem("map colour");
    this.color = el("select", { "aria-label": T.map.color, title: T.map.color, onchange: () => {
      this.alone = -1;
      sessionStorage.setItem("map colour", this.color.value);
      this.paint();
    } }, ...kinds.map(([value, name]) => el("option", { value }, name)));
    if (kinds.some(([value]) => value === kept)) this.color.value = kept;
    const mode = (name, isLasso, hint) => bareButton(name, isLasso ? T.map.select : T.map.move, { "aria-pressed": String(isLasso), onclick: () => {
      this.isLasso = isLasso;
      this.modes.forEach((button, place) => button.setAttribute("aria-pressed", String((place === 0) === isLasso)));
    } }, hint);
    this.isLasso = true;
    this.modes = [mode("lasso", true, T.map.selectHint), mode("move", false, T.map.moveHint)];
    this.status = el("p", { class: "status", role: "status" });
    this.canvas = el("canvas");
    this.line = svg("polyline");
    this.mark = svg("g", { class: "cross" }, svg("path", { d: "M-9 0H9M0-9V9" }), svg("circle", { r: 6 }));
    this.mark.style.display = "none";
    this.overlay = svg("svg", { class: "overlay", "aria-hidden": "true" }, this.line, this.mark);
    this.peek = el("div", { class: "peek", hidden: true }, el("img", { alt: "" }), el("span", {}));
    this.plane = el("div", { class: "plane", tabIndex: 0, role: "application", "aria-label": T.map.keys }, this.canvas, this.overlay, this.peek);
    this.legend = el("div", { class: "legend" });
    const zoom = (factor) => () => this.zoomBy(factor);
    const tools = roving(el("div", { class: "row", role: "toolbar", "aria-label": T.map.label }, el("span", { class: "group" }, ...this.modes),
      el("span", { class: "group" }, bareButton("plus", T.photo.zoomIn, { onclick: zoom(1.6) }), bareButton("minus", T.photo.zoomOut, { onclick: zoom(1 / 1.6) }), bareButton("fit", T.map.fit, { onclick: () => this.fit() })),
      this.color));
    this.element.replaceChildren(tools, this.plane, this.status, this.legend, el("p", { class: "faint" }, T.map.hint));
    this.listen();
  }

  say(text) {
    this.status.hidden = !text;
    this.status.textContent = text;
  }

  async start() {
    this.build();
    const { pool } = this;
    if (!this.canvas.transferControlToOffscreen) throw new Error(T.map.failed);
    let content = null;
    while (!content) {
      const { bytes, progress } = await getBytes("api/map");
      if (!this.element.isConnected) return;
      content = bytes;
      if (progress) this.say(T.map.layingOut(progress.share, progress.seconds_left));
    }
    this.say("");
    this.places = new Uint16Array(content, 0, 2 * pool.crops);
    this.labels = new Int16Array(content, 4 * pool.crops, pool.crops);
    this.recordings = new Uint16Array(content, 6 * pool.crops, pool.crops);
    if (!this.recordings.some((recording) => recording)) this.color.querySelector("[value=recording]")?.remove(); // there is one alone
    this.worker = new Worker(new URL("./map_worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => this.told(data);
    this.worker.onerror = () => this.say(T.map.failed);
    const offscreen = this.canvas.transferControlToOffscreen();
    this.worker.postMessage({ kind: "canvas", canvas: offscreen }, [offscreen]);
    this.answers = new Map(); // id -> what waits for the worker
    this.resize();
    this.watch = new ResizeObserver(() => this.resize());
    this.watch.observe(this.plane);
    this.worker.postMessage({ kind: "points", places: this.places });
    await this.changed();
  }

  /** Gives the worker back. */
  stop() {
    this.watch?.disconnect();
    this.themes?.disconnect();
    this.worker?.terminate();
    this.worker = null;
  }

  told(data) {
    if (data.kind === "drawn") {
      this.plane.dataset.drawn = String(Number(this.plane.dataset.drawn || 0) + 1);
      this.plane.dataset.ms = data.ms.toFixed(1);
      return;
    }
    this.answers.get(data.id)?.(data);
    this.answers.delete(data.id);
  }

  /** Asks the worker. */
  ask(question) {
    const id = ++this.asking;
    return new Promise((resolve) => {
      this.answers.set(id, resolve);
      this.worker.postMessage({ ...question, id });
    });
  }

  /** The list has changed, its order, or what it is limited to. */
  async changed() {
    if (!this.worker || !this.isOpen) return;
    const asked = (this.changing = {});
    const { crops } = this.pool;
    const { bytes } = await getBytes("api/map/state", this.options.asked());
    if (asked !== this.changing || !this.worker) return;
    [this.low, this.high] = new Float32Array(bytes.slice(0, 8));
    this.scores = new Uint8Array(bytes, 8, crops);
    this.marks = new Uint8Array(bytes.slice(8 + crops, 8 + 2 * crops));
    this.worker.postMessage({ kind: "shown", shown: new Uint8Array(bytes, 8 + 2 * crops, crops) });
    this.paint();
  }

  /** Crops were marked, each with its row and mark. */
  marked(crops) {
    if (!this.marks) return;
    for (const { row, mark } of crops) this.marks[row] = mark === true ? 1 : mark === false ? 2 : 0;
    if (this.color.value === "mark") this.paint();
  }

  /** Sends the colours. */
  paint() {
    if (!this.worker || !this.scores) return;
    const { pool } = this;
    const kind = this.color.value;
    const ground = getComputedStyle(this.plane).backgroundColor.match(/\d+/g)?.slice(0, 3).map(Number) ?? [255, 255, 255];
    const isDark = ground[0] + ground[1] + ground[2] < 384;
    this.scale = isDark ? SCALES.dark : SCALES.light;
    const levels = Array.from({ length: 256 }, (_, level) => along(this.scale, level / 255));
    const [keys, colors] = {
      label: () => [this.labels.map((label) => (label < 0 ? pool.classes.length : label)), [...pool.classes.map(({ color }) => rgb(color)), rgb(UNLABELLED)]],
      recording: () => [this.recordings.map((recording) => recording % RECORDINGS.length), RECORDINGS],
      score: () => [this.scores, levels],
      mark: () => [this.marks, MARKS],
      density: () => [this.scores, levels],
    }[kind]();
    this.worker.postMessage({ kind: "ground", ground, faint: isDark ? 0.34 : 0.2 });
    this.worker.postMessage({ kind: "color", keys, palette: new Uint8Array(colors.flat()), alone: this.alone, isDensity: kind === "density" });
    this.drawLegend(kind);
  }

  drawLegend(kind) {
    const entries = { label: () => this.pool.classes.map(({ name, color }) => [name, color]), mark: () => T.map.marks.map((name, place) => [name, css(MARKS[place])]) }[kind]?.();
    if (entries) {
      this.legend.replaceChildren(...entries.map(([name, color], place) => el("button", { class: "plain", "aria-pressed": String(this.alone === place), title: T.map.only(name), onclick: () => {
        this.alone = this.alone === place ? -1 : place;
        this.paint();
        this.legend.children[place]?.focus();
      } }, dot(color), middleCut(name))));
    } else if (kind === "score" || kind === "density") {
      const strip = el("span", { class: "scale", "aria-hidden": "true" });
      strip.style.background = `linear-gradient(to right, ${this.scale.map(css).join(", ")})`;
      const [low, high] = kind === "score" ? [figure(this.low), figure(this.high)] : [T.map.few, T.map.many];
      this.legend.replaceChildren(el("span", {}, low), strip, el("span", {}, high));
    } else this.legend.replaceChildren(el("span", { class: "faint" }, T.map.noRecording));
  }

  resize() {
    const { clientWidth, clientHeight } = this.plane;
    if (!clientWidth || !clientHeight) return;
    Object.assign(this.view, { width: clientWidth, height: clientHeight, ratio: window.devicePixelRatio || 1 });
    this.show();
  }

  /** Shows the view as it is now. */
  show() {
    this.worker?.postMessage({ kind: "view", view: { ...this.view } });
    this.placeCross();
  }

  fit() {
    Object.assign(this.view, { x: 0.5, y: 0.5, zoom: 1 });
    this.show();
  }

  /** Zooms; what lies under the point stays there. */
  zoomBy(factor, at = [this.view.width / 2, this.view.height / 2]) {
    const { view } = this;
    const [x, y] = toPlace(view, ...at);
    view.zoom = Math.max(1, Math.min(MOST, view.zoom * factor));
    const [left, top] = toPlace(view, ...at);
    view.x += x - left;
    view.y += y - top;
    this.clamp();
    this.show();
  }

  clamp() {
    const { view } = this;
    const reach = view.zoom > 1 ? 0.5 : 0;
    view.x = Math.max(0.5 - reach, Math.min(0.5 + reach, view.x));
    view.y = Math.max(0.5 - reach, Math.min(0.5 + reach, view.y));
  }

  moveBy(left, top) {
    const [x, y] = toPlace(this.view, this.view.width / 2 - left, this.view.height / 2 - top);
    Object.assign(this.view, { x, y });
    this.clamp();
    this.show();
  }

  listen() {
    const { plane } = this;
    const at = (event) => {
      const frame = plane.getBoundingClientRect();
      return [event.clientX - frame.left, event.clientY - frame.top];
    };
    const held = new Map(); // pointer -> where it is
    let path = null; // of the lasso, places
    plane.addEventListener("pointerdown", (event) => {
      if (!this.worker) return;
      plane.setPointerCapture(event.pointerId);
      held.set(event.pointerId, at(event));
      path = this.isLasso && event.button === 0 && held.size === 1 ? [toPlace(this.view, ...at(event))] : null;
      this.leave();
    });
    plane.addEventListener("pointermove", (event) => {
      if (!this.worker) return;
      const now = at(event);
      const before = held.get(event.pointerId);
      if (!before) return this.point(now);
      held.set(event.pointerId, now);
      if (held.size === 2) this.pinch([...held.values()], before, now);
      else if (path) {
        path.push(toPlace(this.view, ...now));
        this.line.setAttribute("points", path.map((place) => toScreen(this.view, ...place).join(",")).join(" "));
      } else this.moveBy(now[0] - before[0], now[1] - before[1]);
    });
    for (const end of ["pointerup", "pointercancel"]) plane.addEventListener(end, (event) => {
      if (!held.delete(event.pointerId)) return;
      const drawn = path;
      path = null;
      this.line.setAttribute("points", "");
      if (end === "pointerup" && drawn) this.pick(drawn).catch(fail);
    });
    plane.addEventListener("pointerleave", () => this.leave());
    plane.addEventListener("wheel", (event) => {
      if (matchMedia(LOW).matches) return; // there the page is scrolled
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / 400), at(event));
    }, { passive: false });
    plane.addEventListener("focus", () => plane.matches(":focus-visible") && this.setCross([this.view.x, this.view.y]));
    plane.addEventListener("blur", () => this.setCross(null));
    plane.addEventListener("keydown", (event) => this.key(event));
    this.themes = new MutationObserver(() => this.paint());
    this.themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  pinch(points, before, now) {
    const other = points.find((point) => point !== now) ?? before;
    const length = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]);
    this.zoomBy(length(now) / Math.max(1, length(before)), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
  }

  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const cross = this.cross ?? [this.view.x, this.view.y];
    if (!this.worker || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps) {
      const step = 0.03 / this.view.zoom;
      this.setCross(cross.map((value, place) => Math.max(0, Math.min(1, value + step * steps[event.key][place]))));
      this.point(toScreen(this.view, ...this.cross));
    } else if (event.key === "+" || event.key === "=") this.zoomBy(1.6, toScreen(this.view, ...cross));
    else if (event.key === "-") this.zoomBy(1 / 1.6, toScreen(this.view, ...cross));
    else if (event.key === "Enter") this.pick([cross]).catch(fail);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  setCross(place) {
    this.cross = place;
    this.placeCross();
    if (!place) this.leave();
  }

  /** Shows where the keyboard, or the crop that is looked at in the grid, is. */
  placeCross() {
    const place = this.cross ?? this.looked;
    this.mark.classList.toggle("point", !this.cross);
    this.mark.style.display = place ? "" : "none";
    if (!place) return;
    const [left, top] = toScreen(this.view, ...place);
    this.mark.setAttribute("transform", `translate(${left.toFixed(1)} ${top.toFixed(1)})`);
  }

  /** Rings the point of a crop; null for none. */
  look(row) {
    this.looked = this.places && row !== null && row !== undefined ? [this.places[2 * row] / SIDE, this.places[2 * row + 1] / SIDE] : null;
    if (this.worker) this.placeCross();
  }

  get within() {
    return NEAR / (Math.min(this.view.width, this.view.height) * this.view.zoom);
  }

  /** Shows the picture of what is pointed at, once the pointer rests. */
  point(where) {
    clearTimeout(this.pointing);
    const pointed = (this.pointed = {});
    this.pointing = setTimeout(async () => {
      try {
        const { row } = await this.ask({ kind: "near", at: toPlace(this.view, ...where), within: this.within });
        if (pointed !== this.pointed) return;
        if (row < 0) return this.leave();
        const { id, label } = await get(`api/rows/${row}`);
        if (pointed !== this.pointed) return;
        const [picture, text] = /** @type {any} */ (this.peek.children);
        picture.src = `thumb/${id}/96`;
        text.textContent = label;
        this.peek.dataset.crop = id;
        const [left, top] = toScreen(this.view, this.places[2 * row] / SIDE, this.places[2 * row + 1] / SIDE);
        this.peek.style.left = `${Math.max(0, Math.min(this.view.width - 112, left + 10))}px`;
        this.peek.style.top = `${Math.max(0, Math.min(this.view.height - 128, top + 10))}px`;
        this.peek.hidden = false;
        if (this.cross) announce(label);
      } catch {
        this.leave(); // what can't be shown is no news here
      }
    }, POINTED);
  }

  leave() {
    clearTimeout(this.pointing);
    this.pointed = null;
    if (this.peek) this.peek.hidden = true;
  }

  nothing() {
    this.say(T.map.nothing);
    clearTimeout(this.saying);
    this.saying = setTimeout(() => this.say(""), 3000);
  }

  /** Selects what a lasso caught, or the point at its only place. */
  async pick(path) {
    let bits;
    if (path.length < 4) {
      const { row } = await this.ask({ kind: "near", at: path[0], within: this.within });
      if (row < 0) return this.nothing();
      bits = new Uint8Array(Math.ceil(this.pool.crops / 8));
      bits[row >> 3] = 1 << (row & 7);
    } else {
      const found = await this.ask({ kind: "lasso", polygon: path });
      if (!found.caught) return this.nothing();
      ({ bits } = found);
    }
    this.options.onselect(await sendRaw("api/selections", bits));
  }
}
