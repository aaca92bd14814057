// One block of a GGUF file: its bytes, and the weight that each half byte stands for.
//
//     8e 1f  5a b2  7a 90 …       bytes: d, m, and codes; a digit is half a byte
//                   ─┐
//     ▁▃ ▅█▂ ▃▁ …    └▶ weight 5 = 7 · d + m
import {
  button, clamp, frame, html, integer, menu, number, set, slider, svg,
} from "../live/base.js";

const single = Math.fround;
const WEIGHTS = 32;

/** The types of files/gguf_blocks.py: bytes of the ruler, what a code is short of. */
export const TYPES = {
  Q4_1: { ruler: ["d", "m"], less: 0, nibbles: true },
  Q4_0: { ruler: ["d"], less: 8, nibbles: true },
  Q8_0: { ruler: ["d"], less: 0, nibbles: false },
};

/** The fp16 number of two bytes, the lower first. */
export function half(low, high) {
  const bits = low + 256 * high;
  const [sign, power, part] = [bits >> 15, (bits >> 10) & 31, bits & 1023];
  const size = power === 31 ? (part ? NaN : Infinity)
    : power === 0 ? part * 2 ** -24 : (1024 + part) * 2 ** (power - 25);
  return sign ? -size : size;
}

/** A block read: { d, m, codes, weights }; m is null where there is none. */
export function decode(type, bytes) {
  const { ruler, less, nibbles } = TYPES[type];
  const [d, m] = [0, 1].map((i) =>
    (i < ruler.length ? half(bytes[2 * i], bytes[2 * i + 1]) : null));
  const stored = bytes.slice(2 * ruler.length);
  const codes = nibbles
    ? [...stored.map((b) => b & 15), ...stored.map((b) => b >> 4)]
    : stored.map((b) => (b < 128 ? b : b - 256));
  const weights = codes.map((q) => single(single((q - less) * d) + (m ?? 0)));
  return { d, m, codes, weights };
}

/** Where the code of a weight lies: the byte, and which half ("low", "high", "all"). */
export function placeOf(type, weight) {
  const { ruler, nibbles } = TYPES[type];
  if (!nibbles) return { byte: 2 * ruler.length + weight, part: "all" };
  const byte = 2 * ruler.length + weight % 16;
  return { byte, part: weight < 16 ? "low" : "high" };
}

/** The weight at a place: the way back from placeOf; null in the ruler. */
export function weightAt(type, byte, part) {
  const { ruler, nibbles } = TYPES[type];
  const i = byte - 2 * ruler.length;
  if (i < 0) return null;
  return nibbles ? i + (part === "high" ? 16 : 0) : i;
}

const hex = (byte) => byte.toString(16).padStart(2, "0");
const HIGH = 46; // of a row of bytes, with the names above
const CHART = 120; // of the weights

