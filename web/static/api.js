// @ts-check
// Talks to the server. Reads are plain; what changes something goes through a queue that outlives a reload and a dead server.

import { byId, fail } from "./dom.js";

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
    throw new Error("the server doesn't answer; marks are kept in this browser until it does");
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

export async function get(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value !== undefined));
  return (await answerOf(await ask(`${path}?${query}`))).json();
}

export async function getBytes(path, parameters = {}) {
  const response = await answerOf(await ask(`${path}?${new URLSearchParams(parameters)}`));
  return response.status === 202 ? null : response.arrayBuffer();
}

export async function send(path, body, method = "POST") {
  const options = { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body), priority: "high" };
  return (await answerOf(await ask(path, options))).json();
}

export async function sendFile(path, file) {
  return (await answerOf(await ask(path, { method: "POST", body: file }))).json();
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
    const kept = this.kept.length ? ` (${this.kept.length} kept for a session that isn't here)` : "";
    status.textContent = (this.trouble ? `${waiting} not saved yet: ${this.trouble}. Trying again …` : waiting ? "saving …" : this.sent ? "saved" : "") + kept;
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
      const item = this.items[0];
      const listener = this.listeners.get(item.body.action);
      try {
        const answer = await send(item.path, item.body);
        listener?.resolve(answer);
        this.trouble = "";
        this.sent = true;
      } catch (error) {
        item.tries = (item.tries || 0) + 1;
        if (!(error instanceof Refused) || error.status > 500 || (error.status === 500 && item.tries < 3)) {
          this.trouble = error instanceof Refused ? error.message : "the server doesn't answer";
          this.store();
          await new Promise((resolve) => setTimeout(resolve, 1000));
          continue;
        }
        if (error.status === 403) {
          this.trouble = "the server has a new address; open it";
          this.store();
          await new Promise((resolve) => setTimeout(resolve, 2000));
          continue;
        }
        if ([404, 409].includes(error.status)) {
          this.kept.push(this.items.shift());
          this.trouble = "";
          this.store();
          if (listener) fail(error); // not for what an earlier page left
          continue;
        }
        this.trouble = "";
        if (listener) listener.reject(error);
        else fail(error);
      }
      this.listeners.delete(item.body.action);
      this.items.shift();
      this.store();
    }
    this.running = false;
  }
}

export const queue = new Queue();
