// @ts-check
// Exporting the class: what, in which format, and the card that goes with it.

import { send } from "./api.js";
import { inWords } from "./conditions.js";
import { byId, el, fail, openDialog } from "./dom.js";
import { T } from "./text.js";

/** Opens the dialog, for the session as it is shown. */
export function takeHome(pool, shown, renamed) {
  const { state, name: session, view } = shown;
  const { ranking, where, among } = view;
  const dialog = byId("export");
  const name = el("input", { value: (state.facts.class_name || state.facts.name).slice(0, 100), "aria-label": T.export.name, class: "grow", maxLength: 100 });
  const format = el("select", { "aria-label": T.export.format }, ...Object.entries(pool.formats).map(([kind, keeps]) => el("option", { value: kind }, T.export.formatOf(kind, keeps))));
  const what = el("select", { "aria-label": T.export.which },
    el("option", { value: "threshold" }, T.export.threshold(state.panel.taken)),
    el("option", { value: "marked" }, T.export.marked(state.panel.marked)));
  const result = el("div", { role: "status" });
  const limits = [...shown.conditions.map(inWords), ...(among ? [T.filter.onMap] : [])].join(T.export.and);
  const part = el("select", { "aria-label": T.export.part }, el("option", { value: "" }, T.export.all),
    el("option", { value: "part" }, T.export.filtered(limits)));
  const estimate = state.estimate;
  const known = estimate.current && estimate.precision;
  const told = el("p", { class: "faint" });
  part.addEventListener("change", () => (told.textContent = part.value ? T.export.ofPart : note));
  const note = known ? T.export.known(T.export.interval(estimate.precision_of_taken), T.export.interval(estimate.precision)) : T.export.unknown;
  told.textContent = note;
  const go = el("button", { class: "main" }, T.export.write);

  const choice = (name, select) => el("label", { class: "choice" }, el("span", {}, name), select);

  async function write(event) {
    event.preventDefault();
    go.disabled = true;
    result.replaceChildren(el("p", {}, T.export.writing));
    try {
      if (!state.several && name.value !== state.facts.class_name) {
        await send(`api/sessions/${session}`, { class_name: name.value }, "PATCH");
        renamed(name.value);
      }
      const answer = await send(shown.address("/export"), { format: format.value, what: what.value, class_name: name.value, ranking, ...(part.value ? { where, among } : {}) });
      result.replaceChildren(
        el("p", {}, T.export.written(answer.crops), el("code", {}, answer.folder)),
        el("p", {}, el("a", { href: answer.download, download: "" }, T.export.download)),
        ...(answer.left_out.length ? [el("p", {}, T.export.leftOut, answer.left_out.join("; "))] : []));
    } catch (error) {
      result.replaceChildren();
      fail(error);
    }
    go.disabled = false;
  }

  async function keep() {
    try {
      const { folder } = await send(shown.address("/probe"), { ranking });
      result.replaceChildren(el("p", {}, T.export.probeSaved[0], el("code", {}, folder), T.export.probeSaved[1], el("code", {}, `python run_search.py --embeddings=… --probe=${folder} --out=more.csv`)));
    } catch (error) {
      fail(error);
    }
  }

  openDialog(dialog, el("h2", {}, T.export.title),
    el("form", { onsubmit: write },
      el("p", { class: "row" }, el("label", {}, T.export.class), name),
      choice(T.export.whichShort, what), limits ? choice(T.export.partShort, part) : "", choice(T.export.formatShort, format), told,
      el("p", { class: "row" }, go,
        el("button", { type: "button", onclick: keep, title: T.export.probeHint }, T.export.probe),
        el("button", { type: "button", onclick: () => dialog.close() }, T.close))),
    result);
}
