// The threshold of LLM.int8(): the columns of X that reach it are taken out.
//
//     ▂▁█▂▁▁▂█▁  the largest |x| of each column; ┄┄┄ the threshold. What is above it is
//                multiplied in floats, the rest in 8 bits
//     ╲__        the error that is left, and the share of columns taken out, at each
//                threshold: the dots are what the slider says
import {
  frame, glide, html, menu, number, set, slider, svg,
} from "../live/base.js";

const BARS = { top: 44, bottom: 212 };
const LEFT = 86;
const RIGHT = 14;
const PLOTS = [
  { name: "layer error", top: 290, bottom: 400, hue: "vermilion" },
  { name: "columns taken out", top: 452, bottom: 532, hue: "violet" },
];
const HEIGHT = 584;

/** Where X is taken out: which columns' largest |x| reaches the threshold (float32). */
export const takenOut = (tops, threshold) => {
  const limit = threshold === null ? Infinity : Math.fround(threshold);
  return tops.map((top) => top >= limit);
};

/** A share as per cent, with two digits and never in powers of ten. */
export function percent(share) {
  const size = 100 * share;
  if (size === 0 || size === 100) return `${size} %`;
  if (size >= 10) return `${size.toFixed(1)} %`;
  return `${size.toFixed(Math.min(9, 1 - Math.floor(Math.log10(size))))} %`;
}

