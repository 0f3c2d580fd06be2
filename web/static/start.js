// @ts-check
// The first screen: go on with a session, or start one in one of three ways.

import { get, send } from "./api.js";
import { byId, el, fail, many } from "./dom.js";
import { dropZone, givers } from "./examples.js";
import { chips, filterBar, quoted, together } from "./filter.js";
import { Grid } from "./grid.js";
import { openMap } from "./map.js";
import { openCrop } from "./photo.js";

const WAYS = [
  ["collect", "Collect more like it", "From one example to a new class: a rare case, a growth stage, anything you can recognise."],
  ["split", "Split a class", "Clusters inside a class as starting points for finer classes; you name and check each."],
  ["failures", "How often does a model fail?", "Pick a confusion, find its cases, and estimate their rate from a random sample."],
];

export async function startScreen(pool, open) {
  byId("title").textContent = `${many(pool.crops, "crop")} in ${many(pool.images, "image")}`;
  const list = el("ul", { class: "sessions" });
  const search = el("input", { type: "search", placeholder: "search", "aria-label": "search the sessions", hidden: true, oninput: () => showFound() });
  const deleted = el("p", { class: "row", role: "status", hidden: true });
  let sessions = [];
  let all = false; // are shown, not the last ones alone
  const way = el("div", { class: "card" });
  const tabs = WAYS.map(([use, name, text]) => el("button", { role: "tab", title: text, onclick: () => choose(use) }, name));
  const gone = pool.gone_from ? [el("section", { class: "card gone", role: "alert" }, el("h2", {}, "The photos aren't there"),
    el("p", {}, "They are looked for below ", el("code", {}, pool.gone_from), " and aren't there any more. Marks can be made all the same; pictures, images of your own and exports need them. Start the program again and point to them: ",
      el("code", {}, "run_page.py --images_root=<folder>")))] : [];
  const bin = el("details", { ontoggle: () => bin.open && showDeleted() }, el("summary", {}, "Deleted sessions"));
  const saved = el("section", { class: "card", "aria-label": "Saved sessions", hidden: true }, el("div", { class: "row" }, el("h2", { class: "grow" }, "Saved sessions"), search), deleted, list, bin);
  byId("main").replaceChildren(el("div", { class: "start" }, ...gone, saved,
    el("section", { class: "card", "aria-label": "Start" }, el("h2", {}, "Start"), el("div", { class: "row", role: "tablist", "aria-label": "What for" }, ...tabs), way)));

  function choose(use) {
    tabs.forEach((tab, place) => tab.setAttribute("aria-selected", String(WAYS[place][0] === use)));
    way.replaceChildren(el("p", { class: "faint" }, WAYS.find(([name]) => name === use)[2]));
    if (use === "collect") way.append(...collect(pool, open, {}));
    else if (use === "split") way.append(...split(pool, open));
    else way.append(...failures(pool, open));
  }

  async function draw() {
    sessions = await get("api/sessions");
    saved.hidden = !sessions.length && deleted.hidden;
    search.hidden = sessions.length <= FEW;
    showFound();
  }

  function showFound() {
    const words = search.value.toLowerCase().split(/\s+/);
    const found = sessions.filter((session) => words.every((word) => `${session.name} ${session.class_name} ${kindOf(session)}`.toLowerCase().includes(word)));
    const first = all || search.value ? found : found.slice(0, FEW);
    list.replaceChildren(...first.map((session) => entry(session, open, draw, remove)));
    if (first.length < found.length) list.append(el("li", {}, el("button", { onclick: () => ((all = true), showFound()) }, `All ${many(found.length, "session")}`)));
    if (!found.length) list.replaceChildren(el("li", { class: "faint" }, sessions.length ? "None of that name." : "None."));
  }

  async function showDeleted() {
    const gone = await get("api/deleted");
    const back = (session) => send(`api/sessions/${session.session}/restore`, {}).then(() => (showDeleted(), draw()), fail);
    bin.replaceChildren(bin.firstChild, ...gone.map((session) => el("div", { class: "row" }, el("span", { class: "grow" }, session.name),
      el("small", {}, `${session.relevant} ✓ ${session.not_relevant} ✗`), el("button", { onclick: () => back(session) }, "Bring back"))), gone.length ? "" : el("p", { class: "faint" }, "None."));
  }

  /** Nothing is lost: it can be brought back at once, and its folder lies below deleted/. */
  async function remove(session) {
    try {
      const { folder } = await send(`api/sessions/${session.session}`, {}, "DELETE");
      const back = () => send(`api/sessions/${session.session}/restore`, {}).then(() => ((deleted.hidden = true), draw()), fail);
      deleted.replaceChildren(`“${session.name}” is deleted; its folder is kept as`, el("code", {}, folder), el("button", { onclick: back }, "Undo"));
      deleted.hidden = false;
      if (bin.open) showDeleted();
      await draw();
      deleted.querySelector("button").focus();
    } catch (error) {
      fail(error);
    }
  }

  choose("collect");
  await draw();
}

