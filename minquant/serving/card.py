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
in the folder of `mq.export`, in UTF-8. Model cards go back to Mitchell et al. 2019,
"Model Cards for Model Reporting". Lesson 12 writes one, and so does `mq.compress`.
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
    acceptable, for the measures that have a line; without any line the table has no
    columns for them. measured_on: the text or questions
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
    rows = [_row(m, harm, lines, measured_on[m]) for m, harm in harms.items()]
    agreed = ["most, agreed before", "line"] if lines else []
    header = ["what", "worse by", *agreed, "measured on"]
    rows = [_cells(header), "|" + "---|" * len(header), *rows]
    gaps = [f"- {gap}" for gap in not_measured]
    paragraphs = [
        f"# {title}",
        "\n".join(steps),
        "How much worse than the model it was made from, with 95 % intervals:",
        "\n".join(rows),
        "Not measured:",
        "\n".join(gaps),
    ]
    data = ModelCardData(base_model=base_model, base_model_relation="quantized")
    front = f"---\n{data.to_yaml()}\n---"
    return str(ModelCard("\n\n".join([front, *paragraphs]) + "\n"))


def _row(measure: str, harm: Harm, lines: Mapping[str, float], measured_on: str) -> str:
    """A row of the table. A measure without a line leaves two cells empty."""
    most = lines.get(measure)
    mean, low, high = (format_beside(x, most or 0.0) for x in harm)
    cells = [measure, f"{mean} [{low}, {high}]"]
    if most is not None:
        cells += [f"{most:g}", _WORDS[verdict(harm, most)]]
    elif lines:
        cells += ["", ""]
    return _cells([*cells, measured_on])


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
