// @ts-check
// A grid of crops of any length: only what is on the screen, and a screen before and after it, is in the document.

import { announce, el } from "./dom.js";

const PAGE = 200;
const GAP = 6;
const EDGE = 8;
const MOST = 2000; // crops in a selection

function fetchPictures(line) {
  for (const picture of line.querySelectorAll("img[data-src]")) {
    picture.src = picture.dataset.src;
    picture.removeAttribute("data-src");
  }
}

/** Takes a line away; pictures on their way are given up, or those of a long scroll would hold up the ones on the screen. */
function remove(line) {
  for (const picture of line.querySelectorAll("img")) if (!picture.complete) picture.removeAttribute("src");
  line.remove();
}

export class Grid {
  /**
   * @param {object} options
   *   label: what the grid is, for screen readers; sizes: sides of thumbnails there are;
   *   marks: whether crops can be marked; onmark(crops, answer), onopen(index), onselect(count);
   *   pending(id): whether a mark of the crop is on its way, which a refresh must not overwrite;
   *   onpick(crop) and picked(id) instead, where crops are picked one by one.
   */
  constructor(options) {
    this.options = options;
    this.space = el("div", { class: "space" });
    this.element = el("div", {
      class: "grid",
      role: "grid",
      "aria-label": options.label,
      "aria-multiselectable": "true",
      tabIndex: 0,
      onscroll: () => this.draw(),
      onkeydown: (event) => this.key(event),
      onfocus: (event) => event.target === this.element && this.total && this.focus(this.current),
    }, this.space);
    this.zoom = 128;
    this.colors = null;
    this.lines = new Map();
    [this.pages, this.total, this.current, this.selected] = [new Map(), 0, 0, new Set()];
    new ResizeObserver(() => this.resize()).observe(this.element);
  }

  /** Shows another list, from its beginning. load(start, count) gives {total, crops}; if it fails, the list stays. Returns whether it is shown. */
  async reset(load) {
    const asked = (this.asked = {});
    this.element.setAttribute("aria-busy", "true");
    try {
      const { total, crops } = await load(0, PAGE).catch((error) => {
        if (asked === this.asked) throw error;
        return {};
      });
      if (asked !== this.asked) return false; // another list has been asked for since
      this.view = asked;
      this.load = load;
      this.pages = new Map([[0, { crops, promise: Promise.resolve() }]]);
      this.total = total;
    } finally {
      if (asked === this.asked) this.element.setAttribute("aria-busy", "false");
    }
    this.current = 0;
    this.clear();
    this.select([]);
    this.element.scrollTop = 0;
    this.resize();
    return true;
  }

  /** Asks again for the pages that are loaded, in place. */
  async refresh() {
    const view = this.view;
    await Promise.all([...this.pages.keys()].map(async (number) => {
      const { crops } = await this.load(number * PAGE, PAGE);
      const loaded = this.pages.get(number)?.crops;
      if (view !== this.view || !loaded) return;
      crops.forEach((crop, place) => {
        if (loaded[place]?.id === crop.id && !this.options.pending?.(crop.id)) Object.assign(loaded[place], crop);
      });
    }));
    if (view === this.view) this.repaint();
  }

  /** The crop at a place, once its page has come. */
  crop(index) {
    return this.pages.get(Math.floor(index / PAGE))?.crops?.[index % PAGE];
  }

  /** Asks for the page of a place, if it isn't there. */
  ready(index) {
    return this.page(Math.floor(index / PAGE));
  }

  async page(number) {
    if (number < 0 || (this.total && number * PAGE >= this.total)) return;
    if (this.pages.has(number)) return this.pages.get(number).promise;
    /** @type {any} */
    const entry = {};
    const view = this.view;
    this.pages.set(number, entry);
    entry.promise = this.load(number * PAGE, PAGE).then(({ total, crops }) => {
      if (view !== this.view) return;
      entry.crops = crops;
      this.total = total;
    }, (error) => {
      entry.failed = true;
      if (view !== this.view) return;
      this.options.onerror?.(error);
      setTimeout(() => view === this.view && (this.pages.delete(number), this.draw()), 3000); // and not at once, again and again
    });
    await entry.promise;
    if (entry.failed) return;
    // Far pages are dropped again, so that a long scroll doesn't fill the memory.
    if (this.pages.size > 40) {
      const middle = Math.floor(this.firstLine() * this.columns / PAGE);
      const far = [...this.pages.keys()].sort((a, b) => Math.abs(b - middle) - Math.abs(a - middle))[0];
      this.pages.delete(far);
    }
    if (view === this.view) this.resize();
  }

