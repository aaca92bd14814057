// Time against tokens, by the roofline: 16 bits, and codes that become 16 bits first.
//
//     ms │            ╱         both lines: the larger of
//        │ 16 bits ───╱             bytes / bandwidth   (level: the machine reads)
//        │          ╱╱              FLOPs / peak        (rising: it computes)
//        │ 4 bits ─╱
//        └────────┼──── tokens    where they meet, fewer bits gain nothing more
import {
  clamp, frame, html, labelled, menu, native, number, set, slider, svg,
} from "../live/base.js";

const HEIGHT = 340;
const LEFT = 64;
const RIGHT = 86;
const TOP = 22;
const BOTTOM = 44;
const LAST = 4096; // tokens
const MOST = 2 ** 20;
const FP16 = 16;

/** The shortest time in seconds, as in planning/roofline.py; W is square. */
export function leastSeconds({ bandwidth, peak }, { tokens, side }, bits) {
  const bytes = side * side * bits / 8 + 2 * tokens * 2 * side;
  return Math.max(bytes / bandwidth, 2 * tokens * side * side / peak);
}

/** The first number of tokens at which fewer bits are not faster than 16. */
export function crossing(machine, side, bits, reach) {
  const slower = { ...machine, peak: reach * machine.peak };
  const gains = (tokens) => leastSeconds(slower, { tokens, side }, bits)
    < leastSeconds(machine, { tokens, side }, FP16) * (1 - 1e-9);
  let [low, high] = [0, MOST];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (gains(middle)) low = middle;
    else high = middle;
  }
  return high;
}

/** A time with its unit. */
export function duration(seconds) {
  const [size, unit] = seconds < 1e-3 ? [1e6, "µs"] : seconds < 1 ? [1e3, "ms"] : [1, "s"];
  return `${number(seconds * size, 3)} ${unit}`;
}

const grouped = (n) => n.toLocaleString("en");
const rate = (x) => (x >= 1000 ? grouped(Math.round(x)) : number(x, 3));

