// @ts-check
// Builds elements. Text only ever goes in as text, so markup in a file name or label stays what it is.

const SVG = "http://www.w3.org/2000/svg";
const TAIL = 17; // letters of a name's end that are kept

/**
 * An element with properties, event listeners (on...), attributes (anything with a hyphen, and role) and children.
 * @returns {any}
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name.includes("-") || name === "role" || name === "for" || name === "list") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** @type {(id: string) => any} */
export const byId = (id) => document.getElementById(id);

export function announce(text) {
  byId("announce").textContent = text;
}

const message = byId("error"); // it moves into dialogs, and goes with what they showed

/** Takes the message away. */
export function quiet() {
  if (message.matches?.(":popover-open")) message.hidePopover();
  message.hidden = true;
}

/** Fills a dialog and opens it; a message that shows is lifted into it. */
export function openDialog(dialog, ...children) {
  dialog.onclose = null;
  dialog.replaceChildren(...children);
  dialog.showModal();
  lift();
}

let failing; // takes the message away again

/** Brings the message, if one shows, into a dialog that has opened: all else is out of reach then, below it, and not read out. */
export function lift() {
  if (message.hidden) return;
  quiet();
  ([...document.querySelectorAll("dialog[open]")].pop() || document.body).append(message);
  message.hidden = false;
  message.showPopover?.();
}

export function fail(error) {
  message.textContent = error.message || String(error);
  message.hidden = false;
  lift();
  clearTimeout(failing);
  failing = setTimeout(quiet, 12000);
}

/** The colour of what has no class. */
export const UNLABELLED = "#8a8f8c";

/** class -> its colour. */
export const classColors = (pool) => new Map(pool.classes.map(({ name, color }) => [name, color]));

/** A dot in the colour of a class. */
export function dot(color) {
  const shown = el("span", { class: "dot", "aria-hidden": "true" });
  shown.style.setProperty("--dot", color);
  return shown;
}

/** A text that is cut before its last words where it doesn't fit, so that they can be read. */
export function middleCut(text) {
  let at = text.length;
  for (const { index } of text.matchAll(/[ _-]/g)) {
    if (index > 0 && text.length - index <= TAIL) {
      at = index;
      break;
    }
  }
  return el("span", { class: "cut-text" }, el("span", { class: "head" }, text.slice(0, at)), el("span", { class: "tail" }, text.slice(at)));
}

/**
 * Makes the buttons of a tab list or a toolbar one stop for Tab; the arrow keys go from one to the next. In a list of choices and
 * in a slider, up and down keep their own meaning.
 */
export function roving(element) {
  const parts = () => [...element.querySelectorAll("button, select, input")];
  let current = parts().find((one) => !one.disabled);
  const settle = () => parts().forEach((one) => (one.tabIndex = one === current ? 0 : -1));
  element.addEventListener("focusin", (event) => {
    if (!parts().includes(event.target)) return;
    current = event.target;
    settle();
  });
  element.addEventListener("keydown", (event) => {
    const across = { ArrowRight: 1, ArrowLeft: -1 };
    const steps = event.target.matches("button") ? { ...across, ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity } : across;
    const step = steps[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
    const all = parts().filter((one) => !one.disabled && one.offsetParent !== null);
    const at = all.indexOf(event.target);
    if (at < 0) return;
    const to = Number.isFinite(step) ? (at + step + all.length) % all.length : step > 0 ? all.length - 1 : 0;
    event.preventDefault();
    event.stopPropagation();
    all[to].focus();
  });
  // What comes in later, such as an example, is no stop of its own.
  new MutationObserver(() => {
    if (!element.contains(current)) current = parts().find((one) => !one.disabled);
    settle();
  }).observe(element, { childList: true, subtree: true });
  settle();
  return element;
}