function render({ model, el }) {
  const layers = model.get("layers"); // name: { tops, errors }
  const thresholds = model.get("thresholds"); // the last, null, is infinity
  const called = (i) => (thresholds[i] === null ? "∞" : String(thresholds[i]));
  const { root, close } = frame({ model, el, watch: ["layer", "place"], draw });
  const choose = menu(model, "layer", {
    label: "layer",
    options: Object.fromEntries(Object.keys(layers).map((name) => [name, name])),
  });
  const place = slider(model, "place", {
    label: "threshold", min: 0, max: thresholds.length - 1, shown: called,
  });
  const sheet = svg("svg", { role: "img" });
  const part = (tag, look = {}, ...inside) => {
    const made = svg(tag, look, ...inside);
    sheet.append(made);
    return made;
  };
  part("text", { x: 0, y: 14 }, "the largest |x| of each column of X");
  part("rect", { x: 0, y: 22, width: 10, height: 10, fill: "var(--mq-violet)" });
  part("text", { x: 16, y: 31, class: "quiet" }, "taken out, in floats");
  part("rect", { x: 160, y: 22, width: 10, height: 10, fill: "var(--mq-blue)" });
  part("text", { x: 176, y: 31, class: "quiet" }, "stays, in 8 bits");
  const still = part("g");
  const lit = part("path", { fill: "var(--mq-highlight)" });
  const stay = part("path", { fill: "var(--mq-blue)" });
  const out = part("path", { fill: "var(--mq-violet)" });
  const limit = part("path", {
    stroke: "var(--mq-ink)", "stroke-width": 1.6, "stroke-dasharray": "5 4",
  });
  const curves = PLOTS.map(({ hue }) => part("path", {
    fill: "none", stroke: `var(--mq-${hue})`, "stroke-width": 2,
  }));
  const dots = PLOTS.map(({ hue }) => part("circle", {
    r: 7, fill: `var(--mq-${hue})`, stroke: "var(--mq-paper)", "stroke-width": 2,
  }));
  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  root.append(html("div", { class: "mq-controls" }, place.box, choose.box), sheet, says);
  const move = glide((numbers) => {
    dots.forEach((dot, i) => set(dot, { cx: numbers[2 * i], cy: numbers[2 * i + 1] }));
  });

  function draw(width) {
    const { tops, errors } = layers[model.get("layer")];
    const at = model.get("place");
    const gone = takenOut(tops, thresholds[at]);
    const shares = thresholds.map((t) => mean(takenOut(tops, t)));
    set(sheet, { viewBox: `0 0 ${width} ${HEIGHT}` });
    still.replaceChildren();
    drawColumns(width, tops, gone, thresholds[at]);
    const x = (i) => LEFT + i / (thresholds.length - 1) * (width - LEFT - RIGHT);
    const y = [errorAxis(width, errors, PLOTS[0]), shareAxis(width, PLOTS[1])];
    [errors, shares].forEach((values, k) => set(curves[k], {
      d: `M${values.map((v, i) => `${x(i)} ${y[k](v)}`).join("L")}`,
    }));
    thresholdAxis(width, x);
    move([x(at), y[0](errors[at]), x(at), y[1](shares[at])]);
    speak(gone, errors, at);
  }

  const mean = (marks) => marks.filter(Boolean).length / marks.length;
  const label = (x, y, text, look = "quiet end") =>
    still.append(svg("text", { x, y, class: look }, text));
  const rule = (d) => still.append(svg("path", { d, stroke: "var(--mq-hairline)" }));

  function drawColumns(width, tops, gone, threshold) {
    const seen = tops.filter((top) => top > 0);
    const high = Math.log10(Math.max(10, ...seen)) + 0.1;
    const middle = [...seen].sort((a, b) => a - b)[seen.length >> 1] ?? 1;
    const low = Math.min(high - 2, Math.log10(middle) - 1);
    const y = (v) => BARS.bottom
      - (Math.log10(v) - low) / (high - low) * (BARS.bottom - BARS.top);
    const each = (width - LEFT - RIGHT) / tops.length;
    const bars = (which, wide, height) => tops.map((top, j) => {
      const up = height ?? y(top);
      if (top === 0 || gone[j] !== which || up > BARS.bottom) return "";
      const left = LEFT + (j + 0.5) * each - wide / 2;
      return `M${left} ${BARS.bottom}V${up}h${wide}V${BARS.bottom}z`;
    }).join("");
    set(stay, { d: bars(false, 0.84 * each) });
    set(out, { d: bars(true, Math.max(2, 0.84 * each)) });
    set(lit, { d: mean(gone) < 0.2 ? bars(true, Math.max(5, 1.4 * each), BARS.top) : "" });
    for (let p = Math.ceil(low); p <= high; p++) {
      rule(`M${LEFT - 4} ${y(10 ** p)}H${width - RIGHT}`);
      label(LEFT - 10, y(10 ** p) + 4, String(Number((10 ** p).toPrecision(1))));
    }
    const height = threshold === null ? BARS.top - 4
      : Math.min(BARS.bottom, Math.max(BARS.top - 4, y(threshold)));
    set(limit, { d: `M${LEFT - 4} ${height}H${width - RIGHT}` });
    label((LEFT + width - RIGHT) / 2, BARS.bottom + 18,
      `${tops.length} columns`, "quiet middle");
  }

  /** A logarithmic axis in per cent; what is 0 is drawn at its foot. */
  function errorAxis(width, errors, { name, top, bottom }) {
    const seen = errors.filter((e) => e > 0);
    const high = Math.ceil(Math.log10(Math.max(1e-4, ...seen)));
    const low = Math.max(high - 9, Math.floor(Math.log10(Math.min(1e-5, ...seen))));
    const y = (e) => bottom - (Math.log10(Math.max(e, 10 ** low)) - low) / (high - low)
      * (bottom - top);
    const stride = high - low > 5 ? 2 : 1;
    for (let p = high; p >= low; p -= stride) {
      rule(`M${LEFT - 4} ${y(10 ** p)}H${width - RIGHT}`);
      label(LEFT - 8, y(10 ** p) + 4, `${Number((10 ** (p + 2)).toPrecision(1))} %`);
    }
    label(0, top - 16, name, "");
    return y;
  }

  function shareAxis(width, { name, top, bottom }) {
    const y = (share) => bottom - share * (bottom - top);
    for (const share of [0, 0.5, 1]) {
      rule(`M${LEFT - 4} ${y(share)}H${width - RIGHT}`);
      label(LEFT - 8, y(share) + 4, `${100 * share} %`);
    }
    label(0, top - 16, name, "");
    return y;
  }

  function thresholdAxis(width, x) {
    const wide = width > 600;
    const { bottom } = PLOTS[1];
    thresholds.forEach((t, i) => {
      if (t !== null && !(wide ? [0.25, 0.5, 1, 2, 6, 10, 20, 60, 200] : [0.5, 2, 6, 20,
        100]).includes(t)) return;
      label(x(i), bottom + 20, called(i), "quiet middle");
    });
    label((LEFT + width - RIGHT) / 2, bottom + 40, "threshold", "quiet middle");
  }

  function speak(gone, errors, at) {
    const n = gone.filter(Boolean).length;
    const plain = errors.at(-1);
    says.textContent = `At a threshold of ${called(at)}, ${n} of ${gone.length} columns `
      + `(${percent(n / gone.length)}) are multiplied in floats. The layer error is `
      + `${percent(errors[at])}` + (thresholds[at] === null ? "."
        : `; with nothing taken out it is ${percent(plain)}.`);
    sheet.setAttribute("aria-label", "Above, a bar for the largest |x| of each of "
      + `${gone.length} columns, and the threshold as a dashed line; ${n} columns reach `
      + "it. Below, the layer error and the share of columns taken out at each "
      + "threshold.");
  }
  return close;
}

export default { render };
