// A row of weights on its ruler: every weight goes to the nearest tick.
//
//     ●  ●●   ●        weights on a number line
//      ╲ ╲╱   │        threads: where each of them goes
//     ┬──┬──┬─┴┬──     the ruler, with its codes
//        •  •  •       how many weights share a code
//        •
//     ╱│╱│╱│╱│╱│       the error at every place, and that of each weight
import {
  GRIDS, button, clamp, count, draggable, drawnX, fitRuler, frame, glide, html, integer,
  levelOf, menu, number, quantize, roundNumbers, set, slider, svg,
} from "../live/base.js";

const NAMES = {
  absmax: "absmax",
  symmetric_full: "symmetric, full",
  zero_point: "zero-point",
};
const LEAST = 0.3; // the shortest ruler, as a share of the longest
const SIDE = 30; // free space left and right, for the grips
const END = 14; // how far the ruler reaches beyond its last ticks, at most
const LINE = 52; // the number line
const RULER = 158; // the upper edge of the ruler
const THICK = 28;
const STACKS = RULER + THICK + 12; // the first dot below the ruler
const STACK = 60; // room for dots
const ERRORS = 350; // the line of no error
const ROOM = 52; // above and below it
const HEIGHT = ERRORS + ROOM + 8;

const line = (x1, y1, x2, y2) => `M${x1} ${y1}L${x2} ${y2}`;
const thread = (x1, y1, x2, y2) => {
  const middle = (y1 + y2) / 2;
  return `M${x1} ${y1}C${x1} ${middle} ${x2} ${middle} ${x2} ${y2}`;
};

/** Everything that is true of the weights in view on one ruler. */
export function study(row, shown, name, bits, keep) {
  const ruler = fitRuler(row, name, bits, keep);
  const rounded = shown.map((w) => quantize(w, ruler));
  const errors = rounded.map((r) => r.error);
  const counts = new Map();
  for (const { code } of rounded) counts.set(code, (counts.get(code) ?? 0) + 1);
  return {
    ruler, rounded, counts,
    ticks: ruler.high - ruler.low + 1,
    worst: Math.max(...errors.map(Math.abs)),
    mse: errors.reduce((sum, e) => sum + e * e, 0) / errors.length,
    clipped: rounded.filter((r) => r.clipped).length,
    ties: rounded.filter((r) => r.tie).length,
  };
}

/** The part of the number line that holds the row and every ruler that fits it. */
function reach(row) {
  let ends = [Math.min(...row), Math.max(...row)];
  for (const name in GRIDS) {
    for (let bits = 2; bits <= 8; bits++) {
      const ruler = fitRuler(row, name, bits);
      ends.push(levelOf(ruler, ruler.low), levelOf(ruler, ruler.high));
    }
  }
  return [Math.min(...ends), Math.max(...ends)];
}

