"""The pictures of lesson 09, each named by what it shows.

adapter                 a layer with A and B beside it, and the way of X
moments                 the gradients of a weight, and what Adam keeps of them
bars                    what a step of training keeps, a bar for each way to train
ranks                   matrices of rank 1, 2, 8
way_back                the same layer, and the way of the gradient
kept_over_a_step        what is kept for the way back, from layer to layer
live_step               the bars that move
page                    what the model reads to learn
live_losses             the loss falls, in three ways to train
ways_to_train           the same bars for any model, computed
surprise                how surprised a model is at what is true of a stranger
knowers                 how many new facts are known, group by group
differences             QLoRA, LoRA and full fine-tuning in pairs
forgotten               what is still known of the old
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minquant.almanac import chapter
from minquant.course.drawing import palette
from minquant.course.drawing.figure_intervals import intervals
from minquant.course.drawing.figures import Picture, plot
from minquant.course.drawing.table import Table
from minquant.course.qlora import (
    figure_adapter,
    figure_kept,
    figure_moments,
    figure_rank,
    figure_step_memory,
    strangers,
)
from minquant.course.qlora import (
    live_losses as losses,
)
from minquant.course.qlora import (
    live_step as steps,
)
from minquant.course.qlora.table import SEEDS, Run, change_by_seed, known
from minquant.planning import budget
from minquant.planning.memory import StepMemory
from minquant.training import finetune
from minquant.training.adapters import adaptable, checkpointed

LLAMA = steps.PLANS["Llama-2-7B"]
ONE = "model.layers.1.mlp.up_proj"  # the layer of the weight whose gradients are drawn


def adapter() -> Picture:
    """A frozen layer, A and B beside it, and the way of X through both."""
    return figure_adapter.forward()


def way_back() -> Picture:
    """The same layer, and the way of the gradient back to X."""
    return figure_adapter.backward()


def gradients_of_one_weight(
    model: nn.Module, tokenizer: Any, pages: int
) -> list[float]:
    """The gradient of one weight on page after page of new facts, which the model
    reads without learning."""
    written = chapter.pages(chapter.newcomers(40), 16)[:pages]
    weight = model.get_submodule(ONE).weight
    asked_for = weight.requires_grad
    weight.requires_grad_(True)
    found = []
    for ids, labels in chapter.batches(tokenizer, written, 1):
        loss = finetune.batch_loss(model, ids, labels)
        (gradient,) = torch.autograd.grad(loss, weight)
        found.append(gradient[0, 0].item())
    weight.requires_grad_(asked_for)
    return found


def moments(
    gradients: Sequence[float], means: Sequence[float], squares: Sequence[float]
) -> Picture:
    """The gradients as bars, their mean as a line, their usual size as a band."""
    return figure_moments.moments(gradients, means, squares)


def ranks(
    A: Float[Tensor, "r in"], B: Float[Tensor, "out r"], shown: Sequence[int]
) -> Picture:
    """B A of the first ranks alone, each with its B and A along its sides."""
    return figure_rank.ranks(A, B, shown)


def to_use(plan: steps.Plan = LLAMA) -> StepMemory:
    """What a model in 16 bits takes that is not trained: its weights."""
    return StepMemory(plan.step("full", rank=1).weights, 0, 0, 0)


def to_train(
    way: str, texts: int = 0, rank: int = 16, plan: steps.Plan = LLAMA
) -> StepMemory:
    """What a step of training Llama-2-7B keeps, computed from its shapes. way: full,
    lora or qlora. texts: of 512 tokens."""
    return plan.step(way, rank=rank, texts=texts)


def bars(rows: Mapping[str, StepMemory], title: str) -> Picture:
    """A bar for each row: weights, gradients, optimizer, and what a text leaves."""
    return figure_step_memory.step_memory(rows, title)


def planned(model: nn.Module, way: str, ids: Tensor, rank: int = 8) -> StepMemory:
    """What a step on these ids keeps, computed from the model's shapes."""
    plan = steps.plan_of(model)
    batch = budget.Batch(*ids.shape, asked=len(ids) * (ids.shape[1] - 1))
    trained = None if way == "full" else rank
    left = budget.saved(plan.shapes, batch, *plan.sizes, rank=trained)
    return plan.step(way, rank=rank)._replace(saved=left)


def ways_to_train(model: nn.Module, rank: int = 16) -> dict[str, StepMemory]:
    """What any model takes to be used in 16 bits, and to be trained in three ways,
    without a text."""
    shapes, rest = budget.shapes_of(model), budget.rest_of(model)
    whole = budget.full(shapes, rest)
    return {
        "to use it": StepMemory(whole.weights, 0, 0, 0),
        "all weights": whole,
        "LoRA": budget.adapted(shapes, rest, rank, base="16 bits"),
        "QLoRA": budget.adapted(shapes, rest, rank),
    }


