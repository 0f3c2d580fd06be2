// @ts-check
// Draws the map away from the page's own thread, so that no number of points holds a pointer up: every point is a small disc that
// is mixed into the picture, those that aren't in the list first and faint. And tells which points lie near a place, or in a lasso.

import { SIDE, dotRadius, sideOf, toPlace } from "./map_view.js";

const AROUND = 4; // CSS pixels around a place that its density is taken over, three times
const LEAST = 0.01; // of the highest density, below which nothing is drawn
const CELLS = 256; // a side of the grid that points near a place are looked for in
/** @type {any} what is drawn on */
let canvas = null;
/** @type {any} */
let context = null;
/** @type {any} pixels, kept from one picture to the next */
let image = null;
let count = 0;
/** @type {any} x and y of each point, in [0, SIDE] */
let places = null;
/** @type {any} what each point's colour is found by, and the colours, [r, g, b] each */
let keys = null;
let palette = new Uint8Array(3);
/** @type {any} which points are in the list, and which of the keys is to stand out (-1: all) */
let shown = null;
let alone = -1;
let isDensity = false; // how many points lie where, instead of each
let ground = [255, 255, 255];
let faint = 0.2; // how much of a point's colour is left where it isn't in the list
let view = { x: 0.5, y: 0.5, zoom: 1, width: 1, height: 1, ratio: 1 };
/** @type {any} first place of each cell in `order`, and the points by cell */
let starts = null;
let order = new Uint32Array(0);
let waiting = false;

const later = self.requestAnimationFrame ? (work) => self.requestAnimationFrame(work) : (work) => setTimeout(work, 0);

const does = {
  canvas: (given) => ((canvas = given.canvas), (context = canvas.getContext("2d", { alpha: false }))),
  points(given) {
    ({ places } = given);
    count = places.length / 2;
    sortIntoCells();
  },
  color(given) {
    ({ keys, palette, alone, isDensity } = given);
  },
  shown: (given) => (shown = given.shown),
  ground: (given) => ({ ground, faint } = given),
  view: (given) => (view = given.view),
};

self.onmessage = ({ data }) => {
  if (data.kind === "near") return self.postMessage({ kind: "near", id: data.id, row: nearest(data.at, data.within) });
  if (data.kind === "lasso") return catchIn(data);
  does[data.kind](data);
  if (waiting || !canvas || !places) return;
  waiting = true;
  later(() => {
    waiting = false;
    const started = performance.now();
    draw();
    self.postMessage({ kind: "drawn", ms: performance.now() - started });
  });
};

function sortIntoCells() {
  const cellOf = (row) => cellAt(places[2 * row] / SIDE) * CELLS + cellAt(places[2 * row + 1] / SIDE);
  starts = new Uint32Array(CELLS * CELLS + 1);
  for (let row = 0; row < count; row++) starts[cellOf(row) + 1]++;
  for (let cell = 0; cell < CELLS * CELLS; cell++) starts[cell + 1] += starts[cell];
  const next = starts.slice();
  order = new Uint32Array(count);
  for (let row = 0; row < count; row++) order[next[cellOf(row)]++] = row;
}

/** A disc, softer at the rim: its pixels' distance from the middle one in the picture's bytes, and how much each covers. */
function stampOf(radius, width) {
  const offsets = [];
  const weights = [];
  const reach = Math.ceil(radius);
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      const weight = Math.max(0, Math.min(1, radius + 0.5 - Math.hypot(dx, dy)));
      if (!weight) continue;
      offsets.push(4 * (dy * width + dx));
      weights.push(weight);
    }
  }
  return { reach, offsets: Int32Array.from(offsets), weights: Float32Array.from(weights) };
}

function draw() {
  const width = Math.max(1, Math.round(view.width * view.ratio));
  const height = Math.max(1, Math.round(view.height * view.ratio));
  if (canvas.width !== width || canvas.height !== height || !image) {
    canvas.width = width;
    canvas.height = height;
    image = context.createImageData(width, height);
  }
  const pixels = image.data;
  new Uint32Array(pixels.buffer).fill((255 << 24) | (ground[2] << 16) | (ground[1] << 8) | ground[0]);
  if (isDensity) {
    drawDensity(pixels, width, height);
    return context.putImageData(image, 0, 0);
  }
  const { radius, opacity } = dotRadius(count, view);
  const stamp = stampOf(radius * view.ratio, width);
  const near = onScreen();
  const [left, top] = toPlace(view, 0, 0);
  const scale = (sideOf(view) * view.ratio) / SIDE;
  const from = [left * SIDE, top * SIDE];
  const isAll = alone < 0 && !shown;
  for (const front of isAll ? [true] : [false, true]) {
    const strength = front ? opacity : opacity * faint;
    for (let at = 0; at < near.length; at++) {
      const row = near[at];
      const key = keys ? keys[row] : 0;
      if (((!shown || shown[row] === 1) && (alone < 0 || key === alone)) !== front) continue;
      const x = Math.round((places[2 * row] - from[0]) * scale);
      const y = Math.round((places[2 * row + 1] - from[1]) * scale);
      if (x < stamp.reach || y < stamp.reach || x >= width - stamp.reach || y >= height - stamp.reach) continue;
      print(pixels, 4 * (y * width + x), stamp, strength, 3 * key);
    }
  }
  context.putImageData(image, 0, 0);
}