const FEW = 5; // sessions that are found without a search
const KINDS = { collect: "collected", split: "split off", failures: "failures", classes: "several classes" };
const kindOf = (session) => KINDS[session.use] || "";
/** A time of the server's, UTC, as people here write it. */
const localTime = (text) => (text ? new Date(`${text.slice(0, 19)}Z`).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "");

function entry(session, open, draw, remove) {
  const name = session.here ? el("button", { class: "plain name", title: "Resume", onclick: () => open(session.session) }, session.name) : el("span", { class: "name" }, session.name);
  const drop = el("button", { title: "its folder is kept below deleted/", onclick: () => remove(session) }, "Delete");
  if (session.error) return el("li", {}, name, el("small", {}, session.error), drop);
  const picture = session.crops.length ? `thumb/${session.crops[0]}/96` : `uploads/${session.uploads[0]}`;
  const rename = () => {
    const input = el("input", { value: session.name, "aria-label": "name", maxLength: 200 });
    const form = el("form", { class: "name row", onsubmit: async (event) => {
      event.preventDefault();
      await send(`api/sessions/${session.session}`, { name: input.value }, "PATCH").catch(fail);
      draw();
    } }, input, el("button", {}, "ok"));
    name.replaceWith(form);
    input.focus();
  };
  return el("li", {}, session.here ? el("img", { src: picture, alt: "" }) : null, name,
    el("small", {}, `${kindOf(session)} · ${session.relevant} ✓ ${session.not_relevant} ✗ · `, el("time", { dateTime: session.changed }, localTime(session.changed))),
    session.here ? el("button", { class: "main", onclick: () => open(session.session) }, "Resume") : el("small", {}, "of other embeddings"),
    el("button", { onclick: rename }, "Rename"),
    el("button", { onclick: () => send(`api/sessions/${session.session}/duplicate`, {}).then(draw, fail) }, session.here ? "Duplicate" : "Duplicate to these embeddings"), drop);
}

