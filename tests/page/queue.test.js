import { failed, pause, refusal, saved, serve, until, waits } from "./browser.js";

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Refused, by, get, getBytes, person, queue, randomName, send, sendRaw } from "../../web/static/api.js";
import { T } from "../../web/static/text.js";

const MARK = "api/sessions/s/mark";
const unsent = () => Object.keys(localStorage).filter((key) => key.startsWith("unsent ")).flatMap((key) => JSON.parse(localStorage.getItem(key)));
const numbers = (asked) => asked.map(({ body }) => body.n ?? body.batch.map(({ n }) => n));

beforeEach(() => {
  waits.length = 0;
  queue.kept = [];
  queue.sent = false;
  document.getElementById("error").textContent = "";
  assert.deepEqual([queue.items, queue.listeners.size], [[], 0]);
});

test("an action is kept until the server has it, with who did it", async () => {
  person.name = ` ${"Ada".repeat(40)} `;
  const kept = [];
  const asked = serve(() => {
    assert.equal(saved(), T.saving);
    kept.push(...unsent().map(({ body }) => body.n));
    return { line: 7 };
  });
  assert.deepEqual(await queue.add("api/undo", { n: 1 }), { line: 7 });
  const [{ path, method, body }] = asked;
  assert.deepEqual(kept, [1]);
  assert.match(by, /^[0-9a-f]{24}$/);
  assert.equal(asked[0].kind, "application/json");
  assert.equal(Object.keys(localStorage).filter((key) => key.startsWith("unsent")).length, 0);
  assert.deepEqual([path, method, body.n, body.by, body.person.length], ["api/undo", "POST", 1, by, 100]);
  assert.equal(body.person.slice(0, 3), "Ada");
  assert.match(body.action, /^[0-9a-f]{24}$/);
  assert.deepEqual(unsent(), []);
  assert.equal(saved(), T.saved);
  assert.equal(sessionStorage.getItem("by"), by);
  assert.notEqual(randomName(), randomName());
  localStorage.removeItem("person");
  assert.equal(person.name, null);
  await queue.add("api/undo", { n: 2 });
  assert.equal(asked[1].body.person, "");
});

test("actions come in order, marks that wait in one request of 50 at most", async () => {
  const asked = serve(({ body }) => (body.batch ? { answers: body.batch.map(({ n }) => ({ n })) } : { n: body.n }));
  const answers = [];
  for (let n = 0; n < 54; n++) answers.push(queue.add(MARK, { n }));
  answers.push(queue.add("api/sessions/s/undo", { n: 54 }), queue.add("api/sessions/s/undo", { n: 55 }));
  answers.push(queue.add("api/sessions/s/classify?of=a", { n: 56 }), queue.add("api/sessions/s/classify?of=a", { n: 57 }), queue.add(MARK, { n: 58 }));
  const range = (from, to) => Array.from({ length: to - from }, (_, place) => from + place);
  assert.deepEqual((await Promise.all(answers)).map(({ n }) => n), range(0, 59));
  assert.deepEqual(numbers(asked), [0, range(1, 51), [51, 52, 53], 54, 55, [56, 57], 58]);
  assert.deepEqual(unsent(), []);
});

test("what the server refuses is given back, and the others go on", async () => {
  serve(({ body }) => {
    if (body.batch) return { answers: body.batch.map(({ n }) => (n === 2 ? { error: "not 2", status: 422 } : { n })) };
    if (body.n === 0) throw refusal("not 0", 400);
    return { n: body.n };
  });
  const answers = [0, 1, 2, 3].map((n) => queue.add(MARK, { n }));
  const found = await Promise.allSettled(answers);
  assert.deepEqual(found.map(({ value, reason }) => value?.n ?? [reason.message, reason.status]), [["not 0", 400], 1, ["not 2", 422], 3]);
  assert.ok(found[0].reason instanceof Refused);
  assert.equal(failed(), ""); // whoever asked for it says so
  assert.deepEqual(unsent(), []);
  assert.equal(queue.items.length, 0);
});

test("where nobody answers it is sent again until somebody does", async () => {
  let tries = 0;
  serve(() => {
    if (++tries < 4) throw new TypeError("no network");
    return { tries };
  });
  const answer = queue.add(MARK, { n: 0 });
  await until(() => queue.trouble);
  assert.equal(saved(), T.waiting(1, T.offline));
  const { classes } = document.getElementById("saved");
  assert.ok(classes.has("waiting"));
  await queue.done(); // doesn't wait for what may never come
  assert.equal(unsent().length, 1);
  assert.deepEqual(await answer, { tries: 4 });
  assert.deepEqual(waits.filter((delay) => delay > 100), [1000, 1000, 1000]);
  assert.equal(queue.trouble, "");
  assert.ok(!classes.has("waiting"));
  assert.equal(saved(), T.saved);
});

test("a fault of the server is tried three times, a busy server for ever", async () => {
  let asked = serve(() => {
    throw refusal("broken", 500);
  });
  await assert.rejects(queue.add(MARK, { n: 0 }), { message: "broken", status: 500 });
  assert.equal(asked.length, 3);
  let left = 5;
  asked = serve(() => {
    if (left--) throw refusal("the disk is full", 503);
    return {};
  });
  const answer = queue.add(MARK, { n: 0 });
  await until(() => queue.trouble);
  assert.equal(saved(), T.waiting(1, "the disk is full"));
  await answer;
  assert.equal(asked.length, 6);
});

