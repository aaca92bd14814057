// What every live picture shares: arithmetic, words, SVG, controls, motion.
//
//     model (Python's, or a page's)  ──▶  draw()  ──▶  SVG, and a sentence about it
//       ▲                                               │
//       └── controls: <input>, <select>, <button> ◀─────┘
//
// A picture is an ES module that imports from here and exports { render }, which is
// what anywidget asks for. Python joins the two files into one string; a page without
// Python imports the picture and gives it `pageModel(data)`.

// --- arithmetic: float32 and ties to even, as in numerics/ ---

const f32 = Math.fround;

/** The nearest whole number; halfway, the even one, as torch.round does. */
export function roundEven(x) {
  const up = Math.round(x); // halfway, JavaScript's goes up
  return (Math.abs(x % 1) === 0.5 && up % 2 ? up - 1 : up) + 0; // + 0: no −0
}

/** The power of 2 at or below a number: 2^exponent(x) ≤ |x| < 2^(exponent(x) + 1). */
export function exponent(x) {
  return ((new DataView(new Float64Array([x]).buffer).getUint16(6, true) >>> 4) & 2047)
    - 1023;
}

/** The nearest fp16 number, ties to even; what is too large becomes infinite. */
export function fp16(x) {
  const step = 2 ** (Math.max(-14, exponent(x)) - 10);
  const near = roundEven(x / step) * step;
  return Math.abs(near) > 65504 ? Math.sign(x) * Infinity : near;
}

const EMPTY = 2 ** -14; // the scale of a row of zeros, as in scales.py

/** The grids of numerics/grids.py: lowest code, highest code, steps in the fit. */
export const GRIDS = {
  absmax: (bits) => {
    const top = 2 ** (bits - 1) - 1;
    return { low: -top, high: top, reach: top };
  },
  symmetric_full: (bits) => {
    const half = 2 ** (bits - 1);
    return { low: -half, high: half - 1, reach: half - 0.5 };
  },
  zero_point: (bits) => {
    const top = 2 ** bits - 1;
    return { low: 0, high: top, reach: top, zeros: true };
  },
};

/** The ruler that rtn.py fits to a row: { scale, zero, low, high }.
 *
 * keep: the share of the row's range that the ruler spans; 1 clips nothing.
 */
export function fitRuler(row, name, bits, keep = 1) {
  const grid = GRIDS[name](bits);
  const share = f32(keep);
  let low = f32(Math.min(0, ...row) * share);
  let high = f32(Math.max(0, ...row) * share);
  if (!grid.zeros) high = Math.max(-low, high);
  const ideal = f32((grid.zeros ? f32(high - low) : high) / grid.reach);
  const scale = fp16(ideal === 0 ? EMPTY : ideal);
  const zero = grid.zeros ? clamp(roundEven(f32(-low / scale)), 0, grid.high) : 0;
  return { scale, zero, low: grid.low, high: grid.high };
}

/** What a code of a ruler stands for. */
export const levelOf = (ruler, code) => f32((code - ruler.zero) * ruler.scale);

/** One weight on a ruler, with every number on the way. */
export function quantize(w, ruler) {
  const steps = f32(w / ruler.scale);
  const whole = roundEven(steps);
  const free = whole + ruler.zero;
  const code = clamp(free, ruler.low, ruler.high);
  const value = levelOf(ruler, code);
  const beyond = Math.abs(steps + ruler.zero - code);
  return {
    steps, whole, free, code, value, error: value - w,
    clipped: beyond > 0.5 * (1 + 1e-3), // a tie, in float32, is not a clip
    tie: beyond === 0.5,
  };
}

export const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

// --- words: numbers as drawing/numbers.py prints them ---

const minus = (text) => text.replaceAll("-", "−");

/** An integer with a real minus sign. */
export const integer = (x) => minus(String(x + 0));

