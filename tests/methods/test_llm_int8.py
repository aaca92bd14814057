"""LLM.int8(): exact integers, both ends of the threshold bit for bit, and numbers that
others measured."""

import pytest
import torch
from helpers import fixture
from helpers.fixture import as_learners_have_it
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.methods import llm_int8, rtn
from minquant.methods.llm_int8 import (
    integer_product,
    mixed_product,
    outlier_columns,
    quantize_rows,
    sweep,
    vector_wise,
)
from minquant.numerics import grids

INF = torch.inf
seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None)


def case(seed=0, n=7, width=40, out=5, dtype=torch.float32):
    """Inputs with a few large columns, and weights that fp16 holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(n, width, generator=generator)
    X[:, torch.randperm(width, generator=generator)[:3]] *= 15
    W = torch.randn(out, width, generator=generator) * 0.05
    return X.to(dtype), W.half().to(dtype)


# --- by hand ---


def test_a_case_by_hand():
    X = torch.tensor([[1.27, -0.5, 60.0], [0.0, 2.54, 6.0]])
    W = torch.tensor([[1.0, 0.5, 0.25]])
    # column 2 is taken out; rows of X get steps of 0.01 and 0.02, W of 1/127
    X_q, W_q = quantize_rows(X[:, :2]), quantize_rows(W)
    assert X_q.codes.tolist() == [[127, -50], [0, 127]]
    assert W_q.codes.tolist() == [[127, 64, 32]]
    sums = torch.tensor([[127 * 127 - 50 * 64], [127 * 64]])
    parts = sums * torch.tensor([[0.01], [0.02]]) / 127
    floats = torch.tensor([[60 * 0.25], [6 * 0.25]])
    torch.testing.assert_close(llm_int8.llm_int8(X, W), parts + floats)


def test_one_outlier_costs_a_whole_token_its_steps_and_without_it_is_fine():
    X, W = case()
    calm = X.clamp(-3, 3)
    one = calm.clone()
    one[2, 11] = 60.0
    errors = {
        name: (llm_int8.llm_int8(A, W, t) - A @ W.T).abs().mean(1)
        for name, A, t in [("calm", calm, INF), ("hurt", one, INF), ("split", one, 6.0)]
    }
    others = [i for i in range(7) if i != 2]
    assert torch.equal(errors["hurt"][others], errors["calm"][others])
    assert errors["hurt"][2] > 5 * errors["calm"][2]
    assert errors["split"][2] < 2 * errors["calm"][2]


# --- integers ---


@quick
@given(seeds, st.integers(1, 9), st.integers(1, 2500))
def test_the_integer_product_is_exact(seed, n, width):
    generator = torch.Generator().manual_seed(seed)
    A, B = (
        torch.randint(-127, 128, (k, width), generator=generator, dtype=torch.int8)
        for k in (n, 4)
    )
    assert torch.equal(integer_product(A, B), A.int() @ B.int().T)


def test_even_its_largest_sums_are_exact():
    A = torch.full((2, 4096), 127, dtype=torch.int8)
    A[1] = -127
    B = A[:1].clone()
    B[0, 0] = 126  # an odd sum beyond 2^24, which float32 does not hold
    total = 127**2 * 4096 - 127
    assert torch.tensor(float(total)).item() != total
    assert integer_product(A, B).tolist() == [[total], [-total]]


def test_columns_enough_to_overflow_32_bits_are_refused():
    A = torch.zeros(1, 133_145, dtype=torch.int8)
    assert 133_144 * 127**2 < 2**31 <= 133_145 * 127**2
    assert integer_product(A[:, 1:], A[:, 1:]).item() == 0
    with pytest.raises(ValueError, match="A has 133145 columns; int32 holds 133144"):
        integer_product(A, A)


def test_it_is_torchs_own_int8_product():
    X, W = case(n=32, width=64, out=16)
    X_q, W_q = quantize_rows(X), quantize_rows(W)
    theirs = torch._int_mm(X_q.codes, W_q.codes.T.contiguous())
    assert torch.equal(integer_product(X_q.codes, W_q.codes), theirs)


# --- the two ends of the threshold ---


@quick
@given(seeds, st.sampled_from(["columns", "values"]))
def test_with_an_infinite_threshold_it_is_vector_wise_int8_bit_for_bit(seed, row_scale):
    X, W = case(seed)
    plain = vector_wise(quantize_rows(X), quantize_rows(W))
    for kept in (torch.float16, "int8"):
        found = llm_int8.llm_int8(X, W, INF, outlier_weights=kept, row_scale=row_scale)
        assert torch.equal(found, plain)


@quick
@given(seeds, st.sampled_from(["columns", "values"]))
def test_at_threshold_0_it_is_the_float_product_bit_for_bit(seed, row_scale):
    X, W = case(seed)
    found = llm_int8.llm_int8(X, W, 0.0, row_scale=row_scale)
    assert torch.equal(found, X @ W.T)
    W = W * 0.1  # fp16 does not hold it any more, fp32 does
    found = llm_int8.llm_int8(X, W, 0.0, outlier_weights=torch.float32)
    assert torch.equal(found, X @ W.T)


def test_at_threshold_0_from_codes_it_is_the_product_with_what_codes_stand_for():
    X, W = case()
    found = llm_int8.llm_int8(X, W, 0.0, outlier_weights="int8")
    assert torch.equal(found, X @ rtn.fake_quantize(W, grids.absmax(8), **FP32).T)


FP32 = {"scale_dtype": torch.float32}


# --- the split ---


def test_a_value_that_equals_the_threshold_is_an_outlier():
    X = torch.tensor([[5.9999, 6.0, -6.0, 0.0]])
    assert outlier_columns(X).tolist() == [False, True, True, False]
    assert outlier_columns(X, INF).sum() == 0
    assert outlier_columns(X, 0.0).all()


@quick
@given(seeds, st.floats(0.5, 30))
def test_it_is_the_sum_of_an_8_bit_and_a_float_product(seed, threshold):
    X, W = case(seed)
    out = (X.abs() >= threshold).any(0)
    calm = rtn.fake_quantize(X.masked_fill(out, 0), grids.absmax(8), **FP32)
    W_hat = rtn.fake_quantize(W, grids.absmax(8), **FP32)
    for kept, W_float in ((torch.float32, W), ("int8", W_hat)):
        known = calm.double() @ W_hat.double().T
        known += (X * out).double() @ W_float.double().T
        found = llm_int8.llm_int8(X, W, threshold, outlier_weights=kept)
        torch.testing.assert_close(found.double(), known, rtol=1e-5, atol=1e-5)


@quick
@given(seeds)
def test_tokens_share_their_outlier_columns_and_nothing_else(seed):
    X, W = case(seed)
    out = outlier_columns(X)
    W_q, quiet = quantize_rows(W), X.masked_fill(out, 0)
    whole = mixed_product(X, W_q, W)
    alone = torch.cat([vector_wise(quantize_rows(x[None]), W_q) for x in quiet])
    torch.testing.assert_close(whole, alone + X[:, out] @ W[:, out].T)


def test_a_row_scale_over_values_counts_what_stays_below_in_outlier_columns():
    X = torch.tensor([[1.0, 60.0], [1.0, 5.0]])
    W = torch.tensor([[0.3, 0.3]])
    steps = {"columns": 1 / 127, "values": 5 / 127}  # of the second token
    for row_scale, step in steps.items():
        found = llm_int8.llm_int8(
            X, W, outlier_weights=torch.float32, row_scale=row_scale
        )
        known = round(1 / step) * step * 0.3 + 5 * 0.3
        assert found[1].item() == pytest.approx(known, rel=1e-6)


# --- numbers that others measured ---


@pytest.mark.parametrize(
    ("kept", "expected"), [("int8", "0.0091"), (torch.float16, "0.0056")]
)
def test_the_error_of_the_seeded_layer_is_that_of_bitsandbytes(kept, expected):
    # ‖Y_hat − Y‖ / ‖Y‖ of the first 256 held-out tokens of the small layer, with rows
    # scaled as in bitsandbytes: its own outlier weights, and the paper's
    X, W = fixture.layer().X_held_out[:256], fixture.layer().W
    (split,) = sweep(X, W, [6.0], outlier_weights=kept, row_scale="values")
    assert f"{split.error:.4f}" == expected
    assert outlier_columns(X).sum() == 132


def test_scales_over_columns_alone_err_less():
    X, W = fixture.layer().X_held_out[:256], fixture.layer().W
    for kept, expected in (("int8", "0.0088"), (torch.float16, "0.0051")):
        (split,) = sweep(X, W, [6.0], outlier_weights=kept)
        assert f"{split.error:.4f}" == expected


def test_on_the_seeded_layer_one_column_in_128_makes_most_of_the_trouble():
    X, W = fixture.layer().X_held_out[:256], fixture.layer().W
    splits = sweep(X, W, [0.0, 2.0, 6.0, 20.0, INF])
    errors = [split.error for split in splits]
    assert errors == sorted(errors)
    assert errors[0] == pytest.approx(2e-4, rel=0.05)  # W in fp16
    assert splits[3].columns == 8 / 1024 and errors[3] < errors[4] / 4


def test_a_sweep_counts_columns_and_values():
    X = torch.tensor([[1.0, 7.0, 0.0, 7.0], [1.0, 0.0, 0.0, 9.0]])
    W = torch.ones(1, 4)
    shares = [(s.columns, s.values) for s in sweep(X, W, [0.0, 7.0, 8.0, 10.0])]
    assert shares == [(1, 1), (0.5, 0.375), (0.25, 0.125), (0, 0)]


# --- every kind of input has a defined answer ---


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_inputs_and_outputs_share_their_dtype(dtype):
    X, W = case(dtype=dtype)
    before = X.clone(), W.clone()
    found = llm_int8.llm_int8(X, W)
    assert found.dtype == dtype
    known = llm_int8.llm_int8(X.float(), W.float())
    torch.testing.assert_close(found, known.to(dtype), rtol=1e-5, atol=1e-6)
    assert torch.equal(X, before[0]) and torch.equal(W, before[1])


def test_a_token_of_zeros_gives_zeros():
    X, W = case()
    X[3] = 0
    assert not llm_int8.llm_int8(X, W)[3].any()


NAN = float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": -1.0}, "threshold is -1.0; choose 0 or more, often 6.0"),
        ({"threshold": NAN}, "threshold is nan; choose 0 or more"),
        ({"row_scale": "rows"}, 'row_scale is \'rows\'; choose "columns" or "values"'),
        (
            {"outlier_weights": "fp16"},
            "outlier_weights is 'fp16'; choose a dtype of",
        ),
        ({"outlier_weights": torch.int8}, "outlier_weights is torch.int8; choose a dt"),
        ({"X": torch.ones(2, 39)}, r"X has shape \(2, 39\), but W 40 columns; give X"),
        ({"X": torch.full((2, 40), NAN)}, "X holds 80 NaN and 0 infinite of 80"),
        ({"W": torch.full((5, 40), INF)}, "W holds 0 NaN and 200 infinite of 200"),
    ],
)
def test_an_argument_that_does_not_fit_is_named_with_what_to_do(change, message):
    X, W = case()
    with as_learners_have_it(), pytest.raises(ValueError, match=message):
        llm_int8.llm_int8(**{"X": X, "W": W, **change})
