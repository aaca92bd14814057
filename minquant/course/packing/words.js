// A word of 32 bits: step to a code, and see the shift and the mask take it out.
//
//     1011 0101 [0011] … 0110      the word: eight codes
//              ╲     ╲
//     0000 0000 … 1011 [0011]      >> shift: the code stands at the right end
//     0000 0000 … 0000  1111       & 15: all else becomes 0
//     ─┬──┬──┬─ 128 weights ─┬─    and which weight of the row it is
import { button, frame, glide, html, number, set, slider, svg } from "../live/base.js";

const BITS = 32;
const WORD = 44; // where rows of bits begin
const BOX = 24; // and how tall they are
const SHIFTED = 142;
const MASK = 184;
const LEFT = 226;
const STEMS = 340; // the weight 0 of the strip at the bottom
const ROOM = 46; // for a weight, up or down
const HEIGHT = 412;

/** Where a code of a word lies: the place of its lowest bit, and its column. */
export function placeOf(word, code) {
  const [field, half] = [code >> 1, code % 2];
  return { shift: 16 * half + 4 * field, column: 32 * field + 2 * word + half };
}

/** A word as an int32, shifted: the highest bit is copied into free places. */
export const shifted = (word, shift) => (word | 0) >> shift;

/** The code that stands at a shift. */
export const codeAt = (word, shift) => shifted(word, shift) & 15;

/** The 128 weights of a block. */
export function weightsOf(words, scales) {
  const weights = Array(128);
  words.forEach((held, word) => {
    for (let code = 0; code < 8; code++) {
      const { shift, column } = placeOf(word, code);
      weights[column] = Math.fround((codeAt(held, shift) - 8) * scales[code >> 1]);
    }
  });
  return weights;
}

const digits = (x) => (x >>> 0).toString(2).padStart(BITS, "0");

