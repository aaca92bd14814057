"""Adapters as files: bit for bit, under the names that peft gives them."""

import copy
import functools
import json

import pytest
import torch
from helpers import tiny
from safetensors.torch import load_file, save_file

from minquant.methods import rtn
from minquant.numerics import grids, groups
from minquant.training import adapter_files, adapters
from minquant.training.adapter_files import load_adapters_, save_adapters

IDS = torch.randint(3, 30, (2, 20), generator=torch.Generator().manual_seed(0))
nf4 = functools.partial(
    rtn.quantize_rtn, grid=grids.NF4, granularity=groups.per_group(16)
)
# What peft's guide "PEFT checkpoint format" says, for the first layer of a Llama.
GOLDEN = """
base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight (2, 32)
base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight (32, 2)
base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight (2, 32)
base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight (16, 2)
base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight (2, 32)
base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight (32, 2)
base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight (2, 32)
base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight (16, 2)
"""


def adapted(kind="Llama", *, method=nf4, alpha=3.0, **options):
    """A tiny model whose adapters have learnt something."""
    network = adapters.add_adapters_(
        tiny.model(kind), rank=2, alpha=alpha, method=method, **options
    )
    for seed, adapter in enumerate(adapters.adapters(network).values()):
        draw = torch.Generator().manual_seed(seed)
        B = 0.1 * torch.randn(adapter.B.shape, generator=draw)
        adapter.B.data = B.to(adapter.A.dtype)
    return network


def changed_config(folder, **changes):
    """The config in a folder, after it was changed."""
    path = folder / adapter_files.CONFIG
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(config))
    return config


def as_it_was(network):
    """All that loading could change: modules, parameters, and which of them learn."""
    modules = [(name, id(m), type(m)) for name, m in network.named_modules()]
    learns = [(name, id(p), p.requires_grad) for name, p in network.named_parameters()]
    return modules, learns


def logits(network):
    """What a model says of IDS."""
    with torch.no_grad():
        return network(input_ids=IDS).logits


@pytest.mark.parametrize("kind", ["Llama", "GPT2", "OPT"])
def test_adapters_are_exact_through_save_and_load(kind, tmp_path):
    network = adapted(kind)
    save_adapters(network, tmp_path)
    again = load_adapters_(tiny.model(kind), tmp_path, method=nf4)
    assert torch.equal(logits(again), logits(network))
    for name, adapter in adapters.adapters(network).items():
        twin = adapters.adapters(again)[name]
        assert torch.equal(twin.A, adapter.A) and torch.equal(twin.B, adapter.B)
        assert twin.scaling == adapter.scaling == 1.5
    assert all(p.requires_grad for p in adapters.trainable(again))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_their_dtype_is_kept(dtype, tmp_path):
    save_adapters(adapted(dtype=dtype), tmp_path)
    again = load_adapters_(tiny.model(), tmp_path, method=nf4)
    stored = load_file(tmp_path / adapter_files.WEIGHTS).values()
    assert {tensor.dtype for tensor in stored} == {dtype}
    assert next(iter(adapters.adapters(again).values())).A.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_dtype_that_is_asked_for_is_given(dtype, tmp_path):
    save_adapters(adapted().half(), tmp_path)
    kept = load_adapters_(tiny.model(), tmp_path, method=nf4)
    again = load_adapters_(tiny.model(), tmp_path, method=nf4, dtype=dtype)
    assert {p.dtype for p in adapters.trainable(kept)} == {torch.float16}
    pairs = zip(adapters.trainable(kept), adapters.trainable(again), strict=True)
    assert all(torch.equal(given.to(dtype), p) for given, p in pairs)
    assert {p.dtype for p in adapters.trainable(again)} == {dtype}


