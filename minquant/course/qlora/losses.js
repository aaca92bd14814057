// The loss falls, in three ways to train: drawn up to a step that the reader chooses.
//
//   11 ┤╲╲
//    7 ┤┄╲┄╲┄┄┄ an even guess
//      │  ╲  ╲___ LoRA, QLoRA
//    0 ┤   ╲____________      ▸ play
import {
  button, frame, html, menu, number, roundNumbers, set, slider, svg,
} from "../live/base.js";

const LOOKS = { // colour, dashes, in the order in which they are drawn: the dashes of
  full: ["ink", null], // LoRA let QLoRA's line be seen below them
  qlora: ["blue", null],
  lora: ["vermilion", "7 7"],
};
const WINDOW = 5;
const LEFT = 34;
const TOP = 14;
const BOTTOM = 300;
const HEIGHT = 344;
const ALL = "all six";

/** The mean over several rows, step by step. */
export const average = (rows) =>
  rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);

/** At each step the mean of the last five losses, of fewer at the beginning. */
export const smooth = (row) => row.map((_, i) => {
  const last = row.slice(Math.max(0, i + 1 - WINDOW), i + 1);
  return last.reduce((sum, x) => sum + x, 0) / last.length;
});

function render({ model, el }) {
  const curves = model.get("curves");
  const names = model.get("names");
  const ways = Object.keys(curves);
  const drawn = Object.keys(LOOKS).filter((way) => ways.includes(way));
  const steps = curves[ways[0]][0].length;
  const groups = curves[ways[0]].map((_, i) => `group ${i + 1}`);
  const index = () => groups.indexOf(model.get("seed")); // −1 for all
  const { root, close } = frame({ model, el, watch: ["seed", "at"], draw });
  const choose = menu(model, "seed", { label: "newcomers",
    options: { [ALL]: "the mean of all six groups",
      ...Object.fromEntries(groups.map((name) => [name, name])) } });
  const at = slider(model, "at", { label: "step", min: 1, max: steps });
  let playing = 0;
  const stop = () => {
    clearInterval(playing);
    playing = 0;
    play.textContent = "play";
  };
  const play = button("play", () => {
    if (playing) return stop();
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      return model.set("at", steps);
    }
    if (model.get("at") === steps) model.set("at", 1);
    play.textContent = "pause";
    playing = setInterval(() => {
      if (model.get("at") >= steps) stop();
      else model.set("at", model.get("at") + 1);
    }, 70);
  });
  const sheet = svg("svg", { role: "img" });
  const table = html("table", { class: "mq-table" });
  const says = html("p", { class: "mq-says", "aria-live": "polite" });
  root.append(html("div", { class: "mq-controls" }, choose.box, at.box, play),
    sheet, table, says);

  const chosen = (rows) =>
    index() < 0 ? average(rows) : rows[index()];

  function draw(width) {
    set(sheet, { viewBox: `0 0 ${width} ${HEIGHT}` });
    const now = model.get("at");
    const lines = Object.fromEntries(
      ways.map((way) => [way, smooth(chosen(curves[way]))]));
    const high = 1.05 * Math.max(model.get("guess"), ...Object.values(lines).flat());
    const x = (step) => LEFT + (step - 1) / (steps - 1) * (width - LEFT - 12);
    const y = (loss) => BOTTOM - loss / high * (BOTTOM - TOP);
    const path = (row) =>
      `M${row.map((loss, i) => `${x(i + 1)} ${y(loss)}`).join("L")}`;
    const even = y(model.get("guess"));
    sheet.replaceChildren(
      ...roundNumbers(0, high, 6).map(([loss, text]) => svg("g", {},
        svg("path", { d: `M${LEFT} ${y(loss)}H${width - 12}`,
          stroke: "var(--mq-hairline)", "stroke-width": 0.8 }),
        svg("text", { x: LEFT - 8, y: y(loss) + 4, class: "quiet end" }, text))),
      svg("path", { d: `M${LEFT} ${even}H${width - 12}`, stroke: "var(--mq-muted)",
        "stroke-dasharray": "2 4" }),
      svg("text", { x: width - 12, y: even - 6, class: "quiet end" },
        "an even guess among all words"),
      ...[1, 20, 40, 60, 80].filter((step) => step <= steps).map((step) =>
        svg("text", { x: x(step), y: BOTTOM + 20, class: "quiet middle" },
          String(step))),
      svg("text", { x: (LEFT + width) / 2, y: BOTTOM + 40, class: "quiet middle" },
        "step; upwards: loss, nats per answer"),
      ...drawn.map((way) => svg("path", { d: path(lines[way]), fill: "none",
        stroke: `var(--mq-${LOOKS[way][0]})`, opacity: 0.16, "stroke-width": 2 })),
      ...drawn.map((way) => svg("path", { d: path(lines[way].slice(0, now)),
        fill: "none", stroke: `var(--mq-${LOOKS[way][0]})`,
        "stroke-dasharray": LOOKS[way][1], "stroke-width": 2.4 })),
      ...drawn.map((way) => svg("circle", { cx: x(now), cy: y(lines[way][now - 1]),
        r: way === "lora" ? 3 : 5, fill: `var(--mq-${LOOKS[way][0]})` })),
    );
    speak(now, lines);
  }

  function speak(now, lines) {
    const share = (way) => {
      const known = model.get("known")[way];
      const one = index() < 0 ? known.reduce((sum, x) => sum + x, 0) / known.length
        : known[index()];
      return `${(100 * one).toFixed(1)} %`;
    };
    const done = now === steps;
    const key = (way) => svg("svg", { viewBox: "0 0 30 10", "aria-hidden": "true",
      style: "display: inline-block; width: 30px; height: 10px; margin-right: 8px" },
    svg("path", { d: "M0 5H30", stroke: `var(--mq-${LOOKS[way][0]})`,
      "stroke-width": 3, "stroke-dasharray": LOOKS[way][1] }));
    table.replaceChildren(
      html("thead", {}, html("tr", {}, ...["", `loss at step ${now}`,
        "new facts known at the end"].map((text) =>
        html(text ? "th" : "td", text ? { scope: "col" } : {}, text)))),
      html("tbody", {}, ...ways.map((way) => html("tr", {},
        html("th", { scope: "row" }, key(way), names[way]),
        html("td", {}, number(lines[way][now - 1], 3)),
        html("td", {}, done ? share(way) : "…")))));
    const told = ways.map((way) =>
      `${names[way]} ${number(lines[way][now - 1], 3)}`).join(", ");
    const even = number(model.get("guess"), 2);
    says.textContent = `After step ${now} of ${steps} the loss is ${told} nats per `
      + `answer. An even guess among all words would cost ${even}.`
      + (done ? ` Of the new facts are known: ${ways.map((way) =>
        `${names[way]} ${share(way)}`).join(", ")}.` : "");
    sheet.setAttribute("aria-label", `The loss of ${ways.length} ways to train, `
      + `falling over ${steps} steps, drawn up to step ${now}.`);
  }
  return () => {
    stop();
    close();
  };
}

export default { render };
