// @ts-check
// A grid of crops of any length: only what is on the screen, and a screen before and after it, is in the document.

import { drawCell, fetchPictures, paintCell, removeLine } from "./cells.js";
import { Choice } from "./choice.js";
import { el } from "./dom.js";
import { Pages } from "./pages.js";

const GAP = 6;
const EDGE = 8;
const TEXT = 20; // px below a picture: its class,
const BUTTONS = 44; // and its buttons, where nothing hovers
const SEEN = 250; // ms until a new list can have been seen
const GLIDE = 200; // ms from one event of a scroll by wheel or touch to the next, at most

export class Grid {
  static TALLEST = 8e6; // px; browsers cut taller elements off (Firefox at 17.9 million)

  /**
   * @param {object} options
   *   label: what the grid is, for screen readers; sizes: sides of thumbnails there are;
   *   marks: whether crops can be marked; onmark(crops, answer), onopen(index), onselect(count);
   *   touch: whether buttons stand below the pictures, since nothing hovers;
   *   several(): whether there are several classes, and onclass(crops, place) says of which crops are, 0 for none, null to take it back;
   *   onmore(crop, answer): more like it, or less; onscroll(): another part is looked at;
   *   isNewer(id, time): see `Pages`;
   *   onpick(crop) and picked(id) instead, where crops are picked one by one.
   */
  constructor(options) {
    this.options = options;
    this.pages = new Pages({
      onload: () => this.resize(),
      onerror: options.onerror,
      middle: () => this.first(),
      isNewer: options.isNewer,
    });
    this.choice = new Choice(this);
    this.space = el("div", { class: "space" });
    this.element = el("div", {
      class: "grid",
      role: "grid",
      "aria-label": options.label,
      "aria-multiselectable": "true",
      tabIndex: 0,
      onscroll: () => this.scrolled(),
      onwheel: () => (this.rolled = performance.now()),
      ontouchmove: () => (this.rolled = performance.now()),
      onkeydown: (event) => this.choice.key(event),
      onfocus: (event) => event.target === this.element && this.total && this.focus(this.current),
    }, this.space);
    this.zoom = 128;
    this.colors = null; // of frames: class -> color, null for none
    this.classColors = options.classColors ?? null; // of dots
    this.scores = null; // the lowest and the highest, for their bars
    this.side = this.zoom; // of a picture: as wide as it takes to fill the line
    this.lines = new Map();
    this.current = 0;
    this.rolled = -Infinity; // when it was scrolled by wheel or touch
    this.offset = this.last = 0; // where the list is taller than an element can be; see `scrolled`
    this.replacing = this.held = this.moving = null; // what is under way, while keys mark nothing
    /** @type {number | null} the score from which on crops count, drawn as a line */
    this.cut = null;
    new ResizeObserver(() => this.resize()).observe(this.element);
  }

  get total() {
    return this.pages.total;
  }

  crop(index) {
    return this.pages.crop(index);
  }

  /** Shows another list, from its beginning; see `Pages.open`. */
  async reset(load) {
    const opening = this.pages.open(load);
    const { asked } = this.pages;
    this.replacing = asked;
    this.element.setAttribute("aria-busy", "true");
    let shown = false;
    try {
      shown = await opening;
    } finally {
      // Whoever presses a key too soon has seen the list before; a list that was refused leaves that one.
      if (asked === this.pages.asked) {
        clearTimeout(this.seeing);
        this.seeing = setTimeout(() => asked === this.pages.asked && this.still(), shown ? SEEN : 0);
      }
    }
    if (!shown) return false;
    this.current = 0;
    this.moving = null;
    this.clear();
    this.choice.select([]);
    this.resize();
    this.setTop(0);
    this.draw();
    this.look(0);
    return true;
  }

  still() {
    this.replacing = null;
    this.element.setAttribute("aria-busy", "false");
  }

  /** Lets keys mark nothing until something is done. */
  async hold(work) {
    const held = (this.held = {});
    try {
      await work;
    } finally {
      if (held === this.held) this.held = null;
    }
  }

  /** Asks again for the pages that are loaded, in place. */
  async refresh() {
    if (await this.pages.refresh()) this.repaint();
  }

  setZoom(side) {
    const kept = this.first();
    this.zoom = side;
    this.clear();
    this.resize();
    this.scrollTo(kept);
  }

  /** Whether another list is on its way. */
  get isChanging() {
    return Boolean(this.replacing || this.held);
  }

  /** Whether a key would mark what the person looks at: not while the list or the focus is on its way elsewhere. */
  get isStill() {
    return !this.isChanging && this.moving === null;
  }

  clear() {
    for (const line of this.lines.values()) removeLine(line);
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
    if (width <= 0) return; // it isn't shown
    const kept = this.columns ? this.first() : 0;
    const cell = this.zoom + 6;
    const columns = Math.max(1, Math.floor((width + GAP) / (cell + GAP)));
    const small = this.zoom < 80;
    const side = Math.max(20, Math.floor((width + GAP) / columns) - GAP - 6);
    this.lineHeight = side + 6 + GAP + (small ? 0 : TEXT + (this.options.touch ? BUTTONS : 0));
    this.element.classList.toggle("small", small);
    const isOther = columns !== this.columns || side !== this.side;
    if (isOther) {
      this.columns = columns;
      this.side = side;
      this.clear();
    }
    const count = Math.ceil(this.total / this.columns);
    this.height = count * this.lineHeight + EDGE;
    this.space.style.height = `${Math.min(this.height, Grid.TALLEST)}px`;
    if (this.height <= Grid.TALLEST) this.setOffset(0);
    this.element.setAttribute("aria-rowcount", count);
    this.element.setAttribute("aria-colcount", this.columns);
    if (isOther && kept) this.setTop(Math.floor(kept / columns) * this.lineHeight); // what one looked at stays in sight
    this.draw();
  }

