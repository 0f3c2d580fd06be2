// @ts-check
// Examples from outside: images that are picked, dropped or pasted, a box on each, and words. And what a session looks for now.

import { send, sendFile } from "./api.js";
import { byId, el, fail, openDialog, svg } from "./dom.js";

const EMBEDDING = "embedding it; the first one takes a while, since the encoder has to be loaded …";

/**
 * Asks for boxes on each image, sends them, and gives their names.
 * @param {Iterable<File>} files
 * @param {(upload: string) => void} taken
 * @param {(text: string) => void} say what goes on
 */
export async function takeFiles(files, taken, say) {
  let whole = false; // for all that follow
  const all = [...files].filter((file) => file.type.startsWith("image/") || !file.type);
  say("one after the other …"); // nothing starts without those that are on their way
  for (const [number, file] of all.entries()) {
    const asked = whole ? { boxes: [null] } : await askBoxes(file, number + 1, all.length);
    if (!asked) continue;
    whole = whole || asked.rest;
    for (const box of asked.boxes) {
      say(EMBEDDING);
      try {
        const query = box ? `?${new URLSearchParams({ box: box.join(",") })}` : "";
        taken((await sendFile(`api/uploads${query}`, file)).upload);
      } catch (error) {
        fail(new Error(`${file.name}: ${error.message}`));
      }
    }
  }
  say("");
}

/** Boxes that the person draws on an image, in its pixels; [null] for all of it; null where they don't want it. */
function askBoxes(file, number, count) {
  const dialog = byId("example");
  const address = URL.createObjectURL(file);
  const image = el("img", { src: address, alt: "your image", draggable: false });
  const drawing = svg("svg", { preserveAspectRatio: "none", "aria-hidden": "true" });
  const boxes = [];
  const use = el("button", { class: "main", disabled: true }, "Use the boxes");
  const all = el("button", {}, "Use the whole image");
  const rest = count > number ? el("button", {}, `Use whole images for all ${count - number + 1}`) : "";
  const leave = el("button", {}, "Leave it out");
  return new Promise((resolve) => {
    const done = (answer) => {
      URL.revokeObjectURL(address);
      dialog.onclose = null;
      dialog.close();
      dialog.replaceChildren();
      resolve(answer);
    };
    const at = (event) => {
      const frame = image.getBoundingClientRect();
      const share = (value, least, length) => Math.min(1, Math.max(0, (value - least) / length));
      return [share(event.clientX, frame.left, frame.width) * image.naturalWidth, share(event.clientY, frame.top, frame.height) * image.naturalHeight];
    };
    let from = null;
    const draw = (held) => drawing.replaceChildren(...[...boxes, ...(held ? [held] : [])].map(([left, top, right, bottom]) => svg("rect", { class: "this", x: left, y: top, width: right - left, height: bottom - top })));
    const between = ([ax, ay], [bx, by]) => [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)].map(Math.round);
    const area = el("div", { class: "photo draw" }, image, drawing);
    area.addEventListener("pointerdown", (event) => {
      from = at(event);
      area.setPointerCapture(event.pointerId);
    });
    area.addEventListener("pointermove", (event) => from && draw(between(from, at(event))));
    area.addEventListener("pointerup", (event) => {
      if (!from) return;
      const box = between(from, at(event));
      from = null;
      if (box[2] - box[0] > 7 && box[3] - box[1] > 7) boxes.push(box);
      use.disabled = !boxes.length;
      use.textContent = boxes.length > 1 ? `Use the ${boxes.length} boxes` : "Use the box";
      draw();
    });
    image.addEventListener("load", () => drawing.setAttribute("viewBox", `0 0 ${image.naturalWidth} ${image.naturalHeight}`));
    image.addEventListener("error", () => area.replaceChildren(el("p", {}, "The browser can't show this image; it may be read all the same.")));
    use.onclick = () => done({ boxes, rest: false });
    all.onclick = () => done({ boxes: [null], rest: false });
    if (rest) rest.onclick = () => done({ boxes: [null], rest: true });
    leave.onclick = () => done(null);
    openDialog(dialog, el("h2", {}, count > 1 ? `Example ${number} of ${count}` : "Your example"),
      el("p", {}, "Draw a box around each thing you look for: several plants in one picture make one poor example."),
      area, el("div", { class: "row" }, use, all, rest, leave, el("span", { class: "faint" }, file.name)));
    dialog.onclose = () => done(null);
    all.focus();
  });
}

