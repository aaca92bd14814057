"""The fastest plan is found, kept, and used. On a CPU a made-up clock times them."""

import functools
import itertools

import pytest
import torch

pytest.importorskip("triton", reason="triton is for Linux: no kernels to tune")

from minquant.kernels import launch, matmul, packed_words, tuning
from minquant.kernels.launch import Plan
from minquant.methods import rtn
from minquant.numerics import grids, groups


@pytest.fixture(autouse=True)
def _untuned(monkeypatch):
    """No plan is tuned before a test, and none stays after it."""
    monkeypatch.setattr(launch, "TUNED", {})


@functools.cache
def packed(bits=4, out=40):
    """A small matrix, where the kernels run."""
    W = torch.randn(out, 128, generator=torch.Generator().manual_seed(0))
    made = rtn.quantize_rtn(W, grids.zero_point(bits), groups.per_group(64))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return packed_words.pack_matrix(made).to(device)


def X_of(tokens):
    """Inputs for it."""
    return torch.ones(tokens, 128, dtype=torch.float16, device=packed().words.device)


def clock(seconds):
    """A timer that gives these seconds, one after the other, then always 9."""
    times = itertools.chain(seconds, itertools.repeat(9.0))
    return lambda run: next(times)


def taken(monkeypatch, tokens):
    """The plan that a product of so many tokens uses."""
    seen = []
    monkeypatch.setattr(launch, "_launch", lambda by, *rest: seen.append(by))
    launch.product(X_of(tokens), packed())
    return seen[0]


@pytest.mark.parametrize("tokens", [1, 3, 9])
def test_the_fastest_plan_is_kept_and_taken_from_then_on(tokens, monkeypatch):
    few = list(tuning.candidates(tokens))[:3]
    monkeypatch.setattr(tuning, "candidates", lambda _: few)
    took = tuning.tune(packed(), tokens, timer=clock([3.0, 1.0, 2.0]))
    assert list(took.values()) == [1.0, 2.0, 3.0]
    assert next(iter(took)) == few[1]
    assert taken(monkeypatch, tokens) == few[1]


def test_a_plan_serves_its_step_of_tokens_and_no_other(monkeypatch):
    few = list(tuning.candidates(16))[:1]
    monkeypatch.setattr(tuning, "candidates", lambda _: few)
    tuning.tune(packed(), 16, timer=clock([]))
    found = {n: taken(monkeypatch, n) in few for n in (1, 8, 9, 12, 16, 17)}
    assert found == {1: False, 8: False, 9: True, 12: True, 16: True, 17: False}


def test_what_was_tuned_serves_no_matrix_of_another_form():
    mine = launch.tuning_key(X_of(1), packed())
    assert mine == launch.tuning_key(2 * X_of(1), packed())
    assert mine != launch.tuning_key(X_of(1), packed(bits=8))
    assert mine != launch.tuning_key(X_of(1), packed(out=48))
    assert mine != launch.tuning_key(X_of(2), packed())


def test_nothing_is_tuned_unasked():
    matmul.matmul(X_of(1), packed(), backend="triton")
    assert launch.TUNED == {}


def test_a_wrong_plan_and_one_that_does_not_compile_are_left_out(monkeypatch):
    few = list(tuning.candidates(1))[:3]
    monkeypatch.setattr(tuning, "candidates", lambda _: few)
    product = launch.product

    def flawed(X, matrix, by):
        if by == few[0]:
            return 2 * product(X, matrix, by)
        if by == few[1]:
            raise RuntimeError("out of resource: shared memory")
        return product(X, matrix, by)

    monkeypatch.setattr(launch, "product", flawed)
    assert list(tuning.tune(packed(), timer=clock([]))) == few[2:]
    monkeypatch.setattr(tuning, "candidates", lambda _: few[:2])
    with pytest.raises(ValueError, match="no plan is right"):
        tuning.tune(packed(), timer=clock([]))


def test_what_cannot_be_tuned_is_named():
    with pytest.raises(ValueError, match="tokens is 257; plans are for 1 to 256"):
        tuning.tune(packed(), 257)
    W = torch.ones(8, 24)
    odd = packed_words.pack_matrix(
        rtn.quantize_rtn(W, grids.absmax(4), groups.per_group(12))
    )
    with pytest.raises(ValueError, match="cannot be tuned: group_size is 12"):
        tuning.tune(odd.to(packed().words.device))


@pytest.mark.parametrize("tokens", [1, 2, 8, 16, 17, 256])
def test_every_candidate_keeps_what_its_kernel_takes_for_granted(tokens):
    for by in tuning.candidates(tokens):
        assert isinstance(by, Plan) and by.tokens == tokens
        if by.kernel == "gemv":
            assert by.split == 128 * by.num_warps
        if by.kernel == "skinny":
            assert by.split == by.num_warps and by.block_m >= min(tokens, 16)
        if by.kernel == "gemm":
            assert by.block_n <= 64 and by.split == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="Triton's clock needs a GPU")
def test_on_a_gpu_tritons_own_clock_is_taken():
    took = tuning.tune(packed(), 1)
    assert all(0 < seconds < 1 for seconds in took.values())
