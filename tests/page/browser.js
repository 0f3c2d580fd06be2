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
const element = () => ({ textContent: "", hidden: true, classList: { toggle() {} }, append() {} });
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

/** What is announced to screen readers, what went wrong, and whether all is saved. */
export const said = () => document.getElementById("announce").textContent;
export const failed = () => document.getElementById("error").textContent;
export const saved = () => document.getElementById("saved").textContent;

/** A server: answers(request) gives the answer to {path, body}, or throws a Response. Returns what it is asked, in order. */
export function serve(answers) {
  const asked = [];
  globalThis.fetch = async (path, { body, method = "GET" } = {}) => {
    const request = { path, method, body: body && JSON.parse(body) };
    asked.push(request);
    try {
      return Response.json(await answers(request));
    } catch (refusal) {
      if (refusal instanceof Response) return refusal;
      throw refusal;
    }
  };
  return asked;
}

/** A refusal, as the server words it. */
export const refusal = (error, status) => Response.json({ error }, { status });

/** Waits until something is so. */
export async function until(isSo) {
  for (let tries = 0; tries < 500; tries++) {
    if (isSo()) return;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  throw new Error(`never came to be: ${isSo}`);
}
