// The cockpit's page. It asks for nothing but its own socket; everything that is shown is set as text.
"use strict";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const TICK = 100; // milliseconds between two movements while a key is held: 10 a second
const DRAG = 4; // pixels before a press and a release are a drag
const DEAD = 0.15; // of a stick, around its middle

// Who this page is: the same after it was loaded again, so that it finds its lane.
const who = sessionStorage.getItem("who") || crypto.getRandomValues(new Uint32Array(4)).join("-");
sessionStorage.setItem("who", who);

let socket = null, wait = 250;
let about = { device: "none", lanes: 0, help: [] };
let state = { live: false }, news = [];
let typed = "", entry = 1, down = null, drag = null, pushed = [];
const held = new Set();

const mine = () => state.live && state.held && state.held[state.lane] === "you";
const send = (asked) => { if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(asked)); };

// --- the socket ---------------------------------------------------------------------------------

function connect() {
  const address = new URL("socket" + location.search, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { wait = 250; here(); if (state.lane !== undefined) send({ do: "watch", lane: state.lane }); };
  socket.onmessage = (event) => typeof event.data === "string" ? hear(JSON.parse(event.data)) : see(event.data);
  socket.onclose = () => { link("connection lost, trying again", "gone"); setTimeout(connect, wait); wait = Math.min(2 * wait, 4000); };
}

const here = () => send({ do: "here", who });

function hear(told) {
  if (told.type === "about") {
    about = told;
    news = [];
    introduce();
    if (about.alone) send({ do: "take", lane: 0 });
  }
  else if (told.type === "state") { state = told; describe(); }
  else if (told.type === "news") { news.push(...told.lines); curve(); warn(told.warnings); }
  else if (told.type === "said") say(told.text, told.refused);
}

function say(text, refused = false) { $("said").textContent = text; $("said").classList.toggle("refused", refused); }
function link(text, how) { $("link").textContent = text; $("link").className = "chip " + how; }

// --- what is shown ------------------------------------------------------------------------------

function introduce() {
  document.title = about.title + " · cockpit";
  $("title").textContent = about.title;
  $("subtitle").textContent = about.subtitle;
  for (const id of ["keep", "drop"]) $(id).hidden = !about.alone;
  $("expert").hidden = !about.expert;
  $("pointing").hidden = about.alone;
  for (const id of ["qbox", "curvebox", "lanes"]) $(id).hidden = about.alone;
  const screen = about.device === "screen", alt = screen ? "alt+" : "";
  const keys = { keep: screen ? "ctrl S" : "↵", drop: screen ? "alt D" : "⌫", expert: screen ? "" : "H" };
  keys.success = screen ? "alt Y" : "Y";
  keys.failure = screen ? "alt N" : "N";
  for (const [id, key] of Object.entries(keys)) { $(id).lastChild.textContent = key; $(id).lastChild.hidden = !key; }
  const rows = [screen ? "shift+esc" : "T, esc", "take over, hand back", ...about.help];
  if (about.alone) rows.push(screen ? "ctrl+S, alt+D" : "enter, backspace", "keep, drop");
  const list = $("help");
  list.replaceChildren();
  rows.forEach((text, i) => list.append(element(i % 2 ? "dd" : "dt", text)));
  for (const each of [element("dt", alt + "Y, " + alt + "N"), element("dd", "the episode succeeds, fails")]) {
    each.className = "labels";
    list.append(each);
  }
  const lanes = about.alone ? 0 : about.lanes;
  $("lanes").replaceChildren(...Array.from({ length: lanes }, (_, lane) => {
    const button = element("button", "");
    button.className = "lane";
    button.append(new Image(), element("span", String(lane)));
    button.onclick = () => { send({ do: "watch", lane }); };
    return button;
  }));
  if (about.why) say("nobody can act here: " + about.why, true);
  curve();
}

function describe() {
  if (!state.live) {
    link("no training runs here now", "gone");
    $("views").classList.remove("mine");
    for (const id of ["take", "success", "failure"]) $(id).disabled = true;
    return;
  }
  const lane = state.lane, own = mine(), other = state.held[lane] === "other";
  link(own ? (about.alone ? "you act" : "you fly lane " + lane) : "live", own ? "mine" : "live");
  $("views").classList.toggle("mine", own);
  $("take").classList.toggle("mine", own);
  $("take").firstChild.textContent = own ? "Hand back " : "Take over ";
  $("take").lastChild.textContent = !own ? "T" : about.device === "screen" ? "⇧ esc" : "esc";
  $("take").disabled = about.device === "none" || other;
  for (const id of ["success", "failure"]) { $(id).hidden = !state.labels; $(id).disabled = other; }
  for (const each of document.querySelectorAll(".labels")) each.hidden = !state.labels;
  for (const id of ["keep", "drop", "expert"]) $(id).disabled = !own;
  $("prompt").hidden = !(own && about.device === "screen");
  if (!own) { typed = ""; held.clear(); }
  prompt();
  const facts = [];
  const tasks = new Set(state.tasks || []);
  if (!about.alone) facts.push("lane " + lane + (tasks.size > 1 ? ", " + state.tasks[lane] : ""));
  facts.push("step " + state.step[lane], "reward " + (+state.reward[lane].toFixed(3)));
  if (state.taken[lane] && !about.alone) facts.push(state.taken[lane] + " by people");
  if (state.kept !== undefined) facts.push(state.kept + " kept");
  if (state.ended[lane]) facts.push(state.ended[lane]);
  if (other) facts.push("somebody else flies it");
  $("facts").textContent = facts.join(" · ");
  [...$("lanes").children].forEach((button, i) => {
    button.className = "lane " + (i === lane ? "here " : "") + (state.held[i] || "");
    button.lastChild.textContent = i + " · " + (state.ended[i] || "step " + state.step[i]);
  });
  quality();
}

// A picture: the length of a JSON object, the object, and the views that it tells of.
function see(data) {
  const length = new DataView(data).getUint32(0);
  const told = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  let at = 4 + length;
  const views = told.views.map((view) => {
    const url = URL.createObjectURL(new Blob([new Uint8Array(data, at, view.size)], { type: view.kind }));
    at += view.size;
    return { ...view, url };
  });
  if (told.lane === state.lane && !told.small) show(told, views);
  const button = $("lanes").children[told.lane];
  if (button) put(button.firstChild, views[0].url);
}

function put(image, url) {
  const before = image.src;
  image.onload = image.onerror = () => { if (before && before !== url) free(before); };
  image.src = url;
}

// An address is let go of once no picture of the page shows it.
function free(url) {
  if (![...document.images].some((image) => image.src === url)) URL.revokeObjectURL(url);
}

function show(told, views) {
  $("task").textContent = told.text;
  const box = $("views");
  while (box.children.length > views.length) box.lastChild.remove();
  while (box.children.length < views.length) {
    const figure = element("div", "");
    figure.className = "view";
    const image = new Image();
    image.alt = "camera";
    image.draggable = false;
    figure.append(image, document.createElementNS(SVG, "svg"), element("b", ""));
    box.append(figure);
    listen(figure);
  }
  views.forEach((view, i) => {
    const [image, drawing, name] = box.children[i].children;
    put(image, view.url);
    box.children[i].classList.toggle("smooth", view.width > 200);
    const said = i === 0 && told.told ? (about.alone ? "" : "policy: ") + told.told : "";
    name.textContent = [view.name, said].filter((text) => text).join(" · ");
    drawing.setAttribute("viewBox", "0 0 " + view.width + " " + view.height);
    draw(drawing, view, i === 0 ? told.marks : []);
  });
}

// Pointers are rings, as sure as they are opaque; the place of a decision is a cross.
function draw(drawing, view, marks) {
  const size = Math.max(view.width, view.height), parts = [];
  if ($("pointers").checked) {
    view.pointers.forEach(([x, y, sure], i) => {
      if (sure < 0.2) return;
      const ring = shape("circle", { cx: x * view.width, cy: y * view.height, r: size * 0.03, fill: "none",
        stroke: i === view.pointers.length - 1 ? "#ffb000" : "#00d0ff", "stroke-width": size * 0.008, opacity: sure });
      parts.push(ring);
    });
  }
  marks.forEach(([x, y]) => {
    const cx = x * view.width, cy = y * view.height, r = size * 0.03;
    parts.push(shape("path", { d: `M${cx - r} ${cy}H${cx + r}M${cx} ${cy - r}V${cy + r}`, stroke: "#ff2d78", "stroke-width": size * 0.009 }));
  });
  drawing.replaceChildren(...parts);
}

function warn(warnings) {
  $("warnings").replaceChildren(...warnings.map((each) => {
    const box = element("div", each.text);
    box.className = "warning " + each.level;
    return box;
  }));
}

function quality() {
  const newest = state.values && state.values[state.values.length - 1];
  const points = (state.values || []).filter(([episode]) => episode === newest[0]).map(([, step, q]) => [step, q]);
  $("qsaid").textContent = state.tells_q === false ? "no critic" : newest ? newest[2].toFixed(3) : "";
  plot($("q"), 120, [{ points, look: "amber" }], "step of the episode");
}

function curve() {
  const of = (key) => news.filter((line) => Number.isFinite(line[key])).map((line) => [line.step, 100 * line[key]]);
  const checked = news.filter((line) => Number.isFinite(line["eval/pc_success"])).map((line) => [line.step, line["eval/pc_success"]]);
  const lines = [{ points: of("train/success_rate"), look: "sky" }, { points: checked, look: "blue", dots: true }];
  plot($("curve"), 150, lines, "decisions", [0, 100]);
}

// Lines in a drawing of 360 by `height`, with a few numbers beside.
function plot(drawing, height, lines, label, range) {
  const all = lines.flatMap((line) => line.points);
  drawing.replaceChildren();
  if (!all.length) { drawing.append(shape("text", { x: 180, y: height / 2, "text-anchor": "middle" }, "nothing yet")); return; }
  const xs = all.map((p) => p[0]), ys = all.map((p) => p[1]);
  const [x0, x1] = [Math.min(0, ...xs), Math.max(1, ...xs)];
  let [y0, y1] = range || [Math.min(0, ...ys), Math.max(...ys)];
  if (y1 - y0 < 1e-6) y1 = y0 + 1;
  const X = (x) => 38 + 316 * (x - x0) / (x1 - x0), Y = (y) => height - 22 - (height - 34) * (y - y0) / (y1 - y0);
  for (const y of [y0, (y0 + y1) / 2, y1]) {
    drawing.append(shape("line", { x1: 38, x2: 354, y1: Y(y), y2: Y(y), class: "grid" }));
    drawing.append(shape("text", { x: 32, y: Y(y) + 3.5, "text-anchor": "end" }, short(y)));
  }
  drawing.append(shape("text", { x: 38, y: height - 4 }, short(x0)));
  drawing.append(shape("text", { x: 354, y: height - 4, "text-anchor": "end" }, short(x1)));
  drawing.append(shape("text", { x: 196, y: height - 4, "text-anchor": "middle" }, label));
  for (const { points, look, dots } of lines) {
    const path = points.map(([x, y], i) => (i ? "L" : "M") + X(x).toFixed(1) + " " + Y(y).toFixed(1)).join("");
    if (path) drawing.append(shape("path", { d: path, class: "curve " + look }));
    const marked = dots ? points : points.slice(-1);
    for (const [x, y] of marked) drawing.append(shape("circle", { cx: X(x), cy: Y(y), r: 2.6, class: look }));
  }
}

const short = (value) => Math.abs(value) >= 10000 ? Math.round(value / 1000) + "k" : String(+value.toFixed(2));

function element(name, text) { const made = document.createElement(name); made.textContent = text; return made; }

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// --- what a person does -------------------------------------------------------------------------

const toggle = () => mine() ? send({ do: "give" }) : send({ do: "take", lane: state.lane });
const label = (success) => send({ do: "label", lane: state.lane, success });

function prompt() {
  if (about.device === "screen") $("prompt").textContent = "> " + typed + "▏";
}

// Where in a picture something happened, as shares of its width and height.
function place(figure, event) {
  const box = figure.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((v) => Math.min(Math.max(v, 0), 1));
}

function listen(figure) {
  let clicked = 0;
  const first = () => figure === $("views").firstChild;
  figure.onpointerdown = (event) => {
    if (!mine() || event.button !== 0) return;
    figure.setPointerCapture(event.pointerId);
    down = { at: place(figure, event), x: event.clientX, y: event.clientY };
    event.preventDefault();
  };
  figure.onpointermove = (event) => {
    pointed = place(figure, event);
    if (down && about.device === "arm") {
      const push = [(event.clientX - down.x) / 60, (down.y - event.clientY) / 60].map((v) => Math.max(-1, Math.min(1, v)));
      drag = Math.hypot(event.clientX - down.x, event.clientY - down.y) > DRAG ? push : null;
    }
  };
  figure.onpointerup = (event) => {
    const from = down;
    down = drag = null;
    if (!from || !mine() || about.device !== "screen" || !first()) return;
    const to = place(figure, event);
    if (Math.hypot(event.clientX - from.x, event.clientY - from.y) > DRAG) return gesture("drag", [from.at, to]);
    if (!about.kinds.double_click) return gesture("click", [from.at]);
    if (clicked) { clearTimeout(clicked); clicked = 0; return gesture("double_click", [from.at]); }
    clicked = setTimeout(() => { clicked = 0; gesture("click", [from.at]); }, 300);
  };
  figure.onpointercancel = () => { down = drag = null; };
  figure.onwheel = (event) => {
    if (!mine()) return;
    event.preventDefault();
    if (about.device === "screen") gesture(event.deltaY < 0 ? "scroll_up" : "scroll_down", [place(figure, event)]);
    else if (about.device === "arm") send({ do: "move", keys: [event.deltaY < 0 ? "PageUp" : "PageDown"] });
  };
}

let pointed = null;

function gesture(kind, at, said = "") {
  if (!about.kinds[kind]) return say("there is no " + kind.replace("_", " ") + " here", true);
  send({ do: "gesture", kind, at, said });
}

function screenKey(event) {
  const number = /^F(\d+)$/.exec(event.key), kind = number && about.others[number[1] - 1];
  if (kind) {
    const speaks = about.kinds[kind].speaks;
    gesture(kind, pointed ? [pointed] : [], speaks ? typed : "");
    typed = speaks ? "" : typed;
  } else if (typed && event.key === "Enter") { send({ do: "type", said: typed }); typed = ""; }
  else if (typed && event.key === "Backspace") typed = typed.slice(0, -1);
  else if (typed && event.key === "Escape") typed = "";
  else if (event.ctrlKey && event.key.toLowerCase() === "a") gesture("key", [], "SelectAll");
  else if (event.ctrlKey || event.metaKey) return false;
  else if (event.key.length === 1 && !event.altKey) typed += event.key;
  else if (about.kinds.key && about.kinds.key.choices.includes(event.key)) gesture("key", [], event.key);
  else return false;
  prompt();
  return true;
}

function armKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (about.device === "choice") {
    if (/^\d$/.test(key)) send({ do: "choose", number: +key });
    return /^\d$/.test(key);
  }
  if (about.keys.includes(key)) {
    if (!held.has(key)) { held.add(key); move(); }
  } else if (key === " " && about.fingers) { if (!event.repeat) send({ do: "fingers" }); }
  else if (key === ".") send({ do: "wait" });
  else if (/^[1-9]$/.test(key)) { entry = +key; say("+ and - change " + (about.entries[entry - 1] || "nothing")); }
  else if (key === "+" || key === "=" || key === "-") send({ do: "entry", number: entry, sign: key === "-" ? -1 : 1 });
  else return false;
  return true;
}

