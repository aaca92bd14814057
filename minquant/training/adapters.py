"""Adapters on a model: add them, train them, remove them, or merge them.

    add_adapters_(model, rank=8)             # QLoRA: codes below, A and B beside them
    optimizer = AdamW(trainable(model))      # A and B alone; all else is frozen
    ...
    remove_adapters_(model)                  # the base, untouched
    merge_adapters_(model)                   # or floats with the update in them

By default every linear layer in the decoder layers gets an adapter, which the paper of
QLoRA found necessary to match full fine-tuning (Dettmers et al. 2023, figure 2). The
paper of LoRA has them on the q and v of attention only: `only="q_proj|v_proj"`.

Layers of floats are quantized first, by `method`: NF4 with double quantization. With
`method=None` they stay floats, which is plain LoRA. Layers that hold codes already, on
any grid, stay as they are.

The model is trained like any other. Most of the memory is now what each layer keeps for
its backward pass. Inside `with checkpointed(model)` each decoder layer keeps only its
input, and computes the rest again when it is needed (Chen et al. 2016): a third more
arithmetic. `adapter_files` saves adapters and loads them. Lesson 09.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from minquant.layers.coded import CodedLinear
from minquant.layers.lora import LoraLinear, check_base, check_kind, nf4
from minquant.models.linear_layers import (
    decoder_blocks,
    fell_back_in_words,
    linear_layers,
    select_layers,
    weight_of,
)
from minquant.models.method import Method
from minquant.models.packed_model import coded_layers, pack_
from minquant.models.temporary import by_name, changed
from minquant.numerics.tensor import QuantizedTensor

M = TypeVar("M", bound=nn.Module)


def add_adapters_(
    model: M,
    *,
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.0,
    method: Callable[..., QuantizedTensor] | None = nf4,
    only: str | Collection[str] | None = None,
    dtype: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
) -> M:
    """Adds an adapter to every linear layer, in place; returns the model.

    All other parameters are frozen. rank, alpha, dropout, dtype: as in `LoraLinear`.
    method: quantizes layers of floats first, a function of W alone; None leaves them.
    Rows that its groups do not divide get one scale each, as in `quantize_`, and a line
    is printed.
    only: names of layers, or a regular expression to find in their names; None is all.
    generator: draws the A of each layer in turn.

    Raises ValueError if `only` fits no layer or a layer has an adapter already, and as
    `LoraLinear` and `method` do. Then the model is unchanged.
    """
    check_kind(rank, alpha, dropout, dtype)
    existing = adapters(model)
    chosen = select_layers(adaptable(model), only)
    if twice := [name for name in chosen if name in existing]:
        raise ValueError(
            f"model has an adapter on {twice[0]} already; take it off first with "
            "remove_adapters_, or choose others with only="
        )
    generator = generator or torch.Generator().manual_seed(0)
    if method is None:
        for layer in chosen.values():
            check_base(layer)
    else:
        floats = {n: m for n, m in chosen.items() if not isinstance(m, CodedLinear)}
        rounding = Method.from_function(method, None)
        quantized: dict[int, QuantizedTensor] = {}
        fell_back = {}
        for name, layer in floats.items():  # a weight that two layers share, only once
            W = weight_of(layer)
            if id(layer.weight) not in quantized:
                quantized[id(layer.weight)], _ = rounding.apply({name: W}, {})[name]
            if why := rounding.misfit(W.shape[1]):
                fell_back[name] = why
        by_name = {n: quantized[id(m.weight)] for n, m in floats.items()}
        if by_name:  # layers that are packed already stay as they are
            pack_(model, by_name)
        if fell_back:
            print(fell_back_in_words(fell_back))
    model.requires_grad_(False)
    for adapter in existing.values():
        adapter.A.requires_grad_()
        adapter.B.requires_grad_()
    for name in chosen:
        base = model.get_submodule(name)
        layer = LoraLinear(base, rank, alpha, dropout, dtype=dtype, generator=generator)
        model.set_submodule(name, layer.train(base.training))
    return model


def adaptable(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers inside the decoder layers, by name.

    They may hold floats or codes, or have an adapter, which then stands for its base.
    """
    inside = {id(m) for block in decoder_blocks(model) for m in block.modules()}
    bases = {id(adapter.base) for adapter in adapters(model).values()}
    floats = linear_layers(model)
    found = {}
    for name, module in model.named_modules():
        linear = isinstance(module, CodedLinear | LoraLinear) or name in floats
        if linear and id(module) in inside and id(module) not in bases:
            found[name] = module
    return found


