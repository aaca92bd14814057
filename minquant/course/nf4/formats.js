// Formats as dots: what a weight truly takes, and what is lost.
//
//     damage │  ○           a filled dot is not beaten: nothing that takes as few bits
//            │ ●   ○        loses less. Choose the damage, and the dots move.
//            │     ●
//            └────────── bits per weight
import {
  clamp, drawnX, frame, glide, html, menu, number, roundNumbers, set, slider, svg,
} from "../live/base.js";

const PLOT = { top: 30, bottom: 330, left: 62 };
const HEIGHT = PLOT.bottom + 46;
const GAP = 17; // between two names
const BESIDE = 146; // room for the names of the rightmost dots
const SAME = 0.02; // bits: formats that cost the same

/** Which dots no other beats, in bits and damage at once, as figure_pareto.py says. */
export function unbeaten(bits, values) {
  const order = bits.map((_, i) => i)
    .sort((a, b) => bits[a] - bits[b] || values[a] - values[b]);
  const kept = [];
  for (const i of order) {
    if (!kept.length || values[i] < values[kept.at(-1)]) kept.push(i);
  }
  return kept;
}

/** Heights moved apart to at least a gap, between two ends, in their order. */
export function spread(heights, gap, low, high) {
  const order = heights.map((_, i) => i).sort((a, b) => heights[a] - heights[b]);
  const made = [...heights];
  let free = low;
  for (const i of order) {
    made[i] = Math.max(made[i], free);
    free = made[i] + gap;
  }
  let most = high;
  for (const i of order.reverse()) {
    made[i] = Math.min(made[i], most);
    most = made[i] - gap;
  }
  return made;
}