function render({ model, el }) {
  const machines = model.get("machines");
  const names = ["machine", "bandwidth", "peak", "bits", "side", "reach", "tokens"];
  const { root, close } = frame({ model, el, watch: names, draw });
  const OWN = "my own";
  const chosen = native("select", {}, ...[...Object.keys(machines), OWN].map((name) =>
    html("option", { value: name }, name)));
  chosen.addEventListener("change", () => {
    const own = machines[chosen.value];
    model.set("machine", own ? chosen.value : "");
    if (own) {
      model.set("bandwidth", own.bandwidth);
      model.set("peak", own.peak);
    }
  });

  /** A slider whose steps are equal factors; moving it leaves the named machine. */
  function factor(name, label, [min, max], shown, whole = false) {
    const input = native("input", { type: "range",
      min: Math.round(4 * Math.log2(min)), max: Math.round(4 * Math.log2(max)) });
    const output = html("output");
    const box = labelled(label, input, output);
    const show = () => {
      input.value = Math.round(4 * Math.log2(model.get(name)));
      output.textContent = shown(model.get(name));
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", () => {
      const value = 2 ** (input.value / 4);
      if (!whole) model.set("machine", "");
      model.set(name, whole ? Math.round(value) : value);
    });
    model.on(`change:${name}`, show);
    show();
    return box;
  }
  const controls = [
    labelled("machine", chosen),
    factor("bandwidth", "reads", [4e9, 16e12], (v) => `${rate(v / 1e9)} GB/s`),
    factor("peak", "computes", [2e10, 16e15],
      (v) => `${rate(v / 1e12)} TFLOP/s`),
    slider(model, "bits", { label: "bits for a weight", min: 2.125, max: 8.125 }).box,
    slider(model, "reach", { label: "its kernel reaches", min: 0.1, max: 1, step: 0.05,
      shown: (v) => `${Math.round(100 * v)} % of the peak` }).box,
    factor("side", "rows and columns of W", [512, 32768], grouped, true),
    factor("tokens", "tokens at a time", [1, LAST], grouped, true),
  ];
  const sheet = svg("svg", { role: "img" });
  const part = (tag, look = {}, ...inside) => {
    const made = svg(tag, look, ...inside);
    sheet.append(made);
    return made;
  };
  const faster = part("rect", { y: TOP, height: HEIGHT - TOP - BOTTOM,
    fill: "var(--mq-band)", opacity: 0.6 });
  const grid = part("path", { stroke: "var(--mq-hairline)" });
  const ticks = part("g");
  const lines = part("g");
  const meet = part("path", { stroke: "var(--mq-muted)", "stroke-dasharray": "4 4" });
  const cursor = part("path", { stroke: "var(--mq-ink)", "stroke-width": 1.4 });
  const dots = ["ink", "blue"].map((hue) =>
    part("circle", { r: 5, fill: `var(--mq-${hue})` }));
  const where = part("text", { y: TOP - 8, class: "quiet" });
  const axis = part("text", { y: HEIGHT - 4, class: "quiet end" },
    "tokens at a time");
  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  root.append(html("div", { class: "mq-controls" }, ...controls), sheet, says);

  function draw(width) {
    const machine = { bandwidth: model.get("bandwidth"), peak: model.get("peak") };
    const [bits, side, reach] = ["bits", "side", "reach"].map((n) => model.get(n));
    chosen.value = model.get("machine") || OWN;
    const narrow = machines[model.get("machine")]?.narrow ?? [];
    const ways = [
      { name: "16 bits", bits: FP16, machine, hue: "ink", look: null },
      { name: `${number(bits, 4)} bits`, bits, hue: "blue", look: null,
        machine: { ...machine, peak: reach * machine.peak } },
      ...narrow.map(([form, own, peak], i) => ({ name: form, bits: own,
        hue: i ? "violet" : "green", look: "7 4", machine: { ...machine, peak } })),
    ];
    const time = (way, tokens) => leastSeconds(way.machine, { tokens, side }, way.bits);
    const low = Math.min(...ways.map((way) => time(way, 1))) / 1.5;
    const high = Math.max(...ways.map((way) => time(way, LAST))) * 1.2;
    const x = (tokens) => LEFT
      + Math.log2(tokens) / Math.log2(LAST) * (width - LEFT - RIGHT);
    const y = (seconds) => TOP + Math.log(high / seconds) / Math.log(high / low)
      * (HEIGHT - TOP - BOTTOM);
    set(sheet, { viewBox: `0 0 ${width} ${HEIGHT}` });
    drawAxes(x, y, low, high, width);
    drawLines(ways, time, x, y);
    const at = crossing(machine, side, bits, reach);
    const edge = clamp(at, 1, LAST);
    set(faster, { x: LEFT, width: x(edge) - LEFT });
    set(meet, { d: at <= LAST ? `M${x(at)} ${TOP}V${HEIGHT - BOTTOM}` : "" });
    const right = x(edge) > width / 2;
    set(where, { x: x(edge) + (right ? -6 : 6), class: right ? "quiet end" : "quiet" });
    where.textContent = at > LAST ? "faster with fewer bits everywhere here"
      : at === 1 ? "fewer bits gain nothing" : `← faster up to ${grouped(at - 1)}`;
    const tokens = model.get("tokens");
    const times = ways.map((way) => time(way, tokens));
    set(cursor, { d: `M${x(tokens)} ${TOP}V${HEIGHT - BOTTOM}` });
    dots.forEach((dot, i) => set(dot, { cx: x(tokens), cy: y(times[i]) }));
    set(axis, { x: width });
    speak(ways, times, at, reach);
  }

  function drawAxes(x, y, low, high, width) {
    const marks = [];
    let d = "";
    for (let tokens = 1; tokens <= LAST; tokens *= 4) {
      d += `M${x(tokens)} ${TOP}V${HEIGHT - BOTTOM}`;
      if (width < 560 && Math.log2(tokens) % 4) continue;
      marks.push(svg("text", { x: x(tokens), y: HEIGHT - BOTTOM + 17,
        class: "middle quiet" }, grouped(tokens)));
    }
    const first = Math.ceil(Math.log10(low));
    for (let power = first; 10 ** power <= high; power++) {
      d += `M${LEFT} ${y(10 ** power)}H${width - RIGHT}`;
      marks.push(svg("text", { x: LEFT - 8, y: y(10 ** power) + 4, class: "end quiet" },
        duration(10 ** power)));
    }
    set(grid, { d });
    ticks.replaceChildren(...marks);
  }

  function drawLines(ways, time, x, y) {
    const all = Array.from({ length: 97 }, (_, i) => 2 ** (i / 8));
    const ends = ways.map((way) => y(time(way, LAST)));
    const order = ways.map((_, i) => i).sort((a, b) => ends[a] - ends[b] || a - b);
    const spots = [];
    for (const i of order) spots[i] = Math.max(ends[i], (spots.last ?? 0) + 15),
      spots.last = spots[i];
    lines.replaceChildren(...ways.flatMap((way, i) => [
      svg("path", {
        d: `M${all.map((n) => `${x(n)} ${y(time(way, n))}`).join("L")}`, fill: "none",
        stroke: `var(--mq-${way.hue})`, "stroke-width": i === 1 ? 3.5 : 2,
        "stroke-dasharray": way.look,
      }),
      svg("text", { x: x(LAST) + 6, y: spots[i] + 4,
        style: `fill: var(--mq-${way.hue})` }, way.name),
    ]));
  }

  function speak(ways, times, at, reach) {
    const tokens = model.get("tokens");
    const ratio = times[0] / times[1];
    const pace = Math.abs(ratio - 1) < 0.005 ? "equally fast"
      : ratio > 1 ? `${number(ratio, 3)} times as fast`
        : `${number(1 / ratio, 3)} times as slow`;
    const end = reach < 1 ? "takes longer" : "gains nothing";
    says.textContent = `${grouped(tokens)} ${tokens > 1 ? "tokens" : "token"}: 16 bits `
      + `take at least ${duration(times[0])}, ${ways[1].name} ${duration(times[1])}, `
      + `${pace}. `
      + (at > LAST ? "" : `From ${grouped(at)} tokens on the 4-bit kernel ${end}.`)
        .replace("4-bit", ways[1].name.replace(" bits", "-bit"));
    for (const [i, way] of ways.entries()) {
      if (i > 1) says.append(` ${way.name} for weights and inputs: ${
        duration(times[i])}.`);
    }
    sheet.setAttribute("aria-label", "Time against tokens, both on logarithmic axes. "
      + "Each line is level while the machine reads, and rises once it computes.");
  }
  return close;
}

export default { render };
