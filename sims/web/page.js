// Runs in a page before anything of its own: reports every frame, and makes it look the same at any time.
// `settings`: {clock: () => what clock.js returns, read: () => what to report, closes: whether the page may close itself}.
(settings) => {
  const { now, elapsed, nextFrame, report } = settings.clock();
  if (window !== window.top || !report) return;
  if (!settings.closes) window.close = () => {};

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
  const incomplete = () => [...document.images].filter((picture) => !picture.complete).length;
  const dress = () => {
    (document.head || document.documentElement).prepend(style);
    [...document.styleSheets].forEach(fetchPictures);
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", dress); else dress();
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
  const beat = () => {
    nextFrame(beat);
    let said = {};
    try { said = settings.read(); } catch (error) { said = { error: String(error) }; }
    report(JSON.stringify({ ...said, focused: focused(), incomplete: incomplete(), now: now(), elapsed: elapsed() }));
  };
  nextFrame(beat);
}
