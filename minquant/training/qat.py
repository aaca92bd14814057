"""Quantization-aware training: the model learns to live on the grid.

All other methods here change the weights once. This one trains on, with rounded weights
in the forward pass. Rounding is a staircase, whose slope is 0 wherever it has one, so
nothing could be learnt through it. The straight-through estimator (Hinton 2012; Bengio
et al. 2013) replaces its slope by that of the line which the staircase follows:

    forward     W_hat = round(W / scale) · scale    what a quantized model computes
    backward    ∂L/∂W := ∂L/∂W_hat                  as if W_hat = W + a constant

Behind each W_hat there is a latent W in full precision. It collects small steps until
it is nearer to the next level. When training ends, W is thrown away. Steps:

    1  every linear layer of the blocks computes with W_hat of its latent W
    2  the float model is the teacher: L = KL(teacher ‖ student), at every token.
       Without a teacher, L is the loss on the text itself
    3  AdamW, its rate rising over the first tenth of the steps and falling to 0
    4  codes = quantize_rtn(latent W): what the next forward pass would have used

With TERNARY as the grid, weights are −1, 0 and 1 times mean |w|: 1.58 bits. BitNet
b1.58 (Ma et al. 2024) has one such scale for a whole matrix (PER_TENSOR here) and
rounds what flows into each matrix to 8 bits, a scale per token (`input_bits=8`). It is
trained from scratch on trillions of tokens, with a norm before each matrix; lesson 11
measures how much of an existing model some hundred steps win back.

Training changes a model even where nothing is rounded. With grid=None that is all it
does: the control, without which no loss can be blamed on rounding.

All weights are trained. Embeddings and norms stay floats. What is left out: a gradient
that stops where weights are clipped, learnt scales (LSQ), and training in 16 bits,
where small steps would be lost.
"""

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils import parametrize

from minquant.methods.rtn import fake_quantize, quantize_rtn
from minquant.models.linear_layers import (
    Report,
    distinct,
    left_in_floats,
    linear_layers,
    weight_of,
)
from minquant.models.text import HasText, check_split, encode
from minquant.numerics.grids import TERNARY, Grid, absmax
from minquant.numerics.groups import PER_CHANNEL, Granularity
from minquant.numerics.scales import ScaleType
from minquant.training.adapters import adapters
from minquant.training.checkpoint import EVERY, Checkpoint
from minquant.training.loop import train_steps_

WARM_UP = 0.1  # share of the steps in which the rate rises


class Trained(NamedTuple):
    """The result of `train`.

    model: its linear layers hold W_hat. Where inputs were rounded in training, measure
    it in `w8a8(model, "vector_wise")`. report: the quantized layers by name, none
    without a grid. losses: in nats per token, one for each step.
    """

    model: nn.Module
    report: Report
    losses: list[float]


class _StraightThrough(torch.autograd.Function):
    """Rounds in the forward pass, and does nothing in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        W: Tensor,
        grid: Grid,
        granularity: Granularity,
        scale_dtype: ScaleType,
    ) -> Tensor:
        """W_hat, as `rtn.fake_quantize` gives it."""
        return fake_quantize(W, grid, granularity, scale_dtype=scale_dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """∂L/∂W_hat unchanged; the other arguments have no gradient."""
        return gradient, None, None, None


def straight_through(
    W: Float[Tensor, "out in"], grid: Grid, granularity: Granularity = PER_CHANNEL
) -> Float[Tensor, "out in"]:
    """W_hat, whose gradient is passed on to W as if nothing was rounded. Lesson 11.

    Raises as `quantize_rtn` does.

    >>> W = torch.tensor([[0.9, -0.2, 0.4]], requires_grad=True)
    >>> W_hat = straight_through(W, TERNARY)
    >>> W_hat.tolist()  # the mean |w| is 0.5
    [[0.5, 0.0, 0.5]]
    >>> (W_hat * torch.tensor([[1.0, 2.0, 3.0]])).sum().backward()
    >>> W.grad
    tensor([[1., 2., 3.]])
    """
    return _StraightThrough.apply(W, grid, granularity, torch.float16)


class _OnGrid(nn.Module):
    """A parametrization: torch computes a layer's weight with it from the latent W."""

    def __init__(self, grid: Grid, granularity: Granularity, transposed: bool) -> None:
        super().__init__()
        self.grid, self.granularity, self.transposed = grid, granularity, transposed

    def forward(self, latent: Float[Tensor, "rows columns"]) -> Tensor:
        """W_hat, transposed if the layer wants that (GPT-2's do)."""
        W = latent.T if self.transposed else latent
        W_hat = straight_through(W, self.grid, self.granularity)
        return W_hat.T if self.transposed else W_hat


def _inputs_on_grid(bits: int, _: nn.Module, given: tuple) -> Tensor:
    """A hook: torch calls it before a layer's forward. The inputs, rounded to absmax
    with a scale per token, as `w8a8` rounds them."""
    X = given[0].flatten(0, -2)  # (batch, time, in) -> (n, in)
    X = _StraightThrough.apply(X, absmax(bits), PER_CHANNEL, torch.float32)
    return X.unflatten(0, given[0].shape[:-1])


