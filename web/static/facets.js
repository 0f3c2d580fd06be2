// @ts-check
// What the list is limited to: values and ranges of columns, with how many pictures each has; or a condition in SQL.

import { get } from "./api.js";
import { conditionOn, nameOf, parsed, ranged, toggled, together } from "./conditions.js";
import { classColors, dot, el, fail, middleCut, quiet, svg } from "./dom.js";
import { T, number } from "./text.js";

const FEW = 8; // values that show before one asks for more
const WIDTH = 200;
const HEIGHT = 44;
const LATER = 200; // ms after the last letter until values are searched
const LAST = ["left", "top", "right", "bottom", "image_width", "image_height", "image"]; // of little use to most

/** What a list is limited to, always in sight: each can be taken off, or all. parts: {text, off}; count: what is left, in words. */
export function chips(parts, count, clear) {
  return [
    ...parts.map(({ text, off }) => el("button", { type: "button", class: "chip", title: T.filter.takeOffHint, "aria-label": T.filter.takeOff(text), onclick: off }, text, el("span", { "aria-hidden": "true" }, " ✕"))),
    parts.length > 1 ? el("button", { type: "button", class: "plain", onclick: clear }, T.clear) : "",
    el("span", { class: "faint", role: "status" }, count),
  ].filter(Boolean);
}

export class Facets {
  /**
   * @param {any} pool
   * @param {object} options
   *   apply(conditions): limits the list; onclose(): where it lies over the list, it is to close; asked(): what is counted besides (session, among).
   */
  constructor(pool, options) {
    this.pool = pool;
    this.options = options;
    /** @type {string[]} SQL, all of which must hold */
    this.conditions = [];
    this.open = new Set(["label_name"]);
    this.unfolded = new Set();
    this.searches = new Map(); // column -> text
    this.rows = new Map(); // column -> what shows it
    this.sql = el("textarea", { rows: 3, placeholder: T.filter.sqlHint, "aria-label": T.filter.sql, spellcheck: false, onkeydown: (event) => event.key === "Enter" && !event.shiftKey && (event.preventDefault(), this.applySql()) });
    this.list = el("div", { class: "columns" });
    this.done = el("button", { class: "main done", type: "button", onclick: () => this.options.onclose() });
    const advanced = el("form", { onsubmit: (event) => (event.preventDefault(), this.applySql()) }, this.sql, el("span", { class: "row" }, el("button", {}, T.apply), el("button", { type: "button", onclick: () => this.set([]) }, T.clear)));
    this.element = el("section", { class: "facets", "aria-label": T.filter.title, hidden: true }, this.list, el("details", { class: "advanced" }, el("summary", {}, T.filter.advanced), advanced), this.done);
  }

  get isOpen() {
    return !this.element.hidden;
  }

  toggle(open = !this.isOpen) {
    this.element.hidden = !open;
    if (open) this.changed();
  }

  set(conditions) {
    quiet(); // what was wrong with the last one
    this.options.apply(conditions);
  }

  /** A condition that is written is of all that is shown. */
  applySql() {
    const text = this.sql.value.trim();
    this.set(text ? [text] : []);
  }

  /** What is shown now, and how much that is; what is being written stays. */
  say(conditions, total) {
    this.conditions = conditions;
    this.done.textContent = T.filter.show(total);
    if (document.activeElement !== this.sql) this.sql.value = together(conditions);
    this.changed();
  }

  /** Counts anew. */
  async changed() {
    if (!this.isOpen) return;
    const asked = (this.asking = {});
    try {
      const facets = await this.ask({});
      if (asked === this.asking) this.draw(facets);
    } catch (error) {
      if (asked === this.asking) fail(error);
    }
  }

  /** Asks for the facets under the present conditions. */
  ask(parameters) {
    const query = new URLSearchParams(Object.entries({ ...this.options.asked(), ...parameters }).filter(([, value]) => value));
    for (const condition of this.conditions) {
      query.append("of", parsed(condition)?.column ?? "");
      query.append("where", condition);
    }
    return get("api/facets", query);
  }

  /** The condition of a column that a facet wrote. */
  of(column) {
    return conditionOn(column, this.conditions);
  }

  draw(facets) {
    const rank = ({ name }) => (name === "label_name" ? -2 : name === "predicted" ? -1 : LAST.indexOf(name) < 0 ? 0 : 1 + LAST.indexOf(name));
    const sorted = [...facets].sort((a, b) => rank(a) - rank(b));
    for (const facet of sorted) {
      if (!this.rows.has(facet.name)) this.rows.set(facet.name, this.build(facet));
      this.fill(facet);
    }
    const shown = sorted.map(({ name }) => this.rows.get(name).element);
    // Left where they are, so that nothing loses the focus.
    if (shown.some((element, place) => this.list.children[place] !== element) || this.list.children.length !== shown.length) this.list.replaceChildren(...shown);
  }

  build({ name, kind, distinct }) {
    const body = el("div", { class: kind === "number" ? "range" : "values" });
    const chosen = el("span", { class: "count" });
    const parts = [body];
    if (kind === "text" && distinct > FEW) {
      parts.unshift(el("input", { type: "search", placeholder: T.filter.searchHint, "aria-label": T.filter.search(nameOf(name)), oninput: (event) => this.search(name, event.target.value) }));
    }
    const element = el("details", { open: this.open.has(name) || Boolean(this.of(name)) }, el("summary", {}, nameOf(name), chosen), ...parts);
    return { element, body, chosen };
  }