def adapters(model: nn.Module) -> dict[str, LoraLinear]:
    """The layers of a model that have an adapter, by name, in the model's order."""
    return {n: m for n, m in model.named_modules() if isinstance(m, LoraLinear)}


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """A and B of every adapter, for the optimizer.

    Raises ValueError if the model has no adapters.
    """
    layers = _some_adapters(model).values()
    return [matrix for layer in layers for matrix in (layer.A, layer.B)]


def _some_adapters(model: nn.Module) -> dict[str, LoraLinear]:
    """The layers that have an adapter. Raises ValueError if there are none."""
    layers = adapters(model)
    if not layers:
        raise ValueError("model has no adapters; put some on with add_adapters_")
    return layers


def remove_adapters_(model: M) -> M:
    """Takes all adapters off, in place; returns the model with its untouched layers.

    Raises ValueError if the model has none.
    """
    for name, adapter in _some_adapters(model).items():
        model.set_submodule(name, adapter.base)
    return model


def merge_adapters_(model: M, dtype: torch.dtype | None = None) -> M:
    """Replaces every layer with an adapter by floats with the update in them, in place.

    dtype: of the merged weights; None is that of the embeddings. Returns the model. You
    may quantize the merged layers again, at the price of new rounding errors.

    Raises ValueError if the model has no adapters.
    """
    dtype = dtype or next(model.parameters()).dtype
    for name, adapter in _some_adapters(model).items():
        model.set_submodule(name, adapter.merge(dtype))
    return model


@contextmanager
def checkpointed(model: nn.Module) -> Iterator[None]:
    """Inside the `with` block, decoder layers keep only their inputs.

    The backward pass may come after the block. There is no cache of keys and values, as
    the backward pass would fill it once more. Where no gradients are kept, as in
    `mq.generate`, the model runs as outside the block, with a cache. A copy of the
    model is not affected.

    Raises ValueError inside another `checkpointed` of the same model, and when the
    model runs with gradients and is asked for a cache.
    """
    blocks = decoder_blocks(model)
    body = next(m for m in model.modules() if any(c is blocks for c in m.children()))
    with ExitStack() as stack:
        stack.enter_context(changed(body, forward=_without_cache))
        for block in blocks:
            stack.enter_context(changed(block, forward=_recomputed))
        yield


def _without_cache(_: nn.Module, forward: Callable, *args: Any, **kwargs: Any) -> Any:
    """This replaces the forward of the module that holds the decoder layers."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    options = by_name(forward, args, kwargs)
    if options.get("use_cache") or options.get("past_key_values") is not None:
        raise ValueError(
            "use_cache or past_key_values asks for a cache, and inside checkpointed "
            "the backward pass would fill it once more; leave it out, or call the "
            "model under torch.no_grad()"
        )
    return forward(**options | {"use_cache": False})


def _recomputed(_: nn.Module, forward: Callable, *args: Any, **kwargs: Any) -> Any:
    """This replaces the forward of a decoder layer: it is repeated in the backward
    pass, with the same dropout.

    The reentrant form would need an input with a gradient, and ids have none.
    """
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(partial(forward, **kwargs), *args, use_reentrant=False)


def base_bytes(model: nn.Module) -> dict[str, bytes]:
    """The bytes of every buffer of the layers that hold codes.

    Compare them before and after training to see that the codes did not change.
    """
    return {
        f"{name}.{key}": bytes(buffer.reshape(-1).view(torch.uint8).cpu().numpy())
        for name, layer in coded_layers(model).items()
        for key, buffer in layer.named_buffers()
    }
