// A number as its bits: flip one, or type a number, and read what the bits say.
//
//     0 │ 01101 │ 1001100110        buttons, a colour for each of the three fields
//     (−1)⁰ × 2¹³⁻¹⁵ × (1 + 614/1024) = 0.39990
//     ──┬────┬──●─┬────┬──          the numbers next to it that the format has
import {
  exponent, frame, html, labelled, native, number, raised, roundEven, set, svg,
} from "../live/base.js";

/** The formats of numerics/floats.py: E, F, and what the last exponent means. */
export const FORMATS = {
  fp32: { E: 8, F: 23, top: "inf" },
  fp16: { E: 5, F: 10, top: "inf" },
  bf16: { E: 8, F: 7, top: "inf" },
  "fp8 e4m3": { E: 4, F: 3, top: "nan" },
  "fp8 e5m2": { E: 5, F: 2, top: "inf" },
  "fp4 e2m1": { E: 2, F: 1, top: "number" },
  int8: { E: 0, F: 7 },
};
const COLOURS = { sign: "ink", exponent: "exponent", fraction: "fraction" };
const HEIGHT = 84;

const bitsOf = ({ E, F }) => 1 + E + F;
const biasOf = ({ E }) => 2 ** (E - 1) - 1;

/** The pattern of the largest number. */
function last(form) {
  const special = { inf: 2 ** form.F, nan: 1, number: 0 }[form.top];
  return 2 ** (bitsOf(form) - 1) - 1 - special;
}

/** A pattern cut into its fields, whole numbers. */
export function fieldsOf(form, pattern) {
  return {
    sign: Math.floor(pattern / 2 ** (form.E + form.F)),
    exponent: Math.floor(pattern / 2 ** form.F) % 2 ** form.E,
    fraction: pattern % 2 ** form.F,
  };
}

/** The value of a pattern. */
export function decode(name, pattern) {
  const form = FORMATS[name];
  const { sign, exponent: e, fraction } = fieldsOf(form, pattern);
  if (form.E === 0) return fraction - sign * 2 ** form.F;
  const lead = e ? 1 : 0;
  let size = 2 ** (Math.max(e, 1) - biasOf(form)) * (lead + fraction / 2 ** form.F);
  if (e * 2 ** form.F + fraction > last(form)) {
    size = form.top === "inf" && fraction === 0 ? Infinity : NaN;
  }
  return sign ? -size : size;
}

/** The pattern of the nearest number, half to even; null for NaN if there is none. */
export function encode(name, x) {
  const form = FORMATS[name];
  const half = 2 ** (bitsOf(form) - 1);
  if (Number.isNaN(x)) return form.E && form.top !== "number" ? half - 1 : null;
  if (form.E === 0) {
    const whole = roundEven(Math.min(Math.max(x, -half), half - 1));
    return whole < 0 ? whole + 2 * half : whole;
  }
  const sign = x < 0 || Object.is(x, -0) ? half : 0;
  const beyond = form.top === "inf" ? last(form) + 1 : last(form);
  if (Math.abs(x) === Infinity) return sign + beyond;
  const lowest = 1 - biasOf(form);
  const power = Math.max(exponent(x), lowest);
  const n = roundEven(Math.abs(x) / 2 ** (power - form.F));
  const size = (power - lowest) * 2 ** form.F + n;
  return sign + (size <= last(form) ? size : beyond);
}

/** The finite numbers around a pattern's, ascending, `reach` of them on each side. */
export function around(name, pattern, reach) {
  const form = FORMATS[name];
  const half = 2 ** (bitsOf(form) - 1);
  const ordered = (p) => {
    if (form.E === 0) return p < half ? p : p - 2 * half;
    return p < half ? p : half - p; // −0 and 0 are both 0
  };
  const patternOf = (n) => (n >= 0 ? n : form.E === 0 ? n + 2 * half : half - n);
  const end = form.E === 0 ? half - 1 : last(form);
  const here = ordered(pattern);
  const found = [];
  for (let n = here - reach; n <= here + reach; n++) {
    if (n <= end && n >= (form.E === 0 ? -half : -end)) {
      found.push(decode(name, patternOf(n)));
    }
  }
  return found;
}

/** The value as arithmetic on the fields. */
export function spell(name, pattern) {
  const form = FORMATS[name];
  const { sign, exponent: e, fraction } = fieldsOf(form, pattern);
  if (form.E === 0) return `${sign} × (−${2 ** form.F}) + ${fraction}`;
  const value = decode(name, pattern);
  if (Number.isNaN(value)) return "not a number";
  if (!Number.isFinite(value)) return `(−1)${raised(sign)} × ∞`;
  return `(−1)${raised(sign)} × 2${raised(Math.max(e, 1))}⁻${raised(biasOf(form))} × (`
    + `${e ? "1 + " : ""}${fraction}/${2 ** form.F})`;
}

/** A number without the zeros that its format did not ask for. */
function show(x, digits = 7) {
  if (Number.isNaN(x)) return "not a number";
  if (!Number.isFinite(x)) return x < 0 ? "−∞" : "∞";
  return number(x, digits).replace(/(\.\d*?)0+(?=e|$)/, "$1").replace(/\.(?=e|$)/, "");
}

