// A matrix cut into groups that share a ruler: what shorter rulers win, and cost.
//
//     ▒░▓░░█░▒   the weights, by their distance from 0
//     ▒▒▒▒████   how long the ruler is that each lies on: one far weight makes it
//                long for all who share it
//     ●─●─●      error against true bits: the dot is what the controls say
import {
  clamp, frame, glide, html, menu, number, roundNumbers, set, slider, svg,
} from "../live/base.js";

const SHADES = 16;
const ROWS = [20, 176]; // the upper edges of the two maps
const TALL = 124;
const PLOT = { top: 346, bottom: 560, left: 62, right: 78 };
const HEIGHT = PLOT.bottom + 44;

/** What no other cost beats in bits and error at once, as figure_pareto.py finds it. */
export function frontier(costs) {
  const kept = [];
  const order = [...costs].sort((a, b) =>
    a.bits_per_weight - b.bits_per_weight || a.error - b.error);
  for (const cost of order) {
    if (!kept.length || cost.error < kept.at(-1).error) kept.push(cost);
  }
  return kept;
}

/** Round numbers on a logarithmic axis: 1, 2 and 5 times a power of 10. */
function logNumbers(low, high) {
  const numbers = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p++) {
    numbers.push(...[1, 2, 5].map((n) => n * 10 ** p));
  }
  return numbers.filter((n) => low <= n && n <= high);
}

