"""A model with adapters: put on, found, trained, taken off, merged.

    add_adapters_(model, rank=8)             # QLoRA: codes below, A and B beside them
    optimizer = AdamW(trainable(model))      # A and B alone; all else is frozen
    ...
    remove_adapters_(model)                  # the base, untouched
    merge_adapters_(model)                   # or floats with the update in them

Unless told otherwise every linear layer of the decoder layers gets one, as QLoRA's
paper found necessary to match full fine-tuning (Dettmers et al. 2023, figure 2); LoRA's
paper gave them to the attention's q and v only: `only="q_proj|v_proj"`.

Layers that are still floats are quantized first, by `method`: NF4 with double
quantization. With `method=None` they stay floats, and that is plain LoRA. Layers that
keep codes already, of any grid, stay what they are.

The model learns as any other does. What is left to save is what each layer keeps for
its backward pass; inside `with checkpointed(model)` each decoder layer keeps its input
alone, and computes the rest once more when it is needed (Chen et al. 2016): a third
more arithmetic. Files are `adapter_files`' matter. Lesson 09.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from minquant.layers.coded import CodedLinear
from minquant.layers.lora import LoraLinear, check_base, check_kind, nf4
from minquant.models.linear_layers import (
    decoder_blocks,
    linear_layers,
    select_layers,
    weight_of,
)
from minquant.models.packed_model import coded_layers, pack_
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
    """An adapter on every linear layer, or on those that `only` names, in place; the
    model again, frozen but for its adapters.

    rank, alpha, dropout, dtype: as in `LoraLinear`. method: how layers of floats are
    quantized first, a function of W alone, or None to leave them. only: a regular
    expression found in the layers' names, or names. generator: draws all A in turn.

    Raises ValueError if `only` fits no layer, or a layer has an adapter already, and as
    `LoraLinear` and `method` do; the model then is what it was.
    """
    check_kind(rank, alpha, dropout, dtype)
    worn = adapters(model)
    chosen = select_layers(adaptable(model), only)
    if twice := [name for name in chosen if name in worn]:
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
        made: dict[int, QuantizedTensor] = {}
        for layer in floats.values():  # a weight that two layers share has codes once
            if id(layer.weight) not in made:
                made[id(layer.weight)] = method(weight_of(layer))
        pack_(model, {n: made[id(m.weight)] for n, m in floats.items()})
    model.requires_grad_(False)
    for adapter in worn.values():
        adapter.A.requires_grad_()
        adapter.B.requires_grad_()
    for name in chosen:
        base = model.get_submodule(name)
        layer = LoraLinear(base, rank, alpha, dropout, dtype=dtype, generator=generator)
        model.set_submodule(name, layer.train(base.training))
    return model


def adaptable(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers inside the decoder layers by name, whether of floats, of codes,
    or with an adapter on them (which then stands for its base)."""
    inside = {id(m) for block in decoder_blocks(model) for m in block.modules()}
    kinds = CodedLinear, LoraLinear
    floats, worn = linear_layers(model), adapters(model)
    bases = {id(adapter.base) for adapter in worn.values()}
    return {
        name: module
        for name, module in model.named_modules()
        if id(module) in inside
        and id(module) not in bases
        and (isinstance(module, kinds) or name in floats)
    }


def adapters(model: nn.Module) -> dict[str, LoraLinear]:
    """The adapters of a model by the names of their layers, in the model's order."""
    return {n: m for n, m in model.named_modules() if isinstance(m, LoraLinear)}


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """A and B of every adapter: what an optimizer is given.

    Raises ValueError if the model has no adapters.
    """
    found = adapters(model).values()
    if not found:
        raise ValueError("model has no adapters; put some on with add_adapters_")
    return [matrix for adapter in found for matrix in (adapter.A, adapter.B)]


def remove_adapters_(model: M) -> M:
    """The model without its adapters, in place: every base where it was, untouched."""
    for name, adapter in adapters(model).items():
        model.set_submodule(name, adapter.base)
    return model


def merge_adapters_(model: M, dtype: torch.dtype | None = None) -> M:
    """The model with every update in its weights, in place: layers of floats.

    dtype: None is that of the model's embeddings. Quantizing them anew is a choice.
    """
    dtype = dtype or next(model.parameters()).dtype
    for name, adapter in adapters(model).items():
        model.set_submodule(name, adapter.merge(dtype))
    return model


@contextmanager
def checkpointed(model: nn.Module) -> Iterator[None]:
    """While the block lasts, decoder layers keep their inputs alone for the backward
    pass, which may come later. No cache of keys and values is filled.
    """
    blocks = decoder_blocks(model)
    inner = [vars(block).get("forward") for block in blocks]  # of a `with` around this
    try:
        for block in blocks:
            block.forward = partial(_twice, block.forward)
        yield
    finally:
        for block, forward in zip(blocks, inner, strict=True):
            vars(block).pop("forward", None)  # the class has its own
            if forward is not None:
                block.forward = forward


def _twice(forward: Callable, *args: Any, **kwargs: Any) -> Any:
    """A forward pass that is taken again in the backward pass, with the same dropout.

    A cache would be filled twice, so there is none. Without reentrance, as ids give no
    input that requires a gradient."""
    for name in ("past_key_values", "layer_past"):
        kwargs |= {name: None} if name in kwargs else {}
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)


def base_bytes(model: nn.Module) -> dict[str, bytes]:
    """The bytes of every buffer of the layers that keep codes: to see that training
    changed none of them."""
    return {
        f"{name}.{of}": bytes(buffer.reshape(-1).view(torch.uint8).cpu().numpy())
        for name, layer in coded_layers(model).items()
        for of, buffer in layer.named_buffers()
    }