  // Where one is in the list, in pixels. A list that is taller than an element can be is moved under the scroll bar: `offset` is
  // what lies above the element's top. Wheel and touch leave it; a drag of the bar sets it by the bar's place; and when all has come
  // to rest, the bar is put where it belongs.

  get top() {
    return this.element.scrollTop + this.offset;
  }

  /** How far the list can be scrolled, over how far the element can. */
  get ratio() {
    const { clientHeight, scrollHeight } = this.element;
    return Math.max(0, this.height - clientHeight) / Math.max(1, scrollHeight - clientHeight);
  }

  setOffset(offset) {
    if (offset === this.offset) return;
    this.offset = offset;
    for (const [number, line] of this.lines) this.place(line, number);
  }

  /** Scrolls to a place in the list, in pixels. */
  setTop(top) {
    if (this.height <= Grid.TALLEST) this.element.scrollTop = top;
    else {
      top = Math.max(0, Math.min(this.height - this.element.clientHeight, top));
      this.element.scrollTop = top / this.ratio;
      this.setOffset(top - this.element.scrollTop);
    }
    this.last = this.element.scrollTop;
  }

  scrolled() {
    if (this.height > Grid.TALLEST) {
      const { scrollTop } = this.element;
      const now = performance.now();
      if (scrollTop !== this.last) {
        if (now - this.rolled > GLIDE) this.setOffset(scrollTop * (this.ratio - 1));
        else this.rolled = now; // it glides on
      }
      this.last = scrollTop;
      clearTimeout(this.settling);
      this.settling = setTimeout(() => this.setTop(this.top), 300);
    }
    this.draw();
    this.options.onscroll?.();
  }

  /** Brings a crop's line to the top. */
  scrollTo(index) {
    this.setTop(Math.floor(index / this.columns) * this.lineHeight);
    this.draw();
  }

  /** The first crop on the screen. */
  first() {
    return this.firstLine() * this.columns;
  }

  firstLine() {
    return Math.max(0, Math.floor(this.top / (this.lineHeight || 1))) || 0;
  }

  /** Places of what is on the screen. */
  visible() {
    const first = this.firstLine() * this.columns;
    const last = Math.ceil((this.top + this.element.clientHeight) / this.lineHeight) * this.columns;
    return [first, Math.min(this.total, last)];
  }

  /** Places of crops of whose picture at least half is on the screen. */
  seen() {
    const half = EDGE + (this.side + 6) / 2;
    const { top } = this;
    const first = Math.max(0, Math.ceil((top - half) / this.lineHeight));
    const last = Math.floor((top + this.element.clientHeight - half) / this.lineHeight) + 1;
    return [first * this.columns, Math.min(this.total, last * this.columns)];
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
        removeLine(line);
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
    this.pages.readyFrom(first * this.columns, last * this.columns);
  }

  drawLine(number) {
    const cells = [];
    const end = Math.min(this.total, (number + 1) * this.columns);
    for (let index = number * this.columns; index < end; index++) {
      if (!this.crop(index)) return; // its page is on the way
      cells.push(drawCell(this, index));
    }
    const line = el("div", { class: "line", role: "row", "aria-rowindex": number + 1 }, ...cells);
    this.place(line, number);
    // In order, for those who read the document from the top.
    const after = [...this.lines.keys()].filter((other) => other > number);
    this.space.insertBefore(line, after.length ? this.lines.get(Math.min(...after)) : null);
    this.lines.set(number, line);
  }

  place(line, number) {
    line.style.top = `${number * this.lineHeight + EDGE - this.offset}px`;
  }

  cell(index) {
    return this.space.querySelector(`[data-index="${index}"]`);
  }

  /** Brings every cell that is drawn up to date. */
  paintAll() {
    this.element.dispatchEvent(new Event("marks"));
    for (const line of this.lines.values()) for (const cell of line.children) paintCell(this, cell, Number(cell.dataset.index));
  }

  setCurrent(index) {
    const before = this.cell(this.current);
    if (before) before.tabIndex = -1;
    this.current = index;
    const cell = this.cell(index);
    if (cell) cell.tabIndex = 0;
    this.look(index);
  }

  /** Tells which crop is looked at, by its row: what is beside the grid may show it. */
  look(index) {
    this.element.dispatchEvent(new CustomEvent("look", { detail: this.crop(index)?.row }));
  }

  /** Makes a place that is on the screen the current one, with the focus. */
  take(index) {
    this.setCurrent(index);
    this.cell(index)?.focus({ preventScroll: true });
  }

  /**
   * Brings a place onto the screen and the focus to it: at once where its crop is loaded, so that the next key finds it there; as
   * long as it isn't, keys mark nothing.
   */
  async focus(index) {
    index = Math.max(0, Math.min(this.total - 1, index));
    const moving = (this.moving = this.crop(index) ? null : {});
    if (moving) await this.pages.ready(index);
    if (this.moving !== moving) return; // another place was asked for since
    this.moving = null;
    const top = Math.floor(index / this.columns) * this.lineHeight;
    const height = this.element.clientHeight;
    if (top < this.top) this.setTop(top);
    else if (top + this.lineHeight > this.top + height) this.setTop(top + this.lineHeight - height);
    this.draw();
    this.take(index);
  }
}
