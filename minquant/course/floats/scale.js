// The hill of weights over the numbers that a format has: a scale slides it.
//
//           ▁▃▆█▇▄▂▁        weights divided by the scale, by their power of 2
//      │ ▏▏ ▏ ▏▏▏▏│         numbers of the format
//    → 0                →   what lies left of them becomes 0, right of them the largest
import {
  button, clamp, frame, glide, html, menu, number, raised, roundNumbers, set, slider,
  svg,
} from "../live/base.js";

const ENDS = [-16, 12]; // powers of 2 in view
const HILL = { top: 34, bottom: 190 };
const HEIGHT = 262;

function render({ model, el }) {
  const hill = model.get("hill"); // [power of 2 of a bin, share of the weights]
  const bin = model.get("bin"); // the width of a bin, in powers of 2
  const formats = model.get("formats"); // name: { numbers, largest, zero, beyond, fit }
  const steps = model.get("steps"); // the power of 2 of each scale
  const { root, close } = frame({ model, el, watch: ["format", "step"], draw });
  const choose = menu(model, "format", {
    label: "format",
    options: Object.fromEntries(Object.keys(formats).map((name) => [name, name])),
  });
  const scale = slider(model, "step", {
    label: "scale", min: 0, max: steps.length - 1,
    shown: (i) => number(2 ** steps[i], 3),
  });
  const fit = button("fit the largest weight", () =>
    model.set("step", formats[model.get("format")].fit));
  const sheet = svg("svg", { role: "img" });
  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  root.append(html("div", { class: "mq-controls" }, choose.box, scale.box, fit), sheet,
    says);
  const tallest = Math.max(...hill.map(([, share]) => share));
  const part = (tag, look = {}, ...inside) => {
    const made = svg(tag, look, ...inside);
    sheet.append(made);
    return made;
  };
  const zones = [0, 1].map(() => part("rect", {
    y: HILL.top - 22, height: HILL.bottom - HILL.top + 22, fill: "var(--mq-wash)",
  }));
  const zoneWords = ["becomes 0", "beyond the largest"].map((text) =>
    part("text", { y: HILL.top - 7, class: "middle quiet" }, text));
  const bars = hill.map(() => part("rect", {}));
  const ticks = part("path", { stroke: "var(--mq-ink)" });
  const axis = part("g");
  part("text", { x: 0, y: HEIGHT - 6, class: "quiet" },
    "size of weight ÷ scale; ticks: the numbers of the format");
  let place = null;
  const move = glide(([shift]) => {
    const { zero, end } = edges();
    bars.forEach((bar, i) => {
      const [power, share] = hill[i];
      const height = share / tallest * (HILL.bottom - HILL.top - 8);
      const left = power + shift;
      const middle = left + bin / 2;
      const hue = middle < zero ? "muted" : middle > end ? "violet" : "blue";
      const inside = left + bin > ENDS[0] && left < ENDS[1];
      set(bar, {
        x: place(left) + 0.5, width: Math.max(1, place(bin) - place(0) - 1),
        y: HILL.bottom - height, height, fill: `var(--mq-${hue})`,
        display: inside ? "inline" : "none",
      });
    });
  });

  /** Where a format's zero ends and where its largest number lies, in powers of 2. */
  function edges() {
    const { numbers, largest } = formats[model.get("format")];
    return { zero: Math.log2(numbers[0] / 2), end: Math.log2(largest) };
  }

  function draw(width) {
    const room = width - 20;
    place = (power) => 10 + (power - ENDS[0]) / (ENDS[1] - ENDS[0]) * room;
    set(sheet, { viewBox: `0 0 ${width} ${HEIGHT}` });
    const own = formats[model.get("format")];
    const { zero, end } = edges();
    const [left, right] = [zero, end].map((p) => place(clamp(p, ...ENDS)));
    set(zones[0], { x: 0, width: left });
    set(zones[1], { x: right, width: width - right });
    [[left / 2, left], [(right + width) / 2, width - right]].forEach(([x, space], i) =>
      set(zoneWords[i], { x, display: space > 120 ? "inline" : "none" }));
    const seen = own.numbers.map(Math.log2).filter((p) => p >= ENDS[0] && p <= ENDS[1]);
    set(ticks, {
      d: seen.map((p) => `M${place(p)} ${HILL.bottom + 4}v14`).join(""),
      "stroke-width": clamp(120 / seen.length, 0.25, 1.6),
    });
    axis.replaceChildren(...roundNumbers(...ENDS, width / 50).map(([p]) =>
      svg("text", { x: place(p), y: HILL.bottom + 36, class: "middle quiet" },
        `2${raised(p)}`)));
    move([-steps[model.get("step")]]);
    speak(own);
  }

  function speak(own) {
    const at = model.get("step");
    const percent = (share) => `${(100 * share).toFixed(1)} %`;
    says.textContent = `${model.get("format")}, every weight divided by `
      + `${number(2 ** steps[at], 3)}: ${percent(own.zero[at])} of the weights become `
      + `0, ${percent(own.beyond[at])} lie beyond the largest number, ${own.largest}.`;
    sheet.setAttribute("aria-label", "A hill of weights by their size on a scale of "
      + `powers of two, over the ${own.numbers.length} numbers above 0 that `
      + `${model.get("format")} has.`);
  }
  return close;
}

export default { render };
