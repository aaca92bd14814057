"""What goes wrong with real models. A slip of the caller, or a number that is none, is
refused by the name of the argument, before any work is done.
"""

from functools import partial

import pytest
import torch
from helpers import tiny
from helpers.fixture import as_learners_have_it

import minquant as mq
from minquant.models.text import calibration_batches

RTN = partial(mq.quantize_rtn, grid=mq.symmetric_full(4))
GPTQ = partial(mq.quantize_gptq, grid=mq.symmetric_full(4))
AWQ = partial(mq.quantize_awq_shared, grid=mq.symmetric_full(4), ratios=(0.5,))
TEXTS = tiny.texts_of("calibration", 4)
MANY_WORDS = tiny.tokenizer([f"w{i}" for i in range(100)])  # of another model
FAR = "w90 w91 w92"
QUIET = {"held_out": False, "progress": False}


def batches(texts=TEXTS):
    """The texts as batches."""
    return calibration_batches(tiny.tokenizer(), texts, batch=2, held_out=False)


def refused(error, message, function, *given, **named):
    """The call raises our own error, with no word of the checks of shapes."""
    with as_learners_have_it(), pytest.raises(error, match=message):
        function(*given, **named)


# --- query heads that share a value ---


@pytest.mark.parametrize("method", [AWQ, mq.quantize_smooth_shared])
@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3", "Mistral", "Phi3"])
def test_scales_fold_where_query_heads_share_a_value(kind, method, tmp_path):
    """vllm-project/llm-compressor#2808, mit-han-lab/llm-awq#67: AWQ skips o_proj, and a
    fused qkv_proj stays without support."""
    network = tiny.model(kind)
    small, report = mq.quantize(network, method, calibration=batches())
    ids = batches()[0]
    before = small(input_ids=ids).logits
    folded, left = mq.fold_(small, report)
    assert left == {}
    assert (small(input_ids=ids).logits - before).norm() < 2**-8 * before.norm()
    folder = mq.export(small, folded, None, tmp_path / "out")
    again = mq.load_exported_(tiny.model(kind, seed=1), folder)
    after = again(input_ids=ids).logits
    assert (after - before).norm() < 2**-6 * before.norm()  # norms in fp16


# --- widths that groups do not divide ---


@pytest.mark.parametrize("method", [RTN, GPTQ, AWQ])
def test_a_width_that_groups_do_not_divide_stops_no_model(method):
    """vllm-project/llm-compressor#1983 (an opaque error after hours),
    openvinotoolkit/openvino.genai#226, pytorch/ao#1647 (whole rows instead)."""
    network = tiny.model(hidden_size=64, intermediate_size=172)
    method = partial(method, granularity=mq.per_group(64))
    small, report = mq.quantize(network, method, calibration=batches(), progress=False)
    downs = [f"model.layers.{i}.mlp.down_proj" for i in (0, 1)]
    assert list(report.fell_back) == downs
    assert small(input_ids=batches()[0]).logits.isfinite().all()


def test_one_matrix_with_such_a_width_stays_an_error():
    W = torch.ones(2, 172)
    refused(
        ValueError,
        "group_size 64 does not divide in_features 172; choose 4, 43 or 86",
        RTN,
        W,
        granularity=mq.per_group(64),
    )


# --- numbers that are none ---


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "name", ["model.norm.weight", "model.layers.1.mlp.up_proj.weight", "lm_head.weight"]
)
@pytest.mark.parametrize("method", [RTN, GPTQ, AWQ])
def test_a_number_that_is_none_is_found_before_any_work(name, value, method):
    """togethercomputer/OpenChatKit#86 and many like it: a model of NaN is found when
    its first word is drawn."""
    network = tiny.model()
    network.get_parameter(name).view(-1)[5] = value
    twin = tiny.model()
    twin.load_state_dict(network.state_dict())
    message = f"model has 1 of .* numbers in {name} that are NaN or infinite"
    refused(ValueError, message, mq.quantize_, network, method, calibration=batches())
    pairs = zip(network.parameters(), twin.parameters(), strict=True)
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)