/** Takes what is dropped on an element, or pasted while it is in the document. */
export function dropZone(element, take) {
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.classList.add("dropping");
  });
  element.addEventListener("dragleave", () => element.classList.remove("dropping"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    element.classList.remove("dropping");
    if (event.dataTransfer?.files.length) take(event.dataTransfer.files);
  });
  const pasted = (event) => {
    if (!element.isConnected) return document.removeEventListener("paste", pasted);
    const files = event.clipboardData?.files;
    if (!files?.length || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    take(files);
  };
  document.addEventListener("paste", pasted);
}

/** Ways to give an example from outside: files, and words where the encoder takes them. taken(upload), say(what goes on). */
export function givers(pool, taken, say) {
  const take = (files) => takeFiles(files, taken, say).catch(fail);
  const picker = el("input", { type: "file", accept: "image/*", multiple: true, onchange: async () => {
    await take(picker.files);
    picker.value = "";
  } });
  const words = el("input", { placeholder: "or in words: sugar beet, four leaves", "aria-label": "what you look for, in words", class: "grow", maxLength: 200 });
  async function describe(event) {
    event.preventDefault();
    const text = words.value.trim();
    if (!text) return;
    words.value = "";
    say(EMBEDDING);
    try {
      taken((await send("api/texts", { text })).upload);
    } catch (error) {
      fail(error);
    }
    say("");
  }
  const parts = [el("label", { class: "row" }, "or images of yours ", picker), pool.takes_text ? el("form", { class: "row", onsubmit: describe }, words, el("button", {}, "Add")) : ""];
  return { parts, take };
}

/** What a session looks for: its examples, each of which can be taken off, and a way to add one. */
export function queryStrip(pool, session) {
  const strip = el("span", { class: "query", "aria-label": "Query" });
  const shown = el("span", { class: "query" });
  const status = el("span", { class: "faint", role: "status" });
  const { parts, take } = givers(pool, (upload) => {
    byId("example").close();
    session.changeExamples({ [upload]: true }).catch(fail);
  }, (text) => (status.textContent = text));
  dropZone(strip, take);
  const ask = () => {
    const dialog = byId("example");
    openDialog(dialog, el("h2", {}, "Another example"),
      el("p", {}, "A crop of the list is an example once you mark it. Images of your own can be dropped on the row of examples or pasted, too."),
      ...parts, status, el("p", {}, el("button", { onclick: () => dialog.close() }, "Close")));
  };
  const about = (src, text, ...buttons) => {
    const dialog = byId("example");
    const close = (act) => () => {
      dialog.close();
      act();
    };
    openDialog(dialog, el("h2", {}, "An example"), el("img", { src, alt: "the example" }), el("p", {}, text),
      el("p", { class: "row" }, ...buttons.map(([name, act]) => el("button", { onclick: close(act) }, name)), el("button", { onclick: () => dialog.close() }, "Close")));
  };
  const ofCrop = (id) => about(`thumb/${id}/192`, "A mark counts instead of it. It can be undone.",
    ["Of the class, but don't look for it", () => session.moreLike({ id, mark: null }, true)],
    ["Not what I look for", () => session.moreLike({ id, mark: null }, false)]);
  const ofUpload = (id) => about(`uploads/${id}`, "It was given from outside. Taking it off can be undone.",
    ["Take it off", () => session.changeExamples({ [id]: null }).catch(fail)],
    ["I look for what isn't like this", () => session.changeExamples({ [id]: false }).catch(fail)]);
  let known = "";
  session.addEventListener("state", () => {
    const { examples, uploads } = session.state;
    if (known === `${examples} ${uploads}`) return;
    known = `${examples} ${uploads}`;
    const button = (src, act) => el("button", { class: "plain", title: "an example: take it off …", "aria-label": "an example", onclick: act }, el("img", { src, alt: "" }));
    shown.replaceChildren(...examples.slice(0, 6).map((id) => button(`thumb/${id}/96`, () => ofCrop(id))),
      ...uploads.slice(0, 6).map((id) => button(`uploads/${id}`, () => ofUpload(id))));
  });
  strip.append(shown, el("button", { class: "plain", title: "Another example", "aria-label": "Another example", onclick: ask }, "+"), status);
  return strip;
}
