"""The answers, by hand: each is what the lesson derives."""

from math import exp, log2

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minquant.course import answers
from minquant.methods import rtn
from minquant.numerics import grids, groups


def test_bytes_of_a_model_are_bits_over_eight():
    assert answers.model_bytes(8_000_000_000, 4) == 4e9
    assert answers.weight_bytes(100, 5, 10) == 200


def test_a_scale_of_16_bits_for_128_weights_adds_an_eighth_of_a_bit():
    assert answers.bits_per_weight(4, 128) == 4.125
    assert answers.bits_per_weight(4, 128, 16, 4) == 4.15625
    assert answers.megabytes(8_000_000, 4, 128) == 4.125


@pytest.mark.parametrize(("bits", "g"), [(2, 16), (4, 64), (8, 32)])
def test_bits_per_weight_are_those_of_a_quantized_matrix(bits, g):
    made = rtn.quantize_rtn(
        torch.randn(64, 64), grids.zero_point(bits), groups.per_group(g)
    )
    assert answers.bits_per_weight(bits, g, 16, bits) == made.bits_per_weight


def test_half_precision_by_hand():
    assert answers.decode_float(0b0_01111_1000000000, 5, 10) == 1.5
    assert answers.decode_float(0b1_00000_0000000001, 5, 10) == -(2.0**-24)


@given(st.integers(-10, 10), st.integers(0, 1023))
def test_the_gap_of_fp16_is_2_to_the_floor_of_log2_less_ten(power, fraction):
    x = 2.0**power * (1 + fraction / 1024)
    assert answers.gap(x, 5, 10) == 2.0 ** (int(log2(x) // 1) - 10)


def test_a_row_on_a_ruler_of_step_one():
    codes, scale = answers.absmax_row(torch.tensor([-7.0, 0.5, 1.5, 2.6]), 4)
    assert codes.tolist() == [-7, 0, 2, 3] and scale.item() == 1


def test_a_ruler_with_a_zero_by_hand():
    scale, zero = answers.scale_and_zero(torch.tensor([-0.5, 1.0]), 2)
    assert (scale.item(), zero.item()) == (0.5, 1)
    codes = answers.quantize_zero_point(torch.tensor([-0.5, 0.0, 1.0, 9.0]), 0.5, 1, 2)
    assert codes.tolist() == [0, 1, 3, 3]
    assert answers.dequantize(codes, 0.5, 1).tolist() == [-0.5, 0.0, 1.0, 1.0]


def test_groups_are_rows_of_a_narrower_matrix():
    W = torch.randn(3, 8)
    codes, scales = answers.absmax_groups(W, 4, 4)
    flat, _ = answers.absmax_groups(W.reshape(6, 4), 4, 4)
    assert torch.equal(codes.reshape(6, 4), flat) and scales.shape == (3, 2)


def test_one_weight_far_out_is_worth_clipping_and_a_flat_row_is_not():
    keeps = [1.0, 0.5]
    flat = torch.linspace(-1, 1, 101)
    assert answers.best_clip(flat, 4, keeps) == 1.0
    assert answers.best_clip(torch.cat([flat, torch.tensor([2.0])]), 2, keeps) == 0.5


def test_perplexity_weighs_tokens_not_documents():
    nats, tokens = torch.tensor([10.0, 90.0]), torch.tensor([10, 30])
    assert answers.perplexity(nats, tokens) == pytest.approx(exp(2.5))


def test_flips_are_a_share():
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert answers.flips(a, a) == 0 and answers.flips(a, a.flip(1)) == 1


def test_a_constant_change_is_certain():
    tokens = torch.tensor([10, 20, 30])
    before = torch.tensor([5.0, 1.0, 9.0])
    low, high = answers.paired_interval(before, before + 0.5 * tokens, tokens)
    assert low == pytest.approx(0.5) and high == pytest.approx(0.5)


def test_what_a_weight_loses_an_input_like_it_gains():
    # H⁻¹ = [[2, −1], [−1, 2]] / 3: weight 0 falls by 0.5, weight 1 rises by half of it
    H = torch.tensor([[2.0, 1.0], [1.0, 2.0]]).double()
    moved = answers.obs_push(torch.tensor([1.5, 0.0]).double(), H, 0, 1.0)
    torch.testing.assert_close(moved, torch.tensor([1.0, 0.25]).double())
    left = answers.eliminate(torch.linalg.inv(H), 0)
    torch.testing.assert_close(left, torch.tensor([[0.5]]).double())


def test_two_inputs_alike_round_to_the_sum():
    # 0.4 and 0.4 on inputs that are nearly one: 0 and 1, not 0 and 0
    H = torch.tensor([[1.0, 0.9], [0.9, 1.0]]).double()
    W = torch.tensor([[0.4, 0.4]]).double()
    assert answers.gptq_columns(W, H).tolist() == [[0.0, 1.0]]
