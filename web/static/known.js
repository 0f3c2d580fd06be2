// @ts-check
// The panel beside the grid: what is known of the class, and taking it home.

import { classNames, el, fail, many, percent } from "./dom.js";
import { takeHome } from "./home.js";
import { changeAt, estimateText, histogram, roundsPlot } from "./panel.js";

const WIDE = "(min-width: 801px)";

export function knownPanel(pool, session) {
  const marks = el("p", { class: "big", id: "marks" });
  const bars = histogram((value, done) => {
    session.tell("threshold", value);
    session.setThreshold(value, done);
  });
  const moved = el("div", { id: "moved", "aria-live": "polite" });
  const wanted = el("input", { type: "number", min: 1, max: 100, value: 90, "aria-label": "precision in percent" });
  async function precise(event) {
    event.preventDefault();
    const precision = Number(wanted.value) / 100;
    try {
      if (!(precision > 0 && precision <= 1)) throw new Error("The precision must be from 1 to 100 %.");
      const { threshold } = await session.ask("/threshold_for", { ranking: session.view.ranking, precision });
      if (threshold === null) throw new Error(`The random sample shows no list of ${percent(precision)} precision, of crops that nobody had marked${session.state.estimate.current ? "" : ", since it isn't of this order: draw a new one"}.`);
      session.setThreshold(threshold, true);
    } catch (error) {
      fail(error);
    }
  }
  const forPrecision = el("form", { class: "row", hidden: true, onsubmit: precise }, el("button", { title: "From the random sample: the longest list whose estimated precision reaches it" }, "Threshold for"), wanted, "% precision");
  const above = el("p", { id: "above" });
  const estimate = el("div", { id: "estimate" });
  const size = el("input", { type: "number", min: 10, max: 1000, value: 60, "aria-label": "size of the random sample" });
  const draw = el("button", { onclick: () => session.drawSample(Number(size.value)) }, "Draw a random sample");
  const learn = el("button", { hidden: true, onclick: () => session.learnSample() }, "Learn from its answers too");
  const stopping = el("p", { class: "signal", id: "signal" });
  const rounds = el("div");
  const legend = el("div", { class: "legend" });
  const renamed = (name) => (session.state.facts.class_name = name);
  const take = el("button", { class: "main", onclick: () => session.state?.panel && takeHome(pool, session, renamed) }, "Take it home …");
  const wide = matchMedia(WIDE);
  const details = el("details", { open: wide.matches },
    el("summary", {}, "What is known, and taking it home"), marks, take,
    el("h3", {}, "Scores and threshold"), bars.element, above, moved, forPrecision,
    el("h3", {}, "How good is it?"), estimate, el("div", { class: "row" }, draw, size), learn,
    el("h3", {}, "When to stop"), stopping,
    el("h3", {}, "Precision over rounds, %"), rounds,
    el("small", {}, "Green: of the crops you marked under Best, the share that was relevant, judged before the probe learned them. Blue: from the random sample."),
    el("h3", {}, "Classes"), legend);
  wide.addEventListener("change", () => (details.open = wide.matches), { signal: session.signal });

  function drawEstimate(known, taken) {
    above.textContent = `${many(taken, "crop")} to take home: at ${Number(bars.slider.value).toFixed(2)} or more, less what is ✗, with what is ✓`;
    estimate.replaceChildren(...estimateText(known, session.state.facts.use));
    estimate.classList.toggle("aged", known.answered === known.drawn && known.drawn > 0 && !known.current);
    forPrecision.hidden = !known.precision || !known.current;
  }

  let stepped = false; // what was undone shows, though the slider has the focus
  session.addEventListener("stepped", () => (stepped = true));
  session.addEventListener("estimate", ({ detail }) => {
    drawEstimate(detail.estimate, detail.would_take);
    moved.replaceChildren(...changeAt(detail));
  });
  session.addEventListener("state", () => {
    const { state } = session;
    marks.textContent = `${state.relevant} ✓   ${state.not_relevant} ✗`;
    marks.setAttribute("aria-label", `${state.relevant} relevant, ${state.not_relevant} not relevant`);
    if (!state.panel) return;
    if (stepped ? !bars.dragged() : !bars.busy()) bars.draw(state.panel);
    stepped = false;
    if (!bars.dragged()) {
      drawEstimate(state.estimate, state.panel.taken);
    }
    if (!bars.busy()) {
      session.since = null;
      moved.replaceChildren();
    }
    learn.hidden = !session.isSampleWhole || state.estimate.learned;
    const { signal, rounds: count } = state.panel.stop;
    stopping.classList.toggle("yes", signal);
    stopping.textContent = signal ? "Stop signal: the last rounds agree on what is relevant. More marks will change little."
      : `Round ${count}. The signal comes when three rounds in a row, of twenty marks or more, agree.`;
    rounds.replaceChildren(roundsPlot(state.panel.rounds, state.estimate.current ? state.estimate : null));
  });
  session.addEventListener("colors", () => {
    legend.replaceChildren(...classNames(session.grid.colors ? pool.classes : []));
  });
  return el("aside", { "aria-label": "What is known" }, details);
}
