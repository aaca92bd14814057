// SmoothQuant: column j of X is divided by s_j, column j of W is multiplied by it.
//
//     ▆▂▂▂▁▁▁▁   the largest |x| of a column, after the division: flat is easy to round
//     ▂▂▂▂▃▃▃▃   the largest |w| of the same column, after the multiplication
//      ╲__╱      the error of the layer, at each α
import {
  frame, glide, html, number, set, slider, svg,
} from "../live/base.js";

const DECADES = 4; // from the top of a panel to its foot
const PANELS = { X: { top: 34, bottom: 164 }, W: { top: 214, bottom: 344 } };
const PLOT = { top: 424, bottom: 558 };
const LEFT = 62;
const RIGHT = 14;
const HEIGHT = 610;
const LINES = { both: "vermilion", X: "blue", W: "ink" };

/** s of smoothquant.py, from the largest |x| and |w| of each column. */
export const scales = (tops, alpha) =>
  tops.X.map((x, j) => x ** alpha / tops.W[j] ** (1 - alpha));

/** The largest |x| / s and |w| · s of each column. */
export function smoothed(tops, alpha) {
  const s = scales(tops, alpha);
  return { X: tops.X.map((x, j) => x / s[j]), W: tops.W.map((w, j) => w * s[j]) };
}

const percent = (share) => `${number(100 * share, 2)} %`;

