"""The KV cache in few bits: keys per channel, values per token, the newest as they are.

A model that writes keeps a key and a value of every token it has read, in every layer
and head. In Llama-2-7B this is 0.5 MB per token, 2 GB at its 4096 tokens. Unlike
weights, keys and values are made while the model runs, one token after the other, so
they cannot be quantized beforehand.

    key of head h     K (time, dim)     scores  = q Kᵀ      a sum over dim, per token
    value of head h   V (time, dim)     output  = p V       a sum over time

Which numbers should share a ruler? Keys have a few large channels, the same for all
tokens. Per channel, each large channel has a ruler for itself and spoils no other.
Values have no such channels, and attention weighs the error of a token. Per token, a
token that gets hardly any attention cannot harm one that gets much. So (KIVI, Liu et
al. 2024, section 3)

    keys     per channel: a ruler for each channel of `group` tokens in a row
    values   per token: a ruler for each head of each token

So keys are rounded in groups of `group` tokens. The newest tokens get most attention:
at least `window` of them stay in full precision, and as soon as there are `group` more,
the oldest group is rounded:

    0 ── codes ── rounded_tokens(time) ── window and up to group − 1 more ── time

Rulers are zero-point with fp16 scales. These contain 0, and KIVI's need not, so a
channel far from 0 gets fewer steps here than with KIVI.

Inside `rounding(model, scheme)` the model's own cache is rounded after each call, so
`generate`, `perplexity` and probes work as usual; `cache_size` counts the bytes. A call
reads `chunk` tokens at a time, and each chunk reads a cache that is rounded already.
(KIVI first reads a prompt in full precision; chunk=None does that.) What is left out:
keys before their positions are turned in, integer products, and caches that drop
tokens. Lesson 11.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minquant.methods.rtn import quantize_rtn
from minquant.models.temporary import by_name, changed
from minquant.numerics.grids import zero_point
from minquant.numerics.groups import PER_CHANNEL, per_group
from minquant.numerics.tensor import QuantizedTensor

Axis = Literal["channel", "token"]
M = TypeVar("M", bound=nn.Module)
FULL = 16  # bits: not rounded
_NOT_IN_CHUNKS = "labels", "output_hidden_states", "output_attentions"
_PER_TOKEN = "position_ids", "token_type_ids"  # (batch, time): cut like the input


@dataclass(frozen=True)
class Rounding:
    """How a cache is rounded.

    key_bits, value_bits: 2 to 8, or 16 for no rounding.
    keys, values: "channel" or "token", whose numbers share a ruler.
    group: how many tokens are rounded together; per channel they share a ruler.
    window: how many of the newest tokens stay in full precision, at least.

    Raises ValueError for other bits or axes, a group below 1, a window below 0.
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

    def rounded_tokens(self, time: int) -> int:
        """How many tokens, the oldest ones, are codes after `time` tokens were read.

        >>> [Rounding(group=32, window=32).rounded_tokens(t) for t in (63, 64, 95, 96)]
        [0, 32, 32, 64]
        """
        return max(0, time - self.window) // self.group * self.group


@dataclass(frozen=True)
class CacheSize:
    """The bytes of a cache: codes with scales and zeros, and numbers in 16 bits."""

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
    """Quantize keys or values. Per channel, rows are the channels of all heads, cut
    into groups of tokens; per token, rows are the tokens of all heads, not cut.

    Raises ValueError if `group` does not divide time (per channel), or if x is not
    finite. KIVI, section 3.2; lesson 11.

    >>> quantize_states(torch.ones(1, 2, 64, 16), 4, "channel", 32).scales.shape
    torch.Size([32, 2])
    """
    if axis == "channel":
        W = x.transpose(2, 3).flatten(0, 2)  # (batch · heads · dim, time)
        return quantize_rtn(W, zero_point(bits), per_group(group))
    return quantize_rtn(x.flatten(0, 2), zero_point(bits), PER_CHANNEL)


def dequantize_states(
    quantized: QuantizedTensor, shape: tuple[int, int, int, int], axis: Axis
) -> Float[Tensor, "batch heads time dim"]:
    """Keys or values from the codes of `quantize_states`, in the shape they had."""
    batch, heads, time, dim = shape
    if axis == "channel":
        return quantized.dequantize().reshape(batch, heads, dim, time).transpose(2, 3)
    return quantized.dequantize().reshape(shape)