/** Mixes a disc of a colour of the palette into the picture. */
function print(pixels, middle, { offsets, weights }, strength, at) {
  const red = palette[at];
  const green = palette[at + 1];
  const blue = palette[at + 2];
  for (let part = 0; part < offsets.length; part++) {
    const pixel = middle + offsets[part];
    const share = weights[part] * strength;
    pixels[pixel] += (red - pixels[pixel]) * share;
    pixels[pixel + 1] += (green - pixels[pixel + 1]) * share;
    pixels[pixel + 2] += (blue - pixels[pixel + 2]) * share;
  }
}

/** Colours each place by the square root of how many points of the list lie around it, from the palette's first to its last. */
function drawDensity(pixels, width, height) {
  let counts = new Float32Array(width * height);
  const [left, top] = toPlace(view, 0, 0);
  const scale = (sideOf(view) * view.ratio) / SIDE;
  for (const row of onScreen()) {
    if (shown && !shown[row]) continue;
    const x = Math.round((places[2 * row] - left * SIDE) * scale);
    const y = Math.round((places[2 * row + 1] - top * SIDE) * scale);
    if (x >= 0 && y >= 0 && x < width && y < height) counts[y * width + x]++;
  }
  const reach = Math.round(AROUND * view.ratio);
  for (let pass = 0; pass < 3; pass++) counts = meansAlong(meansAlong(counts, width, height, 1, width, reach), height, width, width, 1, reach);
  let most = 0;
  for (const value of counts) most = Math.max(most, value);
  const levels = palette.length / 3 - 1;
  for (let at = 0; at < counts.length; at++) {
    if (counts[at] <= LEAST * most) continue;
    const color = 3 * Math.round(levels * Math.sqrt(counts[at] / most));
    for (let part = 0; part < 3; part++) pixels[4 * at + part] = palette[color + part];
  }
}

/** Means of each value and its neighbours up to so far, along lines: `step` from a value to the next, `line` from a line to the next. */
function meansAlong(values, length, lines, step, line, reach) {
  const found = new Float32Array(values.length);
  for (let number = 0; number < lines; number++) {
    const first = number * line;
    let sum = 0;
    for (let at = -reach; at < length; at++) {
      if (at + reach < length) sum += values[first + (at + reach) * step];
      if (at - reach > 0) sum -= values[first + (at - reach - 1) * step];
      if (at >= 0) found[first + at * step] = sum / (2 * reach + 1);
    }
  }
  return found;
}

/** The points that are on the screen, or a little beside it. */
function onScreen() {
  const [left, top] = toPlace(view, 0, 0);
  const [right, bottom] = toPlace(view, view.width, view.height);
  if (left <= 0 && top <= 0 && right >= 1 && bottom >= 1) return order;
  const found = [];
  for (let column = cellAt(left); column <= cellAt(right); column++) {
    found.push(order.subarray(starts[column * CELLS + cellAt(top)], starts[column * CELLS + cellAt(bottom) + 1]));
  }
  const all = new Uint32Array(found.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of found) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** The row or column of cells of a coordinate in [0, 1]. */
function cellAt(value) {
  return Math.max(0, Math.min(CELLS - 1, Math.floor(value * CELLS)));
}

/** The point nearest to a place, at most so far from it; -1 for none. Those in the list go first. */
function nearest([x, y], within) {
  let best = -1;
  let least = within * within;
  for (let column = cellAt(x - within); column <= cellAt(x + within); column++) {
    for (let at = starts[column * CELLS + cellAt(y - within)]; at < starts[column * CELLS + cellAt(y + within) + 1]; at++) {
      const row = order[at];
      if (shown && !shown[row]) continue;
      const distance = (places[2 * row] / SIDE - x) ** 2 + (places[2 * row + 1] / SIDE - y) ** 2;
      if (distance < least) [best, least] = [row, distance];
    }
  }
  return best;
}

/** Tells which points of the list lie within a polygon, a bit each. */
function catchIn({ id, polygon }) {
  const bits = new Uint8Array(Math.ceil(count / 8));
  let caught = 0;
  const xs = polygon.map(([x]) => x);
  const ys = polygon.map(([, y]) => y);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  for (let row = 0; row < count; row++) {
    const x = places[2 * row] / SIDE;
    const y = places[2 * row + 1] / SIDE;
    if (x < left || x > right || y < top || y > bottom || (shown && !shown[row])) continue;
    let odd = false;
    for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
      const [ax, ay] = polygon[i];
      const [bx, by] = polygon[j];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
    }
    if (!odd) continue;
    bits[row >> 3] |= 1 << (row & 7);
    caught++;
  }
  self.postMessage({ kind: "caught", id, bits, caught }, { transfer: [bits.buffer] });
}
