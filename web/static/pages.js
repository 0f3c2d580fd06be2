// @ts-check
// A list of crops of any length, loaded by the page as it is looked at.

const PAGE = 200;
const KEPT = 40; // pages; far ones are dropped, so that a long scroll doesn't fill the memory
const AGAIN = 3000; // ms until a page that failed is asked for again

export class Pages {
  /**
   * @param {object} options
   *   onload(): a page has come, or may be asked for again; onerror(error);
   *   middle(): the place that is looked at; isNewer(id, time): whether the crop was marked after this time, or its mark is on
   *   its way still: an answer to a question asked then must not overwrite it.
   */
  constructor(options) {
    this.options = options;
    this.total = 0;
    this.loaded = new Map(); // number -> {crops, promise}
  }

  /** Shows another list. load(start, count) gives {total, crops}; if it fails, the list stays. Returns whether it is shown. */
  async open(load) {
    const asked = (this.asked = {});
    const first = await load(0, PAGE).catch((error) => {
      if (asked === this.asked) throw error;
    });
    if (asked !== this.asked) return false; // another list has been asked for since
    this.list = asked;
    this.load = load;
    this.loaded = new Map([[0, { crops: first.crops, promise: Promise.resolve() }]]);
    this.total = first.total;
    return true;
  }

  /** Asks again for the pages that are loaded, in place. Returns whether there is something to show. */
  async refresh() {
    const { list } = this;
    const asked = performance.now();
    const refreshing = (this.refreshing = {});
    await Promise.all([...this.loaded.keys()].map(async (number) => {
      const { crops } = await this.load(number * PAGE, PAGE);
      const known = this.loaded.get(number)?.crops;
      if (list !== this.list || refreshing !== this.refreshing || !known) return; // an older answer that comes last is no news
      crops.forEach((crop, place) => {
        if (known[place]?.id === crop.id && !this.options.isNewer?.(crop.id, asked)) Object.assign(known[place], crop);
      });
    }));
    return list === this.list && refreshing === this.refreshing;
  }

  /** The crop at a place, once its page has come. */
  crop(index) {
    return this.loaded.get(Math.floor(index / PAGE))?.crops?.[index % PAGE];
  }

  /** Crops at places; asks for those that were never on the screen. */
  async crops(indices) {
    await Promise.all([...new Set(indices.map((index) => Math.floor(index / PAGE)))].map((number) => this.page(number)));
    return indices.map((index) => this.crop(index)).filter(Boolean);
  }

  /** Asks for the page of a place, if it isn't there. */
  ready(index) {
    return this.page(Math.floor(index / PAGE));
  }

  /** Asks for the pages of all places from first to last. */
  readyFrom(first, last) {
    for (let number = Math.floor(first / PAGE); number <= Math.floor(last / PAGE); number++) this.page(number);
  }

  async page(number) {
    if (number < 0 || (this.total && number * PAGE >= this.total)) return;
    if (this.loaded.has(number)) return this.loaded.get(number).promise;
    /** @type {any} */
    const entry = {};
    const list = this.list;
    this.loaded.set(number, entry);
    entry.promise = this.load(number * PAGE, PAGE).then(({ total, crops }) => {
      if (list !== this.list) return;
      entry.crops = crops;
      this.total = total;
    }, (error) => {
      entry.failed = true;
      if (list !== this.list) return;
      this.options.onerror?.(error);
      // And not at once, again and again.
      setTimeout(() => list === this.list && (this.loaded.delete(number), this.options.onload()), AGAIN);
    });
    await entry.promise;
    if (entry.failed) return;
    if (this.loaded.size > KEPT) {
      const middle = Math.floor(this.options.middle() / PAGE);
      const far = [...this.loaded.keys()].sort((a, b) => Math.abs(b - middle) - Math.abs(a - middle))[0];
      this.loaded.delete(far);
    }
    if (list === this.list) this.options.onload();
  }
}
