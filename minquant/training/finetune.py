"""Teach a model something new, in one of three ways, with the same training loop.

    full      every weight is trained
    lora      16-bit weights are frozen; A and B beside them are trained
    qlora     the frozen weights are NF4 codes with double quantization

    student = prepared(model, "qlora")        # a copy, and its optimizer
    losses = train_(student, batches)         # checkpoint="run.safetensors": goes on
                                              # after a kill (checkpoint.py)

Small steps vanish in 16 bits: bf16 has 8 bits of precision, so near 1 the next number
is 1/128 away, and 1 + 0.001 is 1 again. So weights that are trained in 16 bits are kept
in fp32 as well. The optimizer moves these *master weights*, and the model gets them
rounded (Micikevicius et al. 2018, section 3.1). A and B are fp32 and need no masters.
Either way a trained parameter takes 16 bytes, without activations:

    full, 16 bits      weight 2 + gradient 2 + master 4 + Adam's moments 4 + 4
    A and B            weight 4 + gradient 4 +            Adam's moments 4 + 4
    frozen             weight 2, or 4.13 bits as NF4

MasterAdam also needs each gradient in fp32. It updates one parameter after another and
frees that gradient again, so the extra memory is 4 bytes for each number of the largest
parameter, not of all.

The loop is `loop.py`. What is left out: weight decay, and loss scaling (bf16 needs
none). Lesson 09.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from minquant.layers.lora import nf4
from minquant.training.adapters import add_adapters_, trainable
from minquant.training.checkpoint import EVERY, Checkpoint
from minquant.training.loop import train_steps_

WAYS = "full", "lora", "qlora"
RATES = {"full": 1e-3, "lora": 6e-3, "qlora": 6e-3}  # Adam's, for the small almanac
WARM_UP = 10  # steps in which the learning rate rises


class MasterAdam(torch.optim.Adam):
    """Adam on fp32 copies of 16-bit weights, the masters, which are part of its state.

    Only one gradient is in fp32 at a time.

    >>> W = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    >>> adam = MasterAdam([W], lr=0.001)
    >>> for _ in range(5):
    ...     W.grad = torch.ones_like(W)
    ...     adam.step()
    >>> W.item(), round(adam.state[adam.masters[0]]["master"].item(), 4)
    (0.99609375, 0.995)
    """

    def __init__(self, parameters: Iterable[nn.Parameter], **options: Any) -> None:
        self.weights = list(parameters)
        self.masters = [nn.Parameter(W.detach().float()) for W in self.weights]
        super().__init__(self.masters, **options)

    @torch.no_grad()
    def step(self) -> None:
        """Adam's step in fp32 for each weight in turn, then the result in 16 bits."""
        for W, master in zip(self.weights, self.masters, strict=True):
            if W.grad is None:
                continue
            master.grad = W.grad.float()
            super().step()  # skips all others, which have no gradient now
            master.grad = None
            self.state[master]["master"] = master
            W.copy_(master)

    def state_dict(self) -> dict[str, Any]:
        """As Adam's, with the master of every weight, also before its first step."""
        packed = super().state_dict()
        for index, master in enumerate(self.masters):
            packed["state"].setdefault(index, {})["master"] = master.detach()
        return packed

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As Adam's, with the masters. The 16-bit weights are the model's to load.

        Raises ValueError if a master is missing, or is not of its weight's shape.
        """
        moments, masters = {}, {}
        for index, state in state_dict["state"].items():
            masters[index] = state.get("master")
            if others := {key: x for key, x in state.items() if key != "master"}:
                moments[index] = others  # Adam has none before a weight's first step
        for index, master in enumerate(self.masters):
            stored = masters.get(index)
            if stored is None or stored.shape != master.shape:
                raise ValueError(
                    f"state_dict has no master {tuple(master.shape)} of weight "
                    f"{index}; give the state of a MasterAdam of the same weights"
                )
        super().load_state_dict({**state_dict, "state": moments})
        for index, master in enumerate(self.masters):
            master.copy_(masters[index])
            if index in moments:
                self.state[master]["master"] = master

    def __getstate__(self) -> dict[str, Any]:
        """What `copy` and `pickle` take along."""
        own = {"weights": self.weights, "masters": self.masters}
        return super().__getstate__() | own

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Frees the 16-bit gradients. The masters have none between steps."""
        for W in self.weights:
            W.grad = None


