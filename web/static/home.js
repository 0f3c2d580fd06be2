// @ts-check
// Taking the class home: what, in which format, and the card that goes with it.

import { send } from "./api.js";
import { byId, el, fail, many } from "./dom.js";

/** Opens the dialog, for the session as it is shown. */
export function takeHome(pool, shown, renamed) {
  const { state, name: session, view } = shown;
  const { ranking, where, among } = view;
  const dialog = byId("take-home");
  const name = el("input", { value: (state.facts.class_name || state.facts.name).slice(0, 100), "aria-label": "name of the class", class: "grow", maxLength: 100 });
  const format = el("select", { "aria-label": "format" }, ...Object.entries(pool.formats).map(([kind, keeps]) => el("option", { value: kind }, `${kind}: ${keeps}`)));
  const what = el("select", { "aria-label": "which crops" },
    el("option", { value: "threshold" }, `from the threshold on, and what is marked relevant: ${many(state.panel.taken, "crop")}`),
    el("option", { value: "marked" }, `only what is marked or answered relevant, and the query: ${many(state.panel.marked, "crop")}`));
  const result = el("div", { role: "status" });
  const limits = [...shown.conditions, ...(among ? ["the selection on the map"] : [])].join(" and ");
  const part = el("select", { "aria-label": "of all, or what the filter leaves" }, el("option", { value: "" }, "of all crops of the session: the filter doesn't count"),
    el("option", { value: "part" }, `only of what the filter leaves: ${limits}`));
  const estimate = state.estimate;
  const known = estimate.current && estimate.precision;
  const told = el("p", { class: "faint" });
  part.addEventListener("change", () => (told.textContent = part.value ? "The card will say that the precision of this part was not estimated." : note));
  const range = ({ estimate: middle, low, high }) => `${(100 * middle).toFixed(0)} % (95 % interval ${(100 * low).toFixed(0)} to ${(100 * high).toFixed(0)})`;
  const note = known ? `The card will say: precision ${range(estimate.precision_of_taken)}; of the crops nobody marked, ${range(estimate.precision)}.`
    : "The card will say that the precision was not estimated: no random sample has been marked for this order.";
  told.textContent = note;
  const go = el("button", { class: "main" }, "Write it");

  async function write(event) {
    event.preventDefault();
    go.disabled = true;
    result.replaceChildren(el("p", {}, "writing …"));
    try {
      if (!state.several && name.value !== state.facts.class_name) {
        await send(`api/sessions/${session}`, { class_name: name.value }, "PATCH");
        renamed(name.value);
      }
      const answer = await send(shown.address("/export"), { format: format.value, what: what.value, class_name: name.value, ranking, ...(part.value ? { where, among } : {}) });
      result.replaceChildren(
        el("p", {}, `${many(answer.crops, "crop")} written to `, el("code", {}, answer.folder)),
        el("p", {}, el("a", { href: answer.download, download: "" }, "Download as .zip")),
        ...(answer.left_out.length ? [el("p", {}, "Left out: ", answer.left_out.join("; "))] : []));
    } catch (error) {
      result.replaceChildren();
      fail(error);
    }
    go.disabled = false;
  }

  async function keep() {
    try {
      const { folder } = await send(shown.address("/probe"), { ranking });
      result.replaceChildren(el("p", {}, "Saved to ", el("code", {}, folder), ". On new photos, embedded alike by run_embed.py: ", el("code", {}, `python run_search.py --embeddings=… --probe=${folder} --out=more.csv`)));
    } catch (error) {
      fail(error);
    }
  }

  dialog.replaceChildren(el("h2", {}, "Take it home"),
    el("form", { onsubmit: write },
      el("p", { class: "row" }, el("label", {}, "Class"), name),
      el("p", {}, what), limits ? el("p", {}, part) : "", el("p", {}, format), told,
      el("p", { class: "row" }, go,
        el("button", { type: "button", onclick: keep, title: "What was learned, as a file: it ranks new photos" }, "Save the probe"),
        el("button", { type: "button", onclick: () => dialog.close() }, "Close"))),
    result);
  dialog.showModal();
}
