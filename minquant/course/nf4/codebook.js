// Weights in blocks, each divided by its largest, over the ticks of a codebook.
//
//       ▂▅█▇▅▂          the weights; shades say which tick is nearest
//     │ │ ││││ │ │      the ticks
//     ▁ ▃ ▆█▇▆ ▃ ▁      the share of the weights that each tick has
//     ▂ ▇ ▅▃▂▃ ▆ ▂      the share of the squared error
import {
  clamp, drawnX, fp16, frame, glide, html, menu, number, roundEven, set, slider, svg,
} from "../live/base.js";

const REACH = 1.09; // of the axis; a block's largest weight lies at 1 or −1
const BINS = 109;
const EMPTY_SCALE = 2 ** -14; // of a block of zeros, as scales.py has it
const LEAST_SCALE = 2 ** -24; // the smallest fp16
const PANELS = { weights: [26, 130], used: [218, 96], error: [350, 86] };
const TICKS = [164, 26]; // upper edge, height
const HEIGHT = 470;

/** The weights of a matrix, from eight hexadecimal digits each. */
export function readWeights(hex) {
  const bytes = new Uint8Array(hex.length / 2);
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  }
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 },
    (_, i) => view.getFloat32(4 * i, true));
}

/** Where one tick's weights end and the next one's begin, at scale 1. */
export const bordersOf = (levels) =>
  levels.slice(1).map((level, i) => Math.fround((level + levels[i]) / 2));

/** The place of the tick that a weight goes to; halfway, as numerics/grids.py does. */
export function nearest(w, scale, { levels, even }, borders) {
  const x = Math.fround(w / scale);
  if (even) return clamp(roundEven(x), levels[0], levels.at(-1)) - levels[0];
  let place = 0;
  while (place < borders.length && borders[place] < x) place++;
  return place;
}

/** All that is true of weights in blocks of g on the ticks of a codebook. */
export function study(weights, book, g) {
  const borders = bordersOf(book.levels);
  const used = book.levels.map(() => 0);
  const errors = book.levels.map(() => 0);
  const bins = Array(BINS).fill(0);
  const codes = [];
  let power = 0;
  for (let start = 0; start < weights.length; start += g) {
    const block = weights.subarray(start, start + g);
    const largest = block.reduce((most, w) => Math.max(most, Math.abs(w)), 0);
    const ideal = Math.fround(largest / book.reach);
    const scale = largest === 0 ? EMPTY_SCALE : Math.max(LEAST_SCALE, fp16(ideal));
    for (const w of block) {
      const code = nearest(w, scale, book, borders);
      const error = Math.fround(book.levels[code] * scale) - w;
      codes.push(code);
      used[code] += 1 / weights.length;
      errors[code] += error * error;
      power += w * w;
      const share = largest === 0 ? 0 : w / largest;
      bins[Math.floor((share + REACH) / (2 * REACH) * BINS)] += 1 / weights.length;
    }
  }
  const lost = errors.reduce((sum, e) => sum + e, 0);
  return {
    codes, used, bins, error: lost / (power || 1),
    errors: errors.map((e) => e / (lost || 1)),
  };
}

