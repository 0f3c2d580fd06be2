// @ts-check
// Taking the class home: what, in which format, and the card that goes with it.

import { send } from "./api.js";
import { byId, el, fail, many } from "./dom.js";

/** Opens the dialog. state is the session's; ranking the order that is shown. */
export function takeHome(pool, session, state, ranking, renamed) {
  const dialog = byId("take-home");
  const name = el("input", { value: state.facts.class_name || state.facts.name, "aria-label": "name of the class", class: "grow", maxLength: 200 });
  const format = el("select", { "aria-label": "format" }, ...Object.entries(pool.formats).map(([kind, keeps]) => el("option", { value: kind }, `${kind}: ${keeps}`)));
  const what = el("select", { "aria-label": "which crops" },
    el("option", { value: "threshold" }, `from the threshold on, and what is marked relevant: ${many(state.panel.taken, "crop")}`),
    el("option", { value: "marked" }, `only what is marked or answered relevant, and the query: ${many(state.panel.marked, "crop")}`));
  const result = el("div", { role: "status" });
  const estimate = state.estimate;
  const known = estimate.current && estimate.precision;
  const range = ({ estimate: middle, low, high }) => `${(100 * middle).toFixed(0)} % (95 % interval ${(100 * low).toFixed(0)} to ${(100 * high).toFixed(0)})`;
  const note = known ? `The card will say: precision ${range(estimate.precision_of_taken)}; of the crops nobody marked, ${range(estimate.precision)}.`
    : "The card will say that the precision was not estimated: no random sample has been marked for this order.";
  const go = el("button", { class: "main" }, "Write it");

  async function write(event) {
    event.preventDefault();
    go.disabled = true;
    result.replaceChildren(el("p", {}, "writing …"));
    try {
      if (name.value !== state.facts.class_name) {
        await send(`/api/sessions/${session}`, { class_name: name.value }, "PATCH");
        renamed(name.value);
      }
      const answer = await send(`/api/sessions/${session}/export`, { format: format.value, what: what.value, class_name: name.value, ranking });
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
      const { folder } = await send(`/api/sessions/${session}/probe`, { ranking });
      result.replaceChildren(el("p", {}, "Saved to ", el("code", {}, folder), ". On new photos, embedded alike by run_embed.py: ", el("code", {}, `python run_search.py --embeddings=… --probe=${folder} --out=more.csv`)));
    } catch (error) {
      fail(error);
    }
  }

  dialog.replaceChildren(el("h2", {}, "Take it home"),
    el("form", { onsubmit: write },
      el("p", { class: "row" }, el("label", {}, "Class"), name),
      el("p", {}, what), el("p", {}, format), el("p", { class: "faint" }, note),
      el("p", { class: "row" }, go,
        el("button", { type: "button", onclick: keep, title: "What was learned, as a file: it ranks new photos" }, "Save the probe"),
        el("button", { type: "button", onclick: () => dialog.close() }, "Close"))),
    result);
  dialog.showModal();
}
