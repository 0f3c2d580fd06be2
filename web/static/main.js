// @ts-check
// Which screen is shown: the start, or the session that the address names.

import { get, person } from "./api.js";
import { byId, el, fail, openDialog, quiet } from "./dom.js";
import { icon } from "./icons.js";
import { startScreen } from "./start.js";
import { T } from "./text.js";
import { workScreen } from "./work.js";

const kept = localStorage.getItem("theme");
if (kept) document.documentElement.dataset.theme = kept;
byId("theme").addEventListener("click", () => {
  const dark = (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
});
byId("theme").append(icon("theme"));
byId("help-button").append(icon("help"));
for (const [id, label] of [["theme", T.help.theme], ["help-button", T.help.button], ["home", T.home]]) {
  byId(id).setAttribute("aria-label", label);
  byId(id).title = label;
}
document.querySelector(".skip").textContent = T.list.skip;
for (const [id, label] of [["crop", T.photo.label], ["example", T.outside.about], ["export", T.export.title], ["help", T.help.label]]) byId(id).setAttribute("aria-label", label);

/** A text whose parts in <> are keys. */
const withKeys = (text) => text.split(/(<[^>]+>)/).map((part) => (part.startsWith("<") ? el("kbd", {}, part.slice(1, -1)) : part));

function help() {
  const name = el("input", { id: "my-name", maxLength: 100, value: person.name || "", onchange: () => (person.name = name.value) });
  openDialog(byId("help"), el("h2", {}, T.help.keysTitle),
    el("table", {}, ...T.help.keys.map(([keys, text]) => el("tr", {}, el("td", {}, ...withKeys(keys)), el("td", {}, ...withKeys(text))))),
    el("h2", {}, T.help.howTitle), el("ol", {}, ...T.help.how.map((text) => el("li", {}, text))), el("p", {}, T.help.safe),
    el("p", {}, el("label", {}, `${T.help.name} `, name)), el("button", { autofocus: true, onclick: () => byId("help").close() }, T.close));
  byId("help").scrollTop = 0; // it opens at the button that has the focus, which is the last
}
byId("help-button").addEventListener("click", help);
byId("error").addEventListener("click", quiet);
byId("home").addEventListener("click", () => (location.hash = ""));
document.addEventListener("keydown", (event) => {
  const target = /** @type {Element} */ (event.target);
  if (event.key !== "?" || target.closest("input, textarea")) return;
  event.preventDefault(); // or it would be written into the field that gets the focus
  help();
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  const first = /** @type {HTMLElement} */ (document.querySelector(".cell[tabindex='0'], .grid"));
  (first || byId("main")).focus();
});

let shown = new AbortController(); // of the screen that is shown; what belongs to an earlier one stops
async function route(signal) {
  const [session, place] = location.hash.slice(1).split("?");
  const pool = await get("api/pool");
  if (signal.aborted) return;
  document.title = T.app;
  if (session) await workScreen(pool, decodeURIComponent(session), new URLSearchParams(place), signal);
  else await startScreen(pool, (name) => !signal.aborted && (location.hash = name), signal);
}

const go = () => {
  shown.abort();
  quiet();
  shown = new AbortController();
  const { signal } = shown;
  route(signal).catch((error) => signal.aborted || explain(error));
};
const explain = (error) => {
  byId("main").replaceChildren(el("div", { class: "start" }, el("p", {}, error.status === 404 ? T.noSession : error.message), el("p", {}, el("button", { onclick: () => (location.hash = "") }, T.home))));
  fail(error);
};
addEventListener("hashchange", go);
go();
