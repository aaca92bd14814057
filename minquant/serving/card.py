"""The page that goes with a quantized model: what was done, and what it cost.

    print(card("Almanac, 4 and 8 bits", "almanac", made, harms, lines, asked, unknown))

A folder of codes does not say how good it is. Whoever takes it wants to know four
things, and the last is the one that is left out most often:

    made       from which model, by which method, in how many bits, on which text
    harms      how much worse it is than that model, each with its interval
    lines      how much worse was agreed to be acceptable, before anybody looked
    unknown    what nobody measured

It is Markdown, with the few lines on top that a hub reads (YAML between dashes): save
it as README.md in the folder of `mq.export`. Such pages are due to Mitchell et
al. 2019, "Model Cards for Model Reporting". Lesson 12 writes one.
"""

import json
from collections.abc import Mapping, Sequence

from minquant.planning.choice import Harm, format_beside, verdict

_WORDS = {"held": "held", "unsure": "unsure", "broken": "**broken**"}


def card(
    title: str,
    base_model: str,
    made: Mapping[str, str],
    harms: Mapping[str, Harm],
    lines: Mapping[str, float],
    asked: Mapping[str, str],
    unknown: Sequence[str],
) -> str:
    """The page as Markdown.

    base_model: the name of what was quantized. made: what was done, in words, by what
    it concerns. harms: by measure, positive if worse. lines: the most that was
    acceptable, for the measures that have a line. asked: on what each was measured.
    unknown: what was not measured, at least one thing.

    Raises ValueError if a line has no harm, a harm was asked nothing, or nothing is
    said to be unknown, and as `choice.verdict` does.

    >>> text = card("Tiny, 4 bits", "tiny", {"bits": "4"}, {"facts": Harm(1, 0.5, 1.5)},
    ...             {"facts": 2}, {"facts": "2,000 questions"}, ["speed"])
    >>> print(text.splitlines()[-5])
    | facts | 1 [0.5, 1.5] | 2 | held | 2,000 questions |
    """
    if missing := [m for m in lines if m not in harms]:
        raise ValueError(f"lines has {missing[0]!r}, but harms has not; measure it")
    if missing := [m for m in harms if m not in asked]:
        raise ValueError(f"asked lacks {missing[0]!r}; say on what it was measured")
    if not unknown:
        raise ValueError("unknown is empty; there is always something not measured")
    front = {"base_model": base_model, "base_model_relation": "quantized"}
    return "\n".join(
        [
            "---",
            *(f"{key}: {json.dumps(value)}" for key, value in front.items()),
            "---",
            "",
            f"# {title}",
            "",
            *(f"- **{what}**: {words}" for what, words in made.items()),
            "",
            "How much worse than the model it was made from, with 95 % intervals:",
            "",
            "| what | worse by | most, agreed before | line | measured on |",
            "|---|---|---|---|---|",
            *(_row(m, harm, lines, asked[m]) for m, harm in harms.items()),
            "",
            "Not measured:",
            "",
            *(f"- {thing}" for thing in unknown),
            "",
        ]
    )


def _row(measure: str, harm: Harm, lines: Mapping[str, float], asked: str) -> str:
    most = lines.get(measure, 0.0)
    mean, low, high = (format_beside(x, most) for x in harm)
    agreed, judged = "", ""
    if measure in lines:
        agreed, judged = f"{most:g}", _WORDS[verdict(harm, most)]
    cells = measure, f"{mean} [{low}, {high}]", agreed, judged, asked
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
