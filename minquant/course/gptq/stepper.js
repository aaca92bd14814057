// GPTQ on a small matrix: round a column, and its error moves what is not rounded yet.
//
//     ─ ─ ┃ ●  ●╷ ●      three rows: a dash is rounded, a dot is still free; a line
//      ─ ─┃╷ ●  ● ╵●     runs from what a weight was to where it is now, and the
//                        colour behind it says how far this turn moved it
//     ░░░░░░             H⁻¹: every turn takes a row and a column
//       ░░░░░  ──╱──     the error of the outputs so far, and that of RTN
import {
  button, clamp, fitRuler, frame, glide, html, levelOf, number, roundEven,
  set, slider, svg,
} from "../live/base.js";

const LANE = 118; // the height of a row of weights
const TOP = 24;
const GAP = 30; // between the rows and what stands beside or below them

/** The inverse of a matrix, by Gauss and Jordan with pivots from the column. */
export function invert(matrix) {
  const n = matrix.length;
  const both = matrix.map((row, i) => [...row, ...row.map((_, k) => Number(i === k))]);
  for (let j = 0; j < n; j++) {
    let best = j;
    for (let i = j + 1; i < n; i++) {
      if (Math.abs(both[i][j]) > Math.abs(both[best][j])) best = i;
    }
    [both[j], both[best]] = [both[best], both[j]];
    const pivot = both[j][j];
    both[j] = both[j].map((x) => x / pivot);
    for (let i = 0; i < n; i++) {
      const share = both[i][j];
      if (i !== j && share) both[i] = both[i].map((x, k) => x - share * both[j][k]);
    }
  }
  return both.map((row) => row.slice(n));
}

/** ‖X δᵀ‖² of all rows: the sum of δ H δᵀ, for δ = A − B. */
export function errorOf(A, B, H) {
  let sum = 0;
  A.forEach((row, i) => {
    const change = row.map((a, j) => a - B[i][j]);
    change.forEach((x, j) => {
      sum += x * change.reduce((total, y, k) => total + H[j][k] * y, 0);
    });
  });
  return sum;
}

/** GPTQ of W, given H, on zero-point rulers: { rulers, codes, turns }.
 *
 * turns[t], after t columns: now, the weights; inverse, H⁻¹ of the columns that are
 * left; row, that of H⁻¹ which pushed; error and nearest, what GPTQ and RTN have added
 * to the outputs so far, as shares of their power.
 */
export function walk(W, H, bits, damping) {
  const rulers = W.map((row) => fitRuler(row, "zero_point", bits));
  const mean = H.reduce((sum, row, i) => sum + row[i], 0) / H.length;
  const codeOf = (w, ruler) =>
    clamp(roundEven(w / ruler.scale) + ruler.zero, ruler.low, ruler.high);
  const power = errorOf(W, W.map((row) => row.map(() => 0)), H) || 1;
  let inverse = invert(H.map((row, i) => row.map((h, k) =>
    (i === k ? h + damping * mean + Number(h === 0) : h)))); // 1 for a dead input
  let now = W;
  let nearest = W;
  const codes = W.map(() => []);
  const turns = [{ now, inverse, row: [], error: 0, nearest: 0 }];
  for (let j = 0; j < H.length; j++) {
    const row = inverse[0];
    now = now.map((weights, i) => {
      codes[i][j] = codeOf(weights[j], rulers[i]);
      const error = weights[j] - levelOf(rulers[i], codes[i][j]);
      return weights.map((w, k) => (k < j ? w : w - error * row[k - j] / row[0]));
    });
    now.forEach((weights, i) => { weights[j] = levelOf(rulers[i], codes[i][j]); });
    nearest = nearest.map((weights, i) => weights.map((w, k) =>
      (k === j ? levelOf(rulers[i], codeOf(w, rulers[i])) : w)));
    inverse = inverse.slice(1).map((own) =>
      own.slice(1).map((x, k) => x - own[0] * row[k + 1] / row[0]));
    turns.push({
      now, inverse, row,
      error: errorOf(now, W, H) / power,
      nearest: errorOf(nearest, W, H) / power,
    });
  }
  return { rulers, codes, turns };
}

