"""Quantization-aware training: the model learns to live on the grid.

Unlike all other methods here, which move weights once: this one trains on, with rounded
weights in the forward pass. Rounding is a staircase, whose slope is 0 wherever it has
one, so nothing could be learnt through it. The straight-through estimator (Hinton 2012;
Bengio et al. 2013) takes it for the line that the staircase follows:

    forward     W_hat = round(W / scale) · scale    what a quantized model computes
    backward    ∂L/∂W := ∂L/∂W_hat                  as if W_hat = W + a constant

Beneath each W_hat lies a latent W in full precision, which collects small steps until
it comes into reach of the next level. When training ends W is thrown away. Steps:

    1  every linear layer of the blocks computes with W_hat of its latent W
    2  the float model is the teacher: L = KL(teacher ‖ student), at every token. Or,
       without a teacher, L is the loss of the text itself
    3  AdamW, its rate rising over the first tenth of the steps and falling to 0
    4  codes = quantize_rtn(latent W): what the next forward pass would have used

With TERNARY as the grid, weights are −1, 0 and 1 times mean |w|: 1.58 bits, as in
BitNet b1.58 (Ma et al. 2024), which trains on trillions of tokens from nothing. What
some hundred steps win back of a model that is there, and what they do not, is measured
in lesson 11.

All is trained, embeddings and norms too, which stay floats. What is left out: rounding
of the inputs (BitNet's are int8), a gradient that stops where weights are clipped,
learnt scales (LSQ), and any training in 16 bits, where small steps would be lost.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils import parametrize
from tqdm.auto import tqdm

from minquant.methods.rtn import fake_quantize, quantize_rtn
from minquant.models.linear_layers import Report, distinct, linear_layers, weight_of
from minquant.models.text import HasText, check_split, encode
from minquant.numerics.grids import TERNARY, Grid
from minquant.numerics.groups import PER_CHANNEL, Granularity

WARM = 0.1  # share of the steps in which the rate rises


class Trained(NamedTuple):
    """A trained model whose layers hold W_hat, their codes by name, and the loss in
    nats per token at each step."""

    model: nn.Module
    report: Report
    losses: list[float]


class _StraightThrough(torch.autograd.Function):
    """Rounds on the way forward; on the way back it is not there."""

    @staticmethod
    def forward(ctx: Any, W: Tensor, grid: Grid, granularity: Granularity) -> Tensor:
        """W_hat, as `rtn.fake_quantize` gives it."""
        return fake_quantize(W, grid, granularity)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """∂L/∂W_hat, unchanged; grid and granularity have none."""
        return gradient, None, None


def straight_through(
    W: Float[Tensor, "out in"], grid: Grid, granularity: Granularity = PER_CHANNEL
) -> Float[Tensor, "out in"]:
    """`rtn.fake_quantize` whose gradient is that of W itself. Lesson 11.

    Raises as `quantize_rtn` does.

    >>> W = torch.tensor([[0.9, -0.2, 0.4]], requires_grad=True)
    >>> W_hat = straight_through(W, TERNARY)
    >>> W_hat.tolist()  # the mean |w| is 0.5
    [[0.5, 0.0, 0.5]]
    >>> (W_hat * torch.tensor([[1.0, 2.0, 3.0]])).sum().backward()
    >>> W.grad
    tensor([[1., 2., 3.]])
    """
    return _StraightThrough.apply(W, grid, granularity)


class _OnGrid(nn.Module):
    """What torch puts between a layer and its latent weight."""

    def __init__(self, grid: Grid, granularity: Granularity, transposed: bool) -> None:
        super().__init__()
        self.grid, self.granularity, self.transposed = grid, granularity, transposed

    def forward(self, latent: Float[Tensor, "rows columns"]) -> Tensor:
        """W_hat, lying as the layer wants it (GPT-2's are transposed)."""
        W = latent.T if self.transposed else latent
        W_hat = straight_through(W, self.grid, self.granularity)
        return W_hat.T if self.transposed else W_hat


def one_by_one(
    tokenizer: Any, documents: Sequence[str | HasText], *, length: int = 512
) -> list[Int[Tensor, "1 time"]]:
    """Each document as a batch of its own, in the order given: a step for each.

    `calibration_batches` sorts by length, which does not matter for H; a model trained
    so would forget at the end what short documents taught it. Longer ones are cut after
    `length` tokens. Raises ValueError for documents of the test split.
    """
    check_split(documents, test=False)
    return [ids[None, :length] for ids in encode(tokenizer, documents)]


def train(
    model: nn.Module,
    batches: Sequence[Int[Tensor, "_ _"]],
    grid: Grid = TERNARY,
    granularity: Granularity = PER_CHANNEL,
    *,
    rate: float = 2e-3,
    teacher: bool = True,
    progress: bool = True,
) -> Trained:
    """A copy of a model, trained with its layers on a grid, one step for each batch.

    batches: ids, as `one_by_one` makes them of training text. rate: AdamW's highest;
    the wider the grid, the lower it should be. teacher: learn from the model as it is,
    at every token; else from the text, which gives more than the model knew and takes
    longer. The same batches give the same result. Steps cost about 3 forward passes,
    and one more with a teacher.

    Raises ValueError if there is no batch, a weight is not float32 or is shared, a
    layer has an adapter, or the loss is not finite; and as `quantize_rtn` does. LLM-QAT
    (Liu et al. 2023).
    """
    _check(model, batches)
    twin = copy.deepcopy(model).requires_grad_(True)
    layers = linear_layers(twin)
    for layer in layers.values():
        on_grid = _OnGrid(grid, granularity, not isinstance(layer, nn.Linear))
        parametrize.register_parametrization(layer, "weight", on_grid)
    losses = _descend(twin, model if teacher else None, batches, rate, progress)
    twin.requires_grad_(False)
    report = {}
    for name, layer in layers.items():
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        W = weight_of(layer)
        report[name] = quantize_rtn(W, grid, granularity)
        W.copy_(report[name].dequantize())
    return Trained(twin, report, losses)


def _descend(
    twin: nn.Module,
    teacher: nn.Module | None,
    batches: Sequence[Int[Tensor, "_ _"]],
    rate: float,
    progress: bool,
) -> list[float]:
    """Train `twin` in place, a step for each batch; the loss at each."""
    weights = [w for w in twin.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(weights, rate, betas=(0.9, 0.95), weight_decay=0.0)
    device, losses = weights[0].device, []
    for step, ids in enumerate(
        tqdm(batches, "training", delay=3, disable=not progress)
    ):
        for group in optimizer.param_groups:
            group["lr"] = rate * slope(step, len(batches))
        loss = _loss(twin, teacher, ids.to(device))
        if not loss.isfinite():
            raise ValueError(
                f"the loss is {loss.item()} at step {step}; lower rate {rate}"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def slope(step: int, steps: int) -> float:
    """The share of the highest rate at a step: up over the first tenth, down to 0.

    >>> [slope(step, 20) for step in (0, 1, 2, 11, 20)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warm = max(1, round(WARM * steps))
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm), 1.0)


def _loss(
    twin: nn.Module, teacher: nn.Module | None, ids: Int[Tensor, "batch time"]
) -> Float[Tensor, ""]:
    """Nats per token: KL from the teacher, or of the text."""
    logits = twin(input_ids=ids, use_cache=False).logits  # (batch, time, vocab)
    if teacher is None:
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    with torch.no_grad():
        right = teacher(input_ids=ids, use_cache=False).logits
    p, q = (x.flatten(0, 1).log_softmax(-1) for x in (right, logits))
    return F.kl_div(q, p, reduction="batchmean", log_target=True)


def _check(model: nn.Module, batches: Sequence[Tensor]) -> None:
    if not len(batches):
        raise ValueError(
            "batches is empty; pass qat.one_by_one(tokenizer, "
            "almanac.documents('train', 200))"
        )
    names = [name.rpartition(".") for name, _ in model.named_parameters()]
    if worn := [layer for layer, _, own in names if own == "A"]:  # as `lora` calls it
        raise ValueError(
            f"model has an adapter on {worn[0]}, which would be trained as well; merge "
            "or remove adapters first (adapters.merge_adapters_, remove_adapters_)"
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
