// @ts-check
// Which screen is shown: the start, or the session that the address names.

import { get, person } from "./api.js";
import { byId, el, fail, quiet } from "./dom.js";
import { startScreen } from "./start.js";
import { workScreen } from "./work.js";

const kept = localStorage.getItem("theme");
if (kept) document.documentElement.dataset.theme = kept;
byId("theme").addEventListener("click", () => {
  const dark = (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
});
const help = () => {
  byId("my-name").value = person.name || "";
  byId("help").showModal();
  byId("help").scrollTop = 0; // it opens at the button that has the focus, which is the last
};
byId("my-name").addEventListener("change", () => (person.name = byId("my-name").value));
byId("help-button").addEventListener("click", help);
byId("error").addEventListener("click", quiet);
byId("home").addEventListener("click", () => (location.hash = ""));
document.addEventListener("keydown", (event) => {
  const target = /** @type {Element} */ (event.target);
  if (event.key === "?" && !target.closest("input, textarea")) help();
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
  document.title = "Find more like it";
  if (session) await workScreen(pool, decodeURIComponent(session), new URLSearchParams(place), signal);
  else await startScreen(pool, (name) => !signal.aborted && (location.hash = name));
}

const go = () => {
  shown.abort();
  quiet();
  shown = new AbortController();
  const { signal } = shown;
  route(signal).catch((error) => signal.aborted || explain(error));
};
const explain = (error) => {
  byId("main").replaceChildren(el("div", { class: "start" }, el("p", {}, error.status === 404 ? "There is no such session here: it was deleted, or it is of another folder of sessions." : error.message), el("p", {}, el("button", { onclick: () => (location.hash = "") }, "All sessions"))));
  fail(error);
};
addEventListener("hashchange", go);
go();
