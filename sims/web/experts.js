// What shows how it is done: functions that read a page and give a gesture, with places in pixels of the page.

const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const words = (element) => element.textContent.replace(/\s+/g, " ").trim();
const named = (selector, name) => all(selector).find((element) => words(element) === name);
const seen = (element) => element.getClientRects().length > 0;

// The middle of an element's first box, or another place of it where something else covers that.
const at = (element) => {
  const [{ left, top, width, height }] = element.getClientRects();
  const places = [0.5, 0.2, 0.8, 0.05, 0.95].flatMap((x, _, shares) =>
    shares.map((y) => [left + x * width, top + y * height]));
  return places.find(([x, y]) => element.contains(document.elementFromPoint(x, y))) || places[0];
};
const click = (element) => ({ kind: "click", at: at(element) });
const key = (name) => ({ kind: "key", key: name });

// Put `text` into a field: `kind` is "type" for words of the instruction, "write" for any others. Null once it is there.
const enter = (field, text, kind = "type") => {
  if (field.value === text) return null;
  if (document.activeElement !== field) return click(field);
  const { selectionStart: start, selectionEnd: end, value } = field;
  return start === 0 && end === value.length ? { kind, text } : key("SelectAll");
};
// The first of several gestures that is still to be done.
const first = (...gestures) => gestures.find(Boolean);

const asked = () => core.getUtterance();  // a text in all tasks that there is an expert for
const quoted = (nth = 0) => [...asked().matchAll(/"([^"]*)"/g)][nth][1];
const submit = () => click(document.querySelector("#subbtn"));

// Boxes before their labels, by the labels' words.
const tick = (wanted) => {
  const wrong = all("#area label").find((label) => {
    const box = label.querySelector("input");
    return box.checked !== wanted.includes(words(label)) && (box.type !== "radio" || !box.checked);
  });
  return wrong ? click(wrong.querySelector("input")) : submit();
};
const selection = () => asked().match(/^Select (.*) and click Submit\.$/)[1].split(", ");

// Things on the grids of shapes.js: a description holds where size, colour and kind do, as far as it names them.
const COLOURS = ["red", "green", "blue", "aqua", "black", "magenta", "yellow"];
const FIGURES = { circle: "circle", rect: "rectangle", polygon: "triangle" };
const drawn = (element) => {
  const text = FIGURES[element.tagName] || element.textContent;
  const type = FIGURES[element.tagName] ? "shape" : /\d/.test(text) ? "digit" : "letter";
  const across = element.tagName === "text" ? parseFloat(element.getAttribute("font-size")) : element.getBBox().width;
  return { text, type, colour: element.getAttribute("fill"), size: across > 15 ? "large" : "small" };
};
const shapesLike = (description) => {
  const said = description.split(" "), kind = said.pop();
  return all("#area_svg > *").filter((element) => {
    const { text, type, colour, size } = drawn(element);
    const holds = said.every((word) => word === size || word === colour);
    return holds && (kind === "item" || kind === text || kind === type);
  });
};

const form = (...fields) => first(...fields.map(([selector, text, kind]) =>
  enter(document.querySelector(selector), text, kind)), submit());
const inTab = (element) => {
  const panel = element.closest("[id^=tabs-]");
  return seen(element) ? click(element) : click(document.querySelector(`a[href="#${panel.id}"]`));
};
const solve = (problem) => String(Function(`return ${problem.replace(/x/g, "*")}`)());

const MINIWOB = {
  // One click
  "click-test": submit,
  "click-test-2": submit,
  "click-test-transfer": () => click(named("#area button", asked().match(/button (\w+)/)[1])),
  "click-button": () => click(named("#area button", quoted())),
  "click-color": () => click(document.querySelector(`#area [data-color="${asked().match(/the (.*) colored/)[1]}"]`)),
  "click-dialog": () => click(document.querySelector(".ui-dialog-titlebar button")),
  "click-dialog-2": () =>
    click(quoted() === "x" ? document.querySelector(".ui-dialog-titlebar button") : named(".ui-dialog button", quoted())),
  "click-link": () => click(named(".alink", quoted())),
  "click-tab": () => click(named("#area a", asked().match(/Tab #\d/)[0])),
  "click-widget": () => click(document.querySelector(`[data-type="${quoted()}"]`)),
  "focus-text": () => click(document.querySelector("#tt")),
  "focus-text-2": () => click(document.querySelector(`#tt${asked().match(/\d/)[0]}`)),
  // Reading
  "click-shape": () => click(shapesLike(asked().match(/^Click on a (.*)$/)[1])[0]),
  "count-shape": () => {
    const count = shapesLike(asked().match(/^How many (.*)s are there\?$/)[1]).length;
    return click(named("#count-buttons button", String(count)));
  },
  "grid-coordinate": () => click(document.getElementById(asked().match(/\(.*\)/)[0])),
  "identify-shape": () => {
    const { text, type } = drawn(document.querySelector("#area_svg > *"));
    return click(document.querySelector(`[data-type="${type === "shape" ? text : type}"]`));
  },
  "find-greatest": () => {
    const cards = all(".card"), value = (card) => Number(words(card));
    const best = cards.reduce((one, other) => (value(other) > value(one) ? other : one));
    return click(best.classList.contains("hidden") ? best : document.querySelector("#submit"));
  },
  // Several clicks
  "click-button-sequence": () => click(named("#area button", buttonsPushed.length ? "TWO" : "ONE")),
  "click-checkboxes": () => tick(selection()),
  "click-checkboxes-large": () => tick(selection()),
  "click-checkboxes-transfer": () => tick(selection()),
  "click-collapsible-nodelay": () =>
    seen(document.querySelector(".ui-accordion-content")) ? submit() : click(document.querySelector("h3")),
  "click-option": () => tick(selection()),
  "click-tab-2": () => inTab(named(".alink", quoted())),
  "click-tab-2-easy": () => inTab(named(".alink", quoted())),
  // Fields
  "enter-text": () => form(["#tt", quoted()]),
  "enter-text-2": () =>
    form(["#tt", /upper/.test(asked()) ? quoted().toUpperCase() : quoted().toLowerCase(), "write"]),
  "enter-text-dynamic": () => form(["#tt", quoted()]),
  "enter-password": () => form(["#password", quoted()], ["#verify", quoted()]),
  "login-user": () => form(["#username", quoted(0)], ["#password", quoted(1)]),
  "read-table": () => {
    const wanted = asked().match(/value of (.*) into/)[1];
    return form(["#tt", words(named("td", wanted).nextSibling), "write"]);
  },
  "simple-arithmetic": () => form(["#math-answer", solve(words(document.querySelector("#math-problem")).slice(0, -2)), "write"]),
  "use-colorwheel": () => {
    const wanted = ui_utils.colorNameToHex(asked().match(/Select (\w+)/)[1]).slice(1).toUpperCase();
    const button = document.querySelector("#subbtn"); // which the opened picker covers
    const next = () => key(document.activeElement === button ? "Enter" : "Tab");
    return enter(document.querySelector("#col"), wanted, "write") || next();
  },
  "visual-addition": () => form(["#math-answer", String(all(".addition-block").length), "write"]),
};
const miniwob = (task) => MINIWOB[task]();