@pytest.mark.parametrize("alpha", [2.5, 16.0, 1e-3])
def test_alpha_and_dropout_come_back_as_they_were(alpha, tmp_path):
    save_adapters(adapted(alpha=alpha, dropout=0.25), tmp_path)
    again = load_adapters_(tiny.model(), tmp_path, method=nf4)
    for adapter in adapters.adapters(again).values():
        assert (adapter.alpha, adapter.scaling) == (alpha, alpha / 2)
        assert adapter.drop.p == 0.25


def test_matrices_that_lie_oddly_in_memory_are_saved_as_what_they_say(tmp_path):
    network = adapted()
    first, second, third = list(adapters.adapters(network).values())[:3]
    first.B.data = first.B.data.T.contiguous().T  # as U.T of an SVD is
    second.A = first.A  # one matrix for two layers
    third.A.data = first.A.data[:]  # and a view of it
    assert not first.B.is_contiguous() and first.A.shape == third.A.shape
    save_adapters(network, tmp_path)
    again = load_adapters_(tiny.model(), tmp_path, method=nf4)
    assert torch.equal(logits(again), logits(network))
    assert first.B.stride() == (1, 32)  # the model's own are left as they lie


def test_names_and_shapes_are_those_of_pefts_guide(tmp_path):
    save_adapters(adapted(only="q_proj|v_proj"), tmp_path)
    tensors = load_file(tmp_path / adapter_files.WEIGHTS)
    found = [f"{name} {tuple(t.shape)}" for name, t in sorted(tensors.items())]
    assert found == GOLDEN.split("\n")[1:-1]
    config = json.loads((tmp_path / adapter_files.CONFIG).read_text())
    assert config["peft_type"] == "LORA" and config["task_type"] == "CAUSAL_LM"
    assert config["target_modules"] == ["q_proj", "v_proj"]
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (2, 3, 0.0)
    assert not config["use_rslora"] and not config["use_dora"]
    assert config["bias"] == "none" and config["fan_in_fan_out"] is False


def test_layers_are_named_in_full_where_their_last_part_means_more(tmp_path):
    only = ["model.layers.0.mlp.up_proj", "model.layers.1.self_attn.q_proj"]
    save_adapters(adapted(only=only), tmp_path)
    config = json.loads((tmp_path / adapter_files.CONFIG).read_text())
    assert config["target_modules"] == only


@pytest.mark.parametrize("only", ["q_proj|v_proj", r"layers\.0\.mlp", "."])
def test_a_target_hits_exactly_the_layers_that_have_an_adapter(only):
    network = adapted(only=only)
    found = adapters.adapters(network)
    targets = adapter_files.targets(network, found)
    plain = [name for name, _ in tiny.model().named_modules()]
    # peft's rule for a list: the whole name, or its end after a dot
    hit = [n for n in plain if any(n == t or n.endswith(f".{t}") for t in targets)]
    assert hit == list(found)


def test_a_file_that_peft_wrote_is_read(tmp_path):
    # the fewest entries that peft's guide asks for, and some it always writes
    config = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
    }
    config |= {"rank_pattern": {}, "use_dora": False, "peft_version": "0.20.0"}
    (tmp_path / adapter_files.CONFIG).write_text(json.dumps(config))
    names = [f"model.layers.{i}.self_attn.q_proj" for i in (0, 1)]
    tensors = {}
    for name in names:
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.ones(2, 32)
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.ones(32, 2) / 10
    save_file(tensors, tmp_path / adapter_files.WEIGHTS)
    network = load_adapters_(tiny.model(), tmp_path, method=None)
    assert list(adapters.adapters(network)) == names
    update = network.model.layers[0].self_attn.q_proj.update()
    torch.testing.assert_close(update, torch.full((32, 32), 2 * 2 * 0.1))


@pytest.mark.filterwarnings("ignore")  # peft's own
def test_peft_itself_loads_it_and_predicts_the_same(tmp_path):
    import peft  # slow, and for this test alone

    network = adapted(method=None, dropout=0.1)
    save_adapters(network, tmp_path)
    theirs = peft.PeftModel.from_pretrained(tiny.model(), tmp_path).eval()
    torch.testing.assert_close(logits(theirs), logits(network.eval()))
    theirs.save_pretrained(tmp_path / "again")
    again = load_adapters_(tiny.model(), tmp_path / "again", method=None)
    assert torch.equal(logits(again.eval()), logits(network))
    ours, written = (
        load_file(folder / adapter_files.WEIGHTS)
        for folder in (tmp_path, tmp_path / "again")
    )
    assert sorted(ours) == sorted(written)


