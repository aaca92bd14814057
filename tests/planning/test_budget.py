"""Memory from shapes alone: by hand, and as it is measured."""

from math import prod

import pytest
import torch
from helpers import tiny
from hypothesis import given
from hypothesis import strategies as st

from minquant.planning import budget
from minquant.planning.memory import Saved, step_memory
from minquant.training import finetune
from minquant.training.adapters import checkpointed


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


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("way", finetune.WAYS)
def test_what_a_batch_leaves_is_what_is_measured_to_the_byte(way, bits):
    made = tiny.model(hidden_size=64, intermediate_size=128, num_key_value_heads=4)
    ids = (torch.arange(36) % 20).view(3, 12) + 5
    labels = torch.where(ids % 3 == 0, -100, ids)
    dtype = torch.bfloat16 if bits == 16 else torch.float32
    student = finetune.prepared(made, way, dtype=dtype, rank=4)
    with Saved(student.model) as found:
        finetune.batch_loss(student.model, ids, labels)
    batch = budget.Batch(3, 12, int((labels[:, 1:] != -100).sum()))
    sizes = budget.shapes_of(made), batch, made.config.vocab_size, 16
    rank = None if way == "full" else 4
    assert budget.saved(*sizes, rank=rank, bits=bits) == found.nbytes


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("way", finetune.WAYS)
def test_checkpointed_it_is_what_is_measured_and_one_layer(way, bits):
    options = {"hidden_size": 64, "intermediate_size": 128, "num_key_value_heads": 4}
    made = tiny.model(**options, num_hidden_layers=3)
    less = budget.shapes_of(tiny.model(**options, num_hidden_layers=2))
    ids = (torch.arange(36) % 20).view(3, 12) + 5
    dtype = torch.bfloat16 if bits == 16 else torch.float32
    student = finetune.prepared(made, way, dtype=dtype, rank=4)
    with checkpointed(student.model), Saved(student.model) as found:
        finetune.batch_loss(student.model, ids, ids)
    batch = budget.Batch(3, 12, 33)
    sizes = batch, made.config.vocab_size, 16
    rank = None if way == "full" else 4
    whole = budget.saved(budget.shapes_of(made), *sizes, rank=rank, bits=bits)
    one = whole - budget.saved(less, *sizes, rank=rank, bits=bits)
    lean = budget.saved(
        budget.shapes_of(made), *sizes, rank=rank, bits=bits, checkpointed=True
    )
    shared = 2 * (bits // 8) * 12 * 16  # cos and sin, which no hook is told of
    assert lean == found.nbytes + one + shared


def test_other_optimizers_keep_less():
    shapes = {"q_proj": (64, 256)}
    adam, lean, plain = (
        budget.full(shapes, 0, optimizer=name) for name in budget.OPTIMIZERS
    )
    n = 64 * 256
    assert adam == budget.full(shapes, 0)
    assert (adam.optimizer, plain.optimizer) == (12 * n, 4 * n)
    assert lean.optimizer == 4 * n + 2 * (n + 4 * n // 256)
    few = budget.adapted(shapes, 0, 8, optimizer="plain descent")
    assert few == budget.adapted(shapes, 0, 8)._replace(optimizer=0)
    with pytest.raises(ValueError, match="optimizer is 'Adamax'; choose from Adam, "):
        budget.adapted(shapes, 0, 8, optimizer="Adamax")


def test_what_one_token_leaves_by_hand():
    shapes, _ = budget.llama(1, 4, 6, 10)  # width 4, MLP 6, 10 words; one head of 4
    batch = budget.Batch(1, 1, 0)  # no label asks
    norms = 3 * (4 * 4 + 4 + 2 * 4)  # in fp32, what it divided by, before its weights
    attention = 2 * 4 * (1 + 3 + 1) + 4  # its input, q, k, v, its output; log-sum-exp
    mlp = 2 * 4 + 4 * 2 * 6  # its input; gate, silu of it, up, their product
    once = 2 * 2 * 4 + 4 + 8  # cos and sin; how many labels ask; the token's id
    full = norms + attention + mlp + once
    assert budget.saved(shapes, batch, 10, 4) == full
    norms = 2 * (4 * 4 + 4)  # the first has no gradient
    copies = 4 * (6 * 4 + 6) + 4 * 7 * 2  # of seven inputs; X Aᵀ of rank 2
    adapted = norms + 2 * 4 * 4 + 4 + 2 * 3 * 6 + copies + 2 * 2 * 4 + 4
    assert budget.saved(shapes, batch, 10, 4, rank=2) == adapted


@given(
    st.integers(1, 8),
    st.integers(1, 100),
    st.sampled_from([None, 1, 16]),
    st.sampled_from([16, 32]),
)
def test_twice_the_rows_leave_twice_as_much_but_for_what_they_share(
    rows, tokens, rank, bits
):
    shapes, _ = budget.llama(2, 64, 128, 100)
    one, two = (
        budget.saved(
            shapes, budget.Batch(n, tokens, n * tokens), 100, 32, rank=rank, bits=bits
        )
        for n in (rows, 2 * rows)
    )
    shared = 2 * (bits // 8) * tokens * 32 + 4
    assert two - shared == 2 * (one - shared)


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
    batch = budget.Batch(1, 1, 1)
    with pytest.raises(ValueError, match="bits is 8; a model computes in 16 or 32"):
        budget.saved({}, batch, 1, 1, bits=8)
    with pytest.raises(ValueError, match="shapes has 'h.0.mlp.c_fc'; a Llama's layers"):
        budget.saved({"h.0.mlp.c_fc": (4, 4)}, batch, 1, 1)
    with pytest.raises(ValueError, match="rank is 0; choose 1 or more"):
        budget.saved({"q_proj": (4, 4)}, batch, 1, 1, rank=0)
    with pytest.raises(ValueError, match="base is 'int3'; choose from fp32, 16 bits"):
        budget.adapted({}, 1, 1, base="int3")