@contextmanager
def rounding(model: M, scheme: Rounding, *, chunk: int | None = 32) -> Iterator[M]:
    """While this lasts, the model's cache holds the rounded keys and values of old
    tokens.

    chunk: how many tokens are read together; longer inputs are cut. 1 reads them as if
    the model wrote each token itself. None reads the whole input in one piece, and only
    later calls find it rounded. All calls that continue one cache must be made in the
    same context. Yields the model, for calls without gradients. Parts of the model that
    are called directly are not affected, and no copy of the model is.

    Raises ValueError if chunk is below 1, or inside another rounding of the model. When
    the model runs, raises ValueError for a cache that does not keep all tokens, for
    padding on the left, for inputs_embeds, for get_decoder(), and where an input is
    cut, for labels, hidden states, attentions, and tensors that it is not known how to
    cut.
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is {chunk}; choose at least 1 token, or None")
    read = partial(_read, scheme, chunk)
    with changed(model, forward=read, get_decoder=_refuse_decoder):
        yield model


def _refuse_decoder(*_: Any) -> None:
    raise ValueError("get_decoder() would bypass kv_cache.rounding; call the model")


@torch.no_grad()
def _read(
    scheme: Rounding,
    chunk: int | None,
    model: nn.Module,
    forward: Callable,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """This replaces `forward` of the model: it reads `chunk` tokens at a time, and
    rounds old tokens after each chunk. Its logits are as if it were one call."""
    options = by_name(forward, args, kwargs)
    config = getattr(model, "config", None)
    ids = options.pop("input_ids", None)
    _check(ids, chunk, options, config)
    cache = options.pop("past_key_values", None)
    returns_cache = options.pop("use_cache", None) is not False
    as_tuple = not options.get("return_dict", getattr(config, "return_dict", True))
    if as_tuple:
        options["return_dict"] = True
    mask = options.pop("attention_mask", None)
    per_token = {name: options.pop(name, None) for name in _PER_TOKEN}
    keep = options.pop("logits_to_keep", 0)  # the last so many, or their places
    width = ids.shape[1]
    before = 0 if cache is None else cache.get_seq_length()
    step, logits = chunk or width, []
    for start in range(0, width, step):
        end = min(start + step, width)
        for name, x in per_token.items():
            if x is not None:
                options[name] = x[..., start:end]
        if mask is not None:
            rows = mask[..., start:end, :] if mask.ndim == 4 else mask
            options["attention_mask"] = rows[..., : before + end]
        out = forward(
            input_ids=ids[:, start:end],
            past_key_values=cache,
            logits_to_keep=min(keep, end - start) if isinstance(keep, int) else 0,
            use_cache=True,
            **options,
        )
        cache = out.past_key_values
        _round_(cache, scheme, before + start, before + end)
        logits.append(out.logits)
    kept = slice(-keep, None) if isinstance(keep, int) else keep
    out.logits = torch.cat(logits, 1)[:, kept]
    out.past_key_values = cache if returns_cache else None
    return out.to_tuple() if as_tuple else out


def _check(ids: Any, chunk: int | None, options: dict[str, Any], config: Any) -> None:
    """Raises ValueError for inputs that cannot be read, and for outputs that would be
    those of one chunk alone."""
    if ids is None or options.get("inputs_embeds") is not None:
        raise ValueError("inputs_embeds cannot be read here; give input_ids alone")
    mask = options.get("attention_mask")
    if mask is not None and getattr(mask, "ndim", 0) not in (2, 4):
        raise ValueError(
            f"attention_mask is a {type(mask).__name__}; give a tensor of (batch, time)"
        )
    if mask is not None and mask.ndim == 2 and not mask[:, 0].all():
        # tokens would share rulers with what is no token
        raise ValueError("attention_mask pads on the left; read one text at a time")
    if chunk is None or ids.shape[1] <= chunk:
        return
    cut = ("attention_mask", "logits_to_keep", *_PER_TOKEN)
    tensors = [n for n, x in options.items() if isinstance(x, Tensor) and n not in cut]
    for name in dict.fromkeys((*_NOT_IN_CHUNKS, *tensors)):
        value = options.get(name, getattr(config, name, None))
        if value is not None and value is not False:
            raise ValueError(
                f"{name} cannot be cut into chunks of {chunk} tokens; compute it from "
                "the logits, or take rounding(..., chunk=None)"
            )


def _round_(cache: Any, scheme: Rounding, before: int, time: int) -> None:
    """Round the tokens that left the window when `before` tokens became `time`."""
    start, end = scheme.rounded_tokens(before), scheme.rounded_tokens(time)
    for x, bits, axis in _states(cache, scheme, time):
        if bits != FULL and start < end:
            old = x[:, :, start:end]
            codes = quantize_states(old, bits, axis, scheme.group)
            old.copy_(dequantize_states(codes, tuple(old.shape), axis))


def cache_size(cache: Any, scheme: Rounding) -> CacheSize:
    """The bytes of a cache that is rounded by this scheme: codes, scales and zeros as
    stored, and 2 bytes for each number in full precision.

    cache: the model's `past_key_values`. Raises ValueError if it does not keep all
    tokens.
    """
    codes = floats = numbers = 0
    time = cache.get_seq_length()
    for x, bits, axis in _states(cache, scheme, time):
        rounded_tokens = 0 if bits == FULL else scheme.rounded_tokens(time)
        coded = x[:, :, :rounded_tokens]
        if coded.numel():
            codes += quantize_states(coded, bits, axis, scheme.group).nbytes
        floats += 2 * (x.numel() - coded.numel())
        numbers += x.numel()
    return CacheSize(codes, floats, numbers)


def _states(cache: Any, scheme: Rounding, time: int) -> list[tuple[Tensor, int, Axis]]:
    """Keys and values (batch, heads, time, dim) of each layer, with bits and axis.

    Raises ValueError if a layer does not hold all `time` tokens.
    """
    states = []
    for layer in getattr(cache, "layers", ()):
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        states.append((keys, scheme.key_bits, scheme.keys))
        states.append((values, scheme.value_bits, scheme.values))
    shapes = [tuple(getattr(x, "shape", ())) for x, _, _ in states]
    if not states or not all(len(s) == 4 and s[2] == time for s in shapes):
        raise ValueError(
            f"the cache, a {type(cache).__name__}, does not hold keys and values of "
            f"all {time} tokens in each layer; take a model with plain attention"
        )
    return states