/** Significant digits and a real minus sign; sign: write a plus as well. */
export function number(x, digits = 5, sign = false) {
  if (x === 0) return "0";
  const [mantissa, power] = x.toExponential(digits - 1).split("e");
  let text = mantissa;
  if (power < -4 || power >= digits) {
    text += `e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
  } else {
    text = x.toFixed(digits - 1 - power);
  }
  return minus((sign && x > 0 ? "+" : "") + text);
}

/** "1 weight is", "3 weights are", "no weight is". */
export function count(n, one, many) {
  return n === 0 ? `no ${one}` : n === 1 ? `1 ${one}` : `${n} ${many}`;
}

/** An integer as an exponent: 2⁻⁷. */
export const raised = (n) => String(n).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻");

/** Round numbers for an axis between two ends, at most `most` of them. */
export function roundNumbers(low, high, most) {
  const size = 10 ** Math.floor(Math.log10((high - low) / most));
  const step = [1, 2, 2.5, 5, 10].map((s) => s * size).find(
    (s) => (high - low) / s <= most,
  );
  const numbers = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) numbers.push(i * step + 0);
  const decimals = Math.max(0, -Math.floor(Math.log10(step)), step / size === 2.5
    ? 1 - Math.floor(Math.log10(step)) : 0);
  return numbers.map((at) => [at, at === 0 ? "0" : minus(at.toFixed(decimals))]);
}

/** Places for labels along a line, at least `gap` apart and near where they belong. */
export function apart(places, gap) {
  const order = places.map((_, i) => i).sort((a, b) => places[a] - places[b]);
  const moved = [...places];
  for (let round = 0; round < 50; round++) {
    for (let k = 1; k < order.length; k++) {
      const [left, right] = [order[k - 1], order[k]];
      const overlap = gap - (moved[right] - moved[left]);
      if (overlap <= 0.01) continue;
      moved[left] -= overlap / 2;
      moved[right] += overlap / 2;
    }
  }
  return moved;
}

// --- the page: elements, and the frame of a picture ---

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** An SVG element. */
export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

/** An HTML element. */
export const html = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

/** Change attributes of an element. */
export function set(element, attributes) {
  return fill(element, attributes, []);
}

/** The frame of a picture: draws again when a value of the model or the width changes.
 *
 * watch: names in the model. draw(width): called at most once a frame. The model hears
 * of what the reader moves when the focus leaves the picture, not before: nothing is
 * sent to the kernel while a slider moves. Returns { root, redraw, close }.
 */
export function frame({ model, el, watch, draw }) {
  const root = html("div", { class: "mq-live" });
  let asked = 0;
  let width = 0;
  let moved = false;
  const redraw = () => {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      width ||= clamp(root.clientWidth - 4, 320, 896);
      draw(width);
      root.dataset.drawn = Number(root.dataset.drawn ?? 0) + 1;
    });
  };
  const changed = () => {
    moved = true;
    redraw();
  };
  for (const name of watch) model.on(`change:${name}`, changed);
  const resized = new ResizeObserver(() => {
    width = 0;
    redraw();
  });
  resized.observe(root);
  root.addEventListener("focusout", (event) => {
    if (!moved || root.contains(event.relatedTarget)) return;
    model.save_changes();
    moved = false;
  });
  el.append(root);
  redraw();
  const close = () => {
    resized.disconnect();
    for (const name of watch) model.off?.(`change:${name}`, changed);
  };
  return { root, redraw, close };
}

/** A model for a page without Python: what `render` needs of anywidget's. */
export function pageModel(data) {
  const values = { ...data };
  const heard = {};
  return {
    get: (name) => values[name],
    set(name, value) {
      if (values[name] === value) return;
      values[name] = value;
      for (const listen of heard[`change:${name}`] ?? []) listen();
    },
    on: (event, listen) => (heard[event] ??= []).push(listen),
    off: (event, listen) => {
      heard[event] = (heard[event] ?? []).filter((other) => other !== listen);
    },
    save_changes() {},
  };
}

// --- controls: native, with a label of their own ---

let made = 0;

/** An input that keeps its keys: JupyterLab would take arrows as its shortcuts. */
export const native = (tag, attributes, ...children) =>
  html(tag, { "data-lm-suppress-shortcuts": "true", ...attributes }, ...children);

/** An input with its label before it, and more elements after it. */
export function labelled(label, input, ...more) {
  input.id = `mq-input-${++made}`;
  return html("div", { class: "mq-control" },
    html("label", { for: input.id }, label), input, ...more);
}

/** A slider for a number of the model. shown(value): what stands beside it. */
export function slider(model, name, { label, min, max, step = 1, shown = String }) {
  const input = native("input", { type: "range", min, max, step });
  const output = html("output");
  const box = labelled(label, input, output);
  output.htmlFor = input.id;
  const show = () => {
    input.value = model.get(name);
    output.textContent = shown(model.get(name));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", () => model.set(name, Number(input.value)));
  model.on(`change:${name}`, show);
  show();
  return { box, input };
}

/** A menu for a value of the model. options: { value: what is shown }. */
export function menu(model, name, { label, options }) {
  const entries = Object.entries(options);
  const input = native("select", {},
    ...entries.map(([value, text]) => html("option", { value }, text)));
  const show = () => { input.value = model.get(name); };
  input.addEventListener("change", () => model.set(name, input.value));
  model.on(`change:${name}`, show);
  const box = labelled(label, input);
  show();
  return { box, input };
}

/** A button. name: what it is called, where its text is a sign. */
export function button(text, act, name = null) {
  const made = native("button", { type: "button", "aria-label": name }, text);
  made.addEventListener("click", act);
  return made;
}

/** Drag along x, in the units of the drawing. where(): x of the thing that is dragged;
 * move(x): where the pointer takes it. */
export function draggable(handle, sheet, where, move) {
  let grabbed = 0; // from the thing to the pointer
  handle.style.touchAction = "none";
  handle.style.cursor = "ew-resize";
  handle.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    event.stopPropagation();
    grabbed = drawnX(sheet, event) - where();
    handle.setPointerCapture(event.pointerId);
  });
  handle.addEventListener("pointermove", (event) => {
    if (handle.hasPointerCapture(event.pointerId)) move(drawnX(sheet, event) - grabbed);
  });
}

/** Where along x a pointer is, in the units of the drawing. */
export function drawnX(sheet, event) {
  const box = sheet.getBoundingClientRect();
  return (event.clientX - box.left) / box.width * sheet.viewBox.baseVal.width;
}

// --- motion ---

/** A function that moves numbers smoothly to where they are told to go.
 *
 * paint(numbers) is called once a frame on the way. There is no way where the reader
 * asked for no motion, or where the count of numbers changes.
 */
export function glide(paint, duration = 220) {
  let now = null;
  let asked = 0;
  return (target) => {
    cancelAnimationFrame(asked);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (calm || now?.length !== target.length) {
      now = target;
      paint(now);
      return;
    }
    const from = now;
    const start = performance.now();
    const step = (time) => {
      const t = clamp((time - start) / duration, 0, 1);
      const way = 1 - (1 - t) ** 3;
      now = target.map((to, i) => from[i] + (to - from[i]) * way);
      paint(now);
      if (t < 1) asked = requestAnimationFrame(step);
    };
    step(start);
  };
}