test("a page whose address is old keeps what it has", async () => {
  let isOld = true;
  serve(() => {
    if (isOld) throw refusal("token", 403);
    return {};
  });
  const answer = queue.add(MARK, { n: 0 });
  await until(() => queue.trouble);
  assert.equal(saved(), T.waiting(1, T.newAddress));
  assert.ok(waits.includes(2000) && !waits.includes(1000));
  isOld = false;
  await answer;
});

test("what is of another server is kept for it", async () => {
  let asked = serve(({ path, body }) => {
    if (path.includes("/gone/")) throw refusal("no such session", body.n ? 409 : 404);
    return {};
  });
  queue.add("api/sessions/gone/mark", { n: 0 });
  queue.add("api/sessions/gone/undo", { n: 1 });
  await queue.add(MARK, { n: 2 });
  assert.equal(failed(), "no such session");
  assert.deepEqual(numbers(asked), [0, 1, 2]);
  assert.deepEqual(unsent().map(({ body }) => body.n), [0, 1]);
  assert.equal(saved(), T.saved + T.kept(2));
  asked = serve(() => ({}));
  queue.again("api/sessions/other");
  await queue.done();
  assert.deepEqual(asked, []);
  queue.again("api/sessions/gone");
  await queue.done();
  assert.deepEqual(numbers(asked), [0, 1]);
  assert.deepEqual([unsent(), queue.kept], [[], []]);
  queue.listeners.clear(); // of those that were kept: nobody waits for them any more
});

test("what was kept goes before what came since", async () => {
  queue.kept = [{ path: MARK, body: { n: 0, action: "a" } }, { path: "api/sessions/t/mark", body: { n: 1, action: "b" } }];
  const asked = serve(({ body }) => (body.batch ? { answers: body.batch.map(() => ({})) } : {}));
  const running = queue.add("api/sessions/s/undo", { n: 2 });
  const waiting = queue.add("api/sessions/s/undo", { n: 3 });
  queue.again("api/sessions/s");
  await Promise.all([running, waiting]);
  await queue.done();
  assert.equal(queue.kept.length, 1);
  assert.equal(numbers(asked).length, 3);
});

test("one queue runs at a time", async () => {
  let most = 0, now = 0;
  serve(async () => {
    most = Math.max(most, ++now);
    await pause(3);
    now--;
    return {};
  });
  await Promise.all([queue.add("a", {}), queue.add("b", {}), queue.add("c", {})]);
  assert.equal(most, 1);
  const before = queue.add("a", {});
  let isDone = false;
  const done = queue.done().then(() => (isDone = true));
  await pause();
  assert.ok(!isDone);
  await before;
  await done;
});

test("a page that is opened again sends what an earlier one left", async () => {
  localStorage.setItem("unsent tab one", JSON.stringify([{ path: MARK, body: { n: 0, action: "a" } }]));
  localStorage.setItem("unsent tab two", JSON.stringify([{ path: "api/gone", body: { n: 1, action: "b" } }, { path: "api/no", body: { n: 2, action: "c" } }]));
  localStorage.setItem("keys", "known");
  const asked = serve(({ body }) => {
    if (body.n) throw refusal("no", body.n === 1 ? 404 : 422);
    return {};
  });
  const { queue: again } = await import("../../web/static/api.js?again");
  await again.done();
  assert.deepEqual(numbers(asked), [0, 1, 2]);
  assert.deepEqual(unsent().map(({ body }) => body.n), [1]);
  assert.equal(failed(), "no"); // of the last one, which nobody waits for: what is of another server is kept without a word
  assert.equal(localStorage.getItem("keys"), "known");
  again.kept = [];
  again.store();
  serve(() => {
    throw refusal("gone", 404);
  });
  document.getElementById("error").textContent = "";
  again.items.push({ path: "api/gone", body: { action: "d" } });
  await again.run();
  assert.equal(failed(), "");
  assert.equal(saved(), T.saved + T.kept(1));
  again.kept = [];
  again.store();
  const { by: same } = await import("../../web/static/api.js?and-again");
  assert.equal(same, by);
});

test("questions leave out what says nothing, and refusals say what they may", async () => {
  const asked = serve(() => ({ n: 1 }));
  assert.deepEqual(await get("api/x", { a: "", b: undefined, c: 0, d: "it's" }), { n: 1 });
  await get("api/x", new URLSearchParams([["of", ""], ["of", "b"]]));
  await get("api/x");
  assert.deepEqual(asked.map(({ path }) => path), ["api/x?c=0&d=it%27s", "api/x?of=&of=b", "api/x?"]);
  await send("api/x", { n: 2 }, "PATCH");
  assert.deepEqual([asked[3].method, asked[3].body], ["PATCH", { n: 2 }]);
  await sendRaw("api/x", "[1]");
  assert.deepEqual([asked[4].method, asked[4].body], ["POST", [1]]);
  globalThis.fetch = async () => new Response("<html>", { status: 502, statusText: "Bad Gateway" });
  await assert.rejects(get("api/x"), { message: "502 Bad Gateway", status: 502 });
  globalThis.fetch = async () => new Response("{}", { status: 404, statusText: "Not Found" });
  await assert.rejects(get("api/x"), { message: "404 Not Found" });
  globalThis.fetch = async () => {
    throw new TypeError("fetch failed");
  };
  await assert.rejects(get("api/x"), { message: T.offlineKept });
});

test("bytes, or how far the work is that makes them", async () => {
  globalThis.fetch = async () => new Response(new Uint8Array([1, 2]));
  const { bytes, progress } = await getBytes("api/map");
  assert.deepEqual([[...new Uint8Array(bytes)], progress], [[1, 2], null]);
  globalThis.fetch = async () => Response.json({ share: 0.5 }, { status: 202 });
  assert.deepEqual(await getBytes("api/map"), { bytes: null, progress: { share: 0.5 } });
});
