// @ts-check
// The state of the session that is shown, in one object: what the server says of it, what is on the screen, what is on its way.
// Everything that is done to it is a method; whoever draws a part of it listens to its events.

import { by, get, person, queue } from "./api.js";
import { together } from "./conditions.js";
import { announce, fail } from "./dom.js";
import { T } from "./text.js";

const SOON = 150; // ms; also while a ranking is learned, in part
const LEARNING = 60;
const IDLE = 2500;
const OFFLINE = 2000;

/**
 * Events: "state" (the server has been asked), "view" (another list is shown), "estimate" (with detail: of a threshold that is
 * being dragged).
 */
export class Session extends EventTarget {
  /**
   * @param {string} name its id
   * @param {URLSearchParams} place what the address says of the list; see `remember`
   * @param {AbortSignal} signal tells that another screen has taken its place
   */
  constructor(name, place, signal) {
    super();
    this.name = name;
    this.place = place;
    this.of = place.get("of") || ""; // of several classes, the one that is looked at; "" for the first, or where there is one
    /** @type {string[]} SQL, all of which must hold */
    this.conditions = place.getAll("where");
    this.base = `api/sessions/${name}`;
    this.signal = signal;
    this.view = { ranking: -1, sort: "best", where: "", among: "", only: "", marked_by: "" };
    this.wanted = { ...this.view }; // what was asked for last; becomes the view when it is there
    /** @type {any} what the server said last; see web/answers.py, SessionState */
    this.state = null;
    this.pending = new Map(); // crop id -> marks on their way
    this.arrived = new Map(); // crop id -> when the server had its last mark
    this.lines = 0; // of the journal, as far as this tab knows what is in them
    /** @type {any} */
    this.grid = null;
    this.timer = this.setting = 0;
    this.isGone = false; // the session, from the server
    /** @type {number | null} */
    this.since = null;
    signal.addEventListener("abort", () => clearTimeout(this.timer));
  }

  /** Asks the server about this session, and its class. */
  ask(path, parameters = {}) {
    return get(`${this.base}${path}`, { ...parameters, of: this.of });
  }

  /** Has the server do something in this session, and its class. */
  act(path, body) {
    return queue.add(this.address(path), body);
  }

  address(path) {
    return `${this.base}${path}${this.of ? `?${new URLSearchParams({ of: this.of })}` : ""}`;
  }

  tell(kind, detail = null) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  /** Whether the list that is wanted is that of a random sample that hasn't been drawn. */
  get hasNoSample() {
    return this.wanted.sort === "audit" && !this.state?.audit;
  }

  /** Whether all of the random sample is answered. */
  get isSampleWhole() {
    const audit = this.state?.audit;
    return Boolean(audit) && audit.answered === audit.drawn;
  }

  /** Whether a crop was marked after a time, or its mark is on its way. */
  isNewer(id, time) {
    return this.pending.has(id) || (this.arrived.get(id) ?? -1) >= time;
  }

  // What is shown

  /** Changes the view; if the server can't give it, the old one stays. Returns whether it could. */
  async show(changed) {
    const now = (this.wanted = { ...this.wanted, ...changed });
    this.tell("wanted");
    let lines = ""; // of the journal, by which it is told what is marked: what is marked from here on stays in the list
    const nothing = async () => ({ total: 0, crops: [] });
    const load = this.hasNoSample ? nothing : async (start, count) => {
      const part = await this.ask("/crops", { ...now, lines, start, count });
      lines = part.lines;
      return part;
    };
    try {
      await this.grid.choice.marking;
      if (now.only || now.sort === "doubtful") await queue.done();
      if (!(await this.grid.reset(load))) return false;
    } catch (error) {
      if (this.wanted === now) this.wanted = { ...this.view };
      this.tell("wanted");
      fail(error);
      return false;
    }
    Object.assign(this.view, now);
    this.tell("view");
    this.remember();
    this.later(0);
    return true;
  }

  /** Keeps list and place in the address, so that a reload, or another person, comes to them. */
  remember() {
    clearTimeout(this.remembering);
    this.remembering = setTimeout(() => {
      const { view, grid } = this;
      if (this.signal.aborted || view.ranking < 0) return;
      const told = new URLSearchParams({ ranking: String(view.ranking) });
      if (this.of) told.set("of", this.of);
      if (view.sort !== "best") told.set("sort", view.sort);
      if (view.only) told.set("only", view.only);
      if (view.among) told.set("among", view.among);
      this.conditions.forEach((condition) => told.append("where", condition));
      if (grid.first()) told.set("at", grid.first());
      history.replaceState(null, "", `#${this.name}?${told}`);
    }, SOON);
  }