/** Picking examples from the crops, an upload or the map. */
function collect(pool, open, preset) {
  const uploads = [];
  const classes = {}; // name -> examples, where several are looked for
  let busy = ""; // what goes on
  const picked = new Map(); // id -> crop; kept when another filter is applied
  const name = el("input", { placeholder: "name of the new class", "aria-label": "name of the new class", value: preset.name || "", class: "grow", maxLength: 100 });
  const chosen = el("span", { class: "row query", "aria-live": "polite" });
  const go = el("button", { class: "main", disabled: true, onclick: start }, "Start from these");
  const more = el("button", { disabled: true, title: "name another class after it: one session finds them all", onclick: addClass }, "Add as one of several classes");
  const named = el("span", { class: "row" });
  const grid = new Grid({
    label: "All crops: pick one or more examples",
    sizes: pool.sizes,
    picked: (id) => picked.has(id),
    onpick: (crop) => pick(crop),
    onopen: (index) => openCrop(grid, index),
    onerror: fail,
  });
  grid.zoom = 88;
  const limits = el("div", { class: "chips", "aria-live": "polite" });
  let stated = preset.where ? [preset.where] : [];
  async function show(conditions) {
    const where = together(conditions);
    try {
      if (!(await grid.reset((start, count) => get("api/browse", { where, start, count })))) return;
      stated = conditions;
    } catch (error) {
      return fail(error);
    }
    bar.say(stated);
    const parts = stated.map((text, place) => ({ text, off: () => show(stated.filter((_, other) => other !== place)) }));
    limits.replaceChildren(...chips(parts, `${grid.total.toLocaleString("en")} of ${many(pool.crops, "crop")}`).filter(Boolean));
  }
  const bar = filterBar(pool.columns, show, stated);
  show(stated);

  function pick(crop) {
    if (!picked.delete(crop.id)) picked.set(crop.id, crop);
    grid.paintAll();
    draw();
  }

  function draw() {
    const count = picked.size + uploads.length;
    const example = (src, name, remove) => el("button", { class: "plain", title: "take it off", "aria-label": `take off ${name}`, onclick: () => {
      remove();
      (chosen.querySelector("button") || grid.element).focus();
    } }, el("img", { src, alt: "" }));
    chosen.replaceChildren(
      ...[...picked.values()].slice(0, 12).map((crop) => example(`thumb/${crop.id}/96`, crop.label || "example", () => pick(crop))),
      ...uploads.map((upload, place) => example(`uploads/${upload}`, "what was given", () => (uploads.splice(place, 1), draw()))),
      count ? many(count, "example") : "Click one crop or more that show what you look for.");
    const several = Object.keys(classes).length;
    if (busy) chosen.append(busy);
    more.disabled = !count || Boolean(busy);
    go.disabled = (!count && several < 2) || Boolean(busy);
    go.textContent = several > 1 || (several && count) ? "Start with these classes" : "Start from these";
    named.replaceChildren(...Object.entries(classes).map(([called, { crops }]) => el("button", { class: "chip", title: "take it off", "aria-label": `take off the class ${called}`, onclick: () => {
      delete classes[called];
      draw();
    } }, `${called}: ${crops.length}`, el("span", { "aria-hidden": "true" }, " ✕"))));
  }

  /** Takes what is picked as one of several classes. */
  function addClass() {
    const called = name.value.trim();
    if (!called) return fail(new Error("name the class first, then add it"));
    classes[called] = { crops: [...picked.keys()], uploads: [...uploads] };
    picked.clear();
    uploads.length = 0;
    name.value = "";
    grid.paintAll();
    draw();
    name.focus();
  }

  const outside = givers(pool, (upload) => (uploads.push(upload), draw()), (text) => {
    busy = text;
    draw();
  });

  async function start() {
    go.disabled = true;
    try {
      if (Object.keys(classes).length) {
        if (picked.size || uploads.length) addClass();
        if (picked.size || uploads.length) return; // it has no name yet
        return open((await send("api/sessions", { name: Object.keys(classes).join(", "), use: "collect", pool: preset.pool || "", classes })).session);
      }
      const labels = new Set([...picked.values()].map((crop) => crop.label));
      const label = labels.size === 1 ? [...labels][0] : "";
      const title = name.value.trim() || (label ? `like ${label}` : "new class");
      const body = { name: title, class_name: name.value.trim(), use: preset.use || "collect", pool: preset.pool || "", crops: [...picked.keys()], uploads };
      open((await send("api/sessions", body)).session);
    } catch (error) {
      fail(error);
      go.disabled = false;
    }
  }

  draw();
  const below = el("div", { class: "pick" }, grid.element);
  dropZone(below, outside.take);
  return [
    el("div", { class: "row" }, chosen, name, go, more, named, ...outside.parts,
      el("button", { onclick: () => openMap(pool, "", [{ name: "Take these as examples", most: 20, act: (ids) => {
        ids.forEach((id) => picked.set(id, { id, label: "" }));
        grid.paintAll();
        draw();
      } }]).catch(fail) }, "Map")),
    bar, limits, below,
  ];
}