def one_by_one(
    tokenizer: Any, documents: Sequence[str | HasText], *, length: int = 512
) -> list[Int[Tensor, "1 time"]]:
    """A batch for each document, in the order given.

    `calibration_batches` sorts documents by length, which does not matter for H. But a
    model that is trained in that order forgets at the end what short documents taught
    it. length: documents are cut after so many tokens. Raises ValueError for documents
    of the test split.
    """
    check_split(documents, test=False)
    return [ids[None, :length] for ids in encode(tokenizer, documents)]


def train(
    model: nn.Module,
    batches: Sequence[Int[Tensor, "_ _"]],
    grid: Grid | None = TERNARY,
    granularity: Granularity = PER_CHANNEL,
    *,
    input_bits: int | None = None,
    rate: float = 2e-3,
    teacher: bool = True,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    every: int = EVERY,
) -> Trained:
    """A copy of a model, trained with its layers on a grid, one step for each batch.

    batches: ids, as `one_by_one` makes them from training text. grid: None rounds no
    weight, for a control. input_bits: what flows into each layer is rounded as well, to
    absmax with a scale per token. rate: the highest
    learning rate of AdamW; the more bits a grid has, the lower it should be. teacher:
    learn at every token from the model as it is (LLM-QAT, Liu et al. 2023); else from
    the text, which takes longer and can teach more than the model knew. A step costs
    about 3 forward passes, and one more with a teacher. The same batches give the same
    result. checkpoint: a safetensors file that keeps the run, written after `every`
    steps. The same call after a kill goes on from there, and gives the same result.

    Raises ValueError if there is no batch or one with nothing to predict, if a weight
    is not float32 or is shared, if a layer has an adapter, if a loss or a gradient is
    not finite, if the checkpoint is of another run, and as `quantize_rtn` does.
    """
    _check(model, batches)
    twin = copy.deepcopy(model).requires_grad_(True)
    layers = linear_layers(twin)
    hooks = []
    for layer in layers.values():
        if grid is not None:
            on_grid = _OnGrid(grid, granularity, not isinstance(layer, nn.Linear))
            parametrize.register_parametrization(layer, "weight", on_grid)
        if input_bits is not None:
            round_inputs = partial(_inputs_on_grid, input_bits)
            hooks.append(layer.register_forward_pre_hook(round_inputs))
    weights = list(twin.parameters())
    optimizer = torch.optim.AdamW(weights, rate, betas=(0.9, 0.95), weight_decay=0.0)
    settings = [batches, grid, granularity, input_bits, rate, teacher]
    run = Checkpoint(checkpoint, every, twin, optimizer, settings)
    device = weights[0].device
    losses = train_steps_(
        run,
        len(batches),
        lambda i: _loss(twin, model if teacher else None, batches[i].to(device)),
        rate,
        schedule,
        progress=progress,
    )
    twin.requires_grad_(False)
    for hook in hooks:
        hook.remove()
    report = Report()
    for name, layer in layers.items() if grid is not None else ():
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        W = weight_of(layer)
        report[name] = quantize_rtn(W, grid, granularity)
        W.copy_(report[name].dequantize())
    report.left = left_in_floats(twin, report)
    return Trained(twin, report, losses)


def schedule(step: int, steps: int) -> float:
    """The learning rate at a step, as a share of the highest: up, then down to 0.

    >>> [schedule(step, 20) for step in (0, 1, 2, 11, 20)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warm_up = max(1, round(WARM_UP * steps))
    rise = (step + 1) / warm_up
    fall = (steps - step) / max(1, steps - warm_up)
    return min(rise, fall, 1.0)


def _loss(
    twin: nn.Module, teacher: nn.Module | None, ids: Int[Tensor, "batch time"]
) -> Float[Tensor, ""]:
    """Nats per token: the KL from the teacher, or without one the loss on the text."""
    logits = twin(input_ids=ids, use_cache=False).logits  # (batch, time, vocab)
    if teacher is None:
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    with torch.no_grad():
        wanted = teacher(input_ids=ids, use_cache=False).logits
    p, q = (x.flatten(0, 1).log_softmax(-1) for x in (wanted, logits))
    ruled_out = p.exp() == 0  # adds nothing, as 0 log 0 is 0; torch makes nan of it
    p, q = p.masked_fill(ruled_out, 0), q.masked_fill(ruled_out, 0)
    return (p.exp() * (p - q)).sum() / len(p)


def _check(model: nn.Module, batches: Sequence[Tensor]) -> None:
    if not len(batches):
        raise ValueError(
            "batches is empty; pass qat.one_by_one(tokenizer, "
            "almanac.documents('train', 200))"
        )
    for index, ids in enumerate(batches):
        if not len(ids) or ids.shape[1] < 2:
            raise ValueError(
                f"batches[{index}] is {tuple(ids.shape)}, in which no token is "
                "predicted from another; leave it out"
            )
    if existing := [*adapters(model)]:
        raise ValueError(
            f"model has an adapter on {existing[0]}, which would be trained as well; "
            "merge or remove adapters first (adapters.merge_adapters_, "
            "remove_adapters_)"
        )
    layers = linear_layers(model)
    if len(distinct(model, layers)[0]) < len(layers):
        raise ValueError("model shares weights between layers; give each its own first")
    kinds = {weight.dtype for weight in model.parameters()} - {torch.float32}
    if kinds:
        raise ValueError(
            f"model holds {kinds.pop()}, in which small steps are lost; load it with "
            "dtype=torch.float32"
        )
