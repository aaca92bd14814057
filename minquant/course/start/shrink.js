// One slider, from 16 bits to 2: what becomes of five weights, of the file, of a text.
//
//     ●   ● ●    ●  ●     five weights
//      ╲  │  ╲  ╱   │     go to the nearest tick
//     ┬──┬──┬──┬──┬──┬
//     ████████▒▒┆         the bytes, inside those of 16 bits
//     the goat sleeps     what the model writes; changed words are marked
import {
  apart, clamp, fitRuler, fp16, frame, glide, html, integer, levelOf, number, quantize, set,
  slider, svg,
} from "../live/base.js";

const SIDE = 40;
const LINE = 38;
const RULER = 128;
const BAR = { y: 214, height: 26 };
const HEIGHT = 262;
const NAME = 62; // the width of a number, at most
const MOST_TICKS = 8; // bits: a ruler of more is drawn as a solid band

/** Five weights at a width: the ruler (none at 16 bits, which is fp16), the values. */
export function snapped(weights, bits) {
  if (bits === 16) return { ruler: null, values: weights.map(fp16) };
  const ruler = fitRuler(weights, "absmax", bits);
  return { ruler, values: weights.map((w) => quantize(w, ruler).value) };
}

function render({ model, el }) {
  const weights = model.get("weights").map(Math.fround);
  const states = model.get("states"); // one for each width, from 16 bits down
  const whole = states[0];
  const low = Math.min(0, ...weights);
  const high = Math.max(0, ...weights);
  const top = Math.max(-low, high);
  const { root, close } = frame({ model, el, watch: ["step"], draw });
  const bits = slider(model, "step", {
    label: "bits for a weight", min: 0, max: states.length - 1,
    shown: (i) => String(states[i].bits),
  });
  const sheet = svg("svg", { role: "img" });
  const part = (tag, look = {}, ...inside) => {
    const made = svg(tag, look, ...inside);
    sheet.append(made);
    return made;
  };
  const axis = part("path", { stroke: "var(--mq-muted)" });
  const body = part("rect", {
    y: RULER, height: 28, rx: 4, fill: "var(--mq-wash)", stroke: "var(--mq-hairline)",
  });
  const ticks = part("path", { stroke: "var(--mq-ink)", "stroke-width": 1.2 });
  const each = weights.map((w) => ({
    thread: part("path", { fill: "none", stroke: "var(--mq-blue)", "stroke-width": 2 }),
    dot: part("circle", { r: 7, cy: LINE, fill: "var(--mq-blue)" }),
    was: part("text", { y: LINE - 14, class: "middle" }, number(w, 3)),
    kept: part("circle", { r: 5, cy: RULER, fill: "var(--mq-ink)" }),
    is: part("text", { y: RULER + 46, class: "middle quiet" }),
  }));
  const rest = part("rect", { ...BAR, fill: "var(--mq-hairline)" });
  const codes = part("rect", { ...BAR, x: 0, fill: "var(--mq-blue)" });
  part("rect", { ...BAR, x: 0.5, width: "100%", fill: "none", stroke: "var(--mq-muted)",
    "stroke-dasharray": "3 4" });
  const sizeWords = part("text", { y: BAR.y - 8, x: 0, class: "quiet" });
  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  const texts = html("div", { class: "mq-texts" });
  root.append(html("div", { class: "mq-controls" }, bits.box), sheet, says, texts);

  let x = null;
  let wide = 0;
  const move = glide((places) => {
    const middle = (LINE + RULER) / 2;
    const shown = each.map((_, i) => i).filter((i) => each[i].is.textContent);
    apart(shown.map((i) => places[i]), NAME).forEach((place, k) => {
      set(each[shown[k]].is, { x: place });
    });
    each.forEach((artist, i) => {
      const [from, to] = [x(weights[i]), places[i]];
      set(artist.thread, {
        d: `M${from} ${LINE}C${from} ${middle} ${to} ${middle} ${to} ${RULER}`,
      });
      set(artist.kept, { cx: to });
    });
    const [quantized, elsewhere] = places.slice(-2);
    set(codes, { width: quantized });
    set(rest, { x: quantized, width: elsewhere });
  });

  function draw(width) {
    wide = width;
    x = (w) => width / 2 + w / top * (width / 2 - SIDE);
    set(sheet, { viewBox: `0 0 ${width} ${HEIGHT}` });
    const now = states[model.get("step")];
    const { ruler, values } = snapped(weights, now.bits);
    set(axis, { d: `M10 ${LINE}H${width - 10}` });
    set(body, { x: x(-top) - 10, width: x(top) - x(-top) + 20 });
    drawTicks(ruler, now.bits);
    const names = apart(weights.map(x), NAME);
    each.forEach((artist, i) => {
      set(artist.dot, { cx: x(weights[i]) });
      set(artist.was, { x: names[i] });
      artist.is.textContent = // once for each tick
        values.indexOf(values[i]) === i ? number(values[i], 3) : "";
    });
    const place = wide / (whole.quantized + whole.elsewhere);
    move([...values.map(x), now.quantized * place, now.elsewhere * place]);
    speak(now, ruler);
  }

  function drawTicks(ruler, width) {
    let d = "";
    if (ruler && width <= MOST_TICKS) {
      for (let code = ruler.low; code <= ruler.high; code++) {
        d += `M${x(levelOf(ruler, code))} ${RULER}v12`;
      }
    }
    const gap = ruler ? x(ruler.scale) - x(0) : 0;
    set(ticks, { d, "stroke-width": clamp(gap / 5, 0.4, 1.4) });
  }

  function speak(now, ruler) {
    const bytes = (state) => (state.quantized + state.elsewhere) / 1e6;
    const share = Math.round(100 * bytes(now) / bytes(whole));
    sizeWords.textContent = `${number(bytes(now), 3)} MB of ${number(bytes(whole), 3)}`;
    const changed = now.words.filter(([, isNew]) => isNew).length;
    const cost = now.nats - whole.nats;
    const kept = ruler ? `${integer(ruler.high - ruler.low + 1)} ticks` : "fp16";
    says.textContent = `${now.bits} bits, ${kept}: ${share} % of the size; the loss is `
      + `${number(now.nats, 3)} nats per token`
      + (now === whole ? "." : `, ${number(cost, 2, true)}; ${changed} of `
        + `${now.words.length} words changed.`);
    const names = weights.map((w) => number(w, 3)).join(", ");
    sheet.setAttribute("aria-label", `${weights.length} weights, ${names}, each `
      + "joined to the tick that it is kept as; under them a bar of the bytes, inside "
      + "that of the model in 16 bits.");
    const text = (state, title) => html("div", {}, html("b", {}, title),
      html("p", {}, html("span", { class: "mq-prompt" }, `${model.get("prompt")} `),
        ...state.words.flatMap(([word, isNew]) =>
          [isNew ? html("mark", {}, word) : word, " "])));
    texts.replaceChildren(text(whole, "in 16 bits"), text(now, `in ${now.bits} bits`));
  }
  return close;
}

export default { render };