function render({ model, el }) {
  const heat = model.get("heat"); // a hexadecimal digit pair for each weight
  const cuts = model.get("cuts"); // [{ name, size }], from the longest rulers down
  const lengths = model.get("lengths"); // of the rulers, for each cut [row][group]
  const costs = model.get("costs"); // [{ bits, cut, bits_per_weight, error }]
  const best = new Set(frontier(costs));
  const widths = [...new Set(costs.map((cost) => cost.bits))];
  const columns = heat[0].length / 2;
  const finest = Math.min(...cuts.map((cut) => cut.size));

  const { root, close } = frame({ model, el, watch: ["bits", "cut"], draw });
  const bits = slider(model, "bits", {
    label: "bits of a code", min: widths[0], max: widths.at(-1),
  });
  const cut = slider(model, "cut", {
    label: "one ruler for", min: 0, max: cuts.length - 1, shown: (i) => cuts[i].name,
  });
  const sheet = svg("svg", { role: "img" });
  const part = (tag, look = {}, ...inside) => {
    const made = svg(tag, look, ...inside);
    sheet.append(made);
    return made;
  };
  ["weights: the stronger the colour, the farther from 0",
    "their rulers: the stronger the colour, the longer"].forEach((text, i) =>
    part("text", { x: 0, y: ROWS[i] - 8, class: "quiet" }, text));
  const shades = Array.from({ length: SHADES }, (_, i) => part("path", {
    fill: "var(--mq-blue)", "fill-opacity": (i / (SHADES - 1)).toFixed(3),
  }));
  const tiles = heat.map(() => Array.from({ length: Math.ceil(columns / finest) }, () =>
    part("rect", { class: "mq-tile", fill: "var(--mq-vermilion)" })));
  const fences = [0, 1].map(() => part("path", {
    stroke: "var(--mq-paper)", "stroke-width": 1.6, fill: "none",
  }));
  part("text", { x: 0, y: PLOT.top - 14, class: "quiet" },
    "error (RMSE) against true bits per weight");
  const grid = part("g", { stroke: "var(--mq-hairline)" });
  const labels = part("g");
  const lines = widths.map(() => part("path", {
    fill: "none", stroke: "var(--mq-muted)", "stroke-width": 1.4,
  }));
  const here = part("circle", { r: 12, fill: "var(--mq-highlight)" });
  const dots = costs.map((cost) => {
    const dot = part("circle", { r: 5.5, "stroke-width": 2, style: "cursor: pointer" },
      svg("title", {}, `${cost.bits} bits, one ruler for ${cuts[cost.cut].name}`));
    dot.addEventListener("click", () => {
      model.set("bits", cost.bits);
      model.set("cut", cost.cut);
    });
    return dot;
  });
  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  root.append(html("div", { class: "mq-controls" }, bits.box, cut.box), sheet, says);
  const move = glide(([cx, cy]) => set(here, { cx, cy }));
  let drawn = 0; // for which width the still parts are drawn

  function draw(width) {
    const chosen = costs.find((cost) =>
      cost.bits === model.get("bits") && cost.cut === model.get("cut"));
    const [x, y] = axes(width);
    if (drawn !== width) drawStill(width, x, y);
    drawn = width;
    drawRulers(width);
    lines.forEach((line, i) => set(line, {
      stroke: `var(--mq-${widths[i] === chosen.bits ? "ink" : "muted"})`,
      opacity: widths[i] === chosen.bits ? 1 : 0.5,
    }));
    move([x(chosen.bits_per_weight), y(chosen.error)]);
    speak(chosen);
  }

  function axes(width) {
    const across = costs.map((cost) => cost.bits_per_weight);
    const up = costs.map((cost) => Math.log(cost.error));
    const [left, right] = [Math.min(...across), Math.max(...across)];
    const [low, high] = [Math.min(...up), Math.max(...up)];
    return [
      (b) => PLOT.left + (b - left) / (right - left) * (width - PLOT.left - PLOT.right),
      (e) => PLOT.bottom - 10
        - (Math.log(e) - low) / (high - low) * (PLOT.bottom - PLOT.top - 20),
    ];
  }

  function drawStill(width, x, y) {
    set(sheet, { viewBox: `0 0 ${width} ${HEIGHT}` });
    const [w, h] = [width / columns, TALL / heat.length];
    const d = Array(SHADES).fill("");
    heat.forEach((row, i) => {
      for (let j = 0; j < columns; j++) {
        const size = parseInt(row.slice(2 * j, 2 * j + 2), 16); // 0 to 255
        const [left, top] = [j * w, ROWS[0] + i * h];
        d[Math.floor(size * SHADES / 256)] += `M${left} ${top}h${w}v${h}h${-w}z`;
      }
    });
    shades.forEach((path, i) => set(path, { d: d[i] }));
    const wide = finest * w;
    tiles.forEach((row, i) => row.forEach((tile, j) => set(tile, {
      x: j * wide, y: ROWS[1] + i * h, width: wide, height: h + 0.2,
    })));
    const errors = costs.map((cost) => cost.error);
    const levels = logNumbers(Math.min(...errors), Math.max(...errors));
    const most = Math.max(...costs.map((cost) => cost.bits_per_weight));
    const marks = roundNumbers(widths[0], most, width / 90);
    grid.replaceChildren(...levels.map((e) => svg("path", {
      d: `M${PLOT.left - 8} ${y(e)}H${width - PLOT.right + 12}` })));
    labels.replaceChildren(
      ...levels.map((e) => svg("text", {
        x: PLOT.left - 14, y: y(e) + 4, class: "quiet end" }, number(e, 1))),
      ...marks.map(([b, text]) => svg("text", {
        x: x(b), y: PLOT.bottom + 18, class: "quiet middle" }, text)),
      ...widths.map((n) => {
        const last = costs.filter((cost) => cost.bits === n).at(-1);
        return svg("text", { x: x(last.bits_per_weight) + 12, y: y(last.error) + 4 },
          `${n} bits`);
      }),
    );
    lines.forEach((line, i) => {
      const own = costs.filter((cost) => cost.bits === widths[i]);
      const points = own.map((c) => `${x(c.bits_per_weight)} ${y(c.error)}`);
      set(line, { d: `M${points.join("L")}` });
    });
    dots.forEach((dot, i) => set(dot, {
      cx: x(costs[i].bits_per_weight), cy: y(costs[i].error), stroke: "var(--mq-blue)",
      fill: `var(--mq-${best.has(costs[i]) ? "blue" : "paper"})`,
    }));
  }

  function drawRulers(width) {
    const { size } = cuts[model.get("cut")];
    const own = lengths[model.get("cut")];
    const h = TALL / heat.length;
    tiles.forEach((row, i) => row.forEach((tile, j) => {
      const group = Math.min(own[i].length - 1, Math.floor(j * finest / size));
      tile.style.fillOpacity = own[i][group];
    }));
    let d = "";
    if (model.get("cut") > 0) {
      for (let i = 1; i < heat.length; i++) d += `M0 ${i * h}H${width}`;
      for (let j = size; j < columns; j += size) {
        d += `M${j * width / columns} 0V${TALL}`;
      }
    }
    fences.forEach((fence, i) => set(fence, {
      d, transform: `translate(0 ${ROWS[i]})`, "stroke-width": clamp(h / 4, 0.6, 1.6),
    }));
  }

  function speak(cost) {
    const name = (c) => `${c.bits} bits with one ruler for ${cuts[c.cut].name}`;
    const numbers = (c) => `${c.bits_per_weight.toFixed(2)} bits per weight`;
    const better = [...best].filter((c) => c !== cost
      && c.bits_per_weight <= cost.bits_per_weight && c.error <= cost.error).at(-1);
    says.textContent = `${name(cost)}: truly ${numbers(cost)}, error `
      + `${number(cost.error, 3)}. ` + (better
      ? `Beaten: ${name(better)} takes ${numbers(better)} and errs by `
        + `${number(better.error, 3)}.`
      : "Nothing here that takes as few bits errs less.");
    const shared = cuts[model.get("cut")].name;
    sheet.setAttribute("aria-label", `${heat.length} rows of a matrix as a heat map, `
      + `with one ruler for ${shared}; under it how long the ruler of each weight is. `
      + "At the bottom the error against true bits per weight for "
      + `${costs.length} ways to cut and round; filled dots are not beaten.`);
  }
  return close;
}

export default { render };
