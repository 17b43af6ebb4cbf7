// Runs in a page before anything of its own: a clock that only frames move, random numbers from the episode's seed,
// and a report of every frame. `settings`: {seed, read: () => what to report}.
(settings) => {
  const report = window.__vla_report;
  const nextFrame = window.requestAnimationFrame.bind(window);
  if (window !== window.top || !report) return;
  delete window.__vla_report;

  // Time

  const RealDate = Date, EPOCH = Date.UTC(2024, 0, 1, 12), FRAME = 1000 / 60;
  let now = 0, last = 0, leaving = false;
  const timers = new Map(), frames = new Map();
  const called = (run, given) => {
    try { typeof run === "function" ? run.apply(window, given) : (0, eval)(String(run)); }
    catch (error) { console.error(error); }
  };
  const timer = (repeats) => (run, delay, ...given) => {
    const wait = Math.max(1, Number(delay) || 0);
    timers.set(++last, { at: now + wait, every: repeats ? wait : 0, run, given });
    return last;
  };
  window.setTimeout = timer(false);
  window.setInterval = timer(true);
  window.clearTimeout = window.clearInterval = (id) => { timers.delete(id); };
  window.requestAnimationFrame = (run) => { frames.set(++last, run); return last; };
  window.cancelAnimationFrame = (id) => { frames.delete(id); };
  window.requestIdleCallback = (run) => window.setTimeout(() => run({ didTimeout: false, timeRemaining: () => 10 }), 1);
  window.cancelIdleCallback = window.clearTimeout;
  Performance.prototype.now = () => now;
  const currentTime = () => Math.floor(EPOCH + now);
  window.Date = new Proxy(RealDate, {
    construct: (target, given, type) => Reflect.construct(target, given.length ? given : [currentTime()], type),
    apply: () => new RealDate(currentTime()).toString(),
    get: (target, name) => (name === "now" ? currentTime : Reflect.get(target, name)),
  });
  RealDate.prototype.constructor = window.Date;

  // Timers in the order of their times, animation frames sixty times a second.
  const advance = (until) => {
    for (;;) {
      let id = 0, at = Infinity;
      for (const [each, { at: due }] of timers) if (due < at) [id, at] = [each, due];
      const frame = frames.size ? (Math.floor(now / FRAME + 1e-6) + 1) * FRAME : Infinity;
      if (Math.min(at, frame) > until) break;
      now = Math.max(now, Math.min(at, frame));
      if (frame < at) {
        const due = [...frames.values()];
        frames.clear();
        due.forEach((run) => called(run, [now]));
      } else {
        const { every, run, given } = timers.get(id);
        if (every) timers.get(id).at += every; else timers.delete(id);
        called(run, given);
      }
    }
    now = until;
  };

  // Chance: mulberry32

  let state = settings.seed >>> 0;
  const bits = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  Math.random = () => bits() / 2 ** 32;
  Crypto.prototype.getRandomValues = (array) => {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    bytes.forEach((_, i) => { bytes[i] = bits(); });
    return array;
  };

  // Looks: a caret that does not blink; lists that open in the page, since other windows are never drawn; pictures at once

  const style = document.createElement("style");
  style.textContent = `
    * { caret-animation: manual !important; scroll-behavior: auto !important; }
    select, ::picker(select) { appearance: base-select; }
    ::-webkit-calendar-picker-indicator { display: none; }`;
  // What style sheets may show later is fetched before the page counts as loaded, so that no frame has to wait for it.
  const pictures = [];
  const fetchPictures = (sheet) => {
    let rules = [];
    try { rules = [...sheet.cssRules]; } catch { return; }  // of another origin
    for (const [, , url] of rules.map((rule) => [...rule.cssText.matchAll(/url\((["']?)(.*?)\1\)/g)]).flat()) {
      const picture = new Image();
      picture.src = new URL(url, sheet.href || document.baseURI);
      pictures.push(picture);
    }
  };
  const incomplete = () => [...document.images].some((picture) => !picture.complete);
  document.addEventListener("DOMContentLoaded", () => {
    document.head.prepend(style);
    [...document.styleSheets].forEach(fetchPictures);
  });
  const windows = { click: 'input[type="color"], input[type="file"]', keydown: 'input:is([type="date"], [type="time"])' };
  for (const [kind, selector] of Object.entries(windows)) window.addEventListener(kind, (event) => {
    if (event.target.matches?.(selector) && (kind === "click" || event.key === " ")) event.preventDefault();
  }, true);

  // The frame's report

  const focused = () => {
    const element = document.activeElement;
    if (!element || element === document.body || element === document.documentElement) return "";
    const label = element.labels && element.labels[0] ? element.labels[0].textContent.trim() : "";
    const known = ["aria-label", "placeholder", "name", "id"].map((name) => element.getAttribute(name));
    return [label, ...known, element.tagName.toLowerCase()].find(Boolean);
  };
  window.navigation?.addEventListener("navigate", ({ destination }) => { leaving ||= !destination.sameDocument; });
  let before = null;
  const beat = (time) => {
    nextFrame(beat);
    const elapsed = before === null ? 0 : Math.round(time - before);
    if (elapsed || before === null) before = time;
    let said = {};
    try { advance(now + elapsed); said = settings.read(); } catch (error) { said = { error: String(error) }; }
    report(JSON.stringify({ ...said, focused: focused(), leaving, loading: incomplete() }));
  };
  nextFrame(beat);
}