@dataclass
class Student:
    """A model to be trained, its optimizer, and its highest learning rate."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    rate: float


def prepared(
    model: nn.Module,
    way: str,
    *,
    rank: int = 8,
    alpha: float = 16.0,
    rate: float | None = None,
    dtype: torch.dtype = torch.bfloat16,
    only: str | None = None,
    seed: int = 0,
) -> Student:
    """A copy of the model, ready to be trained in one of WAYS.

    rank, alpha, only: of the adapters, as in `add_adapters_`. rate: the highest
    learning rate; None is the one in RATES. dtype: of all weights but A and B, and of
    what the model computes in. seed: draws A.

    Raises ValueError if way is not one of WAYS, and as `add_adapters_` does.
    """
    if way not in WAYS:
        raise ValueError(f"way is {way!r}; choose from {', '.join(WAYS)}")
    twin = copy.deepcopy(model).to(dtype).train()
    rate = RATES[way] if rate is None else rate
    if way == "full":
        weights = list(twin.requires_grad_(True).parameters())
        adam = torch.optim.Adam if dtype == torch.float32 else MasterAdam
        return Student(twin, adam(weights, lr=rate), rate)
    add_adapters_(
        twin,
        rank=rank,
        alpha=alpha,
        method=nf4 if way == "qlora" else None,
        only=only,
        generator=torch.Generator().manual_seed(seed),
    )
    return Student(twin, torch.optim.Adam(trainable(twin), lr=rate), rate)


Batch = tuple[Int[Tensor, "batch t"], Int[Tensor, "batch t"]]  # ids and labels


def train_(
    student: Student,
    batches: Sequence[Batch],
    *,
    checkpoint: str | Path | None = None,
    every: int = EVERY,
) -> list[float]:
    """Takes a step for each batch of (ids, labels); the losses, in nats per label.

    The learning rate rises in WARM_UP steps to that of the student, and falls along
    half a cosine from the first step to the last. Afterwards the model is in evaluation
    mode.

    checkpoint: a safetensors file that keeps the run, written after `every` steps. If
    training is killed, prepare the student anew and give the same file: it goes on from
    there, and ends to the bit as if it had not been interrupted.

    Raises ValueError if a loss or a gradient is not finite (before the step is taken),
    if a batch has no label, and if the checkpoint is of another run.
    """
    model = student.model.train()
    settings = [student.rate, batches]
    run = Checkpoint(checkpoint, every, model, student.optimizer, settings)
    losses = train_steps_(
        run,
        len(batches),
        lambda step: batch_loss(model, *batches[step]),
        student.rate,
        _schedule,
    )
    model.eval()
    return losses


def _schedule(step: int, steps: int) -> float:
    """The learning rate at a step, as a share of the highest."""
    return min(1, (step + 1) / WARM_UP) * (1 + cos(pi * step / steps)) / 2


def batch_loss(
    model: nn.Module, ids: Int[Tensor, "batch t"], labels: Int[Tensor, "batch t"]
) -> Tensor:
    """The mean loss in nats over all labels that are not -100.

    Logits are computed only where there is a label. The label of a token is predicted
    from the tokens before it. Raises ValueError if all are.
    """
    counted = labels[:, 1:] != -100
    if not counted.any():
        raise ValueError(
            f"labels {tuple(labels.shape)} has none but -100 after the first token; "
            "leave this batch out"
        )
    hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[:, :-1][counted])  # (n, vocab)
    return nn.functional.cross_entropy(logits.float(), labels[:, 1:][counted])