def test_a_model_of_nan_does_not_go_on_with_its_first_word():
    """ByteDance-Seed/decoupleQ#8: greedily, the largest of NaN is always <unk>."""
    network = tiny.model()
    network.model.norm.weight[3] = float("nan")
    message = "model predicts NaN for new token 0"
    refused(ValueError, message, mq.generate, network, tiny.tokenizer(), "a b", 4)


# --- texts that are no list of texts ---

READERS = {
    "calibration_batches": lambda texts: mq.calibration_batches(
        tiny.tokenizer(), texts, held_out=False
    ),
    "encode": lambda texts: mq.encode(tiny.tokenizer(), texts),
    "perplexity": lambda texts: mq.perplexity(
        tiny.model(), tiny.tokenizer(), texts, **QUIET
    ),
    "kl_and_flips": lambda texts: mq.kl_and_flips(
        tiny.model(), tiny.model(), tiny.tokenizer(), texts, **QUIET
    ),
    "held out": lambda texts: mq.calibration_batches(tiny.tokenizer(), texts),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ("a b c", TypeError, r"documents is one string; give a list of texts, such as"),
        (None, TypeError, "documents is NoneType; give a list of texts"),
        ([3], TypeError, "documents holds a int; give strings"),
        ([], ValueError, "documents is empty; give at least one"),
        (["a b", ""], ValueError, r"documents\[1\] has no words; leave it out"),
        ([" \n"], ValueError, r"documents\[0\] has no words"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(reader, texts, error, message):
    """casper-hansen/AutoAWQ#27 (a string in the place of a list),
    ModelCloud/GPTQModel#1935 and huggingface/datasets#4108 (none, or empty ones)."""
    refused(error, message, READERS[reader], texts)


def test_texts_may_come_from_a_generator():
    def given():
        return (text for text in TEXTS)

    with as_learners_have_it():
        found = mq.calibration_batches(tiny.tokenizer(), given(), held_out=False)
        losses = [
            mq.perplexity(tiny.model(), tiny.tokenizer(), texts, **QUIET)
            for texts in (given(), TEXTS)
        ]
    assert sum(len(ids) for ids in found) == len(TEXTS)
    assert losses[0].nats == losses[1].nats and len(losses[0].documents) == len(TEXTS)


@pytest.mark.parametrize("length", [4, 8, 512])
def test_texts_shorter_than_a_window_are_read_whole(length):
    found = calibration_batches(tiny.tokenizer(), ["a b c"], length=4, held_out=False)
    assert [ids.tolist() for ids in found] == [[[1, 4, 5, 6]]]
    loss = mq.perplexity(tiny.model(), tiny.tokenizer(), ["a b c"], **QUIET)
    assert loss.document_tokens.tolist() == [4]


@pytest.mark.parametrize("options", [{"length": 0}, {"batch": 0}, {"batch": -1}])
def test_batches_of_nothing_are_refused(options):
    function = partial(calibration_batches, held_out=False, **options)
    message = "length is .* and batch .*; choose 1 or more"
    refused(ValueError, message, function, tiny.tokenizer(), TEXTS)


# --- calibration that is no batches ---

IDS = torch.tensor([[1, 4, 5]])


@pytest.mark.parametrize(
    ("calibration", "error", "message"),
    [
        (TEXTS, TypeError, r"calibration\[0\] is a str; give what calibration_batches"),
        ("a b", TypeError, "calibration is a str; give what"),
        (IDS, TypeError, "calibration is a Tensor; give what"),
        ([{"input_ids": IDS}], TypeError, r"calibration\[0\] is a dict"),
        ([IDS, IDS.float()], TypeError, r"calibration\[1\] has dtype torch.float32"),
        ([IDS > 2], TypeError, "has dtype torch.bool, and ids int64"),
        ([IDS[0]], ValueError, r"calibration\[0\] has shape \(3,\), not \(batch, time"),
        ([IDS[:, :0]], ValueError, r"calibration\[0\] has shape \(1, 0\)"),
        (
            [IDS + 40],
            ValueError,
            r"calibration\[0\] gives ids from 41 to 45, but .* 0 t",
        ),
        ([IDS - 2], ValueError, r"calibration\[0\] gives ids from -1 to 3"),
        (
            [IDS.repeat(1, 30)],
            ValueError,
            "has 90 tokens in a row, but .* context of 64",
        ),
        ([], ValueError, "method needs H, but calibration is"),
    ],
)
@pytest.mark.parametrize("kind", ["Llama", "GPT2"])
def test_calibration_must_be_batches_of_the_models_ids(
    kind, calibration, error, message
):
    """huggingface/transformers#5611, EuroEval/EuroEval#52: an index out of range deep
    in the embedding, for a tokenizer of another model or a text that is too long."""
    network, twin = tiny.model(kind), tiny.model(kind)
    vocabulary = network.config.vocab_size
    if "gives ids from 41" in message and vocabulary > 41:
        pytest.skip("the model knows these")
    refused(error, message, mq.quantize_, network, GPTQ, calibration=calibration)
    pairs = zip(network.parameters(), twin.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_what_plants_outliers_checks_its_batches_too():
    message = r"calibration\[0\] is a str"
    refused(TypeError, message, mq.plant_outliers, tiny.model(), TEXTS)


def test_a_tokenizer_of_another_model_is_named():
    network = tiny.model()
    found = calibration_batches(MANY_WORDS, [FAR], held_out=False)
    message = r"calibration\[0\] gives ids from 1 to 96, but the model knows 0 to 31"
    refused(ValueError, message, mq.quantize, network, GPTQ, calibration=found)
    message = "tokenizer gives ids from 1 to 96, but the model knows 0 to 31; take the"
    refused(ValueError, message, mq.perplexity, network, MANY_WORDS, [FAR], **QUIET)
    refused(
        ValueError,
        message,
        mq.kl_and_flips,
        network,
        network,
        MANY_WORDS,
        [FAR],
        **QUIET,
    )
    refused(ValueError, message, mq.generate, network, MANY_WORDS, FAR, 2)


# --- models and tokenizers that are none ---

PAIR = (tiny.model(), tiny.tokenizer())  # what load returns, not taken apart


def test_a_pair_that_was_not_taken_apart_is_named():
    message = r"model is a tuple; give the model alone: model, tokenizer = load\(\)"
    refused(TypeError, message, mq.quantize, PAIR, RTN)
    refused(TypeError, message, mq.perplexity, PAIR, PAIR[1], TEXTS, **QUIET)
    refused(TypeError, message, mq.generate, PAIR, PAIR[1], "a b", 2)
    message = "tokenizer is a tuple; give the tokenizer that load returned"
    refused(TypeError, message, mq.encode, PAIR, TEXTS)
    refused(TypeError, message, mq.generate, PAIR[0], PAIR, "a b", 2)
    message = "tokenizer is a list"
    refused(TypeError, message, calibration_batches, TEXTS, TEXTS, held_out=False)


def test_a_model_in_training_mode_is_named():
    network = tiny.model().train()
    message = r"model is in training mode; call model.eval\(\) first"
    refused(ValueError, message, mq.generate, network, tiny.tokenizer(), "a b", 2)
    refused(ValueError, message, mq.perplexity, network, PAIR[1], TEXTS, **QUIET)
    refused(ValueError, message, mq.quantize, network, GPTQ, calibration=batches())
    other = tiny.model()
    for pair in ((network, other), (other, network)):
        refused(
            ValueError, "training mode", mq.kl_and_flips, *pair, PAIR[1], TEXTS, **QUIET
        )


@pytest.mark.parametrize(
    ("prompt", "new", "error", "message"),
    [
        (["a b"], 2, TypeError, "prompt is a list; give one string"),
        (None, 2, TypeError, "prompt is a NoneType"),
        ("a b", -1, ValueError, "new is -1; choose the number of tokens to add"),
    ],
)
def test_what_generate_cannot_go_on_from_is_named(prompt, new, error, message):
    refused(error, message, mq.generate, *PAIR, prompt, new)


def test_what_compare_cannot_compare_is_named():
    loss = mq.perplexity(*PAIR, TEXTS, **QUIET)
    refused(TypeError, "b is a float; give what perplexity re", mq.compare, loss, 3.0)
    refused(TypeError, "a is a LlamaForCausalLM; give what", mq.compare, PAIR[0], loss)
