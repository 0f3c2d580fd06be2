// @ts-check
// The first screen: go on with a session, or start one in one of three ways. Pictures first.

import { get, send } from "./api.js";
import { inWords, quoted, together } from "./conditions.js";
import { byId, classColors, el, fail, roving } from "./dom.js";
import { dropZone, givers } from "./examples.js";
import { chips } from "./facets.js";
import { Grid } from "./grid.js";
import { bareButton, iconButton } from "./icons.js";
import { openCrop } from "./photo.js";
import { withSides } from "./sides.js";
import { T } from "./text.js";
import { sizeSlider } from "./tools.js";

const S = T.start;
const FEW = 12; // sessions that are found without a search

export async function startScreen(pool, open, signal) {
  byId("title").textContent = T.pile(pool.crops, pool.images);
  const list = el("ul", { class: "sessions" });
  const search = el("input", { type: "search", placeholder: S.searchHint, "aria-label": S.search, hidden: true, oninput: () => showFound() });
  const deleted = el("p", { class: "row", role: "status", hidden: true });
  let sessions = [];
  let all = false; // are shown, not the last ones alone
  let leave = () => {}; // ends what belongs to the way that is shown
  const way = el("div", { class: "way", role: "tabpanel", id: "way" });
  const tabs = S.ways.map(([use, name, text]) => el("button", { role: "tab", "aria-controls": "way", title: text, onclick: () => choose(use) }, name));
  const [before, folder, after] = S.goneWhy(pool.gone_from);
  const gone = pool.gone_from ? [el("section", { class: "card gone", role: "alert" }, el("h2", {}, S.gone),
    el("p", {}, before, el("code", {}, folder), after, el("code", {}, "run_page.py --images_root=<folder>")))] : [];
  const bin = el("details", { class: "bin", ontoggle: () => bin.open && showDeleted() }, el("summary", {}, S.deleted));
  const saved = el("section", { class: "saved", "aria-label": S.saved, hidden: true }, el("div", { class: "row" }, el("h2", { class: "grow" }, S.saved), search, bin), deleted, list);
  const tabList = roving(el("div", { class: "row tabs", role: "tablist", "aria-label": S.whatFor }, ...tabs));
  byId("main").replaceChildren(el("div", { class: "start" }, ...gone, saved, tabList, way));
  signal.addEventListener("abort", () => leave());

  function choose(use) {
    tabs.forEach((tab, place) => tab.setAttribute("aria-selected", String(S.ways[place][0] === use)));
    leave();
    leave = () => {};
    const onleave = (end) => (leave = end);
    way.className = `way ${use}`;
    const sentence = S.ways.find(([name]) => name === use)[2];
    way.replaceChildren();
    if (use === "collect") way.append(...collect(pool, open, {}, onleave, sentence));
    else if (use === "split") way.append(el("p", { class: "faint" }, sentence), ...split(pool, open));
    else way.append(el("p", { class: "faint" }, sentence), ...failures(pool, open, onleave));
  }

  async function draw() {
    sessions = await get("api/sessions");
    saved.hidden = !sessions.length && deleted.hidden;
    search.hidden = sessions.length <= 5;
    showFound();
  }

  function showFound() {
    const words = search.value.toLowerCase().split(/\s+/);
    const found = sessions.filter((session) => words.every((word) => `${session.name} ${session.class_name} ${kindOf(session)}`.toLowerCase().includes(word)));
    const first = all || search.value ? found : found.slice(0, FEW);
    list.replaceChildren(...first.map((session) => entry(session, open, draw, remove)));
    if (first.length < found.length) list.append(el("li", {}, el("button", { onclick: () => ((all = true), showFound()) }, S.all(found.length))));
    if (!found.length) list.replaceChildren(el("li", { class: "faint" }, sessions.length ? S.noneOfName : S.none));
  }

  async function showDeleted() {
    const gone = await get("api/deleted");
    const back = (session) => send(`api/sessions/${session.session}/restore`, {}).then(() => (showDeleted(), draw()), fail);
    bin.replaceChildren(bin.firstChild, ...gone.map((session) => el("div", { class: "row" }, el("span", { class: "grow" }, session.name),
      el("small", {}, S.marks(session.relevant, session.not_relevant)), el("button", { onclick: () => back(session) }, S.bringBack))), gone.length ? "" : el("p", { class: "faint" }, S.none));
  }

  /** Nothing is lost: it can be brought back at once, and its folder lies below deleted/. */
  async function remove(session) {
    try {
      const { folder } = await send(`api/sessions/${session.session}`, {}, "DELETE");
      const back = () => send(`api/sessions/${session.session}/restore`, {}).then(() => ((deleted.hidden = true), draw()), fail);
      deleted.replaceChildren(S.wasDeleted(session.name), el("code", {}, folder), el("button", { onclick: back }, T.undo));
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

const kindOf = (session) => S.kinds[session.use] || "";
/** A time of the server's, UTC, as people here write it. */
const localTime = (text) => (text ? new Date(`${text.slice(0, 19)}Z`).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "");

function entry(session, open, draw, remove) {
  const resume = () => open(session.session);
  const name = session.here ? el("button", { class: "plain name", title: `${S.resume}: ${session.name}`, onclick: resume }, session.name) : el("span", { class: "name", title: session.name }, session.name);
  const drop = bareButton("trash", S.delete, { onclick: () => remove(session) }, `${S.delete}: ${S.deleteHint}`);
  if (session.error) return el("li", {}, el("div", { class: "about" }, name, el("small", {}, session.error)), el("div", { class: "acts" }, drop));
  const picture = session.crops.length ? `thumb/${session.crops[0]}/96` : `uploads/${session.uploads[0]}`;
  const rename = () => {
    const input = el("input", { value: session.name, "aria-label": S.nameOf, maxLength: 200 });
    const form = el("form", { class: "name row", onsubmit: async (event) => {
      event.preventDefault();
      await send(`api/sessions/${session.session}`, { name: input.value }, "PATCH").catch(fail);
      draw();
    } }, input, el("button", {}, T.save));
    name.replaceWith(form);
    input.focus();
  };
  const again = session.here ? S.duplicate : S.duplicateHere;
  return el("li", {}, session.here ? el("button", { class: "plain shot", tabIndex: -1, "aria-hidden": "true", onclick: resume }, el("img", { src: picture, alt: "" })) : null,
    el("div", { class: "about" }, name,
      el("small", {}, [kindOf(session), S.marks(session.relevant, session.not_relevant)].filter(Boolean).join(" · ")),
      el("small", {}, session.here ? "" : `${S.elsewhere} · `, el("time", { dateTime: session.changed }, localTime(session.changed))),
      el("div", { class: "acts" }, session.here ? el("button", { onclick: resume }, S.resume) : null,
        bareButton("pencil", S.rename, { onclick: rename }), bareButton("copy", again, { onclick: () => send(`api/sessions/${session.session}/duplicate`, {}).then(draw, fail) }), drop)));
}

/** Picking examples from the pictures, from outside, or on the map. */
function collect(pool, open, preset, onleave, sentence = S.ways[0][2]) {
  const uploads = [];
  const classes = {}; // name -> examples, where several are looked for
  let busy = ""; // what goes on
  let among = ""; // selected on the map
  let fewOnMap = []; // crops of it, where they are few enough to be examples
  const picked = new Map(); // id -> crop; kept when another filter is applied
  const name = el("input", { placeholder: S.name, "aria-label": S.name, value: preset.name || "", maxLength: 100 });
  const chosen = el("span", { class: "query", "aria-live": "polite" });
  const go = el("button", { class: "main", disabled: true, onclick: start }, S.begin);
  const more = iconButton("plus", S.addClass, { disabled: true, onclick: addClass }, S.addClassHint);
  const named = el("span", { class: "row" });
  const grid = new Grid({
    label: S.list,
    sizes: pool.sizes,
    classColors: classColors(pool),
    picked: (id) => picked.has(id),
    onpick: (crop) => pick(crop),
    onopen: (index) => openCrop(grid, index),
    onerror: fail,
  });
  const slider = sizeSlider(grid);
  const limits = el("div", { class: "chips", "aria-live": "polite" });
  let stated = preset.where ? [preset.where] : [];
  const sides = withSides(pool, grid, {
    apply: (conditions) => show(conditions),
    asked: () => ({ session: "", where: together(stated), among }),
    onselect: ({ selection, total, crops }) => {
      fewOnMap = total <= MOST_EXAMPLES ? crops : [];
      return show(stated, selection);
    },
  });
  onleave(() => sides.map.stop());
  const takeAll = el("button", { onclick: () => {
    fewOnMap.forEach((id) => picked.set(id, { id, label: "" }));
    grid.paintAll();
    draw();
  } });
  const news = pool.added ? [el("button", { type: "button", title: S.newsHint, onclick: () => show([`added BETWEEN ${pool.added} AND ${pool.added}`]) }, S.news)] : [];

  async function show(conditions, selection = among) {
    const where = together(conditions);
    try {
      if (!(await grid.reset((start, count) => get("api/browse", { where, among: selection, start, count })))) return;
      stated = conditions;
      among = selection;
    } catch (error) {
      return fail(error);
    }
    sides.facets.say(stated, grid.total);
    sides.map.changed().catch(fail);
    takeAll.textContent = S.takeAll(fewOnMap.length);
    const parts = stated.map((text, place) => ({ text: inWords(text), off: () => show(stated.filter((_, other) => other !== place)) }));
    if (among) parts.push({ text: T.filter.onMap, off: () => show(stated, "") });
    limits.replaceChildren(...(parts.length ? chips(parts, T.filter.left(grid.total, pool.crops), () => show([], "")) : []), ...(among && fewOnMap.length ? [takeAll] : []));
  }
  show(stated);

  function pick(crop) {
    if (!picked.delete(crop.id)) picked.set(crop.id, crop);
    grid.paintAll();
    draw();
  }

  function draw() {
    const count = picked.size + uploads.length;
    const example = (src, label, remove) => el("button", { class: "plain", title: T.filter.takeOffHint, "aria-label": S.takeOff(label), onclick: () => {
      remove();
      (chosen.querySelector("button") || grid.element).focus();
    } }, el("img", { src, alt: "" }));
    chosen.replaceChildren(
      ...[...picked.values()].slice(0, 12).map((crop) => example(`thumb/${crop.id}/96`, crop.label || S.example, () => pick(crop))),
      ...uploads.map((upload, place) => example(`uploads/${upload}`, S.given, () => (uploads.splice(place, 1), draw()))),
      el("span", { class: count ? "" : "faint" }, S.examples(count)));
    const several = Object.keys(classes).length;
    if (busy) chosen.append(busy);
    more.disabled = !count || Boolean(busy);
    go.disabled = (!count && several < 2) || Boolean(busy);
    go.textContent = several > 1 || (several && count) ? S.beginSeveral : S.begin;
    named.replaceChildren(...Object.entries(classes).map(([called, { crops }]) => el("button", { class: "chip", title: T.filter.takeOffHint, "aria-label": S.takeOffClass(called), onclick: () => {
      delete classes[called];
      draw();
    } }, `${called}: ${crops.length}`, el("span", { "aria-hidden": "true" }, " ✕"))));
  }

  /** Takes what is picked as one of several classes. */
  function addClass() {
    const called = name.value.trim();
    if (!called) return fail(new Error(S.nameFirst));
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
    go.setAttribute("aria-busy", "true");
    try {
      if (Object.keys(classes).length) {
        if (picked.size || uploads.length) addClass();
        if (picked.size || uploads.length) return; // it has no name yet
        return open((await send("api/sessions", { name: Object.keys(classes).join(", "), use: "collect", pool: preset.pool || "", classes })).session);
      }
      const labels = new Set([...picked.values()].map((crop) => crop.label));
      const label = labels.size === 1 ? [...labels][0] : "";
      const title = name.value.trim() || (label ? S.like(label) : S.unnamed);
      const body = { name: title, class_name: name.value.trim(), use: preset.use || "collect", pool: preset.pool || "", crops: [...picked.keys()], uploads };
      open((await send("api/sessions", body)).session);
    } catch (error) {
      fail(error);
      go.disabled = false;
    } finally {
      go.removeAttribute("aria-busy");
    }
  }

  draw();
  const below = sides.around(limits, grid.element);
  below.classList.add("pick");
  dropZone(below, outside.take);
  return [
    el("div", { class: "lead" }, el("p", {}, sentence), roving(el("div", { class: "bar", role: "toolbar", "aria-label": T.list.tools }, el("span", { class: "tools" }, ...sides.buttons, ...news), slider))),
    below,
    el("div", { class: "tray", role: "group", "aria-label": S.tray }, chosen, name, go, more, named, el("span", { class: "outside row" }, ...outside.parts)),
  ];
}

const MOST_EXAMPLES = 20; // of a selection on the map

function split(pool, open) {
  const label = el("select", { "aria-label": S.class }, ...pool.classes.map(({ name }) => el("option", { value: name }, name)), el("option", { value: "" }, S.everything));
  const count = el("input", { type: "number", min: 2, max: 20, value: 4, "aria-label": S.clusters });
  const result = el("div");
  async function propose(event) {
    event.preventDefault();
    const where = label.value ? `label_name = ${quoted(label.value)}` : "";
    result.replaceChildren(el("p", {}, S.proposing));
    try {
      const clusters = await get("api/clusters", { where, count: count.value });
      const whole = el("div", { class: "pick", hidden: true });
      const all = new Grid({ label: S.whole, sizes: pool.sizes, picked: () => false, onpick: () => {}, onopen: (index) => openCrop(all, index), onerror: fail });
      all.zoom = 88;
      whole.append(all.element);
      const browse = (among) => {
        whole.hidden = false;
        all.reset((start, count) => get("api/browse", { among, start, count })).then(() => whole.scrollIntoView({ block: "nearest" }), fail);
      };
      const names = clusters.map((_, number) => el("input", { placeholder: S.groupHint, "aria-label": S.groupName(number + 1), maxLength: 100 }));
      result.replaceChildren(...clusters.map((cluster, number) => el("div", { class: "cluster" },
        el("div", { class: "row" }, el("b", {}, T.pictures(cluster.crops)), names[number], el("button", { onclick: () => browse(cluster.selection) }, S.browse)),
        el("div", { class: "row" }, ...cluster.examples.map((crop) => el("img", { src: `thumb/${crop}/96`, alt: "" })),
          el("span", { class: "faint" }, S.toTheEdge), ...cluster.edge.map((crop) => el("img", { src: `thumb/${crop}/96`, alt: "" }))))),
      whole, el("p", { class: "row" }, el("button", { class: "main", onclick: make }, S.startNamed),
        el("span", { class: "faint" }, S.onlyProposals)));
      async function make() {
        try {
          const named = clusters.map((cluster, number) => [names[number].value.trim(), cluster.examples.slice(0, 3)]).filter(([name]) => name);
          if (!named.length) throw new Error(S.nameOne);
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
  return [el("form", { class: "row", onsubmit: propose }, label, S.into, count, el("button", { class: "main" }, S.propose)), result];
}

function failures(pool, open, onleave) {
  if (!pool.confusions.length && !pool.columns.includes("predicted")) {
    return [el("p", {}, S.noPredictions[0], el("code", {}, S.noPredictions[1]), S.noPredictions[2])];
  }
  const place = el("div");
  const rows = pool.confusions.slice(0, 12).map(({ label, predicted, crops }) => el("button", {
    onclick: () => place.replaceChildren(...collect(pool, open, {
      use: "failures", name: S.confusion(label, predicted), pool: condition(predicted), where: `${condition(predicted)} AND label_name = ${quoted(label)}`,
    }, onleave)),
  }, `${S.confusion(label, predicted)}: ${crops}`));
  const names = [...new Set(pool.confusions.map(({ predicted }) => predicted))];
  const any = el("select", { "aria-label": S.predicted, onchange: () => any.value && place.replaceChildren(...collect(pool, open, {
    use: "failures", name: S.wrongly(any.value), pool: condition(any.value), where: condition(any.value),
  }, onleave)) }, el("option", { value: "" }, S.another), ...names.map((name) => el("option", { value: name }, name)));
  return [
    el("p", {}, S.confusions),
    el("div", { class: "row" }, ...rows, any), place,
  ];
}

const condition = (predicted) => `predicted = ${quoted(predicted)}`;