function render({ model, el }) {
  const { root, close } = frame({
    model, el, watch: ["format", "pattern", "asked"], draw,
  });
  const choose = native("select", {}, ...Object.keys(FORMATS).map((name) =>
    html("option", { value: name }, name)));
  const typed = native("input", { type: "text", size: 14, autocomplete: "off" });
  const rows = html("div", { class: "mq-bits" });
  const sheet = svg("svg", { role: "img" });
  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  root.append(
    html("div", { class: "mq-controls" },
      labelled("format", choose), labelled("number", typed)),
    rows, says, sheet,
  );
  let trouble = "";
  let cells = [];
  let shown = null; // the format that the cells are for

  /** Round a number to a format, and say so if it has none for it. */
  function ask(name, asked) {
    const pattern = encode(name, asked);
    trouble = pattern === null
      ? `${name} has no pattern for what is not a number; this is 0.` : "";
    model.set("format", name);
    model.set("asked", String(asked));
    model.set("pattern", pattern ?? 0);
  }

  choose.addEventListener("change", () =>
    ask(choose.value, Number(model.get("asked"))));
  typed.addEventListener("change", () => {
    const text = typed.value.trim().replace("−", "-").replace(",", ".");
    const asked = Number(text.replace(/inf(inity)?$|∞$/i, "Infinity"));
    if (text === "" || (Number.isNaN(asked) && !/^nan$/i.test(text))) {
      trouble = `“${typed.value}” is no number; type one such as −0.1 or 3e4.`;
      draw(sheet.viewBox.baseVal.width);
    } else {
      ask(model.get("format"), asked);
    }
  });

  /** Flip the bit that is worth 2^place. */
  function flip(place) {
    const name = model.get("format");
    const pattern = model.get("pattern");
    const on = Math.floor(pattern / 2 ** place) % 2;
    trouble = "";
    model.set("pattern", pattern + (on ? -1 : 1) * 2 ** place);
    model.set("asked", String(decode(name, model.get("pattern"))));
  }

  /** The buttons of a format, in their three fields. */
  function buildCells(name) {
    const form = FORMATS[name];
    const total = bitsOf(form);
    cells = [];
    const fields = { sign: 1, exponent: form.E, fraction: form.F };
    if (form.E === 0) delete fields.exponent;
    let place = total;
    rows.replaceChildren(...Object.entries(fields).map(([field, n]) => {
      const own = Array.from({ length: n }, () => {
        place -= 1;
        const cell = native("button", { type: "button" });
        const here = place;
        cell.addEventListener("click", () => flip(here));
        cells.push({ cell, field: form.E ? field : "bit", place });
        return cell;
      });
      const label = form.E ? field : { sign: "−128", fraction: "64 … 1" }[field];
      return html("div", {
        class: "mq-field", style: `--hue: var(--mq-${COLOURS[field]})`,
      }, html("span", {}, label), html("div", {}, ...own));
    }));
    shown = name;
  }

  function draw(width) {
    const name = model.get("format");
    const pattern = model.get("pattern");
    if (shown !== name) buildCells(name);
    choose.value = name;
    for (const { cell, field, place } of cells) {
      const on = Math.floor(pattern / 2 ** place) % 2;
      const label = `${field} ${place}: ${on}`;
      set(cell, { "aria-pressed": String(on === 1), "aria-label": label });
      cell.textContent = on;
    }
    const value = decode(name, pattern);
    const asked = Number(model.get("asked"));
    if (document.activeElement !== typed) typed.value = show(asked);
    drawLine(width, name, pattern, asked);
    const off = value - asked;
    const told = `${spell(name, pattern)} = ${show(value, name === "fp32" ? 9 : 7)}.`;
    let rounded = "";
    if (Math.abs(off) === Infinity) {
      rounded = ` ${show(asked)} was asked for; it is too large.`;
    } else if (Math.abs(off) > 0) {
      rounded = ` ${show(asked)} was asked for; this is off by `
        + `${number(off, 3, true)}.`;
    }
    says.textContent = trouble || told + rounded;
  }

  /** The numbers next to this one that the format has, and the one asked for. */
  function drawLine(width, name, pattern, asked) {
    const near = Number.isFinite(decode(name, pattern)) ? around(name, pattern, 3) : [];
    set(sheet, {
      viewBox: `0 0 ${width} ${HEIGHT}`, display: near.length ? "inline" : "none",
      "aria-label": `Neighbours in ${name}: ${near.map((v) => show(v)).join(", ")}.`,
    });
    if (!near.length) return;
    const [low, high] = [near[0], near.at(-1)];
    const x = (v) => 60 + (v - low) / (high - low) * (width - 120);
    const value = decode(name, pattern);
    const parts = [svg("path", {
      d: `M20 40H${width - 20}${near.map((v) => `M${x(v)} 32V48`).join("")}`,
      stroke: "var(--mq-muted)", "stroke-width": 1.4 })];
    near.forEach((v, i) => {
      if (width < 600 && i % 3) return;
      const look = v === value ? "middle" : "middle quiet";
      parts.push(svg("text", { x: x(v), y: 68, class: look }, show(v)));
    });
    parts.push(svg("path", { d: `M${x(value)} 28V52`, stroke: "var(--mq-ink)",
      "stroke-width": 4 }));
    if (low <= asked && asked <= high) {
      parts.push(svg("circle", { cx: x(asked), cy: 40, r: 6, fill: "var(--mq-blue)" }));
    }
    sheet.replaceChildren(...parts);
  }
  return close;
}

export default { render };