  /** Shows the list that the address names, or else the newest from its beginning. */
  async showFirst(newest, lines) {
    const { place } = this;
    const told = { sort: place.get("sort") || "best", only: place.get("only") || "", among: place.get("among") || "", where: together(this.conditions), marked_by: person.name || "" };
    const stated = Number(place.get("ranking") ?? newest);
    const ranking = stated >= 0 && stated <= lines ? stated : newest;
    if (await this.show({ ...told, ranking })) {
      this.grid.scrollTo(Number(place.get("at")) || 0);
      return true;
    }
    this.conditions = [];
    return this.show({ sort: "best", only: "", among: "", where: "", ranking: newest });
  }

  /** Looks at another of several classes. */
  showClass(name) {
    this.of = name;
    this.place = new URLSearchParams();
    this.view = { ...this.view, ranking: -1, sort: "best", among: "", only: "" };
    this.wanted = { ...this.view };
    this.update().catch(fail);
  }

  /** Says of which of several classes crops are: its place, 0 for none of them, null to take it back. */
  classify(crops, place) {
    const { counts, of: own } = this.state.several;
    const name = place === null ? null : place ? counts[place - 1]?.name : "none";
    if (name === undefined) return announce(T.several.there(counts.length));
    if (this.view.sort === "audit") return this.mark(crops, name === null ? null : name === own); // a sample is of the class that is looked at
    const changed = this.changed(crops, (crop) => (crop.of ?? null) !== name);
    this.say("/classify", changed, name, (crop) => crop.of, () => ({ of: name, mark: name === null ? null : name === own }), name ?? T.list.answer(null));
  }

  /** Shows only crops that meet these conditions. */
  filter(conditions, more = {}) {
    const before = this.conditions;
    this.conditions = conditions;
    this.show({ where: together(conditions), ...more }).then((shown) => {
      if (!shown) this.conditions = before;
    });
  }

  /** Marks a crop and shows what the new order is. */
  moreLike(crop, answer) {
    this.mark([crop], answer);
    this.grid.hold(this.showNew()).catch(fail); // until it shows, no key means a crop of the old one
  }

  /** uploads: name -> whether it is an example of what is looked for; null takes it off. */
  async changeExamples(uploads) {
    await this.act("/examples", { uploads });
    await this.showNew();
  }

  /** Shows the order that the marks come to, those on their way among them. */
  async showNew() {
    await this.grid.choice.marking;
    await this.update();
    for (let tries = 0; tries < 100 && (queue.items.length || this.state.learning); tries++) {
      await new Promise((resolve) => setTimeout(resolve, LEARNING));
      await this.update();
    }
    const ranking = this.state.newest;
    if (ranking === this.view.ranking) return;
    if (!(await this.show({ ranking }))) return;
    this.grid.focus(0); // at once: later it would take the focus from what is being marked by then
    this.act("/shown", { ranking }).catch(fail);
    announce(T.list.newOrder);
    await this.update();
  }

  // What is done

  mark(crops, answer) {
    const { view, state } = this;
    const own = state?.several?.of;
    const changed = this.changed(crops, (crop) => (crop.mark ?? null) !== answer, view.sort === "audit");
    this.say("/mark", changed, answer, (crop) => crop.mark, (crop) => ({ mark: answer, of: !own ? undefined : answer ? own : crop.of === own ? null : crop.of }), T.list.answer(answer));
  }

  /** Crops that are to change, less those of a random sample, which are left out with a message. */
  changed(crops, isOther, answering = false) {
    const sampled = answering ? [] : crops.filter((crop) => crop.sampled);
    if (sampled.length) fail(new Error(T.list.leftOut(sampled.length)));
    return crops.filter((crop) => isOther(crop) && !sampled.includes(crop));
  }

  /**
   * Says something of crops, which show it at once; if the server refuses, they show again what they did.
   * @param {string} path
   * @param {any[]} crops
   * @param {any} answer
   * @param {(crop: any) => any} seen what was seen of a crop when it was said
   * @param {(crop: any) => object} shows what a crop shows from here on
   * @param {string} words what was said
   */
  say(path, crops, answer, seen, shows, words) {
    if (!crops.length) return;
    const { grid, pending, view } = this;
    const before = new Map(crops.map((crop) => [crop, { mark: crop.mark, of: crop.of, by: crop.by }]));
    const told = (of) => Object.fromEntries(crops.map((crop) => [crop.id, of(crop) ?? null]));
    const body = { marks: told(() => answer), seen: told(seen), ...(path === "/mark" ? { ranking: view.ranking, sort: view.sort } : {}) };
    crops.forEach((crop) => Object.assign(crop, shows(crop), { by: person.name || "" }));
    grid.paintAll();
    announce(T.list.said(crops.length, words));
    this.tell("said", crops);
    const count = (more) => crops.forEach(({ id }) => {
      const left = (pending.get(id) ?? 0) + more;
      if (left) pending.set(id, left);
      else pending.delete(id);
    });
    count(1);
    this.act(path, body).finally(() => {
      count(-1);
      crops.forEach(({ id }) => this.arrived.set(id, performance.now()));
    }).then(({ line, left_out, disputed }) => {
      const mine = person.name || "";
      const isOthers = (crop) => crop.disputed || (before.get(crop).by ?? mine) !== mine;
      if (disputed.length) this.dispute(crops, disputed);
      // A sample was drawn elsewhere meanwhile; or people may disagree now, or no longer.
      else if (left_out.length || crops.some(isOthers)) grid.refresh().catch(fail);
      if (line === this.lines + 1) this.lines = line;
      this.later();
    }, (error) => {
      crops.forEach((crop) => Object.assign(crop, before.get(crop)));
      grid.paintAll();
      this.tell("said", crops);
      fail(error);
    });
  }

