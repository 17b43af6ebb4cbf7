// Runs in every document, frame and worker before anything of its own. Its timers move only while a step lets them, since
// the browser's time is virtual; here dates are counted from the episode's start, and chance comes from its seed.
// `settings`: {seed, start, path}: `start`, when the episode began on the browser's clock, in ms since EPOCH; `path`
// numbers a worker. Returns {now: ms since the episode began, elapsed: ms since EPOCH, nextFrame, report, leave}:
// the next two are the browser's own, which only page.js knows from here on; the last goes to the next episode's page.
(settings) => {
  const KEPT = Symbol.for("vla_rl"), kept = self[KEPT];
  if (kept) return kept;  // the first page of a tab that another page has opened takes over the window of an empty one
  const EPOCH = Date.UTC(2024, 0, 1, 12), FRAME = 1000 / 60, PATIENCE = 100;
  const replace = (owner, name, value) => {
    if (owner && name in owner) Object.defineProperty(owner, name, { value, writable: true, configurable: true });
  };
  const replaceGetter = (owner, name, get) => {
    if (owner && name in owner) Object.defineProperty(owner, name, { get, configurable: true });
  };

  // Time. A script that waits by reading the clock again and again would wait for ever: so many readings take a millisecond.

  const RealDate = Date, { timeOrigin } = performance, realNow = performance.now.bind(performance);
  let waited = 0, last = -1, readings = 0;
  const elapsed = () => Math.round(2 * (timeOrigin + realNow() - EPOCH)) / 2;  // the browser blurs what it says
  const passed = () => Math.floor(elapsed() - settings.start);
  const now = () => passed() + waited;
  const born = now();
  const read = () => {
    const at = elapsed();
    if (at !== last) [last, readings] = [at, 0];
    if (++readings % PATIENCE === 0) waited += 1;
    return now();
  };
  const currentTime = () => EPOCH + read();
  self.Date = new Proxy(RealDate, {
    construct: (target, given, type) => Reflect.construct(target, given.length ? given : [currentTime()], type),
    apply: () => new RealDate(currentTime()).toString(),
    get: (target, name) => (name === "now" ? currentTime : Reflect.get(target, name)),
  });
  RealDate.prototype.constructor = self.Date;
  replace(Performance.prototype, "now", () => read() - born);
  replaceGetter(Performance.prototype, "timeOrigin", () => EPOCH + born);
  const happened = new WeakMap();
  replaceGetter(Event.prototype, "timeStamp", function () {
    if (!happened.has(this)) happened.set(this, now() - born);
    return happened.get(this);
  });
  replaceGetter(self.DocumentTimeline?.prototype, "currentTime", () => now() - born);

  // Texts of no date are texts of now.
  const orNow = (format) => (date) => format(date === undefined ? currentTime() : date);
  const formats = Intl.DateTimeFormat.prototype, { formatToParts } = formats;
  const { get: formatOf } = Object.getOwnPropertyDescriptor(formats, "format");
  replace(formats, "formatToParts", function (date) { return orNow((when) => formatToParts.call(this, when))(date); });
  replaceGetter(formats, "format", function () { return orNow(formatOf.call(this)); });
  const { Temporal } = self;
  if (Temporal) {
    const instant = () => Temporal.Instant.fromEpochMilliseconds(currentTime());
    const zoned = (zone) => instant().toZonedDateTimeISO(zone ?? Temporal.Now.timeZoneId());
    replace(Temporal.Now, "instant", instant);
    replace(Temporal.Now, "zonedDateTimeISO", zoned);
    replace(Temporal.Now, "plainDateTimeISO", (zone) => zoned(zone).toPlainDateTime());
    replace(Temporal.Now, "plainDateISO", (zone) => zoned(zone).toPlainDate());
    replace(Temporal.Now, "plainTimeISO", (zone) => zoned(zone).toPlainTime());
  }

  const nextFrame = self.requestAnimationFrame?.bind(self), report = self.__vla_report;
  delete self.__vla_report;

  // Animation frames, sixty a second of that time; the browser draws one a step. A task of its own for each, as timers have.
  if (self.requestAnimationFrame && self.scheduler) {
    const frames = new Map(), { scheduler } = self, later = scheduler.postTask.bind(scheduler);
    let number = 0;
    self.requestAnimationFrame = (run) => {
      if (typeof run !== "function") throw new TypeError("requestAnimationFrame needs a function");
      const id = ++number, at = passed();
      const due = Math.ceil((Math.floor(at / FRAME + 1e-6) + 1) * FRAME - 1e-6);
      frames.set(id, run);
      later(() => { if (frames.delete(id)) run(now() - born); }, { delay: due - at }).catch(reportError);
      return id;
    };
    self.cancelAnimationFrame = (id) => { frames.delete(id); };
  }
  if (self.requestIdleCallback) {
    self.requestIdleCallback = (run) => setTimeout(() => run({ didTimeout: false, timeRemaining: () => 10 }), 1);
    self.cancelIdleCallback = (id) => clearTimeout(id);
  }

  // Chance: mulberry32, another stream in every frame and worker

  const path = [...(settings.path || [])];
  for (let each = self; each.parent && each !== each.parent; each = each.parent)
    for (let i = 0; i < each.parent.length; i++) if (each.parent[i] === each) path.push(i + 1);
  let state = path.reduce((seed, place) => Math.imul(seed ^ place, 0x9e3779b1), settings.seed) >>> 0;
  const bits = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  Math.random = () => bits() / 2 ** 32;
  const fill = (array) => {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    bytes.forEach((_, i) => { bytes[i] = bits(); });
    return array;
  };
  replace(self.Crypto?.prototype, "getRandomValues", fill);
  replace(self.Crypto?.prototype, "randomUUID", () => {
    const bytes = fill(new Uint8Array(16));
    [bytes[6], bytes[8]] = [(bytes[6] & 15) | 64, (bytes[8] & 63) | 128];
    const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  });
  // A page that the page itself goes to begins at this clock's time, and one that the browser goes to at another's.
  let leaving = false;
  self.navigation?.addEventListener("navigate", (event) => { if (leaving) event.stopImmediatePropagation(); });
  const leave = (url) => {
    leaving = true;
    name = "";
    try { sessionStorage.clear(); localStorage.clear(); } catch { /* a page without storage */ }
    const referrer = Object.assign(document.createElement("meta"), { name: "referrer", content: "no-referrer" });
    (document.head || document.documentElement).append(referrer);
    location.replace(url);
  };

  Object.defineProperty(self, KEPT, { value: { now, elapsed, nextFrame, report, leave } });
  return self[KEPT];
}
