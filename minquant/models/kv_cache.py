"""The KV cache in few bits: keys per channel, values per token, the newest as they are.

A model that writes keeps a key and a value of every token it has read, in every layer
and head: Llama-2-7B 0.5 MB a token, 2 GB at its 4096. Unlike weights they are made
while the model runs, one token after the other, and never seen before.

    key of head h     K (time, dim)     scores  = q Kᵀ      a sum over dim, per token
    value of head h   V (time, dim)     output  = p V       a sum over time

Which numbers should share a ruler? Keys have a few large channels, the same for all
tokens: per channel, each has a ruler of its own and spoils no other. Values have none,
and a token's error is weighed by the attention it gets: per token, one that is hardly
looked at cannot harm one that is. So (KIVI, Liu et al. 2024, section 3)

    keys     per channel: a ruler for each channel of `group` tokens in a row
    values   per token: a ruler for each token's head

Keys so need `group` tokens at once, and the newest are looked at most: at least
`window` stay in full precision, and when there are group more, the oldest are rounded:

    0 ──── codes ──── rounded(time) ── window and up to group − 1 more ── time

Rulers are zero-point with fp16 scales; so they hold 0, which KIVI's need not, and a
channel far from 0 has fewer steps than it would there.

Within `rounding(model, how)` the model's own cache is rounded after each call, so that
`generate`, `perplexity` and probes work as ever; `weigh` counts the bytes. A call reads
at most `chunk` tokens, and each chunk finds what came before it rounded. (KIVI reads a
prompt in full precision first; chunk=None does that.) What is left out: keys before
their positions are turned in, integer products, and caches that forget. Lesson 11.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minquant.methods.rtn import quantize_rtn
from minquant.numerics.grids import zero_point
from minquant.numerics.groups import PER_CHANNEL, per_group
from minquant.numerics.tensor import QuantizedTensor

Axis = Literal["channel", "token"]
M = TypeVar("M", bound=nn.Module)
FULL = 16  # bits: left as they are
WHOLE = "labels", "output_hidden_states", "output_attentions"  # not to be had in chunks


@dataclass(frozen=True)
class Rounding:
    """How a cache is rounded. key_bits, value_bits: 2 to 8, or 16 for not at all. keys,
    values: which numbers share a ruler. group: tokens that share one, and that are
    rounded at once. window: of the newest tokens, so many at least stay as they are.
    Raises ValueError for what cannot be.
    """

    key_bits: int = 4
    value_bits: int = 4
    keys: Axis = "channel"
    values: Axis = "token"
    group: int = 32
    window: int = 32

    def __post_init__(self) -> None:
        for name in ("key_bits", "value_bits"):
            bits = getattr(self, name)
            if bits != FULL and not 2 <= bits <= 8:
                raise ValueError(f"{name} is {bits}; choose 2 to 8, or 16 for floats")
        for name in ("keys", "values"):
            if (axis := getattr(self, name)) not in ("channel", "token"):
                raise ValueError(f'{name} is {axis!r}; choose "channel" or "token"')
        if self.group < 1 or self.window < 0:
            seen = f"group is {self.group} and window {self.window}"
            raise ValueError(f"{seen}; choose at least 1 and 0 tokens")

    def rounded(self, time: int) -> int:
        """How many tokens, the oldest, are in codes when `time` have been read.

        >>> [Rounding(group=32, window=32).rounded(t) for t in (63, 64, 95, 96)]
        [0, 32, 32, 64]
        """
        return max(0, time - self.window) // self.group * self.group


@dataclass(frozen=True)
class CacheSize:
    """Bytes of a cache: codes with scales and zeros, and what stays at 16 bits."""

    codes: int
    floats: int
    numbers: int  # keys and values together

    @property
    def total(self) -> int:
        """All bytes."""
        return self.codes + self.floats

    @property
    def bits_per_number(self) -> float:
        """Bits per key or value, 16 if nothing is rounded."""
        return 8 * self.total / self.numbers if self.numbers else float("nan")


def quantize_states(
    x: Float[Tensor, "batch heads time dim"], bits: int, axis: Axis, group: int
) -> QuantizedTensor:
    """Keys or values as codes. Per channel: rows are the channels of every head, cut
    into groups of tokens; per token: rows are the tokens of every head, not cut.

    Raises ValueError if `group` does not divide the time (per channel), or x is not
    finite. KIVI, section 3.2; lesson 11.

    >>> quantize_states(torch.ones(1, 2, 64, 16), 4, "channel", 32).scales.shape
    torch.Size([32, 2])
    """
    if axis == "channel":
        W = x.transpose(2, 3).flatten(0, 2)  # (batch · heads · dim, time)
        return quantize_rtn(W, zero_point(bits), per_group(group))
    return quantize_rtn(x.flatten(0, 2), zero_point(bits), PER_CHANNEL)


def states_of(
    quantized: QuantizedTensor, shape: tuple[int, int, int, int], axis: Axis
) -> Float[Tensor, "batch heads time dim"]:
    """The way back from `quantize_states`; shape: (batch, heads, time, dim)."""
    batch, heads, time, dim = shape
    if axis == "channel":
        return quantized.dequantize().reshape(batch, heads, dim, time).transpose(2, 3)
    return quantized.dequantize().reshape(shape)


@contextmanager
def rounding(model: M, how: Rounding, *, chunk: int | None = 32) -> Iterator[M]:
    """While this lasts, what the model keeps of old tokens is what codes say.

    chunk: tokens that a call reads at once; longer inputs are cut. 1 is as if each were
    written by the model itself; None reads all at once, and only what comes later finds
    them rounded. Calls that continue a cache must all stand in one such context. Gives
    the model, for calls without gradients; its parts, called alone, bypass all this.

    Raises ValueError if chunk is below 1; when the model runs, for caches that do not
    keep all tokens, padding on the left, inputs_embeds, and for labels, hidden states
    and attentions of what is cut; and for get_decoder().
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is {chunk}; choose at least 1 token, or None")
    outer = {n: vars(model)[n] for n in ("forward", "get_decoder") if n in vars(model)}
    model.forward, model.get_decoder = _in_chunks(model, how, chunk), _bypass
    try:
        yield model
    finally:
        del model.forward, model.get_decoder
        vars(model).update(outer)  # of a rounding around this one


