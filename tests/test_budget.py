"""Memory from shapes alone: by hand, and as it is measured."""

from math import prod

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from minquant import budget, finetune
from minquant.memory import step_memory


def measured(model, way, dtype=torch.bfloat16, **options):
    """The bytes of one step, but for the batch."""
    student = finetune.prepared(model, way, dtype=dtype, **options)
    ids = torch.full((1, 4), 7)
    took = step_memory(
        student.model,
        student.optimizer,
        lambda: finetune.batch_loss(student.model, ids, ids),
    )
    buffers = sum(b.nbytes for n, b in student.model.named_buffers() if "inv_freq" in n)
    return took._replace(saved=0, weights=took.weights - buffers)


@pytest.fixture(scope="module")
def model():
    return tiny.model(head_dim=16, hidden_size=64, intermediate_size=128)


def test_shapes_and_rest_are_the_whole_model(model):
    shapes = budget.shapes_of(model)
    assert shapes["model.layers.0.mlp.down_proj"] == (64, 128)
    weights = sum(map(prod, shapes.values())) + budget.rest_of(model)
    assert weights == sum(p.numel() for p in model.parameters())


def test_a_real_llama_has_the_shapes_that_llama_gives():
    made = tiny.model(num_key_value_heads=4)
    shapes, rest = budget.llama(2, 32, 48, len(tiny.WORDS) + 4)
    assert list(budget.shapes_of(made).values()) == list(shapes.values())
    assert budget.rest_of(made) == rest


def test_the_published_size_of_llama_65b():
    shapes, rest = budget.llama(80, 8192, 22016, 32000)
    assert sum(map(prod, shapes.values())) + rest == 65_285_660_672


@pytest.mark.parametrize(("dtype", "bits"), [(torch.bfloat16, 16), (torch.float32, 32)])
def test_full_is_what_is_measured(model, dtype, bits):
    args = budget.shapes_of(model), budget.rest_of(model)
    assert budget.full(*args, bits=bits) == measured(model, "full", dtype)


def test_lora_is_what_is_measured(model):
    args = budget.shapes_of(model), budget.rest_of(model)
    assert budget.adapted(*args, 4, base="16 bits") == measured(model, "lora", rank=4)
    fp32 = measured(model, "lora", torch.float32, rank=4)
    assert budget.adapted(*args, 4, base="fp32") == fp32


def test_qlora_is_what_is_measured_but_for_a_few_bytes(model):
    args = budget.shapes_of(model), budget.rest_of(model)
    planned, took = budget.adapted(*args, 4), measured(model, "qlora", rank=4)
    assert planned[1:] == took[1:]
    assert 0 <= took.weights - planned.weights <= 8 * len(args[0])  # mean, last block


def test_attention_only_counts_attention_only(model):
    args = budget.shapes_of(model), budget.rest_of(model)
    planned = budget.adapted(*args, 4, base="16 bits", only=budget.ATTENTION)
    assert planned == measured(model, "lora", rank=4, only=budget.ATTENTION)


@given(st.integers(1, 64), st.sampled_from(sorted(budget.BASES)))
def test_memory_grows_by_sixteen_bytes_for_each_number_of_an_adapter(rank, base):
    shapes = {"a": (8, 24), "b": (16, 16)}
    one, two = (budget.adapted(shapes, 100, r, base=base) for r in (rank, 2 * rank))
    assert two.total - one.total == 16 * rank * 64


def test_the_bases_are_in_the_order_of_their_bits():
    assert list(budget.BASES.values()) == sorted(budget.BASES.values(), reverse=True)
    assert round(budget.BASES["NF4, double"], 3) == 4.127


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="rank is 0; choose 1 or more"):
        budget.adapter_numbers({"a": (1, 1)}, 0)
    with pytest.raises(ValueError, match="bits is 8; full fine-tuning has 16 or 32"):
        budget.full({}, 1, bits=8)
    with pytest.raises(ValueError, match="base is 'int3'; choose from fp32, 16 bits"):
        budget.adapted({}, 1, 1, base="int3")