function render({ model, el }) {
  const { root, close } = frame({ model, el, watch: ["type", "weight"], draw });
  const own = model.get("own");
  const options = Object.fromEntries(Object.keys(TYPES).map((name) =>
    [name, name === own ? `${name}, as in the file` : name]));
  const kind = menu(model, "type", { label: "type", options });
  const weight = slider(model, "weight", {
    label: "weight", min: 0, max: WEIGHTS - 1, shown: (i) => `w[${i}]`,
  });
  const step = (by) =>
    model.set("weight", clamp(model.get("weight") + by, 0, WEIGHTS - 1));
  weight.box.append(button("◀", () => step(-1), "previous weight"),
    button("▶", () => step(1), "next weight"));
  const sheet = svg("svg", { role: "img" });
  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  root.append(html("div", { class: "mq-controls" }, kind.box, weight.box), sheet, says);

  function draw(width) {
    const type = model.get("type");
    const bytes = model.get("blocks")[type];
    const read = decode(type, bytes);
    const chosen = model.get("weight");
    const place = placeOf(type, chosen);
    const columns = width < 560 ? 8 : 16;
    const rows = Math.ceil(bytes.length / columns);
    const parts = drawBytes(width, columns, type, bytes, place);
    const top = rows * HIGH + 14;
    parts.push(...drawWeights(width, top, read.weights, chosen));
    set(sheet, {
      viewBox: `0 0 ${width} ${top + CHART + 22}`,
      "aria-label": `${bytes.length} bytes of a block in ${type}: `
        + `${bytes.map(hex).join(" ")}; below them its ${WEIGHTS} weights.`,
    });
    sheet.replaceChildren(...parts);
    says.textContent = sentence(type, bytes, read, chosen, place);
  }

  /** Bytes as pairs of digits; each digit of a code can be clicked. */
  function drawBytes(width, columns, type, bytes, place) {
    const { ruler, nibbles } = TYPES[type];
    const cell = Math.min(52, (width - 4) / columns);
    const hues = ["exponent", "fraction"];
    return bytes.flatMap((byte, i) => {
      const x = 2 + (i % columns) * cell;
      const y = Math.floor(i / columns) * HIGH;
      const field = i >> 1 < ruler.length ? i >> 1 : null;
      const hue = field === null ? "muted" : hues[field];
      const name = field !== null && i % 2 === 0 ? ruler[field]
        : i === 2 * ruler.length ? "codes" : "";
      const box = svg("rect", {
        x: x + 1, y: y + 18, width: cell - 3, height: 26, rx: 4,
        fill: "var(--mq-wash)", stroke: `var(--mq-${hue})`,
        "stroke-width": field === null ? 0.6 : 1.8,
      });
      const made = [box];
      if (name) {
        made.push(svg("text", { x: x + 2, y: y + 13, class: "quiet" }, name));
      }
      const digits = nibbles && field === null
        ? [["high", hex(byte)[0], -1], ["low", hex(byte)[1], 1]]
        : [["all", hex(byte), 0]];
      for (const [part, text, side] of digits) {
        const here = place.byte === i && place.part === part;
        const wide = side ? (cell - 3) / 2 : cell - 3;
        const left = x + 1 + (side > 0 ? wide : 0);
        const spot = svg("rect", {
          x: left, y: y + 18, width: wide, height: 26, rx: 4,
          fill: here ? "var(--mq-highlight)" : "transparent",
          stroke: here ? "var(--mq-blue)" : null, "stroke-width": 2,
          "data-byte": i, "data-part": part,
        });
        const middle = x - 0.5 + cell / 2 + side * Math.min(6, wide / 2.6);
        const word = svg("text", {
          x: middle, y: y + 36, class: "middle", "pointer-events": "none",
          "font-weight": here ? "bold" : null,
        }, text);
        const at = weightAt(type, i, part);
        if (at !== null) {
          spot.style.cursor = "pointer";
          spot.addEventListener("click", () => model.set("weight", at));
        }
        made.push(spot, word);
      }
      return made;
    });
  }

  /** The weights as stems, in the order of the row. */
  function drawWeights(width, top, weights, chosen) {
    const most = Math.max(...weights.map(Math.abs)) || 1;
    const middle = top + 16 + CHART / 2;
    const x = (i) => 14 + (i + 0.5) * (width - 28) / WEIGHTS;
    const y = (w) => middle - w / most * (CHART / 2 - 14);
    const parts = [
      svg("text", { x: 2, y: top + 8, class: "quiet" },
        `the ${WEIGHTS} weights; the first 16 | the last 16`),
      svg("path", { d: `M4 ${middle}H${width - 4}`, stroke: "var(--mq-muted)" }),
      svg("path", {
        d: `M${width / 2} ${top + 16}V${top + CHART + 16}`,
        stroke: "var(--mq-hairline)", "stroke-dasharray": "3 3",
      }),
    ];
    weights.forEach((w, i) => {
      const here = i === chosen;
      const color = here ? "var(--mq-blue)" : "var(--mq-muted)";
      const spot = svg("rect", {
        x: x(i) - (width - 28) / WEIGHTS / 2, y: top + 16,
        width: (width - 28) / WEIGHTS, height: CHART, fill: "transparent",
      });
      spot.style.cursor = "pointer";
      spot.addEventListener("click", () => model.set("weight", i));
      parts.push(
        svg("path", { d: `M${x(i)} ${middle}V${y(w)}`, stroke: color,
          "stroke-width": here ? 4 : 2 }),
        svg("circle", { cx: x(i), cy: y(w), r: here ? 6 : 3.5, fill: color }), spot);
    });
    return parts;
  }

  function sentence(type, bytes, read, chosen, { byte, part }) {
    const { less } = TYPES[type];
    const q = read.codes[chosen];
    const digit = part === "low" ? hex(bytes[byte])[1] : hex(bytes[byte])[0];
    const where = part === "all" ? `Byte ${byte} is ${hex(bytes[byte])}, which is `
      + `${integer(q)}` : `Byte ${byte} is ${hex(bytes[byte])}; its ${part} half, `
      + `${digit}, is ${q}`;
    const steps = less ? `(${q} − ${less})` : integer(q);
    const shift = read.m === null ? ""
      : read.m < 0 ? ` − ${number(-read.m, 4)}` : ` + ${number(read.m, 4)}`;
    return `${where}. Weight ${chosen} = ${steps} · ${number(read.d, 4)}${shift} = `
      + `${number(read.weights[chosen], 4)}.`;
  }
  return close;
}

export default { render };