  /** Shows what another person has marked otherwise meanwhile, instead of what was marked here. */
  dispute(crops, disputed) {
    const theirs = new Map(disputed.map((one) => [one.id, one]));
    for (const crop of crops) {
      const other = theirs.get(crop.id);
      if (other) Object.assign(crop, { mark: other.mark, of: other.of || crop.of, by: other.person, disputed: true });
    }
    this.grid.paintAll();
    const [{ mark, of, person: name }] = disputed;
    const what = disputed.length === 1 ? T.list.thisOne(of || T.list.answer(mark)) : T.list.severalOf(disputed.length);
    fail(new Error(T.list.disputedBy(name, what)));
  }

  /** kind: undo or redo. */
  step(kind) {
    Promise.resolve(this.grid.choice.marking).then(() => this.act(`/${kind}`, {})).then(async ({ line, what }) => {
      const said = T.list.stepped(kind, line ? what : null);
      announce(said);
      await this.grid.refresh();
      this.tell("stepped", said);
      await this.update();
    }, fail);
  }

  /** done: whether the threshold is let go of; while it is dragged it is only asked what it would take. */
  setThreshold(value, done) {
    const { scale, threshold } = this.state.panel;
    this.since ??= threshold; // where it was when it was taken hold of
    clearTimeout(this.setting);
    this.setting = setTimeout(async () => {
      try {
        if (done) {
          await this.act("/threshold", { value, scale });
          await this.update();
        }
        const { since } = this;
        if (since !== null) this.tell("estimate", await this.ask("/estimate", { ranking: this.view.ranking, threshold: value, since }));
      } catch (error) {
        fail(error);
      }
    }, done ? 0 : LEARNING);
  }

  async drawSample(size) {
    try {
      const question = this.isSampleWhole ? T.results.again.whole : T.results.again.part;
      if (this.state.audit?.answered && !this.state.estimate.learned && !confirm(question)) return;
      await this.showNew();
      await this.act("/audit", { size });
      await this.update();
      await this.show({ sort: "audit" });
      this.grid.focus(0);
    } catch (error) {
      fail(error);
    }
  }

  learnSample() {
    this.act("/learn", {}).then(() => this.update(), fail);
  }

  // What the server says

  later(delay = SOON) {
    clearTimeout(this.timer);
    if (!this.signal.aborted) this.timer = setTimeout(() => this.update().catch((error) => this.missing(error)), delay);
  }

  /** Goes on asking; says once that the session isn't there any more. */
  missing(error) {
    if (error.status === 404 && !this.isGone) fail(new Error(T.sessionGone));
    this.isGone = error.status === 404;
    this.later(OFFLINE);
  }

  async update() {
    clearTimeout(this.timer);
    const { view } = this;
    const { of } = this;
    const given = await this.ask("", { by, ranking: view.ranking });
    if (this.signal.aborted || of !== this.of) return;
    if (this.isGone) queue.again(this.base);
    this.isGone = false;
    if (given.trouble && given.trouble !== this.state?.trouble) fail(new Error(given.trouble));
    const known = this.state?.lines ?? given.lines;
    this.state = given;
    if (view.ranking < 0 && given.newest >= 0 && !given.learning) {
      this.lines = given.lines;
      this.tell("state");
      // By keyboard alone one goes on from the first crop.
      if ((await this.showFirst(given.newest, given.lines)) && document.activeElement === document.body) this.grid.focus(this.grid.first());
      this.later(0);
      return;
    }
    // Lines that this tab didn't write: another tab or person has marked something.
    if (known !== given.lines && this.lines !== given.lines) this.grid.refresh().catch(fail);
    this.lines = given.lines;
    this.tell("state");
    this.later(given.learning || view.ranking < 0 ? LEARNING : IDLE);
  }
}