function render({ model, el }) {
  const W = model.get("weights").map((row) => row.map(Math.fround));
  const H = model.get("H");
  const columns = model.get("columns"); // their places in the whole matrix
  const dampings = model.get("dampings");
  const n = columns.length;
  const watch = ["turn", "damping", "bits"];
  const { root, close } = frame({ model, el, watch, draw });
  const turn = slider(model, "turn", {
    label: "columns rounded", min: 0, max: n, shown: (t) => `${t} of ${n}`,
  });
  const go = (by) => model.set("turn", clamp(model.get("turn") + by, 0, n));
  turn.box.append(button("back", () => go(-1)), button("next column", () => go(1)));
  const damping = slider(model, "damping", {
    label: "damping", min: 0, max: dampings.length - 1,
    shown: (i) => percent(dampings[i]),
  });
  const bits = slider(model, "bits", { label: "bits", min: 2, max: 4 });
  const sheet = svg("svg", { role: "img" });
  const part = (tag, look = {}) => {
    const made = svg(tag, look);
    sheet.append(made);
    return made;
  };
  const still = part("g"); // ticks, names, cells: drawn anew each time
  const lines = W.map(() => columns.map(() => ({
    from: part("path", { stroke: "var(--mq-muted)", "stroke-width": 1.2 }),
    push: part("path", { stroke: "var(--mq-vermilion)", "stroke-width": 3.4 }),
    dot: part("circle", { r: 4.5 }),
    tick: part("path", { stroke: "var(--mq-ink)", "stroke-width": 4 }),
  })));
  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  root.append(html("div", { class: "mq-controls" }, turn.box, damping.box, bits.box),
    sheet, says);
  let paths = null;
  let place = null; // where things stand
  const move = glide((heights) => W.forEach((_, i) => columns.forEach((_, j) => {
    const { from, push, dot, tick } = lines[i][j];
    const [was, before, now] = heights.slice(3 * (i * n + j), 3 * (i * n + j) + 3);
    const [x, half] = [place.x(j), 0.32 * place.wide];
    set(from, { d: `M${x} ${was}V${now}` });
    set(push, { d: `M${x} ${before}V${now}` });
    set(dot, { cx: x, cy: j < model.get("turn") ? before : now });
    set(tick, { d: `M${x - half} ${now}h${2 * half}` });
  })));

  function draw(width) {
    const [t, damped] = [model.get("turn"), dampings[model.get("damping")]];
    paths = walk(W, H, model.get("bits"), damped);
    const { turns, rulers } = paths;
    const wide = width > 640;
    const left = wide ? 0.62 * width : width;
    place = {
      x: (j) => 8 + (j + 0.5) * (left - 16) / n, wide: (left - 16) / n,
    };
    const low = TOP + W.length * LANE;
    const box = wide
      ? { x: left + GAP, y: TOP, size: Math.min(190, width - left - GAP) }
      : { x: 0, y: low + GAP + 34, size: 0.42 * width };
    const chart = wide
      ? { x: box.x + 40, y: TOP + box.size + 48, right: width - 6, low: low - 16 }
      : { x: 0.42 * width + 62, y: box.y, right: width - 6, low: box.y + box.size };
    const height = (wide ? low : box.y + box.size) + 26;
    set(sheet, { viewBox: `0 0 ${width} ${height}` });
    const parts = [];
    const add = (tag, look, ...inside) => parts.push(svg(tag, look, ...inside));
    drawLanes(add, left, t, rulers, low);
    drawInverse(add, box, t, turns);
    drawErrors(add, chart, t, turns);
    still.replaceChildren(...parts);
    const y = W.map((row, i) => heightOf(i, row, turns, rulers[i]));
    move(W.flatMap((row, i) => row.flatMap((w, j) => {
      const before = turns[Math.max(0, t - 1)].now[i][j];
      const rounded = j < t - 1; // earlier: nothing of it moves in this turn
      const now = turns[t].now[i][j];
      return [y[i](j < t ? now : w), y[i](rounded ? now : before), y[i](now)];
    })));
    lines.forEach((row) => row.forEach(({ from, push, dot, tick }, j) => {
      set(from, { opacity: j < t ? 0 : 1 });
      set(push, { opacity: j < t - 1 ? 0 : 1 });
      set(dot, { opacity: j < t - 1 ? 0 : 1,
        fill: `var(--mq-${j === t - 1 ? "vermilion" : "blue"})` });
      set(tick, { opacity: j < t ? 1 : 0 });
    }));
    speak(t, damped, turns);
  }

  /** From a value of a row to its height on the sheet, for all turns alike. */
  function heightOf(i, row, turns, ruler) {
    const seen = [levelOf(ruler, ruler.low), levelOf(ruler, ruler.high),
      ...turns.flatMap(({ now }) => now[i])];
    const [low, high] = [Math.min(...seen), Math.max(...seen)];
    const top = TOP + i * LANE + 8;
    return (value) => top + (high - value) / (high - low) * (LANE - 24);
  }

  function drawLanes(add, left, t, rulers, low) {
    add("text", { x: 0, y: 13, class: "quiet" },
      `${W.length} rows of weights on their rulers`);
    if (t) {
      add("rect", { x: place.x(t - 1) - place.wide / 2, y: TOP, width: place.wide,
        height: low - TOP - 8, fill: "var(--mq-highlight)" });
      drawPushes(add, t);
    }
    rulers.forEach((ruler, i) => {
      const y = heightOf(i, W[i], paths.turns, ruler);
      for (let code = ruler.low; code <= ruler.high; code++) {
        add("path", { d: `M4 ${y(levelOf(ruler, code))}H${left - 4}`,
          stroke: "var(--mq-hairline)" });
      }
    });
    columns.forEach((column, j) => add("text",
      { x: place.x(j), y: low + 10, class: "quiet middle" }, String(column)));
  }

  /** The stronger the colour, the farther this turn moved the weight. */
  function drawPushes(add, t) {
    const [before, now] = [paths.turns[t - 1].now, paths.turns[t].now];
    const moves = W.map((_, i) => columns.map((_, j) =>
      (j < t ? 0 : Math.abs(now[i][j] - before[i][j]))));
    const most = Math.max(...moves.flat()) || 1;
    moves.forEach((row, i) => row.forEach((moved, j) => add("rect", {
      x: place.x(j) - place.wide / 2, y: TOP + i * LANE, width: place.wide,
      height: LANE - 8, fill: "var(--mq-vermilion)",
      "fill-opacity": (0.3 * moved / most).toFixed(3) })));
  }

  function drawInverse(add, { x, y, size }, t, turns) {
    add("text", { x, y: y - 10, class: "quiet" }, "what is left of H⁻¹");
    const most = Math.max(...turns[0].inverse.flat().map(Math.abs));
    const cell = size / n;
    const paint = (value, i, k) => add("rect", {
      x: x + k * cell, y: y + i * cell, width: cell - 1, height: cell - 1,
      fill: `var(--mq-${value < 0 ? "blue" : "vermilion"})`,
      "fill-opacity": Math.sqrt(Math.abs(value) / most).toFixed(3) });
    add("rect", { x, y, width: size, height: size, fill: "none",
      stroke: "var(--mq-hairline)" });
    turns[t].inverse.forEach((row, i) =>
      row.forEach((value, k) => paint(value, i + t, k + t)));
    if (!t) return;
    turns[t].row.forEach((value, k) => paint(value, t - 1, k + t - 1));
    add("rect", { x: x + (t - 1) * cell - 1, y: y + (t - 1) * cell - 1,
      width: (n - t + 1) * cell + 1, height: cell + 1, fill: "none",
      stroke: "var(--mq-ink)", "stroke-width": 1.6 });
  }

  function drawErrors(add, { x, y, right, low }, t, turns) {
    const most = Math.max(...turns.flatMap((one) => [one.error, one.nearest]));
    const at = (k) => x + k / n * (right - x);
    const up = (error) => low - error / (most || 1) * (low - y);
    add("text", { x: x - 40, y: y - 10, class: "quiet" },
      "error of the outputs so far");
    add("path", { d: `M${x} ${y}V${low}H${right}`, fill: "none",
      stroke: "var(--mq-hairline)" });
    add("text", { x: x - 6, y: y + 12, class: "quiet end" }, percent(most));
    add("text", { x: x - 6, y: low + 2, class: "quiet end" }, "0");
    for (const [name, key, color, dash] of [
      ["RTN", "nearest", "muted", "4 3"], ["GPTQ", "error", "vermilion", null]]) {
      const points = (from, to) => turns.slice(from, to + 1)
        .map((one, k) => `${at(from + k)} ${up(one[key])}`).join("L");
      const look = { fill: "none", stroke: `var(--mq-${color})`, "stroke-width": 2 };
      add("path", { ...look, d: `M${points(0, n)}`, "stroke-dasharray": dash,
        opacity: 0.35 });
      add("path", { ...look, d: `M${points(0, t)}`, "stroke-dasharray": dash });
      add("circle", { cx: at(t), cy: up(turns[t][key]), r: 4.5,
        fill: `var(--mq-${color})` });
      add("text", { x: x + 12 + (key === "error" ? 0 : 62), y: y + 12,
        style: `fill: var(--mq-${color})` }, `${dash ? "┄" : "━"} ${name}`);
    }
  }

  function speak(t, damped, turns) {
    const { error, nearest, now } = turns[t];
    const before = turns[Math.max(0, t - 1)].now;
    const lost = t && before.map((row, i) => row[t - 1] - now[i][t - 1]);
    const moves = before.flatMap((row, i) =>
      row.slice(t).map((w, k) => Math.abs(now[i][t + k] - w)));
    says.textContent = (t === 0
      ? "Nothing is rounded yet. Press “next column”."
      : `${t} of ${n} columns are rounded, the last is column ${columns[t - 1]}. In `
        + `the first row it lost ${number(lost[0], 3, true)}. `
        + (t < n ? `Its errors move ${toMove(n - t)} to its right by up to `
          + `${number(Math.max(...moves), 3)}. ` : "There is no column left to move. ")
        + `The outputs are off by ${percent(error)} of their power; rounding to `
        + `nearest makes it ${percent(nearest)}.`);
    sheet.setAttribute("aria-label", `${W.length} rows of ${n} weights, each on its `
      + `ruler, at a damping of ${percent(damped)}. Columns to the left are rounded `
      + "and lie on ticks, the others are dots that move. Beside them what is left of "
      + "the inverse of H, and the error of the outputs so far, for GPTQ and for RTN.");
  }
  return close;
}

const toMove = (left) => (left === 1 ? "the column" : `the ${left} columns`);

const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;

export default { render };