  search(column, text) {
    this.searches.set(column, text.trim());
    clearTimeout(this.searching);
    this.searching = setTimeout(async () => {
      try {
        const [found] = text.trim() ? await this.ask({ column, search: text.trim() }) : [null];
        if (found) this.fill(found);
        else await this.changed();
      } catch (error) {
        fail(error);
      }
    }, LATER);
  }

  fill(facet) {
    const row = this.rows.get(facet.name);
    const known = this.of(facet.name);
    row.chosen.textContent = known ? (known.values ? String(known.values.length) : "●") : "";
    row.chosen.hidden = !known;
    if (facet.kind === "number") this.fillRange(facet, row.body, known);
    else this.fillValues(facet, row.body, known?.values ?? []);
  }

  fillValues({ name, kind, values, distinct }, body, chosen) {
    const counts = new Map(values.map(({ value, crops }) => [value, crops]));
    const search = this.searches.get(name);
    // In the order of their counts: what is ticked stays where it is.
    const some = values.filter(({ value, crops }) => crops || chosen.includes(value)).map(({ value }) => value);
    const listed = [...(search ? [] : chosen.filter((value) => !counts.has(value))), ...some];
    const few = search || this.unfolded.has(name) ? listed : listed.filter((value, place) => place < FEW || chosen.includes(value));
    const most = Math.max(1, ...counts.values());
    const colors = name === "label_name" ? classColors(this.pool) : new Map();
    const had = body.contains(document.activeElement) && /** @type {any} */ (document.activeElement).value;
    body.replaceChildren(...few.map((value) => {
      const box = el("input", { type: "checkbox", value, checked: chosen.includes(value), onchange: () => this.set(toggled(this.conditions, name, value, kind === "truth")) });
      const bar = el("span", { class: "bar-of", "aria-hidden": "true" });
      bar.style.width = `${(100 * (counts.get(value) ?? 0)) / most}%`;
      return el("label", { title: value }, box, colors.has(value) ? dot(colors.get(value)) : "", middleCut(value || T.filter.none), el("span", { class: "count" }, counts.has(value) ? number(counts.get(value)) : ""), bar);
    }), few.length < listed.length ? el("button", { type: "button", class: "plain", onclick: () => {
      this.unfolded.add(name);
      this.fillValues({ name, kind, values, distinct }, body, chosen);
    } }, T.filter.more(distinct - few.length)) : "", listed.length ? "" : el("span", { class: "faint" }, T.filter.nothing));
    if (had !== false) /** @type {any} */ ([...body.querySelectorAll("input")].find((one) => one.value === had))?.focus();
  }

  fillRange({ name, low, high, histogram, everything }, body, known) {
    if (body.dataset.dragged) return; // it is drawn anew when it is let go of
    const [from, to] = known ? [known.low, known.high] : [low, high];
    const width = WIDTH / histogram.length;
    const most = Math.log1p(Math.max(1, ...everything));
    const bar = (count, place, kind) => {
      const height = (Math.log1p(count) / most) * HEIGHT;
      return svg("rect", { class: kind, x: place * width, y: HEIGHT - height, width: width - 1, height });
    };
    const span = high - low;
    const band = svg("rect", { class: "band", y: 0, height: HEIGHT });
    const place = (one, other) => {
      const [left, right] = [Math.min(one, other), Math.max(one, other)].map((value) => ((value - low) / span) * WIDTH);
      band.setAttribute("x", String(left));
      band.setAttribute("width", String(Math.max(1, right - left)));
    };
    place(from, to);
    const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, band, ...everything.map((count, at) => bar(count, at, "all")), ...histogram.map((count, at) => bar(count, at, "some")));
    picture.append(svg("title", {}, T.filter.drag));
    const set = (one, other) => this.set(ranged(this.conditions, name, [one, other], low, high));
    const at = (event) => {
      const frame = picture.getBoundingClientRect();
      return low + Math.max(0, Math.min(1, (event.clientX - frame.left) / frame.width)) * span;
    };
    let begun = null;
    picture.addEventListener("pointerdown", (event) => {
      begun = at(event);
      body.dataset.dragged = "yes";
      picture.setPointerCapture(event.pointerId);
    });
    picture.addEventListener("pointermove", (event) => begun !== null && place(begun, at(event)));
    picture.addEventListener("pointercancel", () => {
      begun = null;
      delete body.dataset.dragged;
      place(from, to);
    });
    picture.addEventListener("pointerup", (event) => {
      const end = at(event);
      delete body.dataset.dragged;
      if (begun !== null && Math.abs(end - begun) > span / 100) set(begun, end);
      else place(from, to);
      begun = null;
    });
    const field = (value, label) => el("input", { type: "number", step: "any", value: Number(value.toPrecision(6)), "aria-label": label, onchange: () => {
      const [first, second] = [...body.querySelectorAll("input")].map((one) => Number(one.value));
      set(first, second);
    } });
    const had = body.contains(document.activeElement) && document.activeElement.getAttribute("aria-label");
    body.replaceChildren(picture, el("span", { class: "row" }, field(from, T.filter.from(nameOf(name))), "–", field(to, T.filter.to(nameOf(name)))));
    if (had) [...body.querySelectorAll("input")].find((one) => one.getAttribute("aria-label") === had)?.focus();
  }
}