function render({ model, el }) {
  const stored = model.get("words_held");
  const scales = model.get("scales");
  const { root, close } = frame({
    model, el, watch: ["words_held", "word", "code"], draw,
  });
  const word = slider(model, "word", { label: "word", min: 0, max: 15 });
  const code = slider(model, "code", { label: "code", min: 0, max: 7 });
  const put = (held) => model.set("words_held",
    model.get("words_held").map((old, j) => (j === model.get("word") ? held : old)));
  const back = button("as it is stored", () => put(stored[model.get("word")]));
  const sheet = svg("svg", { role: "img" });
  const part = (tag, look = {}, ...inside) => {
    const made = svg(tag, look, ...inside);
    sheet.append(made);
    return made;
  };
  const band = part("path", { fill: "var(--mq-highlight)" });
  const row = (y, look = {}) => Array.from({ length: BITS }, () => {
    const box = part("rect", { y, height: BOX, rx: 2, ...look });
    const digit = part("text", { y: y + 17, class: "middle", "pointer-events": "none" });
    return { box, digit };
  });
  const rows = { word: row(WORD), shifted: row(SHIFTED), mask: row(MASK),
    left: row(LEFT) };
  const names = Array.from({ length: 8 }, () => ({
    code: part("text", { y: WORD - 10, class: "middle" }),
    column: part("text", { y: WORD - 28, class: "middle quiet" }),
  }));
  const labels = [SHIFTED, MASK, LEFT].map((y) => part("text", { y: y - 5,
    class: "quiet" }));
  const note = part("text", { y: WORD + BOX + 18 }, "click a bit to flip it");
  const zero = part("path", { stroke: "var(--mq-muted)" });
  const others = part("path", { stroke: "var(--mq-hairline)", "stroke-width": 2.4 });
  const eight = part("path", { stroke: "var(--mq-ink)", "stroke-width": 2.4 });
  const one = part("path", { stroke: "var(--mq-blue)", "stroke-width": 4 });
  const dot = part("circle", { r: 5, fill: "var(--mq-blue)" });
  const ends = [0, 32, 64, 96, 127].map((k) => ({ k,
    text: part("text", { y: STEMS + ROOM + 16, class: "middle quiet" }, String(k)) }));
  const caption = part("text", { y: STEMS - ROOM - 12, class: "quiet", x: 0 });
  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  root.append(html("div", { class: "mq-controls" }, word.box, code.box, back), sheet,
    says);

  let x = null; // from a place in the word, 31 to 0, to the sheet
  const move = glide(([shift]) => {
    const pitch = x(0) - x(1);
    const [a, b] = [x(shift + 3), x(shift) + pitch];
    const [c, d] = [x(3), x(0) + pitch];
    const [top, low] = [WORD + BOX, SHIFTED];
    const middle = (top + low) / 2;
    set(band, { d: `M${a} ${WORD}V${top}C${a} ${middle} ${c} ${middle} ${c} ${low}V${
      LEFT + BOX}H${d}V${low}C${d} ${middle} ${b} ${middle} ${b} ${top}V${WORD}Z` });
  });

  function draw(width) {
    const pitch = width / (BITS + 7 * 0.25);
    x = (place) => { // nibbles stand a little apart
      const i = BITS - 1 - place;
      return pitch * (i + 0.25 * Math.floor(i / 4));
    };
    set(sheet, { viewBox: `0 0 ${width} ${HEIGHT}` });
    const held = model.get("words_held")[model.get("word")];
    const { shift } = placeOf(0, model.get("code"));
    const lines = { word: held, shifted: shifted(held, shift), mask: 15,
      left: codeAt(held, shift) };
    for (const [name, value] of Object.entries(lines)) {
      digits(value).split("").forEach((bit, i) => {
        const place = BITS - 1 - i;
        const inside = name === "word" ? place >= shift && place < shift + 4 : place < 4;
        const copied = name === "shifted" && place >= BITS - shift;
        drawBit(rows[name][i], bit === "1", inside, copied, pitch);
        set(rows[name][i].box, { x: x(place) });
        set(rows[name][i].digit, { x: x(place) + pitch / 2 - 1 });
      });
    }
    [`>> ${shift}`, "& 15", "= the code"].forEach((text, i) => {
      labels[i].textContent = text;
    });
    const left = shift < 16; // the note stays away from the band
    set(note, { x: left ? 0 : width, class: left ? "quiet" : "quiet end" });
    drawNames(pitch, held);
    move([shift]);
    speak(held, shift, lines, drawStrip(width));
  }

  function drawBit({ box, digit }, on, inside, copied, pitch) {
    const hue = copied ? "vermilion" : inside ? "blue" : "muted";
    set(box, { width: pitch - 2, fill: on ? `var(--mq-${hue})` : "var(--mq-wash)",
      opacity: inside || copied ? 1 : 0.55 });
    set(digit, { style: `font-size: ${Math.min(13, pitch * 0.9)}px; fill: var(--mq-${
      on ? "paper" : "ink"})` });
    digit.textContent = on ? "1" : "0";
  }

  function drawNames(pitch, held) {
    names.forEach((name, i) => {
      const { shift, column } = placeOf(model.get("word"), i);
      const middle = x(shift + 2) + pitch * 0.88;
      const here = i === model.get("code");
      set(name.code, { x: middle, style: here
        ? "font-weight: bold; fill: var(--mq-blue)" : "" });
      name.code.textContent = String(codeAt(held, shift));
      set(name.column, { x: middle });
      name.column.textContent = pitch > 20 ? `weight ${column}` : String(column);
    });
  }

  function drawStrip(width) {
    const weights = weightsOf(model.get("words_held"), scales);
    const was = weightsOf(stored, scales);
    const largest = Math.max(...scales) * 8;
    const at = (k) => 14 + k * (width - 28) / 127;
    const stem = (k) => `M${at(k)} ${STEMS}V${STEMS - weights[k] / largest * ROOM}`;
    const mine = names.map((_, i) => placeOf(model.get("word"), i).column);
    const { column } = placeOf(model.get("word"), model.get("code"));
    set(zero, { d: `M0 ${STEMS}H${width}` });
    set(others, { d: weights.map((_, k) => stem(k)).join("") });
    set(eight, { d: mine.map(stem).join("") });
    set(one, { d: stem(column) });
    set(dot, { cx: at(column), cy: STEMS - weights[column] / largest * ROOM });
    caption.textContent = width < 560 ? "128 weights; dark: the eight of this word"
      : "the 128 weights of these 16 words, by column; dark: the eight of this word";
    for (const { k, text } of ends) set(text, { x: at(k) });
    return { weight: weights[column], was: was[column], column };
  }

  function speak(held, shift, lines, { weight, was, column }) {
    const scale = scales[model.get("code") >> 1];
    const value = lines.left;
    says.textContent = `(0x${(held >>> 0).toString(16).toUpperCase().padStart(8, "0")} `
      + `>> ${shift}) & 15 = ${value}. Weight ${column} of the row is (${value} − 8) × `
      + `${number(scale, 3)} = ${number(weight, 3)}`
      + (weight === was ? "." : `; it was ${number(was, 3)}.`);
    if (shift && held >>> 31) {
      says.append(" The highest bit is 1, and >> copies it into the free places "
        + "(orange): & 15 removes them.");
    }
    sheet.setAttribute("aria-label", `The word ${digits(held)}, shifted right by `
      + `${shift}: ${digits(lines.shifted)}; with 15: the code ${value}.`);
  }

  rows.word.forEach(({ box }, i) => {
    box.style.cursor = "pointer";
    box.addEventListener("click", () => {
      const place = BITS - 1 - i;
      put(((model.get("words_held")[model.get("word")] ^ (1 << place)) >>> 0));
      model.set("code", 2 * Math.floor(place % 16 / 4) + Math.floor(place / 16));
    });
  });
  return close;
}

export default { render };
