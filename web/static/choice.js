// @ts-check
// Which crops of a grid are selected, and what keys and clicks do with them.

import { announce } from "./dom.js";
import { T } from "./text.js";

const MOST = 2000; // crops in a selection

export class Choice {
  constructor(grid) {
    this.grid = grid;
    this.selected = new Set(); // places
    this.anchor = null; // where a selection by Shift began
    this.marking = Promise.resolve(); // done when marks of a selection are under way; what comes after them has to wait
  }

  select(indices) {
    this.selected = new Set(indices);
    this.grid.paintAll();
    this.grid.options.onselect?.(this.selected.size);
  }

  toggle(index) {
    const chosen = new Set(this.selected);
    if (!chosen.delete(index)) chosen.add(index);
    this.select(chosen);
    this.anchor = index;
  }

  range(from, to) {
    const first = Math.max(Math.min(from, to), from - MOST + 1);
    const last = Math.min(Math.max(from, to), from + MOST - 1);
    if (Math.abs(to - from) >= MOST) announce(T.list.most(MOST));
    return Array.from({ length: last - first + 1 }, (_, place) => first + place);
  }

  selectVisible() {
    const [first, last] = this.grid.seen();
    if (last > first) this.select(this.range(first, last - 1));
  }

  click(event, index) {
    const { grid } = this;
    if (grid.options.onpick) grid.options.onpick(grid.crop(index));
    else if (event.shiftKey) this.select(this.range(this.anchor ?? grid.current, index));
    else if (event.ctrlKey || event.metaKey) this.toggle(index);
    else {
      this.select([index]);
      this.anchor = index;
    }
    grid.take(index);
  }

  /** A click on a cell's button: marks its crop, or the whole selection that it belongs to. */
  markAt(event, index, answer) {
    event.stopPropagation();
    const crop = this.grid.crop(index);
    if (this.selected.has(index) && this.selected.size > 1) this.markSelection(answer);
    else this.grid.options.onmark([crop], crop.mark === answer ? null : answer);
    this.grid.take(index);
  }

  /** Marks all that is selected, as one action. */
  markSelection(answer, mark = this.grid.options.onmark) {
    if (this.grid.replacing) return Promise.resolve(announce(T.list.notMarked));
    const indices = [...this.selected].sort((a, b) => a - b);
    this.marking = this.grid.pages.crops(indices).then((crops) => {
      if (crops.length) mark(crops, answer);
    });
    return this.marking;
  }

  /** Marks the selection, or the current crop, and goes on to the next. */
  markKey(answer, mark = this.grid.options.onmark) {
    const { grid } = this;
    // What is selected is told apart from where the focus goes.
    if (this.selected.size ? grid.isChanging : !grid.isStill) return announce(T.list.notMarked);
    const last = this.selected.size ? Math.max(...this.selected) : grid.current;
    if (this.selected.size) this.markSelection(answer, mark);
    else if (grid.crop(last)) mark([grid.crop(last)], answer);
    this.select([]);
    if (last + 1 < grid.total) grid.focus(last + 1);
  }

  /** More like the current crop, or not like it. */
  more(answer) {
    const { grid } = this;
    if (!grid.isStill) return announce(T.list.notMarked);
    grid.options.onmore(grid.crop(grid.current), answer);
  }

  /** Goes to another place, and selects what lies between while Shift is held. */
  go(to, extend) {
    const { grid } = this;
    if (to < 0 || to >= grid.total) return;
    if (extend && !grid.options.onpick) {
      this.anchor = this.selected.size ? this.anchor ?? grid.current : grid.current;
      this.select(this.range(this.anchor, to));
    } else if (this.selected.size) this.select([]);
    grid.focus(to);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { grid } = this;
    const { options, columns, current } = grid;
    const screen = Math.max(1, Math.floor(grid.element.clientHeight / grid.lineHeight)) * columns;
    const places = {
      ArrowRight: current + 1, ArrowLeft: current - 1, ArrowDown: current + columns, ArrowUp: current - columns,
      PageDown: current + screen, PageUp: current - screen, Home: 0, End: grid.total - 1,
    };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const onButton = event.target.tagName === "BUTTON";
    if (key in places) this.go(places[key], event.shiftKey);
    else if (key === "Enter" && !onButton) options.onopen?.(current);
    else if (key === " " && !onButton && options.onpick) options.onpick(grid.crop(current));
    else if (key === " " && !onButton) this.toggle(current);
    else if (key === "Escape" && this.selected.size) this.select([]);
    else if (!this.letter(key)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** What a letter or a figure does, wherever the focus is. Returns whether it does anything. */
  letter(key) {
    const { options } = this.grid;
    const marks = { y: true, 1: true, n: false, 0: false, u: null };
    if (key === "a" && !options.onpick) this.selectVisible();
    else if (options.several?.() && /^[0-9u]$/.test(key)) this.markKey(key === "u" ? null : Number(key), options.onclass);
    else if (options.marks && key in marks) this.markKey(marks[key]);
    else if (options.onmore && (key === "m" || key === "l")) this.more(key === "m");
    else return false;
    return true;
  }

  /** A letter that was pressed while the focus was elsewhere: nothing is marked that isn't in sight. */
  letterFromElsewhere(key) {
    const { grid } = this;
    const [first, last] = grid.seen();
    const marks = /^[ynuml0-9]$/.test(key);
    if (marks && !this.selected.size && grid.total && (grid.current < first || grid.current >= last)) {
      grid.focus(grid.current);
      announce(T.list.notSeen);
      return true;
    }
    return this.letter(key);
  }
}
