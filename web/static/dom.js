// @ts-check
// Builds elements. Text only ever goes in as text, so markup in a file name or label stays what it is.

const SVG = "http://www.w3.org/2000/svg";

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

/** Names of classes, each with the color of its border. */
export const classNames = (classes) => classes.map(({ name, color }) => {
  const item = el("span", {}, name);
  item.style.setProperty("--border", color);
  return item;
});

/** A number for people: three digits that count. */
export const short = (value) => Number(value.toPrecision(3)).toString();
export const percent = (value) => `${(100 * value).toFixed(value > 0.1 ? (value > 0.995 && value < 1 ? 1 : 0) : 1)}\u00a0%`;
export const many = (count, one, more = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : more}`;