  setZoom(side) {
    const kept = this.firstLine() * this.columns;
    this.zoom = side;
    this.clear();
    this.resize();
    this.element.scrollTop = Math.floor(kept / this.columns) * this.lineHeight;
  }

  clear() {
    for (const line of this.lines.values()) remove(line);
    this.lines.clear();
  }

  /** Draws all that is on the screen anew. */
  repaint() {
    const focused = this.element.contains(document.activeElement) && document.activeElement !== this.element;
    this.clear();
    this.draw();
    this.element.dispatchEvent(new Event("marks"));
    if (focused) this.focus(this.current);
  }

  resize() {
    const width = this.element.clientWidth - 2 * EDGE;
    const cell = this.zoom + 6;
    const columns = Math.max(1, Math.floor((width + GAP) / (cell + GAP)));
    this.small = this.zoom < 80;
    this.lineHeight = cell + GAP + (this.small ? 0 : this.options.marks ? 34 : 18);
    this.element.classList.toggle("small", this.small);
    if (columns !== this.columns) {
      this.columns = columns;
      this.clear();
    }
    const count = Math.ceil(this.total / this.columns);
    this.space.style.height = `${count * this.lineHeight + EDGE}px`;
    this.element.setAttribute("aria-rowcount", count);
    this.element.setAttribute("aria-colcount", this.columns);
    this.draw();
  }

  firstLine() {
    return Math.floor(this.element.scrollTop / (this.lineHeight || 1)) || 0;
  }

  /** Places of what is on the screen. */
  visible() {
    const first = this.firstLine() * this.columns;
    const last = Math.ceil((this.element.scrollTop + this.element.clientHeight) / this.lineHeight) * this.columns;
    return [first, Math.min(this.total, last)];
  }

