// @ts-check
// What is known: marks, histogram with the threshold, estimates from the random sample, rounds, stop signal.

import { el, many, percent, short, svg } from "./dom.js";

const WIDTH = 300;
const HEIGHT = 96;

const whole = (count) => Math.round(count).toLocaleString("en");
const range = (estimate, shown) => `${shown(estimate.estimate)} (${shown(estimate.low)} to ${shown(estimate.high)})`;

/** Histogram with a threshold that can be dragged, and moved with the arrow keys. */
export function histogram(onchange) {
  const bars = svg("g", { class: "bars" });
  const line = svg("line", { y1: 0, y2: HEIGHT - 12 });
  const texts = [svg("text", { x: 0, y: HEIGHT - 1 }), svg("text", { x: WIDTH, y: HEIGHT - 1, "text-anchor": "end" })];
  const picture = svg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, bars, line, ...texts);
  const slider = el("input", { type: "range", step: "any", id: "threshold", "aria-label": "threshold" });
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
  if (!points.length) return el("p", { class: "faint" }, "Nothing to show yet.");
  const x = (number) => 20 + ((number + 0.5) / points.length) * (WIDTH - 30);
  const y = (share) => 6 + (1 - share) * (HEIGHT - 20);
  const drawn = points.flatMap(({ share, low, high, kind }, number) => [
    svg("line", { x1: x(number), x2: x(number), y1: y(low), y2: y(high) }),
    svg("circle", { cx: x(number), cy: y(share), r: 4, class: kind }),
  ]);
  const axes = [0, 0.5, 1].flatMap((share) => [
    svg("line", { class: "axis", x1: 20, x2: WIDTH, y1: y(share), y2: y(share) }),
    svg("text", { x: 0, y: y(share) + 3 }, `${100 * share}`),
  ]);
  const spoken = points.map(({ share, kind }) => `${kind || "round"} ${percent(share)}`).join(", ");
  return svg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Precision over rounds: ${spoken}` }, ...axes, ...drawn);
}

/** In words, what the random sample says of the crops from the threshold on. */
export function estimateText(estimate, use) {
  const parts = [];
  if (!estimate.drawn) {
    return [el("p", {}, "How precise the list is, is not known yet. A random sample tells it: mark 60 crops, about two minutes.")];
  }
  if (estimate.answered < estimate.drawn) {
    return [el("p", {}, `${estimate.answered} of ${estimate.drawn} crops of the random sample are marked. The estimate comes when all are.`)];
  }
  // An estimate stands with the list that it is about; of another it is a remark.
  if (!estimate.current) {
    parts.push(el("p", {}, el("b", {}, "Not known of this list: "), estimate.learned ? "the probe has learned from the answers of the last sample since. " : "the last sample is of another order. ",
      "Draw a new sample for it. What the last one said of the list before:"));
  }
  if (estimate.precision) {
    parts.push(el("p", {}, el("span", { class: estimate.current ? "big" : "" }, range(estimate.precision, percent)),
      el("br"), `precision of ${many(estimate.count, "crop")} above the threshold that nobody had marked`));
    parts.push(el("p", {}, `${range(estimate.precision_of_taken, percent)} of all you take home: with what you marked, less what the sample found wrong, ${many(estimate.taken, "crop")}`));
    parts.push(el("p", {}, `finds ${range(estimate.recall, percent)} of the class`));
  }
  parts.push(el("p", {}, `${range(estimate.size, whole)} crops are of the class`));
  if (use === "failures") parts.push(el("p", {}, el("b", {}, `Rate: ${range(estimate.rate, percent)}`), ` of ${many(estimate.population, "crop")} looked at`));
  parts.push(el("p", {}, el("small", {}, `From ${estimate.drawn} crops drawn at random; in brackets the 95 % interval.`)));
  if (estimate.grown_by) parts.push(el("p", {}, el("b", {}, `${many(estimate.grown_by, "crop")} have come since this sample was drawn`), " and aren't in it: it is of the pool as it was. Draw a new sample for all."));
  return parts;
}

/** What a threshold that is dragged would add and drop, as pictures. */
export function changeAt({ added, dropped, added_first: more, dropped_first: less }) {
  const strip = (count, word, ids) => !count ? "" : el("div", { class: "row strip" }, el("span", {}, `${many(count, "crop")} ${word}`), ...ids.map((id) => el("img", { src: `thumb/${id}/96`, alt: "" })));
  return [strip(added, "added", more), strip(dropped, "dropped", less)].filter(Boolean);
}