function split(pool, open) {
  const label = el("select", { "aria-label": "class" }, ...pool.classes.map(({ name }) => el("option", { value: name }, name)), el("option", { value: "" }, "all crops"));
  const count = el("input", { type: "number", min: 2, max: 20, value: 4, "aria-label": "clusters" });
  const result = el("div");
  async function propose(event) {
    event.preventDefault();
    const where = label.value ? `label_name = ${quoted(label.value)}` : "";
    result.replaceChildren(el("p", {}, "looking for clusters …"));
    try {
      const clusters = await get("api/clusters", { where, count: count.value });
      const whole = el("div", { class: "pick", hidden: true });
      const all = new Grid({ label: "The whole cluster", sizes: pool.sizes, picked: () => false, onpick: () => {}, onopen: (index) => openCrop(all, index), onerror: fail });
      all.zoom = 88;
      whole.append(all.element);
      const browse = (among) => {
        whole.hidden = false;
        all.reset((start, count) => get("api/browse", { among, start, count })).then(() => whole.scrollIntoView({ block: "nearest" }), fail);
      };
      const names = clusters.map((_, number) => el("input", { placeholder: "name, if it is one", "aria-label": `name of cluster ${number + 1}`, maxLength: 100 }));
      result.replaceChildren(...clusters.map((cluster, number) => el("div", { class: "cluster" },
        el("div", { class: "row" }, el("b", {}, many(cluster.crops, "crop")), names[number], el("button", { onclick: () => browse(cluster.selection) }, "Browse all of it")),
        el("div", { class: "row" }, ...cluster.examples.map((crop) => el("img", { src: `thumb/${crop}/96`, alt: "" })),
          el("span", { class: "faint" }, "… to the edge:"), ...cluster.edge.map((crop) => el("img", { src: `thumb/${crop}/96`, alt: "" }))))),
      whole, el("p", { class: "row" }, el("button", { class: "main", onclick: make }, "Start with the named clusters"),
        el("span", { class: "faint" }, "Clusters are proposals. Check each by marking before you believe it.")));
      async function make() {
        try {
          const named = clusters.map((cluster, number) => [names[number].value.trim(), cluster.examples.slice(0, 3)]).filter(([name]) => name);
          if (!named.length) throw new Error("name at least one of the clusters");
          // Of one name several clusters are one class.
          const classes = {};
          for (const [name, crops] of named) (classes[name] ??= { crops: [] }).crops.push(...crops);
          const [[name, { crops }], ...others] = Object.entries(classes);
          const body = others.length ? { name: `${label.value || "all"}: ${Object.keys(classes).join(", ")}`, use: "split", pool: where, classes }
            : { name, class_name: name, use: "split", pool: where, crops, uploads: [] };
          open((await send("api/sessions", body)).session);
        } catch (error) {
          fail(error);
        }
      }
    } catch (error) {
      result.replaceChildren();
      fail(error);
    }
  }
  return [el("form", { class: "row", onsubmit: propose }, label, "into about", count, el("button", { class: "main" }, "Propose clusters")), result];
}

function failures(pool, open) {
  if (!pool.confusions.length && !pool.columns.some(({ name }) => name === "predicted")) {
    return [el("p", {}, "Give the model's predictions when you start the program: ", el("code", {}, "--predictions=predictions.csv"),
      " (crop_id, predicted, score) or a COCO results file.")];
  }
  const place = el("div");
  const rows = pool.confusions.slice(0, 12).map(({ label, predicted, crops }) => el("button", {
    onclick: () => place.replaceChildren(...collect(pool, open, {
      use: "failures", name: `${label || "unlabelled"} called ${predicted}`, pool: condition(predicted), where: `${condition(predicted)} AND label_name = ${quoted(label)}`,
    })),
  }, `${label || "unlabelled"} called ${predicted}: ${crops}`));
  const names = [...new Set(pool.confusions.map(({ predicted }) => predicted))];
  const any = el("select", { "aria-label": "predicted class", onchange: () => any.value && place.replaceChildren(...collect(pool, open, {
    use: "failures", name: `wrongly called ${any.value}`, pool: condition(any.value), where: condition(any.value),
  })) }, el("option", { value: "" }, "another predicted class …"), ...names.map((name) => el("option", { value: name }, name)));
  return [
    el("p", {}, "Pick a confusion, then an example of it. Among all crops with that prediction, mark which are the failure you mean; the random sample gives the rate."),
    el("div", { class: "row" }, ...rows, any), place,
  ];
}

const condition = (predicted) => `predicted = ${quoted(predicted)}`;
