// AWQ's strength, and what it does to the error of each column.
//
//     ●  ●               mean |x| of each column, the largest first, and the scale that
//        ━ ● ● ●         the strength makes of it: the same numbers to a power below 1
//     ╷
//     ●  ╷ ▴ ▴ ▴         each column's own error: a dash before, a dot now
//     ╲__●___╱           the error of all outputs for every strength
import {
  clamp, fitRuler, frame, glide, html, menu, number, quantize, set, slider,
  svg,
} from "../live/base.js";

const LEFT = 62;
const RIGHT = 12;
const INPUTS = [36, 122]; // upper and lower edge of each of the three drawings
const ERRORS = [172, 340];
const CURVE = [396, 540];
const HEIGHT = CURVE[1] + 40;
const CEILING = 2; // of RTN's error: where the curve's axis ends

const decode = (text) => new Float32Array(
  Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

/** A layer as Python sends it, its numbers unpacked. */
export function unpack(layer) {
  const n = layer.inputs.length;
  return {
    n, rows: layer.rows, inputs: layer.inputs,
    weights: decode(layer.weights), H: decode(layer.H), scales: decode(layer.scales),
  };
}

/** Round a layer under the scales of one strength.
 *
 * codes: row by row. own: the error of each column by itself. total: of the outputs.
 */
export function protect(layer, bits, step) {
  const { n, rows, weights, H } = layer;
  const s = layer.scales.subarray(step * n, (step + 1) * n);
  const codes = new Uint8Array(rows * n);
  const own = Array(n).fill(0);
  let total = 0;
  for (let i = 0; i < rows; i++) {
    const row = weights.subarray(i * n, (i + 1) * n);
    const scaled = row.map((w, j) => w * s[j]); // float32, as row is
    const ruler = fitRuler(scaled, "zero_point", bits);
    const wrong = scaled.map((w, j) => {
      const { code, value } = quantize(w, ruler);
      codes[i * n + j] = code;
      return Math.fround(value / s[j]) - row[j];
    });
    for (let j = 0; j < n; j++) {
      own[j] += wrong[j] * wrong[j] * H[j * n + j] / rows;
      let moved = 0;
      for (let k = 0; k < n; k++) moved += wrong[k] * H[j * n + k];
      total += wrong[j] * moved / rows;
    }
  }
  return { codes, own, total };
}

/** The numbers 1, 2, 5 times a power of 10 between two ends, but not too many. */
function ticks(low, high) {
  const found = [];
  const decades = Math.log10(high / low);
  const steps = decades < 1.5 ? [1, 2, 5] : decades < 2.5 ? [1, 3] : [1];
  for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p++) {
    found.push(...steps.map((k) => k * 10 ** p));
  }
  return found.filter((x) => low <= x && x <= high);
}

/** A share, with as many digits as it needs. */
const percent = (share, digits = 2) => share >= 0.1 || share === 0
  ? `${Math.round(100 * share)} %` : `${number(100 * share, digits)} %`;