@pytest.mark.filterwarnings("ignore")  # peft's own
@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        ({"init_lora_weights": "gaussian"}, None),
        ({"init_lora_weights": False}, None),
        ({"init_lora_weights": "orthogonal"}, None),
        ({"init_lora_weights": "pissa"}, "'init_lora_weights': 'pissa'"),
        ({"init_lora_weights": "olora"}, "'init_lora_weights': 'olora'"),
        ({"lora_bias": True, "init_lora_weights": False}, "'lora_bias': True"),
        ({"use_rslora": True}, "'use_rslora': True"),
        ({"alora_invocation_tokens": [4, 5]}, "'alora_invocation_tokens': .4, 5"),
        ({"rank_pattern": {"v_proj": 3}}, "'rank_pattern': {'v_proj': 3}"),
    ],
)
def test_what_peft_writes_is_read_as_peft_computes_it_or_refused(kind, seen, tmp_path):
    import peft  # slow

    config = peft.LoraConfig(
        r=2, lora_alpha=3, target_modules=["q_proj", "v_proj"], **kind
    )
    theirs = peft.get_peft_model(tiny.model(), config).eval()
    for name, p in theirs.named_parameters():
        if "lora_B" in name:
            p.data += 0.1
    theirs.save_pretrained(tmp_path)
    network = tiny.model()
    before = as_it_was(network)
    if seen is None:
        load_adapters_(network, tmp_path, method=None)
        torch.testing.assert_close(logits(network), logits(theirs))
        assert (logits(network) - logits(tiny.model())).abs().max() > 0.1
    else:
        with pytest.raises(ValueError, match=f"holds LORA with .*{seen}"):
            load_adapters_(network, tmp_path, method=None)
        assert as_it_was(network) == before


@pytest.mark.parametrize(
    ("changes", "fine"),
    [
        ({"init_lora_weights": None}, True),
        ({"init_lora_weights": "eva", "eva_config": {"rho": 2.0}}, True),
        ({"peft_version": "0.20.0", "revision": "main", "bias": "none"}, True),
        ({"alpha_pattern": None, "exclude_modules": ["lm_head"]}, True),
        ({"init_lora_weights": "pissa_niter_4"}, False),
        ({"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}, False),
        ({"init_lora_weights": "corda"}, False),
        ({"use_qalora": True}, False),
        ({"layer_replication": [[0, 2], [1, 2]]}, False),
        ({"something_new": {"that": "nobody knows"}}, False),
    ],
)
def test_an_entry_that_changes_what_is_computed_is_refused(changes, fine, tmp_path):
    save_adapters(adapted(), tmp_path)
    changed_config(tmp_path, **changes)
    network = tiny.model()
    if fine:
        load_adapters_(network, tmp_path, method=nf4)
        return
    seen = f"holds LORA with .*{next(iter(changes))}.*; only plain LoRA is read here"
    with pytest.raises(ValueError, match=seen):
        load_adapters_(network, tmp_path, method=nf4)


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.lm_head.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",  # there with a prefix too
    ],
)
def test_a_tensor_that_would_be_passed_over_is_named(name, tmp_path):
    save_adapters(adapted(), tmp_path)
    tensors = load_file(tmp_path / adapter_files.WEIGHTS)
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    tensors[name] = torch.ones_like(tensors[key])
    save_file(tensors, tmp_path / adapter_files.WEIGHTS)
    with pytest.raises(ValueError, match="lora_|lm_head") as caught:
        load_adapters_(tiny.model(), tmp_path, method=nf4)
    assert f"a tensor {key if 'A.weight' in name else name}, which is not" in str(
        caught.value
    )