// Whatever is held moves the arm a step, ten times a second; nothing held, and its world waits.
function move() {
  if (!mine() || about.device !== "arm") return;
  const axes = stick().map((v, i) => v + (drag && i < 2 ? drag[i] : 0));
  if (held.size || axes.some((v) => v)) send({ do: "move", keys: [...held], axes });
}

function stick() {
  const pad = [...(navigator.getGamepads ? navigator.getGamepads() : [])].find((each) => each && each.connected);
  if (!pad) return [0, 0, 0, 0];
  const of = (i, sign) => Math.abs(pad.axes[i] || 0) > DEAD ? sign * pad.axes[i] : 0;
  return [of(0, 1), of(1, -1), of(3, -1), of(2, 1)];
}

// Buttons of a gamepad: A fingers, B hands back, start takes over, X success, Y failure.
function buttons() {
  const pad = [...(navigator.getGamepads ? navigator.getGamepads() : [])].find((each) => each && each.connected);
  const now = pad ? pad.buttons.map((button) => button.pressed) : [];
  const pressed = (i) => now[i] && !pushed[i];
  if (pressed(9) && !mine()) toggle();
  if (mine()) {
    if (pressed(0) && about.fingers) send({ do: "fingers" });
    if (pressed(1)) toggle();
    if (pressed(2) && state.labels) label(true);
    if (pressed(3) && state.labels) label(false);
  }
  pushed = now;
}

