"""Which module makes a layer's inputs? An experiment finds out, so that scales can be
moved there.

AWQ and SmoothQuant scale each input of a layer. Such a scale costs nothing once the
module that makes the input divides by it. This must be a module P, the *feeder*, whose
outputs reach these layers and nothing else, and are at most multiplied and added up on
the way:

    norm      -> all layers that read its output: q, k, v; or gate and up
    up_proj   -> down_proj, as act(gate) · up is linear in up
    v_proj    -> o_proj, as attention is a weighted mean of values
    fc1       -> fc2, if a ReLU stands between: it lets positive factors pass, and a
                 GELU does not

Each family of models names and arranges these in its own way. So here is no list of
names but an experiment: multiply output i of P by t_i, divide the inputs that should
come from it by t_i, and run the block. If the block's output is unchanged, P is the
feeder. The t_i are random powers of two, and floats are multiplied by these without
rounding: so *unchanged* means bit for bit, and no wrong guess passes because its effect
is small.

Two guesses say which output of P makes input j. Either the last outputs make the
inputs, in order: all outputs of a norm, of up or of v; the last third of GPT-2's
c_attn, which makes q, k and v together; the second half of a gate_up_proj. Or the
outputs are values that several query heads share (GQA): then each makes several inputs,
and these can only have one scale. `tied_inputs` tells methods so before they choose it.

What is left out: feeders in another block than their layers, as in models that put the
norm last (OPT-350m). There none is found. Lessons 05 and 07.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from minquant.models import calibrate, one_block
from minquant.models.linear_layers import (
    decoder_blocks,
    is_linear,
    layers_in,
    linear_layers,
    weight_of,
)

_TOKENS = 16  # length of the text that the experiment runs on
_EXPONENTS = (-2, -1, 1, 2)  # of the powers of two


class Feeder(NamedTuple):
    """The module that makes a layer's inputs: input j is output `rows[j]` of `module`,
    multiplied by something, and with something added, that does not depend on it."""

    name: str
    module: nn.Module
    rows: Int[Tensor, " in"]

    @property
    def shares_outputs(self) -> bool:
        """Whether one output makes several inputs: a value of several query heads."""
        return len(self.rows.unique()) < len(self.rows)

    @property
    def outputs(self) -> int:
        """The number of outputs of the module."""
        if is_linear(self.module):
            return weight_of(self.module).shape[0]
        return len(self.module.weight)

    def to_outputs(self, s: Float[Tensor, " in"]) -> Float[Tensor, " out"] | None:
        """Numbers per input as numbers per output: 1 for outputs that make no input.
        None if two inputs that one output makes have different numbers."""
        per_output = torch.ones(self.outputs, dtype=s.dtype, device=s.device)
        per_output[self.rows] = s
        return per_output if torch.equal(per_output[self.rows], s) else None


@torch.no_grad()
def feeders(model: nn.Module) -> Iterator[tuple[dict[str, nn.Module], Feeder | None]]:
    """Each group of linear layers that share an input, in the order of the forward
    pass, with its feeder, or None where the experiment finds none.

    Between two groups the caller may move scales, but must not change what the model
    computes. Raises ValueError as `one_block.block_inputs` does.
    """
    blocks, layers = decoder_blocks(model), linear_layers(model)
    names = {module: name for name, module in model.named_modules()}
    vocabulary = model.get_input_embeddings().weight.shape[0]
    as_always = {"dtype": torch.float32, "device": "cpu"}
    ids = torch.linspace(0, vocabulary - 1, _TOKENS, **as_always).long()[None]  # (1, t)
    inputs = one_block.block_inputs(model, blocks, [ids])
    groups = calibrate.sharing(model, layers, [ids])
    hidden = None
    for block, calls in zip(blocks, inputs, strict=True):
        run = partial(one_block.advance, block, calls, hidden)
        in_block = layers_in(block, layers)
        for group_names in groups:
            group = {name: in_block[name] for name in group_names if name in in_block}
            if not group:
                continue
            output = run()
            proven = (
                guess
                for guess in _guesses(model, block, group, names)
                if _feeds(guess, group, run, output)
            )
            yield group, next(proven, None)
        for name in set(in_block).difference(*groups):  # experts that no token reached
            yield {name: in_block[name]}, None
        hidden = run()


def tied_inputs(model: nn.Module) -> dict[str, Int[Tensor, " in"]]:
    """Which inputs must have one scale, if the scales of a layer are to be folded.

    By the name of each layer whose inputs are values that several query heads share,
    the o_proj of each block: which value makes input j, counted from 0. The `tied` of
    `quantize_awq_shared` and `quantize_smooth_shared`. Empty if each query head has
    values of its own.

    Raises ValueError as `feeders` does.
    """
    if _query_heads_per_value(model) == 1:
        return {}
    return {
        name: feeder.rows - feeder.rows.min()  # they may be the last of many
        for group, feeder in feeders(model)
        if feeder and feeder.shares_outputs
        for name in group
    }


def _query_heads_per_value(model: nn.Module) -> int:
    heads = getattr(model.config, "num_attention_heads", 1)
    return heads // (getattr(model.config, "num_key_value_heads", None) or heads)


def _guesses(
    model: nn.Module,
    block: nn.Module,
    group: Mapping[str, nn.Module],
    names: Mapping[nn.Module, str],
) -> Iterator[Feeder]:
    """Every norm and every other linear layer of the block with enough outputs, by both
    guesses of which output makes which input."""
    width = weight_of(next(iter(group.values()))).shape[1]
    sharing = _query_heads_per_value(model)
    heads = getattr(model.config, "num_attention_heads", 1)
    orders = [torch.arange(width, device="cpu")]
    if sharing > 1 and width % heads == 0:
        values = torch.arange(width // sharing, device="cpu").view(heads // sharing, -1)
        orders.append(values.repeat_interleave(sharing, 0).flatten())
    for module in block.modules():
        if module in group.values() or not (is_norm(module) or is_linear(module)):
            continue
        for rows in orders:
            guess = Feeder(names[module], module, rows)
            spare = guess.outputs - int(rows.max()) - 1
            if spare == 0 or (spare > 0 and is_linear(module)):
                last_rows = (rows + spare).to(module.weight.device)
                yield guess._replace(rows=last_rows)


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm: it has one weight per channel, and no submodules."""
    weight = getattr(module, "weight", None)
    is_vector = isinstance(weight, nn.Parameter) and weight.ndim == 1
    return is_vector and not list(module.children())


