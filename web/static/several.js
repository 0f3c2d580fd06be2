// @ts-check
// Several classes in one session: a tab for each, what two of them claim, and a matrix of that.

import { byId, el, fail, middleCut, openDialog } from "./dom.js";
import { T } from "./text.js";

/** A row of the classes; hidden where there is one. */
export function classTabs(session) {
  const row = el("div", { class: "classes", role: "group", "aria-label": T.several.label, hidden: true });
  let drawn = "";
  session.addEventListener("state", () => {
    const { several } = session.state;
    row.hidden = !several;
    if (!several) return;
    const shown = JSON.stringify([several, session.view.sort]);
    if (shown === drawn) return;
    drawn = shown;
    const had = row.contains(document.activeElement) && document.activeElement.dataset.name;
    row.replaceChildren(
      ...several.counts.map(({ name, relevant, taken }, place) => el("button", {
        "aria-pressed": String(name === several.of && session.view.sort !== "contested"), "data-name": name, title: T.several.key(place + 1), onclick: () => session.showClass(name),
      }, el("kbd", {}, String(place + 1)), middleCut(name), el("span", { class: "faint" }, T.several.count(relevant, taken)))),
      el("button", { "data-name": "contested", "aria-pressed": String(session.view.sort === "contested"), title: T.several.contestedHint, onclick: () => session.show({ sort: "contested" }) }, T.several.contested(several.contested)),
      el("button", { "data-name": "matrix", onclick: () => matrix(session, several) }, T.several.matrix));
    if (had) /** @type {any} */ ([...row.children].find((button) => /** @type {any} */ (button).dataset.name === had))?.focus();
  });
  session.addEventListener("view", () => {
    drawn = "";
  });
  return row;
}

/** Which classes claim the same crops; each figure shows its crops. */
function matrix(session, { counts, claimed }) {
  const dialog = byId("example");
  const most = Math.max(1, ...claimed.flatMap((row, at) => row.filter((_, other) => other !== at)));
  const names = counts.map(({ name }) => name);
  async function show(first, second) {
    try {
      const { selection } = await session.ask("/claimed", { first, second });
      dialog.close();
      await session.show({ among: selection, sort: "best" });
    } catch (error) {
      fail(error);
    }
  }
  const cell = (count, row, column) => {
    const item = el("td", {}, el("button", { disabled: !count, "aria-label": T.several.pair(names[row], names[column], count), onclick: () => show(names[row], names[column]) }, String(count)));
    if (row !== column && count) item.style.background = `color-mix(in srgb, var(--accent) ${Math.round((60 * count) / most)}%, transparent)`;
    return item;
  };
  openDialog(dialog, el("h2", {}, T.several.title),
    el("p", { class: "faint" }, T.several.hint),
    el("table", { class: "matrix" }, el("tr", {}, el("td"), ...names.map((name) => el("th", {}, name))),
      ...claimed.map((row, at) => el("tr", {}, el("th", {}, names[at]), ...row.map((count, other) => cell(count, at, other))))),
    el("p", {}, el("button", { onclick: () => dialog.close() }, T.close)));
}
