// @ts-check
// Talks to the server. Reads are plain; what changes something goes through a queue that outlives a reload and a dead server.

import { byId, fail } from "./dom.js";
import { T } from "./text.js";

const BATCHED = /\/(mark|classify)(\?|$)/; // paths that take several actions at once,
const BATCH = 50; // and how many

/** Who acts: this tab. Kept over a reload, so that undo still knows its own. */
export const by = (() => {
  let name = sessionStorage.getItem("by");
  if (!name) sessionStorage.setItem("by", (name = randomName()));
  return name;
})();

/** The person's name, asked for once in this browser: "" where they gave none, null before they were asked. */
export const person = {
  get name() {
    return localStorage.getItem("person");
  },
  set name(name) {
    localStorage.setItem("person", name.trim().slice(0, 100));
  },
};

export function randomName() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The server's no, with its HTTP status. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** fetch, with words for people where no server answers. */
async function ask(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    throw new Error(T.offlineKept);
  }
}

async function answerOf(response) {
  if (response.ok) return response;
  const text = await response.text();
  let message = `${response.status} ${response.statusText}`;
  try {
    message = JSON.parse(text).error || message;
  } catch {
    // not JSON: the status has to do
  }
  throw new Refused(message, response.status);
}

/** What a request asks with; what says nothing is left out. */
function queryOf(parameters) {
  if (parameters instanceof URLSearchParams) return parameters;
  return new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value !== undefined));
}

/** parameters: by name, or as URLSearchParams where a name comes several times. */
export async function get(path, parameters = {}) {
  return (await answerOf(await ask(`${path}?${queryOf(parameters)}`))).json();
}

/** Bytes, or what is told of work that is still under way: {bytes, progress}, one of which is null. */
export async function getBytes(path, parameters = {}) {
  const response = await answerOf(await ask(`${path}?${queryOf(parameters)}`));
  return response.status === 202 ? { bytes: null, progress: await response.json() } : { bytes: await response.arrayBuffer(), progress: null };
}

export async function send(path, body, method = "POST") {
  const options = { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body), priority: "high" };
  return (await answerOf(await ask(path, options))).json();
}

/** Sends a file, or bytes, as they are. */
export async function sendRaw(path, body) {
  return (await answerOf(await ask(path, { method: "POST", body }))).json();
}

/**
 * Actions in order, each sent until the server has it. They are kept in localStorage until they are acknowledged; each has an
 * id, so one that is sent twice counts once. Those of sessions that this server doesn't have, or may not write to, are kept for
 * the one that does: all servers on a port share one localStorage.
 */
class Queue {
  constructor() {
    // Its own key for each page, so that two tabs don't overwrite each other's; those of closed tabs are taken over.
    this.key = `unsent ${by} ${randomName()}`;
    this.items = [];
    this.kept = []; // for another server
    for (const key of Object.keys(localStorage).filter((name) => name.startsWith("unsent "))) {
      this.items.push(...JSON.parse(localStorage.getItem(key) || "[]"));
      localStorage.removeItem(key);
    }
    this.listeners = new Map();
    this.store();
    if (this.items.length) this.run();
  }

  store() {
    const unsent = [...this.kept, ...this.items];
    if (unsent.length) localStorage.setItem(this.key, JSON.stringify(unsent));
    else localStorage.removeItem(this.key);
    const status = byId("saved");
    status.classList.toggle("waiting", Boolean(this.trouble));
    const waiting = this.items.length;
    const kept = this.kept.length ? T.kept(this.kept.length) : "";
    status.textContent = (this.trouble ? T.waiting(waiting, this.trouble) : waiting ? T.saving : this.sent ? T.saved : "") + kept;
  }

  /** Adds an action; resolves to the server's answer, rejects if it refuses. */
  add(path, body) {
    const item = { path, body: { ...body, by, person: person.name || "", action: randomName() } };
    this.items.push(item);
    this.store();
    const result = new Promise((resolve, reject) => this.listeners.set(item.body.action, { resolve, reject }));
    this.run();
    return result;
  }

  /** Sends again what was kept for a session, which is here now. */
  again(base) {
    const back = this.kept.filter(({ path }) => path.startsWith(base));
    this.kept = this.kept.filter((item) => !back.includes(item));
    this.items.unshift(...back);
    this.store();
    this.run();
  }

  /** Resolves when all is sent; at once where the server doesn't answer. */
  async done() {
    while (this.items.length && !this.trouble) await new Promise((resolve) => setTimeout(resolve, 20));
  }

  async run() {
    if (this.running) return;
    this.running = true;
    while (this.items.length) {
      const batch = this.next();
      const answers = await this.deliver(batch);
      if (!answers) continue; // later
      for (const [place, item] of batch.entries()) this.settle(item, answers[place]);
    }
    this.running = false;
  }

  /** What is sent next: one action, or all marks that wait one after the other, so that a slow network isn't asked for each. */
  next() {
    const [first] = this.items;
    if (!BATCHED.test(first.path)) return [first];
    const other = this.items.findIndex(({ path }) => path !== first.path);
    return this.items.slice(0, Math.min(BATCH, other < 0 ? this.items.length : other));
  }

  /** The answer to each action of a batch, an error where it is refused; null where they have to be sent again. */
  async deliver(batch) {
    const [first] = batch;
    try {
      if (batch.length === 1) return [await send(first.path, first.body)];
      const { answers } = await send(first.path, { batch: batch.map(({ body }) => body) });
      return answers.map((answer) => (answer.error ? new Refused(answer.error, answer.status) : answer));
    } catch (error) {
      if (!(await this.isFinal(error, first))) return null;
      return batch.map(() => error);
    }
  }

  /** Whether a failure is the server's last word; where it isn't, waits and says so. */
  async isFinal(error, item) {
    item.tries = (item.tries || 0) + 1;
    const refused = error instanceof Refused;
    const again = !refused || error.status > 500 || (error.status === 500 && item.tries < 3);
    if (!again && error.status !== 403) return true;
    this.trouble = !again ? T.newAddress : refused ? error.message : T.offline;
    this.store();
    await new Promise((resolve) => setTimeout(resolve, again ? 1000 : 2000));
    return false;
  }

  settle(item, answer) {
    const listener = this.listeners.get(item.body.action);
    this.items.shift();
    this.trouble = "";
    if (!(answer instanceof Error)) {
      this.sent = true;
      listener?.resolve(answer);
    } else if ([404, 409].includes(/** @type {Refused} */ (answer).status)) {
      this.kept.push(item);
      this.store();
      if (listener) fail(answer); // not for what an earlier page left
      return;
    } else if (listener) listener.reject(answer);
    else fail(answer);
    this.listeners.delete(item.body.action);
    this.store();
  }
}

export const queue = new Queue();