def _feeds(
    feeder: Feeder,
    group: Mapping[str, nn.Module],
    run: Callable[[], Sequence[Tensor]],
    expected: Sequence[Tensor],
) -> bool:
    """The experiment: multiply the feeder's outputs, divide the inputs of the group. Is
    the output of the block still the expected one?"""
    generator = torch.Generator().manual_seed(0)
    on_cpu = {"device": "cpu"}
    pick = torch.randint(
        len(_EXPONENTS), (feeder.outputs,), generator=generator, **on_cpu
    )
    t = (2.0 ** torch.tensor(_EXPONENTS, **on_cpu))[pick].to(feeder.module.weight)
    untouched = torch.ones(feeder.outputs, dtype=torch.bool, **on_cpu)
    untouched[feeder.rows.cpu()] = False
    t[untouched] = 1.0
    t_in = t[feeder.rows]  # (in,)
    handles = [feeder.module.register_forward_hook(lambda _, x, y: y * t.to(y))]
    handles += [
        layer.register_forward_pre_hook(lambda _, x: (x[0] / t_in.to(x[0]), *x[1:]))
        for layer in group.values()
    ]
    with calibrate.removing(handles):
        output = run()
    pairs = zip(expected, output, strict=True)
    return all(torch.equal(before, after) for before, after in pairs)
