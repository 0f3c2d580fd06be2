// @ts-check
// A session: the grid, the tools above it and the panel beside it.

import { by, get, queue } from "./api.js";
import { announce, byId, el, fail, many } from "./dom.js";
import { filterBar } from "./filter.js";
import { Grid } from "./grid.js";
import { takeHome } from "./home.js";
import { openMap } from "./map.js";
import { estimateText, histogram, roundsPlot } from "./panel.js";
import { openCrop } from "./photo.js";

const SORTS = [
  ["best", "Best", "highest score first"],
  ["ask", "Ask me", "what teaches the probe most"],
  ["boundary", "Boundary", "where the probe is least sure"],
  ["worst", "Worst", "lowest score first"],
  ["audit", "Random sample", "marked whole, it tells how good the list is; it isn't learned from"],
];

/** Shows a session until the signal says that another screen has taken its place. */
export async function workScreen(pool, session, signal) {
  const base = `/api/sessions/${session}`;
  const view = { ranking: -1, sort: "best", where: "", among: "" };
  let wanted = { ...view }; // what was asked for last; becomes the view when it is there
  /** @type {any} */
  let state = null;
  const pending = new Map(); // crop id -> marks on their way
  let lines = 0; // of the journal, as far as this tab knows what is in them

  const grid = new Grid({
    label: "Crops",
    sizes: pool.sizes,
    marks: true,
    onmark: mark,
    pending: (id) => pending.has(id),
    onopen: (index) => openCrop(grid, index),
    onselect: (count) => (chosen.textContent = count > 1 ? `${count} selected` : ""),
    onerror: fail,
  });
  grid.element.classList.toggle("touch", matchMedia("(hover: none)").matches);

  // Tools
  const chosen = el("span", { class: "faint", role: "status" });
  const sorts = SORTS.map(([sort, name, text]) => el("button", { "aria-pressed": "false", title: text, "data-sort": sort, onclick: () => show({ sort }) }, name));
  const undo = el("button", { title: "Undo (Ctrl+Z)", "aria-label": "Undo", onclick: () => step("undo") }, "↶");
  const redo = el("button", { title: "Redo (Ctrl+Shift+Z)", "aria-label": "Redo", onclick: () => step("redo") }, "↷");
  const zoom = el("input", { type: "range", min: 48, max: 320, step: 8, "aria-label": "size of the crops", oninput: () => {
    grid.setZoom(Number(zoom.value));
    localStorage.setItem("zoom", zoom.value);
  } });
  zoom.value = localStorage.getItem("zoom") || (innerWidth < 800 ? 104 : 128);
  grid.zoom = Number(zoom.value);
  const colours = el("input", { type: "checkbox", checked: localStorage.getItem("colours") !== "no", onchange: () => {
    localStorage.setItem("colours", colours.checked ? "yes" : "no");
    paintColours();
  } });
  const filter = filterBar(pool.columns, (where) => show({ where }));
  filter.hidden = true;
  const filterButton = el("button", { "aria-pressed": "false", onclick: () => {
    filter.hidden = !filter.hidden;
    filterButton.setAttribute("aria-pressed", String(!filter.hidden));
    if (!filter.hidden) filter.condition.focus();
  } }, "Filter");
  const query = el("span", { class: "query", "aria-label": "Query" });
  const only = el("button", { hidden: true, onclick: () => show({ among: "" }) }, "map selection ✕");
  const all = el("button", { title: "Select all visible (A), then mark them together", onclick: () => grid.selectVisible() }, "All visible");
  const bar = el("div", { class: "bar", role: "toolbar", "aria-label": "Tools" }, query,
    el("span", { class: "group", role: "group", "aria-label": "Order" }, ...sorts), undo, redo, all,
    el("button", { onclick: () => markChosen(true), title: "Mark the selection relevant (Y)" }, "✓"),
    el("button", { onclick: () => markChosen(false), title: "Mark the selection not relevant (N)" }, "✗"),
    zoom, el("label", { class: "row" }, colours, "class colours"), filterButton, only,
    el("button", { onclick: () => openMap(pool, session, [{ name: "Show only these", act: (_, selection) => show({ among: selection }) }]).catch(fail) }, "Map"), chosen);
  const showButton = el("button", { class: "main", id: "show-new", hidden: true, onclick: () => showNew().catch(fail) }, "Show the new order (R)");
  const changes = el("div", { class: "changes", "aria-live": "polite" }, el("span"), showButton);
  const empty = el("div", { class: "empty", hidden: true });

  // Panel
  const marks = el("p", { class: "big", id: "marks" });
  const bars = histogram(threshold);
  const above = el("p", { id: "above" });
  const estimate = el("div", { id: "estimate" });
  const size = el("input", { type: "number", min: 10, max: 1000, value: 60, "aria-label": "size of the random sample" });
  const draw = el("button", { onclick: drawAudit }, "Draw a random sample");
  const learn = el("button", { hidden: true, onclick: () => queue.add(`${base}/learn`, {}).then(update, fail) }, "Learn from its answers too");
  const stopping = el("p", { class: "signal", id: "signal" });
  const rounds = el("div");
  const legend = el("div", { class: "legend" });
  const take = el("button", { class: "main", onclick: () => state?.panel && takeHome(pool, session, state, view.ranking, (name) => (state.facts.class_name = name)) }, "Take it home …");
  const wide = matchMedia("(min-width: 801px)");
  const details = el("details", { open: wide.matches },
    el("summary", {}, "What is known, and taking it home"), marks, take,
    el("h3", {}, "Scores and threshold"), bars.element, above,
    el("h3", {}, "How good is it?"), estimate, el("div", { class: "row" }, draw, size), learn,
    el("h3", {}, "When to stop"), stopping,
    el("h3", {}, "Precision over rounds, %"), rounds,
    el("small", {}, "Green: of the crops you marked under Best, the share that was relevant, judged before the probe learned them. Blue: from the random sample."),
    el("h3", {}, "Classes"), legend);
  const panel = el("aside", { "aria-label": "What is known" }, details);
  wide.addEventListener("change", () => (details.open = wide.matches), { signal });

  byId("main").replaceChildren(el("div", { class: "work" }, bar, changes, el("div", { class: "area" }, filter, empty, grid.element), panel));
  paintColours();

  function paintColours() {
    grid.colors = colours.checked && pool.classes.length ? new Map(pool.classes.map(({ name, color }) => [name, color])) : null;
    grid.paintAll();
    legend.replaceChildren(...(grid.colors ? pool.classes : []).map(({ name, color }) => {
      const item = el("span", {}, name);
      item.style.setProperty("--border", color);
      return item;
    }));
  }

  // What is shown
  /** Changes the view; if the server can't give it, the old one stays. Returns whether it could. */
  async function show(changed) {
    const now = (wanted = { ...wanted, ...changed });
    const noSample = now.sort === "audit" && !state?.audit;
    const load = noSample ? async () => ({ total: 0, crops: [] }) : (start, count) => get(`${base}/crops`, { ...now, start, count });
    try {
      await grid.marking;
      if (!(await grid.reset(load))) return false;
    } catch (error) {
      if (wanted === now) wanted = { ...view };
      fail(error);
      return false;
    }
    Object.assign(view, now);
    sorts.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.sort === view.sort)));
    only.hidden = !view.among;
    empty.hidden = grid.total > 0;
    empty.textContent = noSample ? "No random sample yet: draw one in the panel." : view.sort === "ask" ? "Nothing to ask: all is marked." : "No crops here.";
    later(0);
    return true;
  }

  async function showNew() {
    // Marks that are on their way belong to it.
    await grid.marking;
    await update();
    for (let tries = 0; tries < 100 && (queue.items.length || state.learning); tries++) {
      await new Promise((resolve) => setTimeout(resolve, 60));
      await update();
    }
    const ranking = state.newest;
    if (ranking === view.ranking) return;
    if (!(await show({ ranking }))) return;
    grid.focus(0); // at once: later it would take the focus from what is being marked by then
    queue.add(`${base}/shown`, { ranking }).catch(fail);
    announce("The new order is shown.");
    await update();
  }

  // Marks
  function mark(crops, answer) {
    const before = new Map(crops.map((crop) => [crop, crop.mark]));
    const sampled = view.sort === "audit" ? [] : crops.filter((crop) => crop.sampled);
    const changed = crops.filter((crop) => (crop.mark ?? null) !== answer && !sampled.includes(crop));
    if (sampled.length) fail(new Error(`${many(sampled.length, "crop")} (dashed) left out: of the random sample, which isn't learned from. Mark under Random sample.`));
    if (!changed.length) return;
    changed.forEach((crop) => (crop.mark = answer));
    grid.paintAll();
    const words = answer === true ? "relevant" : answer === false ? "not relevant" : "without a mark";
    announce(changed.length === 1 ? `marked ${words}` : `${changed.length} crops marked ${words}`);
    const body = { marks: Object.fromEntries(changed.map((crop) => [crop.id, answer])), ranking: view.ranking, sort: view.sort };
    const count = (by) => changed.forEach(({ id }) => (pending.get(id) ?? 0) + by ? pending.set(id, (pending.get(id) ?? 0) + by) : pending.delete(id));
    count(1);
    queue.add(`${base}/mark`, body).finally(() => count(-1)).then(({ line, left_out }) => {
      if (left_out.length) grid.refresh().catch(fail); // a sample was drawn elsewhere meanwhile
      if (line === lines + 1) lines = line;
      later();
    }, (error) => {
      changed.forEach((crop) => (crop.mark = before.get(crop)));
      grid.paintAll();
      fail(error);
    });
  }

  function markChosen(answer) {
    if (grid.selected.size) grid.markSelection(answer);
    else grid.markKey(answer);
  }

  function step(kind) {
    Promise.resolve(grid.marking).then(() => queue.add(`${base}/${kind}`, {})).then(async ({ line }) => {
      announce(line ? `${kind} done` : `nothing to ${kind}`);
      await grid.refresh();
      await update();
    }, fail);
  }

  let setting = 0;
  function threshold(value, done) {
    const scale = state.panel.scale;
    clearTimeout(setting);
    setting = setTimeout(async () => {
      try {
        if (done) {
          await queue.add(`${base}/threshold`, { value, scale });
          await update();
        } else drawEstimate(await get(`${base}/estimate`, { ranking: view.ranking, threshold: value }));
      } catch (error) {
        fail(error);
      }
    }, done ? 0 : 60);
  }

  async function drawAudit() {
    try {
      const { audit } = state;
      const whole = audit && audit.answered === audit.drawn;
      const question = whole ? "The answers of the present sample haven't been learned from. Draw another all the same?" : "The present sample isn't marked whole. Draw another?";
      if (audit?.answered && !state.estimate.learned && !confirm(question)) return;
      await showNew();
      await queue.add(`${base}/audit`, { size: Number(size.value) });
      await update();
      await show({ sort: "audit" });
      grid.focus(0);
    } catch (error) {
      fail(error);
    }
  }

  // The state
  function drawEstimate(given) {
    if (given.would_take !== undefined) above.textContent = `${many(given.would_take, "crop")} to take home: at ${Number(bars.slider.value).toFixed(2)} or more, less what is ✗, with what is ✓`;
    estimate.replaceChildren(...estimateText(given, state.facts.use));
  }

  let timer = 0;
  const later = (delay = 150) => {
    clearTimeout(timer);
    if (!signal.aborted) timer = setTimeout(() => update().catch(() => later(2000)), delay);
  };

  async function update() {
    clearTimeout(timer);
    const given = await get(base, { by, ranking: view.ranking });
    if (signal.aborted) return;
    if (given.trouble && given.trouble !== state?.trouble) fail(new Error(given.trouble));
    const known = state?.lines ?? given.lines;
    state = given;
    byId("title").textContent = given.facts.name;
    document.title = `${given.facts.name} – find more like it`;
    undo.disabled = !given.can_undo;
    redo.disabled = !given.can_redo;
    marks.textContent = `${given.relevant} ✓   ${given.not_relevant} ✗`;
    marks.setAttribute("aria-label", `${given.relevant} relevant, ${given.not_relevant} not relevant`);
    if (view.ranking < 0 && given.newest >= 0 && !given.learning) {
      lines = given.lines;
      await show({ ranking: given.newest });
      later(0);
      return;
    }
    // Lines that this tab didn't write: another tab or person has marked something.
    if (known !== given.lines && lines !== given.lines) grid.refresh().catch(fail);
    lines = given.lines;
    if (given.panel) drawPanel(given);
    later(given.learning || view.ranking < 0 ? 60 : 2500);
  }

  function drawPanel(given) {
    if (!bars.busy()) bars.draw(given.panel);
    if (!bars.dragged()) drawEstimate({ ...given.estimate, would_take: given.panel.taken });
    const answers = given.audit && given.audit.answered === given.audit.drawn;
    learn.hidden = !answers || given.estimate.learned;
    const { signal: stop, rounds: count } = given.panel.stop;
    stopping.classList.toggle("yes", stop);
    stopping.textContent = stop ? "Stop signal: the last rounds agree on what is relevant. More marks will change little."
      : `Round ${count}. The signal comes when three rounds in a row, of ten marks or more, agree.`;
    rounds.replaceChildren(roundsPlot(given.panel.rounds, given.estimate.current ? given.estimate : null));
    const change = given.changes;
    const learning = given.learning ? "learning …" : "";
    if (change) {
      const told = [change.new_marks < 0 ? `${many(-change.new_marks, "mark")} taken back` : many(change.new_marks, "new mark"), `${change.entered} of the first ${change.top} would be new`, `${change.taken_before.toLocaleString("en")} → ${change.taken.toLocaleString("en")} to take home`];
      tell(`${told.join("; ")}. ${learning}`, true);
    } else tell(learning || hint(given), false);
  }

  /** The line above the grid; left alone where it says the same already, so that nothing is read out or loses the focus twice. */
  function tell(text, isNew) {
    if (changes.firstChild?.textContent === text && showButton.hidden === !isNew) return;
    changes.firstChild.textContent = text;
    changes.firstChild.className = isNew ? "" : "faint";
    showButton.hidden = !isNew;
  }

  function hint(given) {
    if (view.sort === "audit" && given.estimate.learned) return "The answers of this sample have been learned from.";
    if (view.sort === "audit") return "Mark every crop of the sample: Y or N. These answers aren't learned from.";
    if (!given.relevant && !given.not_relevant) return "Mark some of the first crops: Y relevant, N not relevant. The order stays as it is until you ask for the new one.";
    if (given.panel.scale === "cosine") return given.panel.reason ? `Ranked by cosine: ${given.panel.reason}.` : "Ranked by cosine. A few marks of both kinds make a probe.";
    return `Ranked by a probe. ${given.panel.reason ? `${given.panel.reason[0].toUpperCase()}${given.panel.reason.slice(1)}.` : ""}`;
  }

  function keys(event) {
    if (event.target.closest?.("input, select, textarea") && event.target.type !== "range" && event.target.type !== "checkbox") return;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") step(event.shiftKey ? "redo" : "undo");
    else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "y") step("redo");
    else if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    else if (event.key.toLowerCase() === "r" && state) showNew().catch(fail);
    else return;
    event.preventDefault();
  }
  document.addEventListener("keydown", keys, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));

  await update();
  if (signal.aborted) return;
  const facts = state.facts;
  query.append(...facts.query.crops.slice(0, 6).map((crop) => el("img", { src: `/thumb/${crop}/96`, alt: "query crop", title: "query" })),
    ...facts.query.uploads.map((upload) => el("img", { src: `/uploads/${upload}`, alt: "query image", title: "query" })));
}

