"""GGUF: one file with a model's settings, its tokenizer and its tensors, as llama.cpp
reads it.

    offset 0    "GGUF"  version 3   number of tensors   number of settings
                settings      name, type, value           in any order
                tensors       name, shape, type, offset   in any order
                zeros up to a multiple of the alignment (32 unless a setting says so)
    data        the tensors' bytes, each from a multiple of the alignment

All numbers are little endian. A string is its length in 8 bytes, then UTF-8. A shape is
written with the row's width first, so a matrix (out, in) stands there as in, out. What
the bytes of a tensor mean depends on its type: `gguf_blocks` has them.

    file = read("model.gguf")
    file.settings["llama.block_count"]          uint32: settings keep their type
    file.tensors["blk.0.attn_q.weight"]         type, shape and bytes
    file.tensors["blk.0.attn_q.weight"].dequantize()
    write("other.gguf", file.settings, file.tensors)

`read` maps the file: bytes come into memory when they are used. It checks everything
that the header says against the size of the file before it reserves memory for it, so
that a file that is cut off or was tampered with gives an error and nothing else.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from minquant.files.gguf_blocks import (
    TYPES,
    block_type,
    dequantize_blocks,
    quantize_blocks,
)
from minquant.files.whole import whole_file

MAGIC, VERSION, ALIGNMENT = b"GGUF", 3, 32
_TEXT, _LIST, _BOOL = 8, 9, 7
_NUMBERS = {  # the type's number in the file, and numpy's
    0: np.uint8,
    1: np.int8,
    2: np.uint16,
    3: np.int16,
    4: np.uint32,
    5: np.int32,
    6: np.float32,
    _BOOL: np.bool_,
    10: np.uint64,
    11: np.int64,
    12: np.float64,
}
_NUMBER_OF = {np.dtype(kind): number for number, kind in _NUMBERS.items()}
_BY_NUMBER = {kind.number: kind for kind in TYPES.values()}


@dataclass(frozen=True, eq=False)
class GgufTensor:
    """One tensor of a file. type: a name of `gguf_blocks.TYPES`. shape: as torch has
    it, (out, in) for a matrix. data: a row of bytes for each row."""

    type: str
    shape: tuple[int, ...]
    data: UInt8[Tensor, "rows bytes"]

    @classmethod
    def of(
        cls,
        W: Float[Tensor, "*shape"],
        type: str,
        importance: Float[Tensor, " width"] | None = None,
    ) -> "GgufTensor":
        """Floats as blocks of a type; errors and importance as in `quantize_blocks`.

        >>> GgufTensor.of(torch.ones(2, 64), "Q8_0").nbytes
        136
        """
        rows = W.reshape(-1, W.shape[-1])
        return cls(type, tuple(W.shape), quantize_blocks(rows, type, importance))

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in the file, without what aligns the next."""
        return self.data.numel()

    def dequantize(self) -> Float[Tensor, "*shape"]:
        """What the bytes stand for, float32, in the tensor's shape."""
        return dequantize_blocks(self.data, self.type).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Gguf:
    """What a file holds. settings: str, bool, numpy numbers, lists of strings and numpy
    arrays, by name. tensors: by name, in the order of the file."""

    settings: dict[str, Any]
    tensors: dict[str, GgufTensor]


class GgufError(ValueError):
    """A file that is not in this format, or does not hold what it says."""


# --- reading ---