def _bypass() -> None:
    raise ValueError("get_decoder() would bypass kv_cache.rounding; call the model")


def _in_chunks(model: nn.Module, how: Rounding, chunk: int | None) -> Callable:
    """A forward that reads so many tokens at once, and rounds the old ones."""
    forward = model.forward

    @wraps(forward)
    @torch.no_grad()
    def read(input_ids: Any = None, past_key_values: Any = None, **options: Any) -> Any:
        """The model's forward, chunk by chunk; its logits as if it were one call."""
        _check(input_ids, chunk, options, getattr(model, "config", None))
        kept = options.pop("use_cache", None) is not False
        mask = options.pop("attention_mask", None)
        places = options.pop("position_ids", None)
        wanted = options.pop("logits_to_keep", 0)
        cache, logits, width = past_key_values, [], input_ids.shape[1]
        before = 0 if cache is None else cache.get_seq_length()
        for a in range(0, width, chunk or width):
            b = min(a + (chunk or width), width)
            if mask is not None:
                options["attention_mask"] = mask[..., : before + b]
            if places is not None:
                options["position_ids"] = places[..., a:b]
            keep = {"logits_to_keep": min(wanted, b - a), "use_cache": True}
            out = forward(input_ids[:, a:b], past_key_values=cache, **keep, **options)
            cache = out.past_key_values
            _round_(cache, how, before + a, before + b)
            logits.append(out.logits)
        out.logits = torch.cat(logits, 1)[:, -wanted:]
        out.past_key_values = cache if kept else None
        return out

    return read


def _check(ids: Any, chunk: int | None, options: dict[str, Any], config: Any) -> None:
    """ValueError for what cannot be read, or not in chunks."""
    if ids is None or options.get("inputs_embeds") is not None:
        raise ValueError("inputs_embeds cannot be read here; give input_ids alone")
    mask = options.get("attention_mask")
    if getattr(mask, "ndim", 0) == 2 and not mask[:, 0].all():  # would share rulers
        raise ValueError("attention_mask pads on the left; read one text at a time")
    asked = {n: options.get(n, getattr(config, n, None)) for n in WHOLE}
    odd = [n for n, given in asked.items() if given is not None and given is not False]
    if odd and chunk is not None and ids.shape[1] > chunk:
        raise ValueError(
            f"{odd[0]} cannot be cut into chunks of {chunk} tokens; compute it from "
            "the logits, or take rounding(..., chunk=None)"
        )


def _round_(cache: Any, how: Rounding, before: int, time: int) -> None:
    """Round the tokens that left the window when `before` tokens became `time`."""
    old = slice(how.rounded(before), how.rounded(time))
    for x, bits, axis in _states(cache, how, time):
        if bits != FULL and old.start < old.stop:
            some = x[:, :, old]
            codes = quantize_states(some, bits, axis, how.group)
            some.copy_(states_of(codes, tuple(some.shape), axis))


def weigh(cache: Any, how: Rounding) -> CacheSize:
    """What a cache, `past_key_values`, takes that is rounded like this: codes, scales
    and zeros as they are, and 2 bytes for each number in full precision. Raises
    ValueError as `rounding` does."""
    codes = floats = numbers = 0
    time = cache.get_seq_length()
    for x, bits, axis in _states(cache, how, time):
        coded = x[:, :, : how.rounded(time) if bits != FULL else 0]
        if coded.numel():
            codes += quantize_states(coded, bits, axis, how.group).nbytes
        floats += 2 * (x.numel() - coded.numel())
        numbers += x.numel()
    return CacheSize(codes, floats, numbers)


def _states(cache: Any, how: Rounding, time: int) -> list[tuple[Tensor, int, Axis]]:
    """Keys and values (batch, heads, time, dim) of each layer, with bits and axis."""
    kinds = ("keys", how.key_bits, how.keys), ("values", how.value_bits, how.values)
    layers = getattr(cache, "layers", ())
    found = [(getattr(of, n, None), *kind) for of in layers for n, *kind in kinds]
    shapes = {tuple(getattr(x, "shape", ())) for x, _, _ in found}
    if not shapes or not all(len(s) == 4 and s[2] == time for s in shapes):
        raise ValueError(
            f"the cache, a {type(cache).__name__}, does not hold keys and values of "
            f"all {time} tokens in each layer; take a model with plain attention"
        )
    return found
