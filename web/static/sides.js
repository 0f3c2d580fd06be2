// @ts-check
// A grid with what opens beside it: facets to its left, the map to its right.

import { el } from "./dom.js";
import { Facets } from "./facets.js";
import { iconButton } from "./icons.js";
import { PileMap } from "./map.js";
import { T } from "./text.js";

const NARROW = "(max-width: 800px)";

/**
 * @param {any} pool
 * @param {any} grid
 * @param {object} options
 *   apply(conditions): limits the list; asked(): what facets and map are asked with; onselect(caught): a lasso caught these.
 */
export function withSides(pool, grid, options) {
  const facets = new Facets(pool, { apply: options.apply, onclose: () => buttons[0].click(), asked: () => {
    const { session, among } = options.asked();
    return { session, among };
  } });
  const map = new PileMap(pool, { asked: options.asked, onselect: options.onselect });
  const toggle = (icon, word, side) => {
    const button = iconButton(icon, word, { "aria-pressed": "false", onclick: () => {
      side.toggle();
      // Where there is room for one alone, the other goes.
      if (side.isOpen && matchMedia(NARROW).matches) (side === facets ? map : facets).toggle(false);
      [facets, map].forEach((one, place) => buttons[place].setAttribute("aria-pressed", String(one.isOpen)));
    } });
    return button;
  };
  const buttons = [toggle("filter", T.filter.open, facets), toggle("map", T.list.map, map)];
  grid.element.addEventListener("look", ({ detail }) => map.look(detail));
  return { facets, map, buttons, around: (...between) => el("div", { class: "sides" }, facets.element, el("div", { class: "middle" }, ...between), map.element) };
}
