"""The live bars' Python side: what they hand to JavaScript, and what they refuse."""

from itertools import product

import pytest
from helpers import tiny

from minquant.course.qlora.live_step import (
    PLANS,
    RANKS,
    TEXTS,
    WAYS,
    StepPicture,
    plan_of,
    step,
)
from minquant.planning import budget


def test_smollm2_has_the_shapes_of_smollm2():
    plan = PLANS["SmolLM2-135M"]
    n = plan.coefficients()["linear"] + plan.rest
    assert n == 134_515_008  # as its card says: 135 M
    assert plan.coefficients()["linear"] == 106_168_320


@pytest.mark.parametrize("name", PLANS)
def test_what_a_text_leaves_is_what_its_coefficients_give(name):
    plan = PLANS[name]
    saved = plan.coefficients()["saved"]
    for texts, rank, lean in product(TEXTS, RANKS, (False, True)):
        kept = saved["checkpointed" if lean else "whole"]
        once, each, ranked = kept["adapted"]
        found = once + texts * (each + rank * ranked)
        assert found == plan.saved(texts, rank, checkpointed=lean)
        once, each, _ = kept["full"]
        assert once + texts * each == plan.saved(texts, None, checkpointed=lean)


def test_a_step_is_the_budgets():
    plan = PLANS["Llama-2-7B"]
    args = plan.shapes, plan.rest
    took = plan.step("qlora", rank=16, texts=1)
    assert took[:3] == budget.adapted(*args, 16)[:3]
    batch = budget.Batch(1, 512, 511)
    assert took.saved == budget.saved(plan.shapes, batch, 32000, 128, rank=16)
    assert plan.step("lora", rank=4) == budget.adapted(*args, 4, base="16 bits")
    assert plan.step("full", rank=4) == budget.full(*args)


def test_the_readers_model_stands_first_and_the_words_say_the_bars():
    picture = step(tiny.model(num_key_value_heads=4))
    assert next(iter(picture.models)) == "the almanac’s model"
    assert picture.words == (
        "What a step of training Llama-2-7B keeps: full fine-tuning 111 GB, LoRA 18.7 "
        "GB, QLoRA 9.07 GB."
    )
    assert plan_of(tiny.model()).sizes == (32, 8)
    assert WAYS == ("full", "lora", "qlora")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "GPT-5"}, "name is 'GPT-5'; choose from SmolLM2-135M, "),
        ({"rank": 3}, "rank is 3; choose from 1, 2, 4"),
        ({"texts": 0}, "texts is 0; choose from 1, 2"),
        ({"optimizer": "SGD"}, "optimizer is 'SGD'; choose from Adam, "),
        ({"card": 12}, "card is 12; choose from 8, 16"),
    ],
)
def test_a_setting_that_is_not_there_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        StepPicture(**change)
