"""Pixels into a PNG file: small for a page on disk, fast for what moves.

A PNG file is a header, the pixels deflated line by line with a filter byte before each
line, and an end mark; each is a chunk of length, kind, data and checksum. Pillow writes
the small form, with a palette of 256 colours. It is too slow for a slider: it tries
every filter on every line, and that takes longer than packing them. So the fast form is
written here, with filter 0 and zlib's quickest level. It keeps the opacity, as dropping
it takes longer than packing it.

    1800 × 932 pixels                           time      file
    small: Pillow, 256 colours by median cut  175 ms     42 kB
    fast: written here, every colour           11 ms    138 kB
    Pillow, every colour, quickest level       26 ms    130 kB
    Pillow, 256 colours by an octree           16 ms     59 kB, white is no longer white
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def encode_png(
    pixels: UInt8[np.ndarray, "height width rgba"], *, small: bool = True
) -> bytes:
    """Pixels of red, green, blue and opacity as a PNG file; small=False is lossless.

    >>> encode_png(np.zeros((2, 2, 4), np.uint8))[1:4]
    b'PNG'
    """
    return _small(pixels) if small else _fast(pixels)


def _small(pixels: UInt8[np.ndarray, "height width rgba"]) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels).convert("RGB")
    image = image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image.save(file, "png", optimize=True)
    return file.getvalue()


def _fast(pixels: UInt8[np.ndarray, "height width rgba"]) -> bytes:
    height, width, _ = pixels.shape
    lines = np.zeros((height, 1 + 4 * width), np.uint8)  # each line: filter 0, pixels
    lines[:, 1:] = pixels.reshape(height, 4 * width)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)  # 8 bits of RGBA
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(lines, 1))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