function render({ model, el }) {
  const columns = model.get("columns");
  const tops = model.get("tops");
  const errors = model.get("errors");
  const steps = model.get("steps");
  const without = model.get("without");
  const alpha = (k) => k / steps;
  const { root, close } = frame({ model, el, watch: ["step"], draw });
  const step = slider(model, "step", {
    label: "α", min: 0, max: steps, shown: (k) => alpha(k).toFixed(2),
  });
  const sheet = svg("svg", { role: "img" });
  const part = (tag, look = {}, ...inside) => {
    const made = svg(tag, look, ...inside);
    sheet.append(made);
    return made;
  };
  part("text", { x: 0, y: PANELS.X.top - 14 }, "X / s: the largest |x| of a column");
  part("text", { x: 0, y: PANELS.W.top - 14 }, "W · s: the largest |w| of the same column");
  part("text", { x: 0, y: PLOT.top - 34 }, "layer error, if this is rounded:");
  const still = part("g");
  const bars = Object.fromEntries(["X", "W"].map((name) => [name, columns.map((j) =>
    part("rect", { fill: `var(--mq-${name === "X" ? "blue" : "ink"})` },
      svg("title", {}, `column ${j}`)))]));
  const curves = Object.entries(LINES).map(([name, hue]) => part("path", {
    fill: "none", stroke: `var(--mq-${hue})`,
    "stroke-width": name === "both" ? 2.6 : 1.4,
    "stroke-dasharray": name === "both" ? null : "5 4",
  }));
  const dot = part("circle", {
    r: 7, fill: "var(--mq-vermilion)", stroke: "var(--mq-paper)", "stroke-width": 2,
  });
  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  root.append(html("div", { class: "mq-controls" }, step.box), sheet, says);
  const n = columns.length;
  const move = glide((heights) => {
    ["X", "W"].forEach((name, k) => bars[name].forEach((bar, j) => set(bar, {
      y: PANELS[name].bottom - heights[k * n + j], height: heights[k * n + j],
    })));
    set(dot, { cx: heights[2 * n], cy: heights[2 * n + 1] });
  });
  let drawn = 0; // for which width the still parts are drawn

  function draw(width) {
    const k = model.get("step");
    const x = (at) => LEFT + at / steps * (width - LEFT - RIGHT);
    const y = axis();
    if (drawn !== width) drawStill(width, x, y);
    drawn = width;
    const sizes = smoothed(tops, alpha(k));
    move([...heights(sizes.X, PANELS.X), ...heights(sizes.W, PANELS.W),
      x(k), y(errors.both[k])]);
    speak(k, sizes);
  }

  /** How tall each bar is: the largest fills its panel, a tenth of it is a decade less. */
  function heights(sizes, { top, bottom }) {
    const most = Math.max(...sizes);
    return sizes.map((size) =>
      Math.max(1, (1 + Math.log10(size / most) / DECADES) * (bottom - top)));
  }

  const ends = () => {
    const seen = [...Object.values(errors).flat(), without].filter((e) => e > 0);
    const [low, high] = [Math.min(0.1, ...seen), Math.max(1e-8, ...seen)];
    return [Math.max(Math.log10(high) - 6, Math.log10(low)) - 0.1, Math.log10(high) + 0.1];
  };

  function axis() {
    const [low, high] = ends();
    return (e) => PLOT.bottom - (Math.log10(Math.max(e, 10 ** low)) - low) / (high - low)
      * (PLOT.bottom - PLOT.top);
  }

  function drawStill(width, x, y) {
    set(sheet, { viewBox: `0 0 ${width} ${HEIGHT}` });
    const each = (width - LEFT - RIGHT) / n;
    for (const name of ["X", "W"]) {
      bars[name].forEach((bar, j) => set(bar, {
        x: LEFT + j * each, width: Math.max(1, 0.8 * each),
      }));
    }
    const label = (at, up, text, look = "quiet end", hue = null) => svg("text", {
      x: at, y: up, class: look, style: hue && `fill: var(--mq-${hue})` }, text);
    const rule = (d, dash = null) => svg("path", {
      d, stroke: "var(--mq-hairline)", "stroke-dasharray": dash });
    const parts = [];
    for (const { top, bottom } of Object.values(PANELS)) {
      for (let p = 0; p <= DECADES; p++) {
        const up = top + p / DECADES * (bottom - top);
        parts.push(rule(`M${LEFT - 4} ${up}H${width - RIGHT}`));
        const text = ["largest", "", "÷ 100", "", "÷ 10⁴"][p];
        parts.push(label(LEFT - 8, up + 4, text));
      }
    }
    const [low, high] = ends();
    for (let p = Math.ceil(low); p <= high; p++) {
      parts.push(rule(`M${LEFT - 4} ${y(10 ** p)}H${width - RIGHT}`));
      parts.push(label(LEFT - 8, y(10 ** p) + 4,
        `${Number((10 ** (p + 2)).toPrecision(1))} %`));
    }
    parts.push(svg("path", { d: `M${LEFT} ${y(without)}H${width - RIGHT}`,
      stroke: "var(--mq-violet)", "stroke-dasharray": "2 4", "stroke-width": 1.6 }));
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      parts.push(label(x(share * steps), PLOT.bottom + 20, String(share), "quiet middle"));
    }
    const words = [["X and W", "vermilion"], ["only X", "blue"], ["only W", "ink"],
      ["both, not smoothed", "violet"]];
    let at = 0;
    for (const [text, hue] of words) {
      parts.push(label(at, PLOT.top - 14, text, "", hue));
      at += 7.6 * text.length + 16;
    }
    parts.push(label((LEFT + width - RIGHT) / 2, PLOT.bottom + 42, "α", "quiet middle"));
    still.replaceChildren(...parts);
    Object.keys(LINES).forEach((name, i) => set(curves[i], {
      d: `M${errors[name].map((e, k) => `${x(k)} ${y(e)}`).join("L")}`,
    }));
  }

  const spread = (sizes) => {
    const times = Number((Math.max(...sizes) / Math.min(...sizes)).toPrecision(2));
    return times < 10 ? times.toFixed(1) : times.toLocaleString("en");
  };

  function speak(k, sizes) {
    const [inX, inW] = ["X", "W"].map((name) => spread(sizes[name]));
    const best = errors.both.indexOf(Math.min(...errors.both));
    says.textContent = `α = ${alpha(k).toFixed(2)}: among these columns the largest of X `
      + `is ${inX} times the smallest, in W it is ${inW} times. The layer error is `
      + `${percent(errors.both[k])}; not smoothed it is ${percent(without)}. `
      + (k === best ? "No other α here is better."
        : `The best α here is ${alpha(best).toFixed(2)}.`);
    sheet.setAttribute("aria-label", `${n} columns of X, from the largest down, and the `
      + "same columns of W, as bars on a logarithmic axis: their largest |x| and |w| "
      + "after smoothing. Below, the layer error at each α with both rounded, only X, "
      + "or only W.");
  }
  return close;
}

export default { render };