function render({ model, el }) {
  const dots = model.get("dots"); // [{ name, bits }], by their bits
  const measures = model.get("measures"); // [{ name, values, intervals }]
  const bits = dots.map((dot) => dot.bits);
  const { root, close } = frame({ model, el, watch: ["measure", "format"], draw });
  const measure = menu(model, "measure", {
    label: "damage",
    options: Object.fromEntries(measures.map(({ name }) => [name, name])),
  });
  const shown = () => measures.find(({ name }) => name === model.get("measure"));
  const format = slider(model, "format", {
    label: "format", min: 0, max: dots.length - 1, shown: (i) => dots[i].name,
  });
  const sheet = svg("svg", { role: "img" });
  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  root.append(html("div", { class: "mq-controls" }, measure.box, format.box), sheet,
    says);
  const part = (tag, look = {}, ...inside) => {
    const made = svg(tag, look, ...inside);
    sheet.append(made);
    return made;
  };
  const title = part("text", { x: 0, y: 14, class: "quiet" });
  const grid = part("g", { stroke: "var(--mq-hairline)" });
  const labels = part("g");
  const here = part("circle", { r: 13, fill: "var(--mq-highlight)" });
  const bar = part("path", { stroke: "var(--mq-sky)", "stroke-width": 3 });
  const leads = dots.map(() => part("path", { stroke: "var(--mq-hairline)",
    fill: "none" }));
  const circles = dots.map(() => part("circle", { r: 5.5, "stroke-width": 2,
    stroke: "var(--mq-blue)" }));
  const names = dots.map((dot) => part("text", {}, dot.name));
  let x = null;
  let y = null;
  let places = [];
  let wide = 0;
  const move = glide((logs) => {
    const own = shown();
    const up = logs.map((log) => y(Math.exp(log)));
    places = up.map((height, i) => [x(bits[i]), height]);
    const columns = [...new Set(bits.map((b) => Math.round(b / SAME)))];
    const heights = Array(dots.length);
    for (const column of columns) { // names of one column of dots are moved apart
      const members = bits.map((b, i) => (Math.round(b / SAME) === column ? i : -1))
        .filter((i) => i >= 0);
      spread(members.map((i) => up[i]), GAP, PLOT.top, PLOT.bottom)
        .forEach((height, k) => { heights[members[k]] = height; });
    }
    places.forEach(([cx, cy], i) => {
      set(circles[i], { cx, cy });
      set(names[i], { x: cx + 20, y: heights[i] + 4 });
      set(leads[i], { d: `M${cx + 7} ${cy}L${cx + 17} ${heights[i]}` });
    });
    const [cx, cy] = places[model.get("format")];
    const ends = own.intervals[model.get("format")]?.map(y);
    set(bar, { d: ends ? `M${cx} ${ends[0]}V${ends[1]}` : "" });
    set(here, { cx, cy });
  });
  sheet.addEventListener("pointermove", (event) => {
    if (!places.length) return;
    const box = sheet.getBoundingClientRect();
    const across = drawnX(sheet, event);
    const down = (event.clientY - box.top) / box.width * wide;
    const far = places.map(([cx, cy]) => Math.hypot(cx - across, cy - down));
    const near = Math.min(...far);
    if (near < 24) model.set("format", far.indexOf(near));
  });

  function draw(width) {
    wide = width;
    const own = shown();
    const all = own.values.concat(own.intervals.filter(Boolean).flat());
    const [low, high] = [Math.min(...all) / 1.05, Math.max(...all) * 1.05];
    const [left, right] = [bits[0], bits.at(-1)];
    const room = width - PLOT.left - BESIDE;
    x = (b) => PLOT.left + (b - left) / (right - left || 1) * room;
    y = (value) => PLOT.bottom - Math.log(value / low) / Math.log(high / low)
      * (PLOT.bottom - PLOT.top);
    set(sheet, { viewBox: `0 0 ${width} ${HEIGHT}` });
    title.textContent = `${own.name}, against bits per weight`;
    const levels = [];
    for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p++) {
      levels.push(...[1, 1.5, 2, 3, 5, 7].map((n) => n * 10 ** p));
    }
    const inside = levels.filter((n) => low <= n && n <= high);
    grid.replaceChildren(...inside.map((n) => svg("path", {
      d: `M${PLOT.left - 10} ${y(n)}H${width - BESIDE + 10}` })));
    labels.replaceChildren(
      ...inside.map((n) => svg("text", { x: PLOT.left - 16, y: y(n) + 4,
        class: "quiet end" }, number(n, 2))),
      ...roundNumbers(left, right, clamp(room / 60, 2, 8)).map(([b, text]) =>
        svg("text", { x: x(b), y: PLOT.bottom + 30, class: "quiet middle" }, text)),
    );
    const best = new Set(unbeaten(bits, own.values));
    circles.forEach((circle, i) => set(circle, {
      fill: `var(--mq-${best.has(i) ? "blue" : "paper"})` }));
    const chosen = model.get("format");
    names.forEach((name, i) => { // where all do not fit, that of the chosen one
      const fits = room > 480 || i === chosen;
      name.textContent = fits ? dots[i].name : "";
      set(name, { "font-weight": i === chosen ? "bold" : "normal" });
      set(leads[i], { display: fits ? "inline" : "none" });
    });
    move(own.values.map(Math.log));
    speak(own, best, chosen);
  }

  function speak(own, best, chosen) {
    const told = (i) => {
      const ends = own.intervals[i];
      return number(own.values[i], 3)
        + (ends ? ` [${ends.map((end) => number(end, 3)).join(", ")}]` : "");
    };
    const { name, bits: own_bits } = dots[chosen];
    const rivals = [...best].filter((i) => i !== chosen && bits[i] <= own_bits
      && own.values[i] <= own.values[chosen]);
    const rival = rivals.at(-1);
    says.textContent = `${name}: ${own_bits.toFixed(2)} bits per weight. ${own.name}: `
      + `${told(chosen)}. ` + (best.has(chosen)
      ? "Nothing here that takes as few bits loses less."
      : `Beaten by ${dots[rival].name}: ${bits[rival].toFixed(2)} bits, `
        + `${told(rival)}.`);
    sheet.setAttribute("aria-label", `${dots.length} formats as dots, by their bits `
      + `per weight and by this damage: ${own.name}. Filled dots are not beaten.`);
  }
  return close;
}

export default { render };
