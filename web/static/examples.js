// @ts-check
// Examples from outside: images that are picked, dropped or pasted, a box on each, and words. And what a session looks for now.

import { send, sendRaw } from "./api.js";
import { byId, el, fail, openDialog, svg } from "./dom.js";
import { bareButton, icon } from "./icons.js";
import { T } from "./text.js";

/**
 * Asks for boxes on each image, sends them, and gives their names.
 * @param {Iterable<File>} files
 * @param {(upload: string) => void} taken
 * @param {(text: string) => void} say what goes on
 */
export async function takeFiles(files, taken, say) {
  let whole = false; // for all that follow
  const all = [...files].filter((file) => file.type.startsWith("image/") || !file.type);
  say(T.outside.oneByOne); // nothing starts without those that are on their way
  for (const [number, file] of all.entries()) {
    const asked = whole ? { boxes: [null] } : await askBoxes(file, number + 1, all.length);
    if (!asked) continue;
    whole = whole || asked.rest;
    for (const box of asked.boxes) {
      say(T.outside.embedding);
      try {
        const query = box ? `?${new URLSearchParams({ box: box.join(",") })}` : "";
        taken((await sendRaw(`api/uploads${query}`, file)).upload);
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
  const image = el("img", { src: address, alt: T.outside.yours, draggable: false });
  const drawing = svg("svg", { preserveAspectRatio: "none", "aria-hidden": "true" });
  const boxes = [];
  const use = el("button", { class: "main", disabled: true }, T.outside.useBoxes(2));
  const all = el("button", {}, T.outside.useAll);
  const rest = count > number ? el("button", {}, T.outside.useRest(count - number + 1)) : "";
  const leave = el("button", {}, T.outside.leave);
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
      use.textContent = T.outside.useBoxes(boxes.length);
      draw();
    });
    image.addEventListener("load", () => drawing.setAttribute("viewBox", `0 0 ${image.naturalWidth} ${image.naturalHeight}`));
    image.addEventListener("error", () => area.replaceChildren(el("p", {}, T.outside.unreadable)));
    use.onclick = () => done({ boxes, rest: false });
    all.onclick = () => done({ boxes: [null], rest: false });
    if (rest) rest.onclick = () => done({ boxes: [null], rest: true });
    leave.onclick = () => done(null);
    openDialog(dialog, el("h2", {}, T.outside.title(number, count)),
      el("p", {}, T.outside.hint),
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
  const picker = el("input", { type: "file", accept: "image/*", multiple: true, "aria-label": T.outside.files, title: T.outside.filesHint, onchange: async () => {
    await take(picker.files);
    picker.value = "";
  } });
  const words = el("input", { placeholder: T.outside.wordsHint, "aria-label": T.outside.words, class: "grow", maxLength: 200 });
  async function describe(event) {
    event.preventDefault();
    const text = words.value.trim();
    if (!text) return;
    words.value = "";
    say(T.outside.embedding);
    try {
      taken((await send("api/texts", { text })).upload);
    } catch (error) {
      fail(error);
    }
    say("");
  }
  const parts = [el("label", { class: "file" }, icon("image"), el("span", { class: "word" }, T.outside.files), picker), pool.takes_text ? el("form", { class: "row", onsubmit: describe }, words, el("button", {}, T.outside.add)) : ""];
  return { parts, take };
}

/** What a session looks for: its examples, each of which can be taken off, and a way to add one. */
export function queryStrip(pool, session) {
  const strip = el("span", { class: "query", role: "group", "aria-label": T.outside.query });
  const shown = el("span", { class: "shown" });
  const status = el("span", { class: "faint", role: "status" });
  const { parts, take } = givers(pool, (upload) => {
    byId("example").close();
    session.changeExamples({ [upload]: true }).catch(fail);
  }, (text) => (status.textContent = text));
  dropZone(strip, take);
  const ask = () => {
    const dialog = byId("example");
    openDialog(dialog, el("h2", {}, T.outside.another),
      el("p", {}, T.outside.anotherHint),
      ...parts, status, el("p", {}, el("button", { onclick: () => dialog.close() }, T.close)));
  };
  const about = (src, text, ...buttons) => {
    const dialog = byId("example");
    const close = (act) => () => {
      dialog.close();
      act();
    };
    openDialog(dialog, el("h2", {}, T.outside.about), el("img", { src, alt: T.outside.one }), el("p", {}, text),
      el("p", { class: "row" }, ...buttons.map(([name, act]) => el("button", { onclick: close(act) }, name)), el("button", { onclick: () => dialog.close() }, T.close)));
  };
  const ofCrop = (id) => about(`thumb/${id}/192`, T.outside.ofCrop,
    [T.outside.relevantOnly, () => session.moreLike({ id, mark: null }, true)],
    [T.outside.notThis, () => session.moreLike({ id, mark: null }, false)]);
  const ofUpload = (id) => about(`uploads/${id}`, T.outside.ofUpload,
    [T.outside.off, () => session.changeExamples({ [id]: null }).catch(fail)],
    [T.outside.unlike, () => session.changeExamples({ [id]: false }).catch(fail)]);
  let known = "";
  session.addEventListener("state", () => {
    const { examples, uploads } = session.state;
    if (known === `${examples} ${uploads}`) return;
    known = `${examples} ${uploads}`;
    const button = (src, act) => el("button", { class: "plain", title: T.outside.oneHint, "aria-label": T.outside.one, onclick: act }, el("img", { src, alt: "" }));
    shown.replaceChildren(...examples.slice(0, 6).map((id) => button(`thumb/${id}/96`, () => ofCrop(id))),
      ...uploads.slice(0, 6).map((id) => button(`uploads/${id}`, () => ofUpload(id))));
  });
  strip.append(shown, bareButton("plus", T.outside.another, { onclick: ask }), status);
  return strip;
}
