// What the page's modules find in a browser, as far as their logic needs it: import it before them.

class Store {
  getItem(name) {
    return Object.hasOwn(this, name) ? this[name] : null;
  }

  setItem(name, value) {
    this[name] = String(value);
  }

  removeItem(name) {
    delete this[name];
  }
}

/** An element that only keeps what is written to it. */
const element = () => {
  const classes = new Set();
  const toggle = (name, isOn) => classes[isOn ? "add" : "delete"](name);
  return { textContent: "", hidden: true, classes, classList: { toggle }, append() {} };
};
const elements = new Map();

Object.assign(globalThis, {
  sessionStorage: new Store(),
  document: {
    getElementById(id) {
      if (!elements.has(id)) elements.set(id, element());
      return elements.get(id);
    },
    querySelectorAll: () => [],
    body: element(),
    activeElement: null,
  },
  history: { replaceState: (_, __, address) => (location.hash = address) },
  location: { hash: "" },
});
Object.defineProperty(globalThis, "localStorage", { value: new Store() }); // Node has one of its own, which warns

/** Time passes a hundred times as fast here; what was waited for, in ms. */
export const waits = [];
const wait = globalThis.setTimeout;
globalThis.setTimeout = (act, delay = 0) => {
  waits.push(delay);
  return wait(act, delay / 100);
};

/** What is announced to screen readers, what went wrong, and whether all is saved. */
export const said = () => document.getElementById("announce").textContent;
export const failed = () => document.getElementById("error").textContent;
export const saved = () => document.getElementById("saved").textContent;

/**
 * A server: answers(request) gives the answer to {path, method, body}, or throws a Response, or a TypeError where nobody answers.
 * Returns what it is asked, in order.
 */
export function serve(answers) {
  const asked = [];
  globalThis.fetch = async (path, { body, method = "GET", headers = {} } = {}) => {
    const request = { path, method, body: body && JSON.parse(body), kind: headers["content-type"] };
    asked.push(request);
    try {
      return Response.json(await answers(request));
    } catch (error) {
      if (error instanceof TypeError) throw error;
      return error instanceof Response ? error : refusal(String(error), 400);
    }
  };
  return asked;
}

/** A refusal, as the server words it. */
export const refusal = (error, status) => Response.json({ error }, { status });

/** Lets all that is under way go on. */
export const pause = (delay = 1) => new Promise((resolve) => wait(resolve, delay));

/** Waits until something is so. */
export async function until(isSo) {
  for (let tries = 0; tries < 500; tries++) {
    if (isSo()) return;
    await pause();
  }
  throw new Error(`never came to be: ${isSo}`);
}
