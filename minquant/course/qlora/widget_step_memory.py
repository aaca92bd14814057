"""What will fine-tuning take? Choose model, base, rank and layers, and see the bars.

    memory_planner(shapes, rest)      # of the bundled model: the last line of a cell

There are three bars: full fine-tuning in 16 bits, LoRA on 16-bit weights, and LoRA on
the base that is chosen. Below are the trained share and what the chosen base saves.
Every number comes from `budget`, for the shapes of a real model, without what a batch
adds. Notebook 09 shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from minquant.course.drawing.numbers import readable_bytes
from minquant.course.live.controls import choice, integer
from minquant.course.live.dashboard import Dashboard, Frame
from minquant.course.live.markup import paragraph
from minquant.course.qlora.figure_step_memory import StepMemoryPicture
from minquant.planning import budget
from minquant.planning.memory import StepMemory

THIS = "this model"
LLAMAS = {  # layers, width, inner width of the MLP, vocabulary
    "Llama-2-7B": (32, 4096, 11008, 32000),
    "Llama-2-13B": (40, 5120, 13824, 32000),
    "Llama-65B": (80, 8192, 22016, 32000),
}
LAYERS = {"all linear layers": "", "attention only": budget.ATTENTION}


def memory_planner(
    shapes: budget.Shapes,
    rest: int,
    *,
    model: str = "Llama-2-7B",
    base: str = "NF4, double",
    rank: int = 16,
) -> Dashboard:
    """The widget. shapes, rest: of the model that the reader has, as `budget` gives
    them. model, base, rank: the first values.

    Raises ValueError if shapes is empty.
    """
    if not shapes:
        raise ValueError("shapes is empty; give budget.shapes_of(model)")
    plan = Plan(shapes, rest)
    controls = {
        "model": choice("model", model, list(plan.models)),
        "base": choice("base", base, list(budget.BASES)),
        "rank": integer("rank", rank, 1, 256),
        "layers": choice("adapters on", "all linear layers", list(LAYERS)),
    }
    return Dashboard(plan.draw, controls)


class Plan:
    """Models by their shapes; computes their bars and draws them."""

    def __init__(self, shapes: budget.Shapes, rest: int) -> None:
        self.models = {THIS: (dict(shapes), rest)}
        self.models |= {name: budget.llama(*sizes) for name, sizes in LLAMAS.items()}
        self.picture: StepMemoryPicture | None = None
        self.drawn = ""

    def rows(
        self, model: str, base: str, rank: int, layers: str
    ) -> dict[str, StepMemory]:
        """The three bars."""
        shapes, rest = self.models[model]
        lora, yours = (
            budget.adapted(shapes, rest, rank, base=name, only=LAYERS[layers])
            for name in ("16 bits", base)
        )
        return {
            "all weights, 16 bits": budget.full(shapes, rest),
            "LoRA on 16 bits": lora,
            f"yours: {base}": yours,
        }

    def draw(self, *, model: str, base: str, rank: int, layers: str) -> Frame:
        """The bars, and the shares in words."""
        rows = self.rows(model, base, rank, layers)
        if self.picture is None:
            self.picture = StepMemoryPicture(rows, "What each step keeps, batch aside")
        elif model != self.drawn:
            self.picture.scale(rows)
        self.drawn = model
        self.picture.update(rows)
        shapes, rest = self.models[model]
        return Frame(self.picture.fig, _words(rows, shapes, rest, rank, LAYERS[layers]))


def _words(
    rows: Mapping[str, StepMemory],
    shapes: budget.Shapes,
    rest: int,
    rank: int,
    only: str,
) -> str:
    full, _, yours = rows.values()
    n = rest + sum(map(prod, shapes.values()))
    trained = budget.adapter_numbers(shapes, rank, only)
    before = readable_bytes(full.gradients + full.optimizer)
    after = readable_bytes(yours.gradients + yours.optimizer)
    return paragraph(
        f"{trained:,} numbers are trained; the model has {n:,}, so "
        f"that is <b>{trained / n:.2%}</b>. Gradients, masters and Adam's moments "
        f"take {after} instead of {before}. In all it is "
        f"<b>{readable_bytes(yours.total)}</b>: full fine-tuning's "
        f"{readable_bytes(full.total)} divided by "
        f"<b>{full.total / yours.total:.1f}</b>.",
        space=0,
    )
