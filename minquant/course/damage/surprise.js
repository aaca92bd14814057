// A text coloured by surprise, and what chance does to an average.
//
//     the [goat] sleeps in the [granary]    the stronger, the more nats a word cost
//     ──●─●●●─┃●●──●──                      the mean, over documents drawn again
import {
  button, frame, html, menu, number, roundNumbers, set, svg,
} from "../live/base.js";

const MOST = 6; // nats: the strongest colour
const LINE = 96;
const HEIGHT = 138;

/** Random whole numbers below n, the same for the same seed (mulberry32). */
export function dice(seed) {
  let state = seed;
  return (n) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor(((t ^ (t >>> 14)) >>> 0) / 4294967296 * n);
  };
}

/** The mean per token over documents drawn again, with replacement. */
export function drawAgain(sums, counts, roll) {
  let [nats, tokens] = [0, 0];
  for (let i = 0; i < sums.length; i++) {
    const drawn = roll(sums.length);
    nats += sums[drawn];
    tokens += counts[drawn];
  }
  return nats / tokens;
}

function render({ model, el }) {
  const words = model.get("tokens");
  const models = model.get("models"); // name: { nats, sums, mean, low, high }
  const counts = model.get("counts");
  const first = Object.keys(models)[0];
  const { root, redraw, close } = frame({ model, el, watch: ["name"], draw });
  const choose = menu(model, "name", {
    label: "the model in",
    options: Object.fromEntries(Object.keys(models).map((name) => [name, name])),
  });
  const text = html("p", { class: "mq-surprise" }, ...words.flatMap((word) =>
    [word.slice(0, word.length - word.trimStart().length),
      html("span", {}, word.trimStart())]));
  const spans = [...text.children];
  const sheet = svg("svg", { role: "img" });
  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  let drawn = [];
  let roll = dice(0);
  const draw1 = (times) => {
    const { sums } = models[model.get("name")];
    for (let i = 0; i < times; i++) drawn.push(drawAgain(sums, counts, roll));
    redraw();
  };
  const one = button("draw again", () => draw1(1));
  const many = button("100 times", () => draw1(100));
  const clear = () => {
    drawn = [];
    roll = dice(0);
  };
  model.on("change:name", clear);
  root.append(html("div", { class: "mq-controls" }, choose.box), text,
    html("div", { class: "mq-controls" }, one, many), sheet, says);

  function draw(width) {
    const name = model.get("name");
    const own = models[name];
    spans.forEach((span, i) => {
      const nats = own.nats[i];
      const share = Math.round(100 * Math.min(1, nats / MOST));
      span.style.background = "color-mix(in srgb, var(--mq-vermilion) "
        + `${Math.round(0.6 * share)}%, transparent)`;
      const percent = number(100 * Math.exp(-nats), 2);
      span.title = `${number(nats, 3)} nats: the model gave it ${percent} %`;
    });
    drawMeans(width, own);
    const total = own.nats.reduce((sum, x) => sum + x, 0) / words.length;
    const most = own.nats.indexOf(Math.max(...own.nats));
    says.textContent = `In ${name} this text costs ${number(total, 3)} nats per token; `
      + `the largest surprise is “${words[most].trim()}”, ${number(own.nats[most], 3)} `
      + "nats. "
      + `Over ${counts.length} documents ` + (name === first
      ? `it is ${number(own.mean, 3)}.`
      : `the loss rises by ${number(own.mean, 3)} [${number(own.low, 3)}, `
        + `${number(own.high, 3)}].`)
      + (drawn.length ? ` Drawn again ${drawn.length} times.` : "");
  }

  /** The interval, the mean, and a dot for each time the documents were drawn again. */
  function drawMeans(width, own) {
    const reach = 1.6 * Math.max(own.mean - own.low, own.high - own.mean, 1e-6);
    const x = (mean) => width / 2 + (mean - own.mean) / reach * (width / 2 - 50);
    const marks = roundNumbers(own.mean - reach, own.mean + reach, width / 130);
    const heights = new Map(); // how many dots lie at a place already
    const tall = Math.max(1, drawn.length / 60); // many dots move closer together
    const dots = drawn.map((mean) => {
      const at = Math.round(x(mean) / 6) * 6;
      heights.set(at, (heights.get(at) ?? 0) + 1);
      return svg("circle", {
        cx: at, cy: LINE - 5 - 6 * (heights.get(at) - 1) / tall, r: 2.8,
        fill: "var(--mq-blue)", opacity: 0.8 });
    });
    sheet.replaceChildren(
      svg("rect", { x: x(own.low), width: x(own.high) - x(own.low), y: 12,
        height: LINE - 12, fill: "var(--mq-band)" }),
      svg("path", { d: `M10 ${LINE}H${width - 10}`, stroke: "var(--mq-muted)" }),
      svg("path", { d: `M${x(own.mean)} 12V${LINE}`, stroke: "var(--mq-ink)",
        "stroke-width": 2 }),
      ...dots,
      ...marks.map(([mean, label]) =>
        svg("text", { x: x(mean), y: LINE + 18, class: "middle quiet" }, label)),
      svg("text", { x: width / 2, y: LINE + 38, class: "middle quiet" },
        `${model.get("name") === first ? "loss" : "rise of the loss"}, nats per token`),
    );
    set(sheet, {
      viewBox: `0 0 ${width} ${HEIGHT}`,
      "aria-label": "A text in which each word is coloured by its surprise. Under it "
        + `the mean over ${counts.length} documents, its 95 % interval as a band, and `
        + "a dot for each time that documents were drawn again.",
    });
  }
  return () => {
    model.off?.("change:name", clear);
    close();
  };
}

export default { render };
