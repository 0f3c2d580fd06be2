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

/** Makes the buttons of a tab list or a toolbar one stop for Tab; the arrow keys go from one to the next. */
export function roving(element, selector = "button, select, input") {
  const stops = () => [...element.querySelectorAll(selector)].filter((one) => !one.disabled && one.offsetParent !== null);
  const settle = (current) => {
    for (const one of element.querySelectorAll(selector)) one.tabIndex = one === current ? 0 : -1;
  };
  element.addEventListener("focusin", (event) => event.target.matches(selector) && settle(event.target));
  element.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    // In a slider, a list of choices or a text the arrows have their own meaning: there Tab goes on.
    if (!step || !event.target.matches("button") || event.ctrlKey || event.altKey || event.metaKey) return;
    const all = stops();
    const at = all.indexOf(event.target);
    if (at < 0) return;
    const to = Number.isFinite(step) ? (at + step + all.length) % all.length : step > 0 ? all.length - 1 : 0;
    event.preventDefault();
    event.stopPropagation();
    settle(all[to]);
    all[to].focus();
  });
  element.settle = () => {
    const all = [...element.querySelectorAll(selector)];
    const current = all.find((one) => one === document.activeElement) || all.find((one) => !one.disabled && one.getAttribute("aria-selected") === "true") || all.find((one) => !one.disabled) || all[0];
    if (!all.some((one) => one.tabIndex === 0 && !one.disabled)) settle(current);
  };
  settle(element.querySelector(`${selector.split(",").map((one) => `${one.trim()}:not(:disabled)`).join(",")}`));
  return element;
}
