"""The live picture of lesson 09: what a step of training keeps in memory.

    step(model)                           # the last line of a cell

Three bars: full fine-tuning, LoRA, QLoRA. The reader chooses model, rank, optimizer,
text and checkpointing, and whether it fits on a card. All of it is linear in ranks,
texts and numbers. So Python gives `step.js` the coefficients, from `planning.budget`,
and JavaScript multiplies.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

import traitlets
from torch import nn

from minquant.course.live.picture import LivePicture
from minquant.planning import budget
from minquant.planning.memory import StepMemory

TOKENS = 512  # of a text
RANKS = tuple(2**i for i in range(9))
TEXTS = tuple(2**i for i in range(7))
CARDS = 8, 16, 24, 48, 80  # GB
WAYS = "full", "lora", "qlora"


class Plan:
    """A model that is not there: its shapes, and what its memory follows from.

    shapes, rest: as `budget` has them. vocabulary: words. head_size: numbers in a head.
    """

    def __init__(
        self, shapes: budget.Shapes, rest: int, vocabulary: int, head_size: int
    ) -> None:
        self.shapes, self.rest = dict(shapes), rest
        self.sizes = vocabulary, head_size

    def saved(self, texts: int, rank: int | None, *, checkpointed: bool) -> int:
        """What texts of TOKENS tokens leave for the backward pass, in bytes."""
        batch = budget.Batch(texts, TOKENS, texts * (TOKENS - 1))
        options = {"rank": rank, "checkpointed": checkpointed}
        return budget.saved(self.shapes, batch, *self.sizes, **options)

    def step(
        self,
        way: str,
        *,
        rank: int,
        optimizer: str = "Adam",
        texts: int = 0,
        checkpointed: bool = False,
    ) -> StepMemory:
        """What a step keeps, in bytes. way: one of WAYS. texts: 0 leaves them out."""
        if way == "full":
            took = budget.full(self.shapes, self.rest, optimizer=optimizer)
        else:
            base = {"lora": "16 bits", "qlora": "NF4, double"}[way]
            took = budget.adapted(
                self.shapes, self.rest, rank, base=base, optimizer=optimizer
            )
        if not texts:
            return took
        trained = None if way == "full" else rank
        left = self.saved(texts, trained, checkpointed=checkpointed)
        return took._replace(saved=left)

    def coefficients(self) -> dict[str, object]:
        """What `step.js` computes from. saved: constant, for each text, and for each
        text and rank; in full, with adapters, and both again with checkpointing."""
        saved = {}
        for checkpointed in (False, True):
            name = "checkpointed" if checkpointed else "whole"
            one, two = (self.saved(n, None, checkpointed=checkpointed) for n in (1, 2))
            full = [2 * one - two, two - one, 0]
            corner = {
                (n, r): self.saved(n, r, checkpointed=checkpointed)
                for n in (1, 2)
                for r in (1, 2)
            }
            per_rank = corner[1, 2] - corner[1, 1]
            text = corner[2, 1] - corner[1, 1] - per_rank
            adapted = [corner[1, 1] - text - per_rank, text, per_rank]
            saved[name] = {"full": full, "adapted": adapted}
        return {
            "linear": sum(map(prod, self.shapes.values())),
            "rest": self.rest,
            "per_rank": budget.adapter_numbers(self.shapes, 1),
            "saved": saved,
        }


def llama(layers: int, width: int, inner: int, vocabulary: int) -> Plan:
    """A Llama without grouped queries, with heads of 128."""
    return Plan(*budget.llama(layers, width, inner, vocabulary), vocabulary, 128)


def _smollm2() -> Plan:
    """SmolLM2-135M: 3 heads of keys and values for 9 of queries, tied embeddings."""
    shapes, _ = budget.llama(30, 576, 1536, 49152)
    keys = {name: (192, 576) for name in shapes if name.endswith(("k_proj", "v_proj"))}
    return Plan(shapes | keys, 61 * 576 + 49152 * 576, 49152, 64)


PLANS = {
    "SmolLM2-135M": _smollm2(),
    "Llama-2-7B": llama(32, 4096, 11008, 32000),
    "Llama-2-13B": llama(40, 5120, 13824, 32000),
    "Llama-65B": llama(80, 8192, 22016, 32000),
}


def plan_of(model: nn.Module) -> Plan:
    """The plan of a Llama that is there."""
    config = model.config
    heads = config.hidden_size // config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or heads
    shapes, rest = budget.shapes_of(model), budget.rest_of(model)
    return Plan(shapes, rest, config.vocab_size, head_size)


class StepPicture(LivePicture):
    """The bars of several models; one is shown at a time.

    plans: by name. Settings: the model's name, the rank (one of RANKS), an optimizer of
    `budget.OPTIMIZERS`, how many texts (one of TEXTS), whether it is checkpointed, and
    the card (one of CARDS, in GB).

    Raises ValueError for a setting that the picture does not have.
    """

    script = Path(__file__).with_name("step.js")

    models = traitlets.Dict().tag(sync=True)
    optimizers = traitlets.Dict().tag(sync=True)
    code_bits = traitlets.Float().tag(sync=True)
    tokens = traitlets.Int().tag(sync=True)
    name = traitlets.Unicode().tag(sync=True)
    log_rank = traitlets.Int().tag(sync=True)
    optimizer = traitlets.Unicode().tag(sync=True)
    log_texts = traitlets.Int().tag(sync=True)
    kept = traitlets.Unicode().tag(sync=True)
    card = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        plans: Mapping[str, Plan] = PLANS,
        name: str = "Llama-2-7B",
        *,
        rank: int = 16,
        optimizer: str = "Adam",
        texts: int = 1,
        checkpointed: bool = False,
        card: int = 24,
    ) -> None:
        for what, value, allowed in (
            ("name", name, plans),
            ("rank", rank, RANKS),
            ("optimizer", optimizer, budget.OPTIMIZERS),
            ("texts", texts, TEXTS),
            ("card", card, CARDS),
        ):
            if value not in allowed:
                listed = ", ".join(map(str, allowed))
                raise ValueError(f"{what} is {value!r}; choose from {listed}")
        self.plans = dict(plans)
        super().__init__(
            models={key: plan.coefficients() for key, plan in plans.items()},
            optimizers=budget.OPTIMIZERS,
            code_bits=budget.BASES["NF4, double"],
            tokens=TOKENS,
            name=name,
            log_rank=RANKS.index(rank),
            optimizer=optimizer,
            log_texts=TEXTS.index(texts),
            kept="checkpointed" if checkpointed else "whole",
            card=str(card),
        )

    @property
    def words(self) -> str:
        """What the picture shows."""
        settings = {
            "rank": RANKS[self.log_rank],
            "optimizer": self.optimizer,
            "texts": TEXTS[self.log_texts],
            "checkpointed": self.kept == "checkpointed",
        }
        full, lora, qlora = (
            self.plans[self.name].step(way, **settings).total / 1e9 for way in WAYS
        )
        return (
            f"What a step of training {self.name} keeps: full fine-tuning {full:.3g} "
            f"GB, LoRA {lora:.3g} GB, QLoRA {qlora:.3g} GB."
        )


def step(model: nn.Module) -> StepPicture:
    """The live picture. model: the reader's own, a Llama; it is shown beside others."""
    return StepPicture({"the almanac’s model": plan_of(model), **PLANS})
