"""The model card: the page that says what was done to a model, and what it cost.

    page = card("Almanac, 4 and 8 bits", "almanac", recipe, harms, lines, measured_on,
                not_measured)

A folder of codes does not say how good it is. Whoever takes it wants to know four
things, and the last one is left out most often:

    recipe         from which model, by which method, in how many bits, on which text
    harms          how much worse it is than that model, each with its interval
    lines          how much worse was agreed to be acceptable, before anybody looked
    not_measured   what nobody measured

The page is Markdown, below a few lines of YAML that a hub reads: save it as README.md
in the folder of `mq.export`. Model cards go back to Mitchell et al. 2019, "Model Cards
for Model Reporting". Lesson 12 writes one.
"""

from collections.abc import Mapping, Sequence

from minquant.planning.choice import Harm, format_beside, verdict

_WORDS = {"held": "held", "unsure": "unsure", "broken": "**broken**"}


def card(
    title: str,
    base_model: str,
    recipe: Mapping[str, str],
    harms: Mapping[str, Harm],
    lines: Mapping[str, float],
    measured_on: Mapping[str, str],
    not_measured: Sequence[str],
) -> str:
    """The model card as Markdown.

    base_model: the name of the model that was quantized. recipe: what was done, in
    words, by topic. harms: by measure, positive if worse. lines: the most that was
    acceptable, for the measures that have a line. measured_on: the text or questions
    behind each harm. not_measured: at least one thing.

    Raises ValueError if a line has no harm, if measured_on lacks a harm, if
    not_measured is empty, and as `choice.verdict` does.

    >>> text = card("Tiny, 4 bits", "tiny", {"bits": "4"}, {"facts": Harm(1, 0.5, 1.5)},
    ...             {"facts": 2}, {"facts": "2,000 questions"}, ["speed"])
    >>> print(text.splitlines()[-5])
    | facts | 1 [0.5, 1.5] | 2 | held | 2,000 questions |
    """
    from huggingface_hub import ModelCard, ModelCardData

    if missing := [m for m in lines if m not in harms]:
        raise ValueError(f"lines has {missing[0]!r}, but harms has not; measure it")
    if missing := [m for m in harms if m not in measured_on]:
        raise ValueError(f"measured_on lacks {missing[0]!r}; say on what")
    if not not_measured:
        raise ValueError("not_measured is empty; there is always something")
    steps = [f"- **{topic}**: {words}" for topic, words in recipe.items()]
    rows = [_row(m, harm, lines.get(m), measured_on[m]) for m, harm in harms.items()]
    gaps = [f"- {gap}" for gap in not_measured]
    paragraphs = [
        f"# {title}",
        "\n".join(steps),
        "How much worse than the model it was made from, with 95 % intervals:",
        "\n".join([*_HEADER, *rows]),
        "Not measured:",
        "\n".join(gaps),
    ]
    data = ModelCardData(base_model=base_model, base_model_relation="quantized")
    front = f"---\n{data.to_yaml()}\n---"
    return str(ModelCard("\n\n".join([front, *paragraphs]) + "\n"))


_HEADER = (
    "| what | worse by | most, agreed before | line | measured on |",
    "|---|---|---|---|---|",
)


def _row(measure: str, harm: Harm, most: float | None, measured_on: str) -> str:
    """A row of the table. most: the line of this measure, or None."""
    mean, low, high = (format_beside(x, most or 0.0) for x in harm)
    agreed = "" if most is None else f"{most:g}"
    judged = "" if most is None else _WORDS[verdict(harm, most)]
    cells = measure, f"{mean} [{low}, {high}]", agreed, judged, measured_on
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
