// @ts-check
// What is known, drawn: the histogram with the threshold, estimates from the random sample, rounds.

import { el, svg } from "./dom.js";
import { T, short } from "./text.js";

const WIDTH = 300;
const HEIGHT = 96;
const WIDE = 0.25; // of an interval, from which on it says little

/** Histogram with a threshold that can be dragged, and moved with the arrow keys. */
export function histogram(onchange) {
  const bars = svg("g", { class: "bars" });
  const line = svg("line", { y1: 0, y2: HEIGHT - 12 });
  const texts = [svg("text", { x: 0, y: HEIGHT - 1 }), svg("text", { x: WIDTH, y: HEIGHT - 1, "text-anchor": "end" })];
  const picture = svg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, svg("title", {}, T.results.bars), bars, line, ...texts);
  const slider = el("input", { type: "range", step: "any", id: "threshold", "aria-label": T.results.threshold });
  let panel = null;

  function place() {
    const share = (Number(slider.value) - panel.low) / (panel.high - panel.low);
    const x = Math.max(0, Math.min(WIDTH, share * WIDTH));
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    [...bars.children].forEach((bar, number) => bar.classList.toggle("over", (number + 0.5) * (WIDTH / bars.children.length) > x));
  }

  function drag(event) {
    if (!event.buttons || !panel) return;
    const frame = picture.getBoundingClientRect();
    slider.value = panel.low + ((event.clientX - frame.left) / frame.width) * (panel.high - panel.low);
    place();
    onchange(Number(slider.value), false);
  }

  let held = false; // while it is dragged nothing else moves it
  picture.addEventListener("pointerdown", (event) => {
    held = true;
    picture.setPointerCapture(event.pointerId);
    drag(event);
  });
  picture.addEventListener("pointermove", drag);
  for (const end of ["pointerup", "pointercancel"]) picture.addEventListener(end, () => {
    if (held) onchange(Number(slider.value), true);
    held = false;
  });
  slider.addEventListener("input", () => (place(), onchange(Number(slider.value), false)));
  slider.addEventListener("change", () => onchange(Number(slider.value), true));

  function draw(given) {
    panel = given;
    slider.min = panel.low;
    slider.max = panel.high;
    slider.step = (panel.high - panel.low) / 200;
    slider.value = panel.threshold;
    texts[0].textContent = short(panel.low);
    texts[1].textContent = short(panel.high);
    const most = Math.log1p(Math.max(...panel.histogram, 1));
    const width = WIDTH / panel.histogram.length;
    bars.replaceChildren(...panel.histogram.map((count, number) => {
      const height = (Math.log1p(count) / most) * (HEIGHT - 14);
      return svg("rect", { x: number * width, y: HEIGHT - 12 - height, width: width - 0.7, height });
    }));
    place();
  }
  const dragged = () => held || slider.matches(":active");
  const busy = () => dragged() || document.activeElement === slider;
  return { element: el("div", {}, picture, slider), draw, slider, dragged, busy };
}

/** Share of relevant ones among what was marked under "best", by round; and the random sample's precision. */
export function roundsPlot(rounds, estimate) {
  const points = rounds.map((round) => ({ share: round.relevant / round.marked, low: round.low, high: round.high, kind: "" }));
  if (estimate?.precision) points.push({ share: estimate.precision.estimate, low: estimate.precision.low, high: estimate.precision.high, kind: "sample" });
  if (!points.length) return el("p", { class: "faint" }, T.results.roundsNone);
  const x = (number) => 20 + ((number + 0.5) / points.length) * (WIDTH - 30);
  const y = (share) => 6 + (1 - share) * (HEIGHT - 20);
  const drawn = points.flatMap(({ share, low, high, kind }, number) => [
    svg("line", { x1: x(number), x2: x(number), y1: y(low), y2: y(high) }),
    kind ? svg("rect", { x: x(number) - 4, y: y(share) - 4, width: 8, height: 8, class: kind }) : svg("circle", { cx: x(number), cy: y(share), r: 4 }),
  ]);
  const axes = [0, 0.5, 1].flatMap((share) => [
    svg("line", { class: "axis", x1: 20, x2: WIDTH, y1: y(share), y2: y(share) }),
    svg("text", { x: 0, y: y(share) + 3 }, `${100 * share}`),
  ]);
  return svg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": T.results.roundsSpoken(points) }, ...axes, ...drawn);
}

/** In words, what the random sample says of the crops from the threshold on: {head, more}, the number with its sentence and the rest. */
export function estimateParts(estimate, use) {
  const { check } = T.results;
  const line = (...parts) => el("p", {}, ...parts);
  const big = (text) => el("p", { class: "big" }, text);
  if (!estimate.drawn) return { head: [line(check.none)], more: [] };
  if (estimate.answered < estimate.drawn) return { head: [big(`${estimate.answered} / ${estimate.drawn}`), line(check.going(estimate.answered, estimate.drawn))], more: [] };
  const head = [];
  const more = [];
  // An estimate stands with the list that it is about; of another it is a remark.
  if (!estimate.current) {
    const [what, ...why] = T.results.agedWhy(estimate.learned);
    head.push(line(el("b", {}, what), ...why));
  }
  const rate = () => {
    const [what, of] = T.results.rate(estimate.rate, estimate.population);
    return line(el("b", {}, what), of);
  };
  if (estimate.precision) {
    const right = T.results.right(estimate.precision);
    head.push(...(estimate.current ? [big(right), line(T.results.rightOf(estimate.count))] : [line(`${right} ${T.results.rightOf(estimate.count)}`)]));
  }
  if (use === "failures") head.push(rate());
  if (estimate.current && estimate.precision && estimate.precision.high - estimate.precision.low > WIDE) head.push(line(T.results.wide));
  if (estimate.precision) more.push(line(T.results.rightOfTaken(estimate.precision_of_taken, estimate.taken)), line(T.results.finds(estimate.recall)));
  more.push(line(T.results.classSize(estimate.size)), line(el("small", {}, T.results.from(estimate.drawn, use === "failures"))));
  if (estimate.grown_by) {
    const [what, why] = T.results.grown(estimate.grown_by);
    head.push(line(el("b", {}, what), why));
  }
  return { head, more };
}

/** What a threshold that is dragged would add and drop, as pictures. */
export function changeAt({ added, dropped, added_first: more, dropped_first: less }) {
  const strip = (count, words, ids) => (count ? el("div", { class: "row strip" }, el("span", {}, words), ...ids.map((id) => el("img", { src: `thumb/${id}/96`, alt: "" }))) : "");
  return [strip(added, T.results.added(added), more), strip(dropped, T.results.dropped(dropped), less)].filter(Boolean);
}