def read(path: str | Path) -> Gguf:
    """The settings and tensors of a GGUF file of version 3.

    Raises GgufError (a ValueError) that says where the file is wrong: another format or
    version, cut off, counts that the file has no room for, unknown types, tensors that
    overlap or lie outside; FileNotFoundError if there is no file.
    """
    path = Path(path).expanduser()
    if path.stat().st_size < 24:
        raise GgufError(f"{path} has {path.stat().st_size} bytes; no GGUF is so short")
    # copy on write: torch asks for memory that can be written, the file stays as it is
    content = np.memmap(path, np.uint8, mode="c")
    header = _Header(path, content)
    if header.take(4) != MAGIC:
        raise GgufError(f"{path} does not begin with GGUF; it is another kind of file")
    version, n_tensors, n_settings = header.unpack("<IQQ")
    if version != VERSION:
        raise GgufError(f"{path} has version {version}; version {VERSION} is read")
    header.check_room(n_settings, 13, "settings")
    header.check_room(n_tensors, 24, "tensors")
    settings: dict[str, Any] = {}
    for _ in range(n_settings):
        name = header.text("the name of a setting")
        if name in settings:
            raise GgufError(f"{path} has the setting {name!r} twice")
        settings[name] = header.value(header.unpack("<I")[0], name)
    places = [header.tensor() for _ in range(n_tensors)]
    alignment = int(settings.get("general.alignment", ALIGNMENT))
    if alignment < 8 or alignment & (alignment - 1) or alignment > 2**20:
        raise GgufError(
            f"{path} has general.alignment {alignment}; only powers of two are valid"
        )
    start = -(-header.at // alignment) * alignment
    return Gguf(settings, _tensors(path, content, places, start, alignment))


@dataclass(frozen=True)
class _Place:
    """What the header says of a tensor."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    nbytes: int


class _Header:
    """Reads a file's header from its start, and never beyond the end."""

    def __init__(self, path: Path, content: np.ndarray) -> None:
        self.path, self.content, self.at = path, content, 0

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        if n > len(self.content) - self.at:
            raise GgufError(
                f"{self.path} is cut off: {n} bytes are announced at offset {self.at}, "
                f"and the file has {len(self.content)}"
            )
        self.at += n
        return self.content[self.at - n : self.at].tobytes()

    def unpack(self, form: str) -> tuple:
        """The next numbers, by the rules of `struct`."""
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def check_room(self, count: int, least: int, what: str) -> None:
        """Refuse a count of things of at least so many bytes that cannot be there."""
        room = len(self.content) - self.at
        if count * least > room:
            raise GgufError(
                f"{self.path} announces {count} {what} at offset {self.at}, but only "
                f"{room} bytes follow"
            )

    def text(self, what: str) -> str:
        """The next string."""
        start, (length,) = self.at, self.unpack("<Q")
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError as problem:
            raise GgufError(
                f"{self.path} has no UTF-8 in {what} at offset {start}"
            ) from problem

    def value(self, kind: int, name: str) -> Any:
        """The next value, of this type."""
        if kind == _TEXT:
            return self.text(name)
        if kind == _LIST:
            inner, length = self.unpack("<IQ")
            if inner == _TEXT:
                self.check_room(length, 8, f"strings in {name}")
                return [self.text(name) for _ in range(length)]
            return np.frombuffer(self._numbers(inner, length, name), _NUMBERS[inner])
        (number,) = np.frombuffer(self._numbers(kind, 1, name), _NUMBERS[kind])
        return bool(number) if kind == _BOOL else number

    def _numbers(self, kind: int, length: int, name: str) -> bytes:
        if kind not in _NUMBERS:
            raise GgufError(f"{self.path} has {name} of type {kind}, which is unknown")
        size = np.dtype(_NUMBERS[kind]).itemsize
        self.check_room(length, size, f"numbers in {name}")
        found = self.take(length * size)
        if kind == _BOOL and max(found, default=0) > 1:
            raise GgufError(f"{self.path} has {name} that is neither true nor false")
        return found

    def tensor(self) -> _Place:
        """What the header says of the next tensor."""
        name = self.text("the name of a tensor")
        (n_dims,) = self.unpack("<I")
        if not 1 <= n_dims <= 4:
            raise GgufError(f"{self.path} has {name} of {n_dims} dimensions; 1 to 4")
        shape = self.unpack(f"<{n_dims}Q")[::-1]
        number, offset = self.unpack("<IQ")
        if number not in _BY_NUMBER:
            raise GgufError(
                f"{self.path} has {name} of type {number}; known are "
                + ", ".join(f"{k.number} ({k.name})" for k in TYPES.values())
            )
        kind, numbers = _BY_NUMBER[number], 1
        for size in shape:
            numbers *= size  # exact: Python's integers have no end
        if not numbers or shape[-1] % kind.weights:
            raise GgufError(
                f"{self.path} has {name} {shape} in blocks of {kind.weights} weights; "
                "a row must be a whole number of blocks, and not empty"
            )
        return _Place(
            name, shape, kind.name, offset, numbers // kind.weights * kind.nbytes
        )


def _tensors(
    path: Path, content: np.ndarray, places: list[_Place], start: int, alignment: int
) -> dict[str, GgufTensor]:
    """The tensors at their places, which must lie inside the file and apart."""
    end = 0
    for place in sorted(places, key=lambda place: place.offset):
        if place.offset % alignment:
            raise GgufError(
                f"{path} has {place.name} at {place.offset}, not a multiple of "
                f"{alignment}"
            )
        if place.offset < end:
            raise GgufError(f"{path} has {place.name} overlapping the tensor before it")
        end = place.offset + place.nbytes
        if start + end > len(content):
            raise GgufError(
                f"{path} is cut off: {place.name} ends at {start + end}, and the file "
                f"has {len(content)} bytes"
            )
    found: dict[str, GgufTensor] = {}
    for place in places:
        if place.name in found:
            raise GgufError(f"{path} has the tensor {place.name!r} twice")
        first = start + place.offset
        data = torch.from_numpy(content[first : first + place.nbytes])
        rows = block_type(place.type)
        row_bytes = place.shape[-1] // rows.weights * rows.nbytes
        found[place.name] = GgufTensor(
            place.type, place.shape, data.view(-1, row_bytes)
        )
    return found


# --- writing ---


def write(
    path: str | Path, settings: Mapping[str, Any], tensors: Mapping[str, GgufTensor]
) -> Path:
    """Write a GGUF file, whole or not at all; its path.

    settings: values as `read` gives them. Python's own int becomes uint32 (int32 if it
    is negative), float becomes float32, and lists of them arrays of int32 or float32.
    The same settings and tensors give the same bytes.

    Raises ValueError if a value has no type in the format, or a number does not fit.
    """
    alignment = int(settings.get("general.alignment", ALIGNMENT))
    header = bytearray(MAGIC)
    header += struct.pack("<IQQ", VERSION, len(tensors), len(settings))
    for name, value in settings.items():
        header += _text(name) + _value(value, name)
    offset = 0
    for name, tensor in tensors.items():
        shape = tensor.shape[::-1]
        header += _text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        header += struct.pack("<IQ", block_type(tensor.type).number, offset)
        offset += _aligned(tensor.nbytes, alignment)
    header += bytes(_aligned(len(header), alignment) - len(header))
    with whole_file(path) as place, place.open("wb") as file:
        file.write(header)
        for tensor in tensors.values():
            _write_data(file, tensor, alignment)
    return Path(path).expanduser()


def _write_data(file: BinaryIO, tensor: GgufTensor, alignment: int) -> None:
    file.write(tensor.data.contiguous().cpu().numpy().data)
    file.write(bytes(_aligned(tensor.nbytes, alignment) - tensor.nbytes))


def _aligned(n: int, alignment: int) -> int:
    return -(-n // alignment) * alignment


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _value(value: Any, name: str) -> bytes:
    """A setting's type and value."""
    if isinstance(value, str):
        return struct.pack("<I", _TEXT) + _text(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        head = struct.pack("<IIQ", _LIST, _TEXT, len(value))
        return head + b"".join(map(_text, value))
    many = isinstance(value, (list, np.ndarray))
    numbers = _typed(value, name)
    kind = struct.pack("<I", _NUMBER_OF[numbers.dtype])
    if many:
        return (
            struct.pack("<I", _LIST)
            + kind
            + struct.pack("<Q", numbers.size)
            + (numbers.tobytes())
        )
    return kind + numbers.tobytes()


def _typed(value: Any, name: str) -> np.ndarray:
    """Numbers in a type of the format; Python's own in 32 bits."""
    numbers = np.asarray(value)
    if not isinstance(value, (np.ndarray, np.generic)):
        if numbers.dtype == np.float64:
            numbers = numbers.astype(np.float32)
        elif numbers.dtype.kind in "iu" and numbers.size:
            whole = np.int32 if isinstance(value, list) or numbers < 0 else np.uint32
            if (
                numbers.min() < np.iinfo(whole).min
                or numbers.max() > np.iinfo(whole).max
            ):
                raise ValueError(
                    f"settings has {name!r} = {value}, which 32 bits do not hold; give "
                    "numpy.uint64(...) or another type of numpy"
                )
            numbers = numbers.astype(whole)
    if numbers.dtype not in _NUMBER_OF or numbers.ndim > 1:
        raise ValueError(
            f"settings has {name!r} of a type that GGUF lacks ({value!r:.60}); "
            "give text, true or false, numbers, or a list of text or numbers"
        )
    return numbers.astype(numbers.dtype.newbyteorder("<"))
