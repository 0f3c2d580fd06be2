// @ts-check
// Where a point of the map is on the screen, and the other way round. A view: {x, y: the place in the middle, in [0, 1]; zoom: 1
// shows all; width, height: CSS pixels; ratio: of device pixels to those}.

export const SIDE = 65535; // places go from 0 to this
const MARGIN = 14; // px around all of it

/** CSS pixels that the side of the plane takes. */
export const sideOf = (view) => Math.max(40, Math.min(view.width, view.height) - 2 * MARGIN) * view.zoom;

/** The place under a point of the screen, in CSS pixels. */
export function toPlace(view, left, top) {
  const side = sideOf(view);
  return [view.x + (left - view.width / 2) / side, view.y + (top - view.height / 2) / side];
}

/** The point of the screen where a place is. */
export function toScreen(view, x, y) {
  const side = sideOf(view);
  return [(x - view.x) * side + view.width / 2, (y - view.y) * side + view.height / 2];
}

/** The radius of a point in CSS pixels, and how much it covers: many are small and let each other through, near ones grow. */
export function dotRadius(count, view) {
  const [most, opacity] = count > 500_000 ? [0.5, 0.35] : count > 100_000 ? [0.8, 0.5] : count > 20_000 ? [1.4, 0.7] : count > 2000 ? [2.6, 0.85] : [4, 0.95];
  const near = view.zoom ** 0.4;
  return { radius: Math.min(6, most * near), opacity: Math.min(0.95, opacity * near) };
}