function render({ model, el }) {
  const layers = {};
  for (const [name, layer] of Object.entries(model.get("layers"))) {
    layers[name] = unpack(layer);
  }
  const strengths = model.get("strengths");
  const known = new Map(); // what was computed before
  const at = (step, bits = model.get("bits"), name = model.get("name")) => {
    const key = `${step} ${bits} ${name}`;
    if (!known.has(key)) known.set(key, protect(layers[name], bits, step));
    return known.get(key);
  };

  const { root, close } = frame({ model, el, watch: ["name", "bits", "step"], draw });
  const strength = slider(model, "step", {
    label: "strength α", min: 0, max: strengths.length - 1,
    shown: (i) => strengths[i].toFixed(2),
  });
  const bits = slider(model, "bits", { label: "bits of a code", min: 2, max: 5 });
  const layer = menu(model, "name", {
    label: "matrix",
    options: Object.fromEntries(Object.keys(layers).map((key) => [key, key])),
  });
  const sheet = svg("svg", { role: "img" });
  const part = (tag, look = {}, ...inside) => {
    const made = svg(tag, look, ...inside);
    sheet.append(made);
    return made;
  };
  const title = (y) => part("text", { x: 0, y, class: "quiet" });
  const titles = [INPUTS, ERRORS, CURVE].map(([top]) => title(top - 14));
  const axes = part("g");
  const dots = part("g", { fill: "var(--mq-sky)" });
  const line = part("path", {
    fill: "none", stroke: "var(--mq-ink)", "stroke-width": 1.6,
  });
  const dashes = part("path", { stroke: "var(--mq-muted)", "stroke-width": 1.6 });
  let columns = [];
  const still = part("g");
  const curve = part("path", {
    fill: "none", stroke: "var(--mq-vermilion)", "stroke-width": 1.8,
  });
  const least = part("path", { fill: "var(--mq-green)" });
  const here = part("circle", {
    r: 6.5, fill: "none", stroke: "var(--mq-ink)", "stroke-width": 2.2,
  });
  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  root.append(html("div", { class: "mq-controls" }, strength.box, bits.box,
    ...(Object.keys(layers).length > 1 ? [layer.box] : [])), sheet, says);

  let x = null; // from a place to the sheet
  let y = null; // from an own error, as a share, to the sheet
  const move = glide((places) => {
    const n = columns.length;
    let d = "";
    columns.forEach(({ dot, stem }, j) => {
      set(dot, { cy: places[j] });
      set(stem, { y2: places[j] });
      d += `${j ? "L" : "M"}${x(j)} ${places[n + j]}`;
    });
    set(line, { d });
    set(here, { cx: places[2 * n], cy: places[2 * n + 1] });
  });

  function draw(width) {
    set(sheet, { viewBox: `0 0 ${width} ${HEIGHT}` });
    const now = layers[model.get("name")];
    const before = at(0);
    const current = at(model.get("step"));
    const [n, whole] = [now.n, before.total || 1];
    const shares = before.own.map((e) => e / whole);
    const after = current.own.map((e) => e / whole);
    x = (j) => LEFT + (j + 0.5) * (width - LEFT - RIGHT) / n;
    const narrow = width < 560;
    titles[0].textContent = narrow ? "mean |x| of columns (dots), scales (line)"
      : "mean |x| of each column, the largest first (dots), and its scale s (line); "
        + "both around 1";
    titles[1].textContent = narrow ? "own error: – before, ● now; of RTN’s error"
      : "each column’s own error, as a share of RTN’s error: – before, ● now";
    titles[2].textContent = narrow ? "error of all outputs, of RTN’s"
      : "error of all outputs, as a share of RTN’s, for every strength α";

    const middle = Math.sqrt(now.inputs[0] * now.inputs.findLast((v) => v > 0)) || 1;
    const s = [...now.scales.subarray(model.get("step") * n, (model.get("step") + 1) * n)];
    const sizes = now.inputs.map((v) => v / middle);
    const up = log(sizes, INPUTS, 1.25);
    const smallest = Math.min(...shares.filter((v) => v > 0));
    y = log([...shares, smallest / 3], ERRORS, 1.4); // below it, room for what shrinks
    const shown = (share) => y(clamp(share, y.low, y.high));
    drawAxes(width, up);
    dots.replaceChildren(...sizes.map((v, j) => svg("circle", {
      cx: x(j), cy: up(Math.max(v, up.low)), r: narrow ? 1.6 : 2.6 })));
    const half = Math.max(1.4, (x(1) - x(0)) * 0.4 || 4);
    set(dashes, { d: shares.map((e, j) =>
      `M${x(j) - half} ${shown(e)}h${2 * half}`).join("") });
    if (columns.length !== n) {
      columns = shares.map(() => ({ stem: svg("line"), dot: svg("circle") }));
      still.replaceChildren(...columns.flatMap(({ stem, dot }) => [stem, dot]));
    }
    columns.forEach(({ dot, stem }, j) => {
      const hue = `var(--mq-${after[j] > shares[j] ? "vermilion" : "green"})`;
      set(dot, { cx: x(j), r: narrow ? 1.8 : 2.8,
        fill: after[j] === shares[j] ? "var(--mq-muted)" : hue });
      set(stem, { x1: x(j), x2: x(j), y1: shown(shares[j]), stroke: hue });
    });
    const errors = strengths.map((_, i) => at(i).total / whole);
    const best = errors.indexOf(Math.min(...errors));
    const [top, bottom] = CURVE;
    const ceiling = Math.min(CEILING, 1.1 * Math.max(1, ...errors));
    const down = (e) => bottom - Math.min(e, ceiling) / ceiling * (bottom - top);
    const across = (i) => LEFT + i / (strengths.length - 1) * (width - LEFT - RIGHT);
    set(curve, { d: errors.map((e, i) =>
      `${i ? "L" : "M"}${across(i)} ${down(e)}`).join("") });
    set(least, { d: `M${across(best) - 6} ${down(errors[best])}l6 -6l6 6l-6 6z` });
    drawCurveAxis(width, down, across, ceiling);
    const step = model.get("step");
    move([...after.map(shown), ...s.map((v) => up(clamp(v, up.low, up.high))),
      across(step), down(errors[step])]);
    speak(shares, after, s, errors, best);
  }

  /** A logarithmic axis over the numbers above 0, between two edges. */
  function log(numbers, [top, bottom], room) {
    const some = numbers.filter((v) => v > 0 && v < Infinity);
    const low = (some.length ? Math.min(...some) : 1) / room;
    const high = (some.length ? Math.max(...some) : 1) * room;
    const place = (v) => bottom - Math.log(v / low) / Math.log(high / low) * (bottom - top);
    return Object.assign(place, { low, high });
  }

  const rule = (width, at) => svg("path", {
    d: `M${LEFT} ${at}H${width - RIGHT}`, stroke: "var(--mq-hairline)" });
  const mark = (at, text) =>
    svg("text", { x: LEFT - 8, y: at + 4, class: "quiet end" }, text);

  function drawAxes(width, up) {
    axes.replaceChildren(
      ...ticks(up.low, up.high).flatMap((v) =>
        [rule(width, up(v)), mark(up(v), number(v, 1))]),
      ...ticks(y.low, y.high).flatMap((v) => [rule(width, y(v)), mark(y(v), percent(v, 1))]),
    );
  }

  function drawCurveAxis(width, down, across, ceiling) {
    const rows = [0, 0.5, 1, 1.5, 2].filter((share) => share <= ceiling);
    const every = width < 560 ? 5 : 2;
    axes.append(
      ...rows.flatMap((v) => [rule(width, down(v)), mark(down(v), percent(v))]),
      ...strengths.map((v, i) => [v, i]).filter(([, i]) => i % every === 0)
        .map(([v, i]) => svg("text", {
          x: across(i), y: CURVE[1] + 20, class: "quiet middle" }, v.toFixed(2))),
    );
  }

  function speak(shares, after, s, errors, best) {
    const step = model.get("step");
    const lost = after.filter((e, j) => e < shares[j]).length;
    const more = after.filter((e, j) => e > shares[j]).length;
    const factor = Math.max(...s) / Math.min(...s);
    const top = `The column with the largest inputs had ${percent(shares[0])}`;
    const scales = step === 0 ? "Strength 0 scales nothing: this is round to nearest. "
      + `${top} of the error. `
      : `Strength ${strengths[step].toFixed(2)}: the scales differ by a factor of `
      + `${number(factor, 3)}. ${lost} columns lose error, ${more} gain some. ${top} of `
      + `RTN’s error, now ${percent(after[0])}. `;
    says.textContent = `${scales}The error of all outputs is ${percent(errors[step])} of `
      + `RTN’s; the smallest is ${percent(errors[best])}, at `
      + `${strengths[best].toFixed(2)} (diamond).`;
    sheet.setAttribute("aria-label", `Above, the mean input of ${shares.length} columns, `
      + "the largest first, with the scales as a line. In the middle the error of each "
      + "column before and after scaling. At the bottom the error of all outputs for "
      + `${strengths.length} strengths; it is smallest at ${strengths[best].toFixed(2)}.`);
  }
  return close;
}

export default { render };