function render({ model, el }) {
  const row = model.get("row").map(Math.fround);
  const first = model.get("first");
  const shown = row.slice(first, first + model.get("count"));
  const rest = row.filter((_, i) => i < first || i >= first + shown.length);
  const [low, high] = reach(row);
  const asked = () => ["grid", "bits", "keep"].map((name) => model.get(name));
  const selected = () => clamp(model.get("weight") - first, 0, shown.length - 1);
  let hovered = null; // the weight under the pointer

  // --- what there is ---
  const watch = ["grid", "bits", "keep", "weight"];
  const { root, redraw, close } = frame({ model, el, watch, draw });
  const bits = slider(model, "bits", { label: "bits", min: 2, max: 8 });
  const kind = menu(model, "grid", { label: "ruler", options: NAMES });
  const keep = slider(model, "keep", {
    label: "ruler’s reach", min: LEAST, max: 1, step: 0.01,
    shown: (share) => `${Math.round(100 * share)} %`,
  });
  const weight = slider(model, "weight", {
    label: "weight", min: first, max: first + shown.length - 1,
    shown: (i) => `w[${i}]`,
  });
  const step = (by) => model.set("weight", clamp(
    model.get("weight") + by, first, first + shown.length - 1));
  weight.box.append(
    button("◀", () => step(-1), "previous weight"),
    button("▶", () => step(1), "next weight"),
  );

  const sheet = svg("svg", { role: "img" });
  const part = (tag, look, ...inside) => {
    const made = svg(tag, look, ...inside);
    sheet.append(made);
    return made;
  };
  const words = (text, y, look = {}) =>
    part("text", { x: 0, y, class: "quiet", ...look }, text);
  words(rest.length ? `${shown.length} weights, and in grey the rest of the row`
    : `${shown.length} weights`, 12);
  words("how many", STACKS + 5);
  words("error = kept − weight", ERRORS - ROOM - 8);
  const numbers = part("g", { class: "numbers" });
  const band = part("rect", { fill: "var(--mq-band)" });
  const body = part("rect", {
    y: RULER, height: THICK, rx: 4,
    fill: "var(--mq-wash)", stroke: "var(--mq-hairline)",
  });
  const funnel = part("path", { fill: "var(--mq-highlight)" });
  part("path", { class: "axis", stroke: "var(--mq-muted)" });
  const axis = sheet.querySelector(".axis");
  const rug = part("path", { stroke: "var(--mq-muted)", opacity: 0.35 });
  const marks = part("path", { stroke: "var(--mq-ink)", "stroke-width": 1.2 });
  const codes = part("g");
  const tooth = part("path", {
    fill: "none", stroke: "var(--mq-muted)", "stroke-width": 1, opacity: 0.7,
  });
  const none = part("path", { stroke: "var(--mq-muted)" });
  const halves = [0, 1].map(() => words("", 0, { class: "quiet end" }));
  const each = shown.map(() => ({
    thread: part("path", { fill: "none" }),
    stem: part("path", { "stroke-width": 3 }),
    kept: part("circle", { r: 3.4, fill: "var(--mq-ink)" }),
    dot: part("circle", { cy: LINE, stroke: "var(--mq-paper)", "stroke-width": 1 }),
  }));
  const counts = part("g");
  const grips = [0, 1].map(() => part("g", { class: "grip" },
    svg("rect", {
      x: -7, y: RULER - 4, width: 14, height: THICK + 8, rx: 5,
      fill: "var(--mq-paper)", stroke: "var(--mq-blue)", "stroke-width": 1.6,
    }),
    svg("path", {
      d: line(-2, RULER + 7, -2, RULER + THICK - 7)
        + line(2, RULER + 7, 2, RULER + THICK - 7), stroke: "var(--mq-blue)",
    })));

  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  const lens = svg("svg", { "aria-hidden": "true", viewBox: "0 0 420 104" });
  const lensBox = html("div", { style: "flex: 1 1 300px; max-width: 420px" }, lens);
  const way = html("table", { class: "mq-table" });
  const table = html("table", { class: "mq-table" });
  root.append(
    html("div", { class: "mq-controls" }, bits.box, kind.box, keep.box),
    sheet, says,
    html("div", { class: "mq-controls" }, weight.box),
    html("div", { class: "mq-row" }, lensBox, way),
    table,
  );

  // --- where it goes ---
  let x = null; // from a value to the place on the sheet
  let scaleY = 1; // sheet units for an error of 1
  let now = null;
  const move = glide((places) => {
    each.forEach((artist, i) => {
      const [tick, y, error] = places.slice(3 * i, 3 * i + 3);
      const at = x(shown[i]);
      set(artist.thread, { d: thread(at, LINE, tick, RULER) });
      set(artist.stem, { d: line(at, ERRORS, at, ERRORS - error) });
      set(artist.kept, { cx: tick, cy: y });
    });
  });

  function draw(width) {
    const place = (width - 2 * SIDE) / (high - low);
    x = (value) => SIDE + (value - low) * place;
    set(sheet, { viewBox: `0 0 ${width} ${HEIGHT}` });
    now = study(row, shown, ...asked());
    const { ruler } = now;
    const half = ruler.scale / 2;
    scaleY = Math.min(place, ROOM / (1.15 * Math.max(half, now.worst)));
    drawRuler(ruler, width, place);
    drawErrors(ruler, half, width);
    drawCounts(place);
    drawSelected();
    move(targets());
    speak();
  }

  function targets() {
    const seen = new Map();
    const gap = Math.min(8, STACK / Math.max(...now.counts.values()));
    const order = shown.map((_, i) => i).sort((a, b) => shown[a] - shown[b]);
    const places = Array(3 * shown.length);
    for (const i of order) {
      const { code, value, error } = now.rounded[i];
      const below = seen.get(code) ?? 0;
      seen.set(code, below + 1);
      places[3 * i] = x(value);
      places[3 * i + 1] = STACKS + below * gap;
      places[3 * i + 2] = error * scaleY;
    }
    return places;
  }

  function drawRuler(ruler, width, place) {
    const marked = roundNumbers(low, high, width / 90);
    numbers.replaceChildren(...marked.map(([value, text]) =>
      svg("text", { x: x(value), y: LINE - 20, class: "quiet middle" }, text)));
    const upright = marked.map(([value]) =>
      line(x(value), LINE - 15, x(value), LINE - 10));
    set(axis, { d: line(SIDE - 8, LINE, width - SIDE + 8, LINE) + upright.join("") });
    set(rug, { d: rest.map((w) => line(x(w), LINE - 5, x(w), LINE + 5)).join("") });
    const gap = ruler.scale * place;
    const [left, right] = edges(ruler, place);
    set(body, { x: left, width: right - left });
    const room = 10 + 8 * Math.max(`${ruler.low}`.length, `${ruler.high}`.length);
    let stride = 1;
    while (stride * gap < room) stride *= 2;
    let d = "";
    const labels = [];
    for (let code = ruler.low; code <= ruler.high; code++) {
      const at = x(levelOf(ruler, code));
      const named = (code - ruler.zero) % stride === 0;
      d += line(at, RULER, at, RULER + (named ? 8 : 5));
      if (named) {
        labels.push(svg("text", { x: at, y: RULER + 22, class: "middle" },
          integer(code)));
      }
    }
    set(marks, { d, "stroke-width": clamp(gap / 5, 0.4, 1.2) });
    codes.replaceChildren(...labels);
    const whole = ends(fitRuler(row, model.get("grid"), model.get("bits")));
    [left - 7, right + 7].forEach((at, i) => set(grips[i], {
      transform: `translate(${at} 0)`,
      display: Math.abs(whole[i]) > Math.max(...whole.map(Math.abs)) / 3
        ? "inline" : "none",
    }));
  }

  /** The first and the last tick of a ruler. */
  const ends = (ruler) => [levelOf(ruler, ruler.low), levelOf(ruler, ruler.high)];

  /** Where the body of a ruler begins and ends on the sheet. */
  function edges(ruler, place) {
    const margin = Math.min(END, ruler.scale * place / 2);
    return ends(ruler).map((end, i) => x(end) + (i ? margin : -margin));
  }

  function drawErrors(ruler, half, width) {
    const y = (error) => ERRORS - error * scaleY;
    const inSight = (error) => clamp(error, -ROOM / scaleY, ROOM / scaleY);
    set(none, { d: line(SIDE - 8, ERRORS, width - SIDE + 8, ERRORS) });
    set(band, {
      x: SIDE - 8, width: width - 2 * SIDE + 16, y: y(half), height: 2 * half * scaleY,
    });
    let d = "";
    for (let code = ruler.low; code <= ruler.high; code++) {
      const value = levelOf(ruler, code);
      const up = code === ruler.low ? inSight(low - value) : -half;
      const down = code === ruler.high ? inSight(high - value) : half;
      d += line(x(value + up), y(-up), x(value + down), y(-down));
    }
    set(tooth, { d });
    const apart = half * scaleY > 9;
    halves.forEach((text, i) => {
      const beside = i ? y(-half) + 13 : y(half) - 4;
      set(text, { x: width, y: apart ? beside : y(half) - 5 });
      text.textContent = ["+½ step", "−½ step"][i];
      if (!apart) text.textContent = ["±½ step", ""][i];
    });
  }

  function drawCounts(place) {
    const gap = Math.min(8, STACK / Math.max(...now.counts.values()));
    const wide = now.ruler.scale * place > 20;
    counts.replaceChildren(...(wide ? [...now.counts] : []).map(([code, n]) =>
      svg("text", {
        x: x(levelOf(now.ruler, code)), y: STACKS + n * gap + 12, class: "quiet middle",
      }, String(n))));
  }

  function drawSelected() {
    const chosen = hovered ?? selected();
    const { value, code } = now.rounded[chosen];
    const { ruler } = now;
    const half = ruler.scale / 2;
    const left = x(code === ruler.low ? Math.min(low, value - half) : value - half);
    const right = x(code === ruler.high ? Math.max(high, value + half) : value + half);
    const tick = x(value);
    const middle = (LINE + RULER) / 2;
    set(funnel, { d: `${thread(left, LINE, tick - 2, RULER)}L${tick + 2} ${RULER}`
      + `C${tick + 2} ${middle} ${right} ${middle} ${right} ${LINE}Z` });
    each.forEach((artist, i) => {
      const { clipped } = now.rounded[i];
      const here = i === chosen;
      const hue = `var(--mq-${clipped ? "violet" : "blue"})`;
      set(artist.thread, {
        stroke: hue, "stroke-width": here ? 2.6 : 1.2, opacity: here ? 1 : 0.5,
      });
      set(artist.dot, { cx: x(shown[i]), fill: hue, r: here ? 7 : 5,
        opacity: here ? 1 : 0.85 });
      set(artist.stem, {
        stroke: `var(--mq-${clipped ? "violet" : "vermilion"})`,
        "stroke-width": here ? 5 : 2.4,
      });
      set(artist.kept, { fill: here ? hue : "var(--mq-ink)", r: here ? 4.6 : 3.2 });
    });
    drawLens(chosen);
    drawWay(chosen);
  }

  /** The neighbourhood of one weight, large. */
  function drawLens(chosen) {
    const { value, code, error, clipped } = now.rounded[chosen];
    const { ruler } = now;
    const w = shown[chosen];
    const hue = `var(--mq-${clipped ? "violet" : "blue"})`;
    const wide = Math.max(1.35 * ruler.scale, 1.15 * Math.abs(error));
    const at = (v) => 210 + (v - value) / wide * 195;
    const half = ruler.scale / 2;
    const parts = [];
    const add = (tag, look, ...inside) => parts.push(svg(tag, look, ...inside));
    const leftmost = code === ruler.low ? 0 : at(value - half);
    const rightmost = code === ruler.high ? 420 : at(value + half);
    add("rect", { x: leftmost, width: rightmost - leftmost, y: 20, height: 48,
      fill: "var(--mq-highlight)" });
    add("path", { d: line(0, 68, 420, 68), stroke: "var(--mq-muted)" });
    for (let near = code - 1; near <= code + 1; near++) {
      if (near < ruler.low || near > ruler.high) continue;
      const tick = at(levelOf(ruler, near));
      if (tick < 8 || tick > 412) continue;
      add("path", { d: line(tick, 68, tick, 80), stroke: "var(--mq-ink)",
        "stroke-width": near === code ? 3 : 1.4 });
      add("text", { x: tick, y: 97, class: "middle" }, integer(near));
    }
    add("path", { d: line(at(w), 44, at(value), 44), "stroke-width": 4,
      stroke: `var(--mq-${clipped ? "violet" : "vermilion"})` });
    add("path", { d: line(at(value), 30, at(value), 68), stroke: "var(--mq-ink)",
      "stroke-width": 1.4, "stroke-dasharray": "3 3" });
    add("circle", { cx: at(w), cy: 44, r: 7, fill: hue });
    add("text", { x: 210, y: 13, class: "middle quiet" },
      code === ruler.low || code === ruler.high
        ? `all from here on becomes ${integer(code)}`
        : `all in this range becomes ${integer(code)}`);
    lens.replaceChildren(...parts);
  }

  /** The arithmetic of one weight, as a table: what is done, what comes out. */
  function drawWay(chosen) {
    const { steps, whole, free, code, value, error, clipped } = now.rounded[chosen];
    const { scale, zero, low: bottom, high: top } = now.ruler;
    const zeros = GRIDS[model.get("grid")](2).zeros;
    const rows = [
      [`weight w[${first + chosen}]`, number(shown[chosen])],
      [`÷ scale ${number(scale)}`, number(steps)],
      ["round", integer(whole)],
    ];
    if (zeros) rows.push([`+ zero ${integer(zero)}`, integer(free)]);
    if (free !== code) {
      rows.push([`clamp to ${integer(bottom)} … ${integer(top)}`, integer(code)]);
    }
    rows.at(-1)[0] += " = code";
    const counted = zeros ? `(${integer(code)} − ${integer(zero)})` : integer(code);
    rows.push([`back: ${counted} × ${number(scale)}`, number(value)]);
    rows.push([clipped ? "clipped: error" : "error",
      `${number(error, 5, true)} = ${inSteps(error)}`]);
    way.replaceChildren(html("tbody", {}, ...rows.map(([done, gives]) =>
      html("tr", {}, html("th", { scope: "row" }, done), html("td", {}, gives)))));
  }

  const inSteps = (error) => {
    const share = Math.abs(error) / now.ruler.scale;
    return share < 1 ? `${share.toFixed(2)} of a step` : `${number(share, 3)} steps`;
  };

  // --- in words ---
  function speak() {
    const { ruler, rounded, ticks, worst, clipped, ties } = now;
    const n = rounded.length;
    says.textContent = `${NAMES[model.get("grid")]} at ${model.get("bits")} bits has `
      + `${ticks} ticks, one every ${number(ruler.scale, 3)}; these ${n} weights use `
      + `${now.counts.size} of them. The largest error is ${number(worst, 3)}, `
      + `${inSteps(worst)}. ${sentence(count(clipped, "weight is", "weights are"))} `
      + "clipped.";
    if (ties) says.append(` ${count(ties, "lies", "lie")} halfway between two ticks.`);
    sheet.setAttribute("aria-label", `${n} weights of a row as dots on a number line, `
      + `from ${number(Math.min(...shown), 3)} to ${number(Math.max(...shown), 3)}. `
      + "A thread joins each to the nearest tick of the ruler below it. Dots under the "
      + "ruler count the weights at each code. At the bottom the error of each weight, "
      + "in a band of half a step up and down.");
    const all = Object.keys(NAMES).map((name) =>
      [name, study(row, shown, name, model.get("bits"), model.get("keep"))]);
    const head = ["", "step", "largest error", "mean squared", "clipped"];
    table.replaceChildren(
      html("thead", {}, html("tr", {}, ...head.map((text) =>
        html(text ? "th" : "td", text ? { scope: "col" } : {}, text)))),
      html("tbody", {}, ...all.map(([name, it]) =>
        html("tr", { class: name === model.get("grid") ? "chosen" : null },
          html("th", { scope: "row" }, NAMES[name]),
          ...[it.ruler.scale, it.worst, it.mse].map((value) =>
            html("td", {}, number(value, 3))), html("td", {}, String(it.clipped))))),
    );
  }

  // --- what the reader does on the sheet ---
  grips.forEach((grip, i) => {
    const where = () => x(ends(now.ruler)[i]);
    draggable(grip, sheet, where, (at) => {
      const whole = ends(fitRuler(row, model.get("grid"), model.get("bits")))[i];
      const value = low + (at - SIDE) / (x(high) - x(low)) * (high - low);
      keep.input.focus({ preventScroll: true });
      model.set("keep", Math.round(100 * clamp(value / whole, LEAST, 1)) / 100);
    });
  });
  const nearest = (event) => {
    const at = drawnX(sheet, event);
    const away = shown.map((w) => Math.abs(x(w) - at));
    return away.indexOf(Math.min(...away));
  };
  sheet.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse" || event.buttons || !x) return;
    hovered = nearest(event);
    redraw();
  });
  sheet.addEventListener("pointerleave", () => {
    hovered = null;
    redraw();
  });
  sheet.addEventListener("pointerdown", (event) => {
    model.set("weight", first + nearest(event));
  });
  return close;
}

const sentence = (text) => text[0].toUpperCase() + text.slice(1);

export default { render };
