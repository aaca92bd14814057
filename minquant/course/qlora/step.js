// What a step of training keeps in memory: a bar for full fine-tuning, LoRA, QLoRA.
//
//     all weights   ▇▇▇▇▇▇░░░░░░▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒    108 GB
//     LoRA          ▇▇▇▇▇▇┃                         14.1 GB
//     QLoRA         ▇▇    ┃  a card of 16 GB        4.51 GB
import { frame, glide, html, menu, number, set, slider, svg } from "../live/base.js";

const PARTS = {
  weights: ["weights", "blue"],
  gradients: ["gradients", "sky"],
  optimizer: ["optimizer (with fp32 copies)", "ink"],
  saved: ["kept for the way back", "muted"],
};
const WAYS = {
  full: "all weights are trained, in 16 bits",
  lora: "LoRA: 16 bits frozen, A and B trained",
  qlora: "QLoRA: 4 bits frozen, A and B trained",
};
const SHORT = { full: "full fine-tuning", lora: "LoRA", qlora: "QLoRA" };
const ROW = 58;
const TOP = 12;
const BAR = 24;
const HEIGHT = TOP + 3 * ROW + 34;

/** Bytes that a step keeps, as planning/budget.py computes them. */
export function stepMemory(model, way, { rank, moments, texts, kept, codeBits }) {
  const { linear, rest, per_rank: perRank, saved } = model;
  const [once, perText, perTextAndRank] =
    saved[kept][way === "full" ? "full" : "adapted"];
  const batch = once + texts * (perText + rank * perTextAndRank);
  if (way === "full") {
    const n = linear + rest;
    return { weights: 2 * n, gradients: 2 * n, optimizer: Math.round(n * (4 + moments)),
      saved: batch };
  }
  const n = rank * perRank;
  const bits = way === "lora" ? 16 : codeBits;
  return { weights: Math.round(linear * bits / 8 + 2 * rest) + 4 * n, gradients: 4 * n,
    optimizer: Math.round(n * moments), saved: batch };
}

/** Bytes in the largest unit that they fill, as drawing/numbers.py writes them. */
export function readableBytes(bytes) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (bytes < size) continue;
    const count = bytes / size;
    return `${count >= 999.5 ? Math.round(count).toLocaleString("en-US")
      : number(count, 3)} ${unit}`;
  }
  return `${bytes} bytes`;
}

const total = (parts) => Object.values(parts).reduce((sum, x) => sum + x, 0);