  draw() {
    if (!this.columns || !this.total) {
      if (!this.total) this.clear();
      return;
    }
    const screen = Math.ceil(this.element.clientHeight / this.lineHeight) + 1;
    const first = Math.max(0, this.firstLine() - screen);
    const last = Math.min(Math.ceil(this.total / this.columns), this.firstLine() + 2 * screen);
    for (const [number, line] of this.lines) {
      if ((number < first || number >= last) && !line.contains(document.activeElement)) {
        remove(line);
        this.lines.delete(number);
      }
    }
    // What is on the screen first, so that its pictures are asked for first.
    const order = [];
    for (let number = first; number < last; number++) order.push(number);
    const middle = this.firstLine() + screen / 2;
    order.sort((a, b) => Math.abs(a - middle) - Math.abs(b - middle));
    for (const number of order) if (!this.lines.has(number)) this.drawLine(number);
    // Pictures of what is on the screen at once; of what is near it when the scrolling has come to rest.
    const [from, to] = this.visible();
    for (const [number, line] of this.lines) if ((number + 1) * this.columns > from && number * this.columns < to) fetchPictures(line);
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.lines.forEach(fetchPictures), 150);
    // By Tab one gets to the current crop; to the grid itself only while that crop isn't in the document.
    this.element.tabIndex = this.cell(this.current) ? -1 : 0;
    const pages = [Math.floor(first * this.columns / PAGE), Math.floor(last * this.columns / PAGE)];
    for (let number = pages[0]; number <= pages[1]; number++) this.page(number);
  }

  drawLine(number) {
    const cells = [];
    const end = Math.min(this.total, (number + 1) * this.columns);
    for (let index = number * this.columns; index < end; index++) {
      if (!this.crop(index)) return; // its page is on the way
      cells.push(this.drawCell(index));
    }
    const line = el("div", { class: "line", role: "row", "aria-rowindex": number + 1 }, ...cells);
    line.style.top = `${number * this.lineHeight + EDGE}px`;
    // In order, for those who read the document from the top.
    const after = [...this.lines.keys()].filter((other) => other > number);
    this.space.insertBefore(line, after.length ? this.lines.get(Math.min(...after)) : null);
    this.lines.set(number, line);
  }

  drawCell(index) {
    const crop = this.crop(index);
    const needed = this.zoom * (window.devicePixelRatio || 1);
    const sizes = this.options.sizes;
    const size = sizes.find((side) => side >= needed) || sizes[sizes.length - 1];
    const picture = el("img", { alt: "", draggable: false, decoding: "async", "data-src": `/thumb/${crop.id}/${size}` });
    picture.addEventListener("error", () => picture.replaceWith(el("span", { class: "broken" }, "can't be read")));
    const score = crop.score == null ? "" : crop.score.toFixed(3);
    const thumbs = !this.options.marks ? null : el("span", { class: "thumbs" },
      el("button", { class: "no", tabIndex: -1, "aria-label": "not relevant", title: "not relevant (N)", onclick: (event) => this.mark(event, index, false) }, "✗"),
      el("button", { class: "yes", tabIndex: -1, "aria-label": "relevant", title: "relevant (Y)", onclick: (event) => this.mark(event, index, true) }, "✓"));
    if (thumbs) thumbs.style.top = `${this.zoom - 38}px`;
    const cell = el("div", {
      class: "cell",
      role: "gridcell",
      tabIndex: index === this.current ? 0 : -1,
      "data-index": index,
      "data-crop": crop.id,
      title: [crop.label, score].filter(Boolean).join(" · "),
      onclick: (event) => this.click(event, index),
      ondblclick: () => this.options.onopen?.(index),
      onfocus: () => this.setCurrent(index),
    }, picture, thumbs, score && el("span", { class: "text" }, score), el("span", { class: "text faint" }, crop.label));
    cell.style.width = `${this.zoom + 6}px`;
    this.paint(cell, index);
    return cell;
  }

  /** Brings mark, selection and border of a cell up to date. */
  paint(cell, index) {
    const crop = this.crop(index);
    if (!crop) return;
    cell.classList.toggle("yes", crop.mark === true);
    cell.classList.toggle("no", crop.mark === false);
    cell.classList.toggle("sampled", Boolean(crop.sampled));
    cell.setAttribute("aria-selected", this.options.picked ? this.options.picked(crop.id) : this.selected.has(index));
    const border = this.colors?.get(crop.label) || (this.colors && crop.label === "" ? "#969696" : "");
    if (border) cell.style.setProperty("--border", border);
    else cell.style.removeProperty("--border");
    const mark = crop.mark === true ? ", marked relevant" : crop.mark === false ? ", marked not relevant" : crop.sampled ? ", in the random sample" : "";
    const score = crop.score == null ? "" : `, score ${crop.score.toFixed(3)}`;
    cell.setAttribute("aria-label", `${index + 1}. ${crop.label || "no class"}${score}${mark}`);
  }

  cell(index) {
    return this.space.querySelector(`[data-index="${index}"]`);
  }

  paintAll() {
    this.element.dispatchEvent(new Event("marks"));
    for (const line of this.lines.values()) for (const cell of line.children) this.paint(cell, Number(cell.dataset.index));
  }

  setCurrent(index) {
    const before = this.cell(this.current);
    if (before) before.tabIndex = -1;
    this.current = index;
    const cell = this.cell(index);
    if (cell) cell.tabIndex = 0;
  }

  /** Brings a place onto the screen and the focus to it. */
  async focus(index) {
    index = Math.max(0, Math.min(this.total - 1, index));
    await this.ready(index);
    const top = Math.floor(index / this.columns) * this.lineHeight;
    const height = this.element.clientHeight;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top + this.lineHeight > this.element.scrollTop + height) this.element.scrollTop = top + this.lineHeight - height;
    this.draw();
    this.setCurrent(index);
    this.cell(index)?.focus({ preventScroll: true });
  }

  select(indices) {
    this.selected = new Set(indices);
    this.paintAll();
    this.options.onselect?.(this.selected.size);
  }

  /** Crops of the selection, by place; asks for those that were never on the screen. */
  async chosen() {
    const indices = [...this.selected].sort((a, b) => a - b);
    await Promise.all([...new Set(indices.map((index) => Math.floor(index / PAGE)))].map((number) => this.page(number)));
    return indices.map((index) => this.crop(index)).filter(Boolean);
  }

  range(from, to) {
    let [first, last] = from < to ? [from, to] : [to, from];
    if (last - first >= MOST) {
      [first, last] = from < to ? [from, from + MOST - 1] : [from - MOST + 1, from];
      announce(`at most ${MOST} crops are selected at once`);
    }
    return Array.from({ length: last - first + 1 }, (_, place) => first + place);
  }

  click(event, index) {
    if (this.options.onpick) this.options.onpick(this.crop(index));
    else if (event.shiftKey) this.select(this.range(this.anchor ?? this.current, index));
    else if (event.ctrlKey || event.metaKey) {
      const chosen = new Set(this.selected);
      if (!chosen.delete(index)) chosen.add(index);
      this.select(chosen);
      this.anchor = index;
    } else {
      this.select([index]);
      this.anchor = index;
    }
    this.setCurrent(index);
    this.cell(index)?.focus({ preventScroll: true });
  }

  mark(event, index, answer) {
    event.stopPropagation();
    const crop = this.crop(index);
    const several = this.selected.has(index) && this.selected.size > 1;
    if (several) this.markSelection(answer);
    else this.options.onmark?.([crop], crop.mark === answer ? null : answer);
    this.setCurrent(index);
    this.cell(index)?.focus({ preventScroll: true });
  }

  selectVisible() {
    const [first, last] = this.visible();
    if (last > first) this.select(this.range(first, last - 1));
  }

  /** Marks all that is selected, as one action; `marking` is done when it is under way, and what comes after it has to wait. */
  markSelection(answer) {
    this.marking = this.chosen().then((crops) => crops.length && this.options.onmark?.(crops, answer));
    return this.marking;
  }

  /** Marks the selection, or the current crop, and goes on to the next. */
  markKey(answer) {
    const last = this.selected.size ? Math.max(...this.selected) : this.current;
    if (this.selected.size) this.markSelection(answer);
    else if (this.crop(last)) this.options.onmark?.([this.crop(last)], answer);
    this.select([]);
    if (last + 1 < this.total) this.focus(last + 1);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const screen = Math.max(1, Math.floor(this.element.clientHeight / this.lineHeight)) * this.columns;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, PageDown: screen, PageUp: -screen };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const onButton = event.target.tagName === "BUTTON";
    if (key in steps || key === "Home" || key === "End") {
      const to = key === "Home" ? 0 : key === "End" ? this.total - 1 : this.current + steps[key];
      if (to < 0 || to >= this.total) {
        event.preventDefault();
        return;
      }
      if (event.shiftKey && !this.options.onpick) {
        this.anchor = this.selected.size ? this.anchor ?? this.current : this.current;
        this.select(this.range(this.anchor, to));
      } else if (this.selected.size) this.select([]);
      this.focus(to);
    } else if (key === "Enter" && !onButton) this.options.onopen?.(this.current);
    else if (key === " " && !onButton && this.options.onpick) this.options.onpick(this.crop(this.current));
    else if (key === " " && !onButton) {
      const chosen = new Set(this.selected);
      if (!chosen.delete(this.current)) chosen.add(this.current);
      this.select(chosen);
      this.anchor = this.current;
    } else if (key === "a" && !this.options.onpick) this.selectVisible();
    else if (key === "Escape" && this.selected.size) this.select([]);
    else if (this.options.marks && (key === "y" || key === "1")) this.markKey(true);
    else if (this.options.marks && (key === "n" || key === "0")) this.markKey(false);
    else if (this.options.marks && key === "u") this.markKey(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