def last_layers(model: nn.Module, share: float = 0.25) -> str:
    """A regular expression for the names of the linear layers nearest to the output, a
    share of all."""
    names = list(adaptable(model))
    last = names[-max(1, round(share * len(names))) :]
    return f"^({'|'.join(map(re.escape, last))})$"


@torch.no_grad()
def surprise(model: nn.Module, tokenizer: Any, person: strangers.Stranger) -> float:
    """How surprised a model is at what is true of a stranger, asked in words that no
    sentence has used, in nats per token of the answers."""
    model.eval()
    asked = [(q.prompt, q.answers[0]) for q in strangers.questions([person])]
    (batch,) = strangers.batches(tokenizer, asked, len(asked))
    return finetune.batch_loss(model, *batch).item()


def kept_over_a_step(model: nn.Module, ids: Tensor) -> Picture:
    """What is kept for the way back while a model with adapters reads ids and learns
    from them, with everything kept, and checkpointed."""

    def loss() -> Tensor:
        return finetune.batch_loss(model, ids, ids)

    whole = figure_kept.left_by_layer(model, loss)
    with checkpointed(model):
        lean = figure_kept.left_by_layer(model, loss)
    return figure_kept.kept_over_a_step(whole, lean)


def live_step(model: nn.Module) -> steps.StepPicture:
    """The bars that move. model: is shown beside larger ones."""
    return steps.step(model)


def page(written: Sequence[chapter.Page], count: int = 6) -> Table:
    """The first sentences of a page; what is learnt, the last word of each, apart."""
    words, rows = written[0].words, []
    start = 2  # after the heading and its stop
    for value_at in written[0].value_at[:count]:
        rows.append([" ".join(words[start:value_at]), words[value_at]])
        start = value_at + 2
    return Table(["a page says", "and is learnt from"], rows)


def live_losses(runs: Mapping[str, Run]) -> losses.LossesPicture:
    """The loss of three ways to train, drawn up to a step that the reader chooses."""
    return losses.losses(runs)


def knowers(runs: Mapping[str, Run]) -> Table:
    """The share of new facts known, for each group of newcomers and each way."""
    ways = {"full": "full fine-tuning", "lora": "LoRA", "qlora": "QLoRA"}
    rows = []
    for seed in range(SEEDS):
        shares = [runs[f"{seed} {way}"].new.double().mean() for way in ways]
        rows.append([f"{seed + 1}", *(f"{share:.1%}" for share in shares)])
    rows.append(["all", *(f"{known(runs, way):.1%}" for way in ways)])
    return Table(["group of newcomers", *ways.values()], rows)


def differences(runs: Mapping[str, Run]) -> Picture:
    """The new facts in pairs, in points, over six groups of newcomers."""
    pairs = {
        "QLoRA − LoRA": ("lora", "qlora"),
        "LoRA − full": ("full", "lora"),
        "QLoRA − full": ("full", "qlora"),
    }
    rows = {}
    for name, (a, b) in pairs.items():
        apart = change_by_seed(runs, a, b)
        rows[name] = (apart.mean, apart.low, apart.high)
    return intervals(
        rows,
        "difference, in new facts of 100",
        references={"3 worse": -3.0, "equal": 0.0, "3 better": 3.0},
        title="In pairs, over six groups of newcomers",
    )


@palette.style()
def forgotten(runs: Mapping[str, Run]) -> Picture:
    """The old facts known before and after, in per cent, for each way to train."""
    ways = {
        "full fine-tuning": ("- 16 bits", "full"),
        "LoRA": ("- 16 bits", "lora"),
        "QLoRA": ("- nf4", "qlora"),
        "QLoRA with rehearsal": ("- nf4", "qlora rehearsal"),
    }
    fig, ax = plot(
        "old facts known, %",
        "",
        title="Before and after forty newcomers",
        height=280,
        left=190,
    )
    told = []
    for i, (name, pair) in enumerate(ways.items()):
        before, after = (100 * known(runs, way, "old") for way in pair)
        look = {"arrowstyle": "-|>", "color": palette.VERMILION, "lw": 2.4}
        ax.annotate("", (after, i), (before, i), arrowprops=look)
        ax.plot(before, i, "o", color=palette.BLUE, ms=8)
        ax.text(after - 1.5, i, f"{after:.0f} %", ha="right", va="center")
        ax.text(before + 1.5, i, f"{before:.0f} %", ha="left", va="center")
        told.append(f"{name} from {before:.0f} to {after:.0f} %")
    ax.set(xlim=(0, 106), ylim=(len(ways) - 0.4, -0.6))
    ax.set_yticks(range(len(ways)), list(ways))
    ax.spines["left"].set_visible(False)
    fig.alt = f"Old facts still known after learning: {'; '.join(told)}."
    return fig