function render({ model, el }) {
  const models = model.get("models");
  const watch = ["name", "log_rank", "optimizer", "log_texts", "kept", "card"];
  const { root, close } = frame({ model, el, watch, draw });
  const same = (names) => Object.fromEntries(names.map((name) => [name, name]));
  const controls = [
    menu(model, "name", { label: "model", options: same(Object.keys(models)) }),
    slider(model, "log_rank", { label: "rank", min: 0, max: 8,
      shown: (i) => String(2 ** i) }),
    menu(model, "optimizer", { label: "optimizer",
      options: same(Object.keys(model.get("optimizers"))) }),
    slider(model, "log_texts", { label: `texts of ${model.get("tokens")} tokens`,
      min: 0, max: 6, shown: (i) => String(2 ** i) }),
    menu(model, "kept", { label: "for the way back keep", options: {
      whole: "everything", checkpointed: "each layer’s input" } }),
    menu(model, "card", { label: "card", options: Object.fromEntries(
      ["8", "16", "24", "48", "80"].map((gb) => [gb, `${gb} GB`])) }),
  ];
  const swatch = (color) => {
    const box = svg("svg", { viewBox: "0 0 14 14",
      style: "display: inline-block; width: 14px; height: 14px; margin-right: 6px; "
        + "vertical-align: -2px" },
    svg("rect", { width: 14, height: 14, fill: `var(--mq-${color})` }));
    return box;
  };
  const legend = html("div", { class: "mq-row", style: "margin: 2px 0 6px" },
    ...Object.values(PARTS).map(([label, color]) =>
      html("span", {}, swatch(color), label)));
  const sheet = svg("svg", { role: "img" });
  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  root.append(html("div", { class: "mq-controls" }, ...controls.map((c) => c.box)),
    legend, sheet, says);

  const rows = Object.keys(WAYS).map((way, i) => {
    const y = TOP + i * ROW;
    const made = {
      label: svg("text", { x: 0, y: y + 12 }, WAYS[way]),
      sum: svg("text", { y: y + 12, class: "end", "font-weight": "bold" }),
      parts: Object.values(PARTS).map(([, color]) =>
        svg("rect", { y: y + 19, height: BAR, fill: `var(--mq-${color})` })),
    };
    sheet.append(made.label, made.sum, ...made.parts);
    return made;
  });
  const line = svg("path", { stroke: "var(--mq-vermilion)", "stroke-width": 3 });
  const cardWords = svg("text", { y: HEIGHT - 10, style: "fill: var(--mq-vermilion)" });
  sheet.append(line, cardWords);

  let wide = 0;
  const move = glide((places) => {
    rows.forEach(({ parts }, i) => parts.forEach((part, j) => {
      const at = places[5 * i + j];
      set(part, { x: at, width: Math.max(0, places[5 * i + j + 1] - at) });
    }));
    const at = places.at(-1);
    const seen = at <= wide;
    const beside = rows.map((_, i) => `M${at} ${TOP + i * ROW + 16}v${BAR + 6}`);
    set(line, { d: seen ? beside.join("") : "" });
    const left = at < wide / 2;
    cardWords.setAttribute("x", seen ? at : wide);
    cardWords.setAttribute("class", seen && left ? "" : "end");
  });

  const settings = () => ({
    rank: 2 ** model.get("log_rank"), texts: 2 ** model.get("log_texts"),
    moments: model.get("optimizers")[model.get("optimizer")],
    kept: model.get("kept"), codeBits: model.get("code_bits"),
  });

  function draw(width) {
    wide = width;
    set(sheet, { viewBox: `0 0 ${width} ${HEIGHT}` });
    const chosen = models[model.get("name")];
    const took = Object.keys(WAYS).map((way) => stepMemory(chosen, way, settings()));
    const sums = took.map(total);
    // The axis stays while a model does, so that bars shrink before the eye.
    const usual = total(stepMemory(chosen, "full",
      { rank: 16, moments: 8, texts: 1, kept: "whole", codeBits: 4 }));
    const place = width / Math.max(usual, ...sums);
    const card = 1e9 * Number(model.get("card"));
    const places = took.flatMap((parts) => {
      const ends = [0];
      for (const size of Object.values(parts)) ends.push(ends.at(-1) + size * place);
      return ends;
    });
    rows.forEach((row, i) => {
      set(row.sum, { x: width });
      row.sum.textContent = `${readableBytes(sums[i])}${sums[i] <= card
        ? " · fits" : " · too much"}`;
      set(row.sum, { style: `fill: var(--mq-${sums[i] <= card ? "green"
        : "vermilion"})` });
      row.label.textContent = width < 520 ? SHORT[Object.keys(WAYS)[i]]
        : Object.values(WAYS)[i];
    });
    cardWords.textContent = card * place <= width ? `a card of ${model.get("card")} GB`
      : `a card of ${model.get("card")} GB ends far to the right`;
    move([...places, card * place]);
    speak(chosen, sums, took, card);
  }

  function speak(chosen, sums, took, card) {
    const { rank, texts } = settings();
    const n = rank * chosen.per_rank;
    const fit = Object.values(SHORT).filter((_, i) => sums[i] <= card);
    const share = 100 * n / (chosen.linear + chosen.rest);
    says.textContent = `${model.get("name")}, ${texts} ${texts > 1 ? "texts" : "text"} `
      + `of ${model.get("tokens")} tokens: a step of full fine-tuning keeps `
      + `${readableBytes(sums[0])}, of LoRA ${readableBytes(sums[1])}, of QLoRA `
      + `${readableBytes(sums[2])}, of which the text ${readableBytes(took[2].saved)}. `
      + `At rank ${rank} the adapters have ${n.toLocaleString("en-US")} numbers, `
      + `${share < 10 ? number(share, 2) : Math.round(share)} % of the model’s. `
      + (fit.length ? `On a card of ${model.get("card")} GB fits: ${fit.join(", ")}.`
        : `Nothing fits on a card of ${model.get("card")} GB.`);
    sheet.setAttribute("aria-label", "Three bars, for full fine-tuning, LoRA and "
      + "QLoRA, of weights, gradients, optimizer and what the text leaves, in bytes; a "
      + "line where the card ends.");
  }
  return close;
}

export default { render };
