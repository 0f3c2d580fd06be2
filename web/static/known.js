// @ts-check
// The panel beside the grid, in three steps: mark, check, export; the next one is lit.

import { el, fail } from "./dom.js";
import { iconButton } from "./icons.js";
import { takeHome } from "./export.js";
import { changeAt, estimateParts, histogram, roundsPlot } from "./panel.js";
import { T, number } from "./text.js";

const WIDE = "(min-width: 801px)";
const ENOUGH = 5; // marks of each kind, from which on a check tells something

/** Which step is next: 0 to mark, 1 to check, 2 to export. */
function nextStep({ relevant, not_relevant, panel, estimate }) {
  if (estimate?.current && estimate.precision) return 2;
  if (estimate?.drawn && estimate.answered < estimate.drawn) return 1;
  return panel?.scale !== "cosine" && (panel?.stop.signal || Math.min(relevant, not_relevant) >= ENOUGH) ? 1 : 0;
}

export function knownPanel(pool, session) {
  const marks = el("p", { class: "big", id: "marks" });
  const bars = histogram((value, done) => {
    session.tell("threshold", value);
    session.setThreshold(value, done);
  });
  const moved = el("div", { id: "moved", "aria-live": "polite" });
  const wanted = el("input", { type: "number", min: 1, max: 100, value: 90, "aria-label": T.results.preciseLabel });
  async function precise(event) {
    event.preventDefault();
    const precision = Number(wanted.value) / 100;
    try {
      if (!(precision > 0 && precision <= 1)) throw new Error(T.results.preciseRange);
      const { threshold } = await session.ask("/threshold_for", { ranking: session.view.ranking, precision });
      if (threshold === null) throw new Error(T.results.notPrecise(precision, session.state.estimate.current));
      session.setThreshold(threshold, true);
    } catch (error) {
      fail(error);
    }
  }
  const forPrecision = el("form", { class: "row", hidden: true, onsubmit: precise }, el("button", { title: T.results.thresholdForHint }, T.results.thresholdFor), wanted, T.results.precise);
  const taking = el("p", { class: "big", id: "taking" });
  const above = el("p", { id: "above" });
  const head = el("div");
  const more = el("details", {}, el("summary", {}, T.results.more), el("div"));
  const estimate = el("div", { id: "estimate" }, head, more);
  const size = el("input", { type: "number", min: 10, max: 1000, value: 60, "aria-label": T.results.size, title: T.results.size });
  const draw = el("button", { onclick: () => session.drawSample(Number(size.value)) }, T.results.draw);
  const learn = el("button", { hidden: true, onclick: () => session.learnSample() }, T.results.learn);
  const stopping = el("p", { id: "signal" });
  const round = el("p", { class: "faint" });
  const rounds = el("div");
  const renamed = (name) => (session.state.facts.class_name = name);
  const take = iconButton("export", T.results.export, { onclick: () => session.state?.panel && takeHome(pool, session, renamed) });
  const wide = matchMedia(WIDE);
  const step = (place, ...parts) => el("li", { class: "step" }, el("h2", {}, el("span", { class: "place", "aria-hidden": "true" }, String(place + 1)), T.results.steps[place]), ...parts);
  const steps = [
    step(0, marks, stopping, el("details", {}, el("summary", {}, T.results.more), round, el("h3", {}, T.results.rounds), rounds, el("small", {}, T.results.roundsHint))),
    step(1, estimate, el("div", { class: "row" }, draw, size), learn),
    step(2, taking, above, el("h3", {}, T.results.scores), bars.element, moved, forPrecision, take),
  ];
  const summary = el("summary", {}, el("span", {}, T.results.title), el("span", { class: "brief" }));
  const details = el("details", { open: wide.matches }, summary, el("ol", { class: "steps" }, ...steps));
  wide.addEventListener("change", () => (details.open = wide.matches), { signal: session.signal });

  function drawEstimate(known, taken) {
    taking.textContent = number(taken);
    const few = Math.min(session.state.relevant, session.state.not_relevant) < ENOUGH;
    above.textContent = [session.state.several ? T.results.aboveOfClass : T.results.above(Number(bars.slider.value).toFixed(2)), few ? T.results.rough : ""].join(" ");
    const parts = estimateParts(known, session.state.facts.use);
    head.replaceChildren(...parts.head);
    more.lastChild.replaceChildren(...parts.more);
    more.hidden = !parts.more.length;
    estimate.classList.toggle("aged", known.answered === known.drawn && known.drawn > 0 && !known.current);
    forPrecision.hidden = !known.precision || !known.current;
  }

  function light(place) {
    steps.forEach((one, at) => {
      one.classList.toggle("next", at === place);
      if (at === place) one.setAttribute("aria-current", "step");
      else one.removeAttribute("aria-current");
    });
    draw.classList.toggle("main", place === 1);
    take.classList.toggle("main", place === 2);
  }

  let stepped = false; // what was undone shows, though the slider has the focus
  session.addEventListener("stepped", () => (stepped = true));
  session.addEventListener("estimate", ({ detail }) => {
    drawEstimate(detail.estimate, detail.would_take);
    moved.replaceChildren(...changeAt(detail));
  });
  session.addEventListener("state", () => {
    const { state } = session;
    marks.textContent = T.results.marks(state.relevant, state.not_relevant);
    marks.setAttribute("aria-label", T.results.marksSpoken(state.relevant, state.not_relevant));
    summary.lastChild.textContent = T.results.marks(state.relevant, state.not_relevant);
    light(nextStep(state));
    if (!state.panel) return;
    if (stepped ? !bars.dragged() : !bars.busy()) bars.draw(state.panel);
    stepped = false;
    if (!bars.dragged()) {
      const own = state.several?.counts.find(({ name }) => name === state.several.of);
      drawEstimate(state.estimate, own?.taken ?? state.panel.taken);
    }
    if (!bars.busy()) {
      session.since = null;
      moved.replaceChildren();
    }
    learn.hidden = !session.isSampleWhole || state.estimate.learned;
    const { signal, rounds: count } = state.panel.stop;
    stopping.textContent = signal ? T.results.mark.enough : Math.min(state.relevant, state.not_relevant) >= ENOUGH ? T.results.mark.more : T.results.mark.begin;
    round.textContent = T.results.round(count);
    rounds.replaceChildren(roundsPlot(state.panel.rounds, state.estimate.current ? state.estimate : null));
  });
  return el("aside", { "aria-label": T.results.title }, details);
}
