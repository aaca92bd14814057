"""Blocks: the bytes of llama.cpp where it rounds, no more error where it searches."""

import ctypes

import gguf as reference  # llama.cpp's own package
import numpy as np
import pytest
import torch
from helpers.llama_cpp import library

from minquant.files.gguf_blocks import (
    TYPES,
    block_type,
    dequantize_blocks,
    quantize_blocks,
)

ROUNDED = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0"]
SEARCHED = ["Q4_K", "Q6_K"]


def matrices():
    """Normal weights, weights with outliers, zeros in places, and equal ones."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((16, 512)).astype(np.float32) * 0.02
    heavy = rng.standard_t(3, (16, 512)).astype(np.float32)
    gaps = normal * (rng.random((16, 512)) < 0.1) + 0.0  # no zero has a sign
    gaps[0], gaps[1] = 0, 0.25
    return {"normal": normal, "heavy": heavy, "gaps": gaps}


def kind(name):
    """llama.cpp's own name of a type."""
    return reference.GGMLQuantizationType[name]


def by_engine(W, name, importance=None):
    """Blocks as llama.cpp's C code makes them."""
    chunk = library().ggml_quantize_chunk
    chunk.restype = ctypes.c_size_t
    chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    chunk.argtypes += [*[ctypes.c_int64] * 3, ctypes.c_void_p]
    form = block_type(name)
    out = np.zeros((len(W), W.shape[1] // form.weights * form.nbytes), np.uint8)
    where = None if importance is None else importance.ctypes.data
    W = np.ascontiguousarray(W)
    done = chunk(kind(name).value, W.ctypes.data, out.ctypes.data, 0, *W.shape, where)
    assert done == out.size
    return torch.from_numpy(out)


@pytest.mark.parametrize("name", TYPES)
def test_a_type_has_the_number_and_the_sizes_of_llama_cpp(name):
    form = block_type(name)
    assert form.number == kind(name).value
    assert (form.weights, form.nbytes) == reference.GGML_QUANT_SIZES[kind(name)]


@pytest.mark.parametrize("W", matrices().values(), ids=matrices())
@pytest.mark.parametrize("name", ROUNDED)
def test_bytes_are_those_of_llama_cpps_package(name, W):
    ours = quantize_blocks(torch.from_numpy(W), name)
    theirs = reference.quants.quantize(W, kind(name)).view(np.uint8)
    assert np.array_equal(ours.numpy(), theirs.reshape(ours.shape))


@pytest.mark.parametrize("name", TYPES)
def test_blocks_mean_what_they_mean_in_llama_cpps_package(name):
    form = block_type(name)
    if form.weights == 1:
        data = quantize_blocks(torch.from_numpy(matrices()["heavy"]), name)
    else:  # any bytes, with scales that are finite
        rng = np.random.default_rng(1)
        data = rng.integers(0, 256, (40, 2 * form.nbytes), np.uint8)
        halves = {"Q4_1": [0, 2], "Q4_K": [0, 2], "Q6_K": [208]}.get(name, [0])
        for block in (0, form.nbytes):
            for at in halves:
                scales = rng.standard_normal((40, 1)).astype(np.float16)
                data[:, block + at : block + at + 2] = scales.view(np.uint8)
        data = torch.from_numpy(data)
    theirs = reference.quants.dequantize(data.numpy(), kind(name))
    assert np.array_equal(dequantize_blocks(data, name).numpy(), theirs)


@pytest.mark.parametrize("W", matrices().values(), ids=matrices())
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", SEARCHED)
def test_the_search_errs_no_more_than_llama_cpps(name, weighted, W):
    rng = np.random.default_rng(2)
    importance = np.exp(rng.standard_normal(W.shape[1])).astype(np.float32)
    importance = importance if weighted else None

    def error(data):
        squares = (
            (dequantize_blocks(data, name) - torch.from_numpy(W)).double().square()
        )
        return (
            squares if not weighted else squares * torch.from_numpy(importance)
        ).mean()

    given = None if importance is None else torch.from_numpy(importance)
    ours = error(quantize_blocks(torch.from_numpy(W), name, given))
    assert ours <= 1.02 * error(by_engine(W, name, importance))


@pytest.mark.parametrize("name", SEARCHED)
def test_what_matters_more_errs_less(name):
    W = torch.from_numpy(matrices()["normal"])
    importance = torch.ones(512)
    importance[::2] = 100.0
    plain, weighted = (
        (dequantize_blocks(quantize_blocks(W, name, given), name) - W).square()[:, ::2]
        for given in (None, importance)
    )
    assert weighted.mean() < 0.95 * plain.mean()


@pytest.mark.parametrize("name", TYPES)
def test_zeros_stay_zero(name):
    data = quantize_blocks(torch.zeros(2, 256), name)
    assert not dequantize_blocks(data, name).any()


def test_a_column_without_importance_is_still_kept():
    W = torch.from_numpy(matrices()["normal"])
    importance = torch.ones(512)
    importance[::2] = 0
    W_hat = dequantize_blocks(quantize_blocks(W, "Q4_K", importance), "Q4_K")
    assert (W_hat - W)[:, ::2].square().mean() < 0.5 * W[:, ::2].square().mean()


@pytest.mark.parametrize(
    ("W", "name", "options", "message"),
    [
        (
            torch.ones(2, 48),
            "Q4_0",
            {},
            "rows of 48 weights, and a block of Q4_0 has 32",
        ),
        (torch.ones(2, 32), "Q9", {}, "type is 'Q9'; there are F32"),
        (torch.full((1, 32), torch.nan), "Q4_0", {}, "32 NaN or infinite"),
        (torch.full((1, 32), 1e9), "Q4_0", {}, "W needs 1.25e.08 in fp16, which ends"),
        (torch.ones(1, 256), "Q4_K", {"importance": torch.ones(3)}, "give 256 finite"),
        (torch.ones(1, 256), "Q4_K", {"importance": -torch.ones(256)}, "negative"),
    ],
)
def test_what_no_block_can_hold_is_refused(W, name, options, message):
    with pytest.raises(ValueError, match=message):
        quantize_blocks(W, name, **options)


def test_bytes_that_are_no_whole_blocks_are_refused():
    with pytest.raises(ValueError, match="rows of 17 bytes; a block of Q4_0 has 18"):
        dequantize_blocks(torch.zeros(1, 17, dtype=torch.uint8), "Q4_0")


@pytest.mark.parametrize("name", TYPES)
def test_what_is_read_has_memory_of_its_own(name):
    """A view would keep the whole file mapped for as long as a norm of it lives."""
    data = torch.zeros(2, 256 // TYPES[name].weights * TYPES[name].nbytes).byte()
    place = data.untyped_storage().data_ptr()
    assert dequantize_blocks(data, name).untyped_storage().data_ptr() != place
