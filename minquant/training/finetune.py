"""Teach a model something new, in one of three ways, by one and the same loop.

    full      every weight is trained
    lora      16-bit weights are frozen; A and B beside them are trained
    qlora     the frozen weights are NF4 codes with double quantization

    student = prepared(model, "qlora")        # a copy, and its optimizer
    losses = train_(student, batches)

Small steps vanish in 16 bits: bf16 has 8 bits of precision, so near 1 the next number
is 1/128 away, and 1 + 0.001 is 1 again. Whatever is trained in 16 bits is therefore
kept in fp32 as well, the *master weights*: the optimizer moves those, and the model
gets them rounded (Micikevicius et al. 2018, section 3.1). A and B are fp32 themselves.
So a parameter that is trained takes 16 bytes beside its activations, whichever way:

    full, 16 bits      weight 2 + gradient 2 + master 4 + Adam's moments 4 + 4
    A and B            weight 4 + gradient 4 +            Adam's moments 4 + 4
    frozen             weight 2, or 4.13 bits as NF4

MasterAdam steps one parameter after another, so that of its fp32 gradients, too, only
one is there at a time: beyond the account comes 4 bytes for each number of the largest
parameter, not of all.

Gradients are clipped to a norm of CLIP, as QLoRA's paper does: the first ones, of a
model that is sure of what is wrong, would throw it far. What is left out: weight decay,
loss scaling (bf16 needs none). Lesson 09.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from minquant.layers.lora import nf4
from minquant.training.adapters import add_adapters_, trainable

WAYS = "full", "lora", "qlora"
RATES = {"full": 1e-3, "lora": 6e-3, "qlora": 6e-3}  # of Adam, for a model this small
CLIP, WARM_UP = 1.0, 10


class MasterAdam(torch.optim.Adam):
    """Adam over fp32 copies of 16-bit weights. The copies are in its state.

    At most one gradient is there in fp32 at a time.

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
        """A gradient up to fp32, Adam's step there, the result down to 16 bits; then
        the next."""
        for W, master in zip(self.weights, self.masters, strict=True):
            if W.grad is None:
                continue
            master.grad = W.grad.float()
            super().step()  # it passes over all that have no gradient now
            master.grad = None
            self.state[master]["master"] = master
            W.copy_(master)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Let go of the 16-bit gradients; those of the masters never stay."""
        for W in self.weights:
            W.grad = None


@dataclass
class Student:
    """A model that is about to learn, its optimizer and its learning rate."""

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

    dtype: of all that is not trained, and of what the model computes. rate: Adam's;
    None is that of RATES. rank, alpha, only: of the adapters; seed draws their A.

    Raises ValueError for an unknown way.
    """
    if way not in WAYS:
        raise ValueError(f"way is {way!r}; choose from {', '.join(WAYS)}")
    twin = copy.deepcopy(model).to(dtype).train()
    rate = RATES[way] if rate is None else rate
    if way == "full":
        learnt = list(twin.requires_grad_(True).parameters())
        kind = torch.optim.Adam if dtype == torch.float32 else MasterAdam
        return Student(twin, kind(learnt, lr=rate), rate)
    method = nf4 if way == "qlora" else None
    generator = torch.Generator().manual_seed(seed)
    kind = {"rank": rank, "alpha": alpha, "only": only, "generator": generator}
    add_adapters_(twin, method=method, **kind)
    return Student(twin, torch.optim.Adam(trainable(twin), lr=rate), rate)


Batch = tuple[Int[Tensor, "batch t"], Int[Tensor, "batch t"]]


def train_(student: Student, batches: Sequence[Batch]) -> list[float]:
    """A step for each batch of (ids, labels); the losses, in nats per label.

    The rate rises in WARM_UP steps to the student's, and falls from the first step to
    the last along half a cosine. In the end the model is ready to evaluate.
    """
    losses = []
    for step, (ids, labels) in enumerate(batches):
        share = min(1, (step + 1) / WARM_UP) * (1 + cos(pi * step / len(batches))) / 2
        for group in student.optimizer.param_groups:
            group["lr"] = student.rate * share
        student.optimizer.zero_grad()
        loss = batch_loss(student.model, ids, labels)
        loss.backward()
        learnt = (p for p in student.model.parameters() if p.requires_grad)
        nn.utils.clip_grad_norm_(learnt, CLIP)
        student.optimizer.step()
        losses.append(loss.item())
    student.optimizer.zero_grad()
    student.model.eval()
    return losses


def batch_loss(
    model: nn.Module, ids: Int[Tensor, "batch t"], labels: Int[Tensor, "batch t"]
) -> Tensor:
    """Mean nats over the labels that ask; logits are computed at those places alone."""
    hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    asks = labels[:, 1:] != -100
    logits = model.get_output_embeddings()(hidden[:, :-1][asks])  # (n, vocab)
    return nn.functional.cross_entropy(logits.float(), labels[:, 1:][asks])
