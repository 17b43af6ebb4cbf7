// Runs in a page before anything of its own: reports every frame, and makes it look the same at any time.
// `settings`: {clock: () => what clock.js returns, read: () => what to report, closes: whether the page may close itself}.
(settings) => {
  const { now, elapsed, nextFrame, report } = settings.clock();

  // Refreshes. The browser measures them by the page's clock; but one of no delay it carries out as soon as the page is
  // loaded, also where no time may pass. So that it waits for a step, it takes a frame's time here.

  const AT_ONCE = /^\s*0+(?:\.[\d.]*)?(?:\s*[;,]\s*|\s+|$)(?:url\s*=\s*)?(?:"([^"]*)|'([^']*)|(.*))/is;
  const refused = Object.assign(document.createElement("meta"), { httpEquiv: "refresh", content: "0;url=chrome://x" });
  let refresh = null;
  const delay = (element) => {
    const [found, ...urls] = element.content.match(AT_ONCE) || [];
    const url = found === undefined ? null : URL.parse(urls.find(Boolean) || document.URL, document.baseURI);
    if (!url || url.protocol === "javascript:") return;
    document.documentElement.append(refused);  // takes the place of the browser's own, and leads nowhere
    refused.remove();
    const go = () => (url.href === document.URL ? location.reload() : location.replace(url));
    const begin = () => {
      clearTimeout(refresh);
      refresh = setTimeout(go, 1000 / 60);
    };
    if (document.readyState === "complete") begin(); else window.addEventListener("load", begin, { once: true });
  };
  new MutationObserver((records) => {
    const changed = ({ type, target, addedNodes }) => (type === "attributes" ? target : [...addedNodes]);
    const elements = records.flatMap(changed).flatMap((node) => [node, ...(node.querySelectorAll?.("meta") || [])]);
    for (const element of new Set(elements))
      if (element !== refused && element.matches?.('meta[http-equiv="refresh" i]')) delay(element);
  }).observe(document, { childList: true, subtree: true, attributeFilter: ["content", "http-equiv"] });

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
