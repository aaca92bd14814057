"""Who makes a layer's inputs? Found by experiment, so that scales can be moved there.

A scale per input, as AWQ's and SmoothQuant's, costs nothing once what makes that input
divides by it. That takes a module P, its *feeder*, such that P's outputs reach these
layers, and nothing else, and on the way are at most multiplied and added up:

    norm      -> all layers that read its output: q, k, v; or gate and up
    up_proj   -> down_proj, as act(gate) · up is linear in up
    v_proj    -> o_proj, as attention is a weighted mean of values
    fc1       -> fc2, if a ReLU stands between: it lets positive factors pass; no GELU

Families name and arrange these differently. So no list of names stands here, but an
experiment: multiply output i of P by t_i, divide the inputs that should be made of it
by t_i, and run the block. If what the block makes is unchanged, P is the feeder. The
t_i are random powers of two, which floats multiply by without rounding: so *unchanged*
means bit for bit, and a wrong guess cannot pass by being small.

Which of P's outputs makes input j is one of two guesses. Either its last outputs do, in
their order: all of a norm's, up's or v's; the last third of GPT-2's c_attn, which makes
q, k and v at once; the second half of a gate_up_proj. Or these are values that several
query heads share (GQA): then each of them makes several inputs.

What is left out: feeders in another block than their layers, as in models that put the
norm last (OPT-350m); there none is found. Lessons 05 and 07.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from minquant.models import calibrate
from minquant.models.linear_layers import (
    decoder_blocks,
    is_linear,
    layers_in,
    linear_layers,
    weight_of,
)

_TOKENS = 16  # of the text that the experiment runs on
_EXPONENTS = (-2, -1, 1, 2)


class Feeder(NamedTuple):
    """What makes a layer's inputs: input j is output `rows[j]` of `module`, times and
    plus something that does not depend on it."""

    name: str
    module: nn.Module
    rows: Int[Tensor, " in"]

    @property
    def outputs(self) -> int:
        """How many outputs the module has."""
        if is_linear(self.module):
            return weight_of(self.module).shape[0]
        return len(self.module.weight)

    def to_outputs(self, s: Float[Tensor, " in"]) -> Float[Tensor, " out"] | None:
        """A number per input as one per output, 1 for outputs that make none; None if
        inputs that one output makes ask for different numbers."""
        made = torch.ones(self.outputs, dtype=s.dtype, device=s.device)
        made[self.rows] = s
        return made if torch.equal(made[self.rows], s) else None


@torch.no_grad()
def feeders(model: nn.Module) -> Iterator[tuple[dict[str, nn.Module], Feeder | None]]:
    """Each group of linear layers that share an input, in the order of the forward
    pass, and its feeder, or None where the experiment finds none.

    The caller may move scales, but must leave what the model computes as it is.
    Raises ValueError as `calibrate.block_inputs` does.
    """
    blocks, layers = decoder_blocks(model), linear_layers(model)
    names = {module: name for name, module in model.named_modules()}
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.linspace(0, vocabulary - 1, _TOKENS).long()[None]  # (1, t)
    hidden = None
    for block, calls in zip(
        blocks, calibrate.block_inputs(model, blocks, [ids]), strict=True
    ):
        run = partial(calibrate.advance, block, calls, hidden)
        mine = layers_in(block, layers)
        for group in calibrate.sharing(mine, run):
            members = {name: mine[name] for name in group}
            guesses, made = _guesses(model, block, members, names), run()
            found = (f for f in guesses if _feeds(f, members, run, made))
            yield members, next(found, None)
        hidden = run()


def _guesses(
    model: nn.Module,
    block: nn.Module,
    group: Mapping[str, nn.Module],
    names: Mapping[nn.Module, str],
) -> Iterator[Feeder]:
    """Every norm and every other linear layer of the block, if it is wide enough."""
    width = weight_of(next(iter(group.values()))).shape[1]
    heads = getattr(model.config, "num_attention_heads", 1)
    shared = heads // (getattr(model.config, "num_key_value_heads", None) or heads)
    rows = [torch.arange(width)]
    if shared > 1 and width % heads == 0:
        values = torch.arange(width // shared).view(heads // shared, -1)
        rows.append(values.repeat_interleave(shared, 0).flatten())
    for module in block.modules():
        if module in group.values() or not (is_norm(module) or is_linear(module)):
            continue
        for row in rows:
            made = Feeder(names[module], module, row)
            spare = made.outputs - int(row.max()) - 1
            if spare == 0 or (spare > 0 and is_linear(module)):
                place = module.weight.device
                yield made._replace(rows=(row + spare).to(place))


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm: it has one weight per channel, and no parts."""
    weight = getattr(module, "weight", None)
    return (
        isinstance(weight, nn.Parameter)
        and weight.ndim == 1
        and not any(True for _ in module.children())
    )


def _feeds(
    feeder: Feeder,
    group: Mapping[str, nn.Module],
    run: calibrate.Run,
    expected: Sequence[Tensor],
) -> bool:
    """The experiment: does it cancel, if outputs are multiplied and inputs divided?"""
    generator = torch.Generator().manual_seed(0)
    pick = torch.randint(len(_EXPONENTS), (feeder.outputs,), generator=generator)
    t = (2.0 ** torch.tensor(_EXPONENTS))[pick].to(feeder.module.weight)
    untouched = torch.ones(feeder.outputs, dtype=torch.bool)
    untouched[feeder.rows.cpu()] = False
    t[untouched] = 1.0
    t_in = t[feeder.rows]  # (in,)
    handles = [feeder.module.register_forward_hook(lambda _, x, y: y * t.to(y))]
    handles += [
        layer.register_forward_pre_hook(lambda _, x: (x[0] / t_in.to(x[0]), *x[1:]))
        for layer in group.values()
    ]
    with calibrate.removing(handles):
        found = run()
    pairs = zip(expected, found, strict=True)
    return all(torch.equal(before, after) for before, after in pairs)


@torch.no_grad()
def divide_outputs_(module: nn.Module, s: Float[Tensor, " out"]) -> None:
    """Divide the outputs of a norm or a linear layer by s, in its weights and bias.

    A norm may multiply by 1 + weight, as Gemma's does: seen by what is left of it at a
    weight of 0. Computed in float32, then stored in the weights' dtype.
    """
    s = s.float()
    bias = getattr(module, "bias", None)
    if is_linear(module):
        W = weight_of(module)
        W.copy_(W.float() / s[:, None])
    else:
        one = _gain_at_zero(module)
        module.weight.copy_((one + module.weight.float()) / s - one)
    if bias is not None:
        bias.copy_(bias.float() / s)


def _gain_at_zero(norm: nn.Module) -> int:
    """What a norm multiplies by if its weight is 0: 0, or 1 for Gemma's."""
    twin = copy.deepcopy(norm)
    twin.weight.zero_()
    if getattr(twin, "bias", None) is not None:
        twin.bias.zero_()
    ramp = torch.linspace(-1, 1, len(twin.weight)).to(twin.weight)
    return int(bool(twin(ramp).any()))