document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase(), screen = about.device === "screen", flies = mine();
  let done = true;
  if (event.key === "Escape" && flies && (event.shiftKey || !screen)) toggle();
  else if (event.altKey && (key === "y" || key === "n") && state.labels) label(key === "y");
  else if (about.alone && flies && screen && event.ctrlKey && key === "s") send({ do: "keep" });
  else if (about.alone && flies && screen && event.altKey && key === "d") send({ do: "drop" });
  else if (about.alone && flies && !screen && event.key === "Enter") send({ do: "keep" });
  else if (about.alone && flies && !screen && event.key === "Backspace") send({ do: "drop" });
  else if (about.expert && flies && !screen && key === "h") send({ do: "expert" });
  else if (screen && flies) done = screenKey(event);
  else if (event.ctrlKey || event.metaKey || event.altKey) done = false;
  else if (key === "t" && !event.repeat) toggle();
  else if ((key === "y" || key === "n") && state.labels) label(key === "y");
  else if (flies) done = armKey(event);
  else if (event.key === "[" || event.key === "]") {
    const next = (state.lane + (event.key === "]" ? 1 : about.lanes - 1)) % about.lanes;
    send({ do: "watch", lane: next });
  } else done = false;
  if (done) event.preventDefault();
});
document.addEventListener("keyup", (event) => held.delete(event.key.length === 1 ? event.key.toLowerCase() : event.key));
addEventListener("blur", () => held.clear());

$("take").onclick = () => { toggle(); $("take").blur(); };
$("success").onclick = () => label(true);
$("failure").onclick = () => label(false);
for (const id of ["keep", "drop", "expert"]) $(id).onclick = () => { send({ do: id }); $(id).blur(); };
setInterval(() => { move(); buttons(); }, TICK);
setInterval(here, 1000);
connect();
