"""A rounded KV cache: the old tokens are codes, the newest are what they were."""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.measure import evaluate
from minquant.models import kv_cache, text
from minquant.models.kv_cache import Rounding

IDS = torch.randint(3, 30, (2, 40), generator=torch.Generator().manual_seed(0))
FLOATS = Rounding(16, 16, group=4, window=4)


def states(*shape, seed=0):
    """Normal keys or values (batch, heads, time, dim)."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def read(network, scheme=None, ids=IDS, chunk=8):
    """The logits of a model whose cache is rounded, and the cache."""
    around = contextlib.nullcontext()
    if scheme is not None:
        around = kv_cache.rounding(network, scheme, chunk=chunk)
    with around:
        out = network(input_ids=ids, use_cache=True)
    return out.logits, out.past_key_values


def test_by_hand_a_channel_shares_a_ruler_over_its_tokens_and_a_token_over_channels():
    x = torch.tensor([[[[3.0, 0.3], [1.0, 0.1]]]])  # two tokens of two channels
    by_channel = kv_cache.quantize_states(x, 2, "channel", 2)
    assert by_channel.codes.tolist() == [[3, 1], [3, 1]]
    by_token = kv_cache.quantize_states(x, 2, "token", 2)
    assert by_token.codes.tolist() == [[3, 0], [3, 0]]


@settings(max_examples=40, deadline=None)
@given(
    bits=st.integers(2, 8),
    groups=st.integers(1, 3),
    group=st.sampled_from([1, 4, 8]),
    axis=st.sampled_from(["channel", "token"]),
    seed=st.integers(0, 99),
)
def test_each_number_comes_back_within_half_a_step(bits, groups, group, axis, seed):
    x = states(2, 3, groups * group, 8, seed=seed)
    codes = kv_cache.quantize_states(x, bits, axis, group)
    back = kv_cache.dequantize_states(codes, tuple(x.shape), axis)
    # half a step, half a step that the zero may have moved, the scale's 2⁻¹¹ of an end
    bound = codes.scales.float().max() * (1 + 2**bits / 2048)
    assert back.shape == x.shape and (back - x).abs().max() <= bound


@given(time=st.integers(0, 500), group=st.integers(1, 64), window=st.integers(0, 64))
def test_the_window_never_holds_fewer_and_whole_groups_leave_it(time, group, window):
    old = Rounding(group=group, window=window).rounded_tokens(time)
    assert old % group == 0
    assert min(time, window) <= time - old < window + group


@pytest.mark.parametrize("kind", ["Llama", "Qwen3", "Phi", "GPT2", "OPT"])
@pytest.mark.parametrize("chunk", [1, 7, 8, 40, None])
def test_at_sixteen_bits_any_chunks_say_what_the_whole_text_says(kind, chunk):
    network = tiny.model(kind)
    plain, _ = read(network)
    logits, _ = read(network, FLOATS, chunk=chunk)
    assert torch.allclose(logits, plain, atol=1e-4 * plain.abs().max())


def test_a_text_within_the_window_is_read_as_it_is():
    network = tiny.model()
    logits, _ = read(network, Rounding(2, 2, group=8, window=40))
    assert torch.equal(logits, read(network, FLOATS)[0])


def test_old_tokens_are_what_codes_say_and_the_newest_are_what_they_were():
    network, scheme = tiny.model(), Rounding(3, 3, group=8, window=5)
    _, cache = read(network, scheme)
    _, plain = read(network, FLOATS)
    first, exact = cache.layers[0], plain.layers[0]  # its inputs are not rounded
    assert scheme.rounded_tokens(40) == 32
    for name, axis in (("keys", "channel"), ("values", "token")):
        x, whole = getattr(first, name), getattr(exact, name)
        assert torch.allclose(x[:, :, 32:], whole[:, :, 32:], atol=1e-5)
        for a in range(0, 32, 8):
            part = whole[:, :, a : a + 8]
            codes = kv_cache.quantize_states(part, 3, axis, 8)
            assert torch.allclose(
                x[:, :, a : a + 8],
                kv_cache.dequantize_states(codes, tuple(part.shape), axis),
                atol=1e-5,
            )


def test_the_error_falls_with_every_bit():
    network = tiny.model()
    plain, _ = read(network)
    errors = [
        (read(network, Rounding(b, b, group=8, window=4))[0] - plain).norm().item()
        for b in (2, 3, 4, 6, 8, 16)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-2] < errors[0] / 20


def test_a_large_channel_of_the_keys_spoils_no_other_with_a_ruler_per_channel():
    keys = states(1, 2, 64, 16)
    keys[..., 3] *= 30
    others = [c for c in range(16) if c != 3]
    errors = {}
    for axis in ("channel", "token"):
        codes = kv_cache.quantize_states(keys, 4, axis, 32)
        back = kv_cache.dequantize_states(codes, tuple(keys.shape), axis)
        errors[axis] = (back - keys)[..., others].norm()
    assert errors["channel"] < errors["token"] / 4


def test_generate_continues_greedily_and_perplexity_work_inside():
    network, words = tiny.model(), tiny.tokenizer()
    texts = tiny.texts_of("test", 3, words=20)
    plain = text.continue_greedily(network, IDS[:, :20], 6)
    with kv_cache.rounding(network, FLOATS, chunk=8):
        assert torch.equal(text.continue_greedily(network, IDS[:, :20], 6), plain)
        written = network.generate(IDS[:, :20], max_new_tokens=6, do_sample=False)
    assert torch.equal(written[:, 20:26], plain[:, : written.shape[1] - 20])
    before = evaluate.perplexity(network, words, texts, progress=False)
    with kv_cache.rounding(network, Rounding(2, 2, group=4, window=4), chunk=4):
        after = evaluate.perplexity(network, words, texts, progress=False)
    assert after.nats != before.nats
    with kv_cache.rounding(network, FLOATS, chunk=4):
        same = evaluate.perplexity(network, words, texts, progress=False)
    assert same.nats == pytest.approx(before.nats, abs=1e-5)


def test_writing_on_rounds_what_leaves_the_window_as_reading_does():
    network, scheme = tiny.model(), Rounding(4, 4, group=4, window=4)
    with kv_cache.rounding(network, scheme, chunk=1):
        whole = network(input_ids=IDS, use_cache=True)
        start = network(input_ids=IDS[:, :21], use_cache=True)
        after = network(input_ids=IDS[:, 21:], past_key_values=start.past_key_values)
    assert torch.allclose(after.logits, whole.logits[:, 21:], atol=1e-5)


def test_afterwards_the_model_is_as_before_even_after_an_error():
    network = tiny.model()
    cls, (plain, _) = type(network), read(network)
    with pytest.raises(RuntimeError), kv_cache.rounding(network, Rounding(2, 2)):
        raise RuntimeError
    assert type(network) is cls
    assert torch.equal(read(network)[0], plain)


def test_the_size_counts_codes_scales_zeros_and_the_window():
    scheme = Rounding(4, 2, group=8, window=5)
    _, cache = read(tiny.model(), scheme)
    size = kv_cache.cache_size(cache, scheme)
    # 2 layers, batch 2, 2 heads of 8; 32 tokens in codes and 8 as they are
    heads, old, dim = 2 * 2 * 2, 32, 8
    keys = heads * dim * (old * 4 // 8 + old // 8 * (2 + 0.5))
    values = heads * old * (dim * 2 // 8 + 2 + 0.25)
    assert size.codes == keys + values
    assert size.floats == 2 * heads * 8 * dim * 2
    assert size.numbers == 2 * heads * 40 * dim
    assert size.bits_per_number == 8 * size.total / size.numbers


def test_a_rounding_within_a_rounding_is_refused_and_leaves_the_outer_one():
    network, scheme = tiny.model(), Rounding(2, 2, group=8, window=4)
    cls, (rounded, _) = type(network), read(network, scheme)
    with kv_cache.rounding(network, scheme, chunk=8):
        with pytest.raises(ValueError, match="this LlamaForCausalLM is inside a `with"):
            read(network, FLOATS)
        assert torch.equal(network(input_ids=IDS).logits, rounded)
        with pytest.raises(ValueError, match=r"get_decoder.. would bypass kv_cache"):
            network.get_decoder()
    assert type(network) is cls


def test_arguments_are_accepted_by_place_and_by_name_as_the_model_accepts_them():
    mask, places = torch.ones_like(IDS), torch.arange(40).expand(2, 40)
    orders = {  # what follows the ids
        "Llama": {"attention_mask": mask, "position_ids": places},
        "OPT": {"attention_mask": mask, "past_key_values": None},
        "GPT2": {
            "past_key_values": None,
            "attention_mask": mask,
            "token_type_ids": mask,
        },
    }
    orders["GPT2"] |= {"attention_mask": mask, "token_type_ids": mask}
    for kind, order in orders.items():
        network = tiny.model(kind)
        plain = network(IDS, *order.values()).logits
        with kv_cache.rounding(network, FLOATS, chunk=8):
            by_place, by_name = network(IDS, *order.values()), network(IDS, **order)
            with pytest.raises(TypeError, match="multiple values for argument 'input_"):
                network(IDS, input_ids=IDS)
        assert torch.equal(by_place.logits, by_name.logits)
        assert torch.allclose(by_place.logits, plain, atol=1e-4 * plain.abs().max())


def test_a_mask_per_query_tuples_and_chosen_places_are_what_the_model_makes_of_them():
    network = tiny.model()
    mask = torch.ones(40, 40).tril().bool()[None, None].expand(2, 1, 40, 40)
    options = {"attention_mask": mask, "logits_to_keep": torch.tensor([3, 30])}
    plain = network(IDS, **options, return_dict=False)[0]
    with kv_cache.rounding(network, FLOATS, chunk=8):
        found = network(IDS, **options, return_dict=False)
        with pytest.raises(ValueError, match="attention_mask is a dict; give a tensor"):
            network(IDS, attention_mask={"full_attention": mask})
        with pytest.raises(ValueError, match="cu_seq_lens_q cannot be cut into chunks"):
            network(IDS, cu_seq_lens_q=torch.tensor([0, 40]))
    assert isinstance(found, tuple) and found[0].shape == (2, 2, 32)
    assert torch.allclose(found[0], plain, atol=1e-4 * plain.abs().max())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": IDS}, "labels cannot be cut into chunks of 8 tokens; compute it f"),
        ({"output_hidden_states": True}, "output_hidden_states cannot be cut into chu"),
        ({"output_attentions": True}, "output_attentions cannot be cut into chunks"),
        ({"input_ids": None, "inputs_embeds": states(2, 40, 32)}, "give input_ids al"),
        ({"inputs_embeds": states(2, 40, 32)}, "inputs_embeds cannot be read here"),
        (
            {"input_ids": None},
            "inputs_embeds cannot be read here; give input_ids alone",
        ),
    ],
)
def test_outputs_that_would_be_those_of_the_last_chunk_are_refused(given, message):
    network = tiny.model()
    with (
        kv_cache.rounding(network, FLOATS, chunk=8),
        pytest.raises(ValueError, match=message),
    ):
        network(**{"input_ids": IDS, **given})


def test_a_config_that_asks_for_hidden_states_is_seen_too():
    network = tiny.model(output_hidden_states=True)
    with kv_cache.rounding(network, FLOATS, chunk=8):
        with pytest.raises(ValueError, match="output_hidden_states cannot be cut"):
            network(input_ids=IDS)
        logits = network(input_ids=IDS, output_hidden_states=False).logits
    assert torch.allclose(logits, read(tiny.model())[0], atol=1e-4 * logits.abs().max())


@pytest.mark.parametrize("chunk", [40, None])
def test_in_one_piece_loss_and_hidden_states_are_those_of_the_model(chunk):
    network = tiny.model()
    asked = {"input_ids": IDS, "labels": IDS, "output_hidden_states": True}
    plain = network(**asked)
    with kv_cache.rounding(network, FLOATS, chunk=chunk):
        out = network(**asked)
    assert torch.equal(out.loss, plain.loss)
    pairs = zip(out.hidden_states, plain.hidden_states, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("chunk", [8, None])
def test_padding_is_read_on_the_right_and_refused_on_the_left(chunk):
    network, mask = tiny.model(), torch.ones_like(IDS)
    mask[1, 30:] = 0
    plain = network(input_ids=IDS, attention_mask=mask).logits
    with kv_cache.rounding(network, FLOATS, chunk=chunk):
        logits = network(input_ids=IDS, attention_mask=mask).logits
        seen = "attention_mask pads on the left; read one text at a time"
        with pytest.raises(ValueError, match=seen):
            network(input_ids=IDS, attention_mask=mask.flip(1))
    within = mask.bool()
    close = {"atol": 1e-4 * plain.abs().max()}
    assert torch.allclose(logits[within], plain[within], **close)


def test_a_cache_that_is_not_rounded_takes_sixteen_bits():
    _, cache = read(tiny.model())
    assert kv_cache.cache_size(cache, FLOATS).bits_per_number == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key_bits": 9}, "key_bits is 9; choose 2 to 8, or 16 for floats"),
        ({"value_bits": 1}, "value_bits is 1; choose 2 to 8"),
        ({"group": 0}, "group is 0 and window 32; choose at least 1 and 0 tokens"),
    ],
)
def test_what_no_cache_can_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Rounding(**options)


def test_a_chunk_of_no_token_and_a_cache_that_forgets_are_refused():
    context = kv_cache.rounding(tiny.model(), FLOATS, chunk=0)
    with pytest.raises(ValueError, match="chunk is 0; choose at least 1 token, or"):
        context.__enter__()
    forgets = SimpleNamespace(keys=states(1, 2, 8, 4), values=states(1, 2, 8, 4))
    cache = SimpleNamespace(layers=[forgets], get_seq_length=lambda: 40)
    with pytest.raises(ValueError, match="does not hold keys and values of all 40 to"):
        kv_cache.cache_size(cache, FLOATS)