function render({ model, el }) {
  const matrices = Object.fromEntries(model.get("weights").map(
    ({ name, hex }) => [name, readWeights(hex)]));
  const books = model.get("books"); // name: { levels, reach, even }
  const blocks = model.get("blocks");
  const watch = ["book", "source", "size", "tick"];
  const { root, close } = frame({ model, el, watch, draw });
  const names = (things) => Object.fromEntries(Object.keys(things).map((n) => [n, n]));
  const book = menu(model, "book", { label: "codebook", options: names(books) });
  const source = menu(model, "source", { label: "weights", options: names(matrices) });
  const size = slider(model, "size", {
    label: "block", min: 0, max: blocks.length - 1, shown: (i) => String(blocks[i]),
  });
  const most = Math.max(...Object.values(books).map(({ levels }) => levels.length));
  const tick = slider(model, "tick", {
    label: "tick", min: 0, max: most - 1, shown: (i) => String(i + 1),
  });
  const sheet = svg("svg", { role: "img" });
  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  root.append(html("div", { class: "mq-controls" }, book.box, source.box, size.box,
    tick.box), sheet, says);
  const part = (tag, look = {}, ...inside) => {
    const made = svg(tag, look, ...inside);
    sheet.append(made);
    return made;
  };
  const all = Array.from({ length: most }, (_, i) => i);
  const cells = all.map((i) => part("rect", {
    y: PANELS.weights[0], height: PANELS.weights[1],
    fill: `var(--mq-${i % 2 ? "wash" : "band"})`,
  }));
  const bars = Array.from({ length: BINS }, () => part("rect", {
    fill: "var(--mq-blue)" }));
  const marks = all.map(() => part("path", { "stroke-width": 1.6 }));
  const equal = part("path", { stroke: "var(--mq-muted)", "stroke-dasharray": "4 4" });
  const shares = { used: "blue", error: "vermilion" };
  const towers = Object.fromEntries(Object.entries(shares).map(([panel, hue]) =>
    [panel, all.map(() => part("rect", { fill: `var(--mq-${hue})` }))]));
  const titles = {
    weights: "weights, each divided by the largest of its block",
    used: "share of the weights at each tick (dashed: all alike)",
    error: "share of the squared error at each tick",
  };
  for (const [panel, text] of Object.entries(titles)) {
    part("text", { x: 0, y: PANELS[panel][0] - 9, class: "quiet" }, text);
  }
  const ends = [-1, 0, 1].map((at) => part("text", {
    y: HEIGHT - 6, class: "middle quiet" }, at < 0 ? "−1" : String(at)));
  let place = null;
  let found = null;
  let of = ""; // what was studied
  const grow = glide((heights) => {
    const n = heights.length / 2;
    Object.keys(shares).forEach((panel, k) => towers[panel].forEach((tower, i) => {
      const [top, tall] = PANELS[panel];
      const share = i < n ? heights[k * n + i] : 0;
      const height = Math.min(1, share / 0.2) * tall;
      set(tower, { y: top + tall - height, height });
    }));
  });
  sheet.addEventListener("pointermove", (event) => {
    if (!place) return;
    const levels = books[model.get("book")].levels;
    const { reach } = books[model.get("book")];
    const near = levels.map((v) => Math.abs(place(v / reach) - drawnX(sheet, event)));
    model.set("tick", near.indexOf(Math.min(...near)));
  });

  function draw(width) {
    const own = books[model.get("book")];
    const g = blocks[model.get("size")];
    const asked = `${model.get("source")} ${model.get("book")} ${g}`;
    if (asked !== of) found = study(matrices[model.get("source")], own, g);
    of = asked;
    const n = own.levels.length;
    const chosen = Math.min(model.get("tick"), n - 1);
    place = (share) => 6 + (share + REACH) / (2 * REACH) * (width - 12);
    set(sheet, { viewBox: `0 0 ${width} ${HEIGHT}` });
    const at = own.levels.map((level) => place(level / own.reach));
    const inner = bordersOf(own.levels).map((border) => place(border / own.reach));
    const edges = [place(-REACH), ...inner, place(REACH)];
    cells.forEach((cell, i) => set(cell, i < n
      ? { x: edges[i], width: edges[i + 1] - edges[i],
        fill: `var(--mq-${i === chosen ? "highlight" : i % 2 ? "wash" : "band"})` }
      : { width: 0 }));
    const [top, tall] = PANELS.weights;
    const highest = Math.max(...found.bins);
    const wide = (width - 12) / BINS;
    bars.forEach((bar, i) => {
      const height = found.bins[i] / highest * (tall - 6);
      set(bar, { x: 6 + i * wide + 0.5, width: wide - 1, y: top + tall - height,
        height });
    });
    marks.forEach((mark, i) => set(mark, {
      d: i < n ? `M${at[i]} ${TICKS[0]}v${TICKS[1]}` : "",
      stroke: `var(--mq-${i === chosen ? "vermilion" : "ink"})`,
      "stroke-width": i === chosen ? 4 : 1.6,
    }));
    const half = clamp(width / 110, 3, 8);
    for (const panel of Object.keys(shares)) {
      towers[panel].forEach((tower, i) => set(tower, i < n
        ? { x: at[i] - half, width: 2 * half, opacity: i === chosen ? 1 : 0.6 }
        : { width: 0 }));
    }
    const [usedTop, usedTall] = PANELS.used;
    set(equal, { d: `M6 ${usedTop + usedTall * (1 - 1 / n / 0.2)}H${width - 6}` });
    ends.forEach((text, i) => set(text, { x: place(i - 1) }));
    grow([...found.used, ...found.errors]);
    speak(own, g, chosen);
  }

  function speak(own, g, chosen) {
    const percent = (share) => `${number(100 * share, 2)} %`;
    const [high, low] = [Math.max(...found.used), Math.min(...found.used)];
    const name = model.get("book");
    says.textContent = `${name}, ${own.levels.length} ticks, blocks of ${g}: the error `
      + `is ${number(100 * found.error, 3)} % of the weights’ squares. The tick used `
      + `most has ${percent(high)} of the weights, the one used least ${percent(low)}. `
      + `Tick ${chosen + 1}, at ${number(own.levels[chosen] / own.reach, 2)} of the `
      + `block’s largest, has ${percent(found.used[chosen])} of the weights and `
      + `${percent(found.errors[chosen])} of the squared error.`;
    sheet.setAttribute("aria-label", `Weights in blocks of ${g} over the ticks of `
      + `${name}, with the share of weights and of the squared error at each tick.`);
  }
  return close;
}

export default { render };