def spoilt(tensors, part, change):
    """The tensors of a file, of which the last layer's A or B was changed."""
    made = copy.copy(tensors)
    key = next(k for k in reversed(list(made)) if f"lora_{part}" in k)
    change(made, key)
    return made


@pytest.mark.parametrize(
    ("part", "change", "seen"),
    [
        ("A", lambda t, k: t.update({k: t[k][:, 1:].clone()}), r"of shape \(2, 31\)"),
        ("B", lambda t, k: t.update({k: t[k][1:].clone()}), r"of shape \(15, 2\), but"),
        ("B", lambda t, k: t.update({k: t[k].char()}), "is of torch.int8, but the mo"),
        ("B", lambda t, k: t.pop(k), r"lora_B.weight is missing, but the model needs"),
    ],
)
def test_a_refused_file_leaves_the_model_as_it_was(part, change, seen, tmp_path):
    save_adapters(adapted(), tmp_path)
    path = tmp_path / adapter_files.WEIGHTS
    save_file(spoilt(load_file(path), part, change), path)
    network = tiny.model().requires_grad_(True)
    before = as_it_was(network)
    with pytest.raises(ValueError, match=seen):
        load_adapters_(network, tmp_path, method=nf4)
    assert as_it_was(network) == before


def test_a_file_for_other_layers_or_of_no_kind_leaves_the_model_as_it_was(tmp_path):
    save_adapters(adapted(), tmp_path)
    shallow = tiny.model(num_hidden_layers=1).requires_grad_(True)
    worn = adapted(only="up_proj")
    for network, seen in (
        (shallow, "names .'model.layers.1"),
        (worn, "adapter on mod"),
    ):
        before = as_it_was(network)
        with pytest.raises(ValueError, match=seen):
            load_adapters_(network, tmp_path, method=nf4)
        assert as_it_was(network) == before
    whole = tiny.model().requires_grad_(True)
    before = as_it_was(whole)
    config = changed_config(tmp_path, lora_alpha=0)
    with pytest.raises(ValueError, match="alpha is 0; choose a number"):
        load_adapters_(whole, tmp_path, method=nf4)
    del config["lora_alpha"]
    (tmp_path / adapter_files.CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"does not say .'lora_alpha'.; write it"):
        load_adapters_(whole, tmp_path, method=nf4)
    assert as_it_was(whole) == before


def test_the_name_of_the_base_is_written(tmp_path):
    network = adapted()
    for given, expected in ((None, None), ("almanac", "almanac")):
        save_adapters(network, tmp_path, base_model=given)
        config = json.loads((tmp_path / adapter_files.CONFIG).read_text())
        assert config["base_model_name_or_path"] == expected


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(ValueError, match="has no adapter_config.json; give one"):
        load_adapters_(tiny.model(), tmp_path)
    with pytest.raises(ValueError, match="0 kinds of .rank, alpha, dropout.: none"):
        save_adapters(tiny.model(), tmp_path)
    mixed = adapters.add_adapters_(adapted(only="q_proj"), only="up_proj", method=nf4)
    with pytest.raises(ValueError, match=r"2 kinds .*\(2, 3.0, 0.0\), \(8, 16"):
        save_adapters(mixed, tmp_path)
    save_adapters(adapted(), tmp_path)
    wide = tiny.model(hidden_size=64, intermediate_size=64)
    with pytest.raises(ValueError, match=r"lora_A.weight is of shape \(2, 48\), but"):
        load_adapters_(wide, tmp_path, method=nf4)
    config = json.loads((tmp_path / adapter_files.CONFIG).read_text())
    for odd in ({"use_dora": True}, {"use_rslora": True}, {"bias": "all"}):
        (tmp_path / adapter_files.CONFIG).write_text(json.dumps(config | odd))
        with pytest.raises(ValueError, match="holds LORA with .*; only plain LoRA"):
            load_adapters_(tiny.model(), tmp_path)
