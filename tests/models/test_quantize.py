"""A whole model is quantized layer by layer, and never left half done."""

import functools
import inspect

import pytest
import torch
import tqdm.std
from helpers import tiny

from minquant.methods import awq, gptq, rtn
from minquant.models import calibrate, quantize
from minquant.models.linear_layers import Report, linear_layers, weight_of
from minquant.models.text import calibration_batches
from minquant.numerics import grids, groups

int4 = functools.partial(rtn.quantize_rtn, grid=grids.zero_point(4))
int2 = functools.partial(rtn.quantize_rtn, grid=grids.zero_point(2))


@pytest.fixture
def batches():
    """Calibration batches of three lengths."""
    texts = tiny.texts_of("calibration", 12)
    return calibration_batches(tiny.tokenizer(), texts, batch=5)


class Recorder:
    """A method that needs X, keeps each one in order, and quantizes coarsely."""

    def __init__(self):
        self.seen = []

    def __call__(self, W, X):
        self.seen.append(X.clone())
        return int2(W)


def inputs_of(network, batches):
    """The inputs of each linear layer in the model's forward pass, all rows."""
    rows = {name: [] for name in linear_layers(network)}
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, args, name=name: rows[name].append(args[0].flatten(0, -2))
        )
        for name, layer in linear_layers(network).items()
    ]
    for ids in batches:
        network(input_ids=ids)
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(found) for name, found in rows.items()}


def test_a_method_of_w_alone_gives_every_layers_weight():
    network = tiny.model()
    before = {name: weight_of(m).clone() for name, m in linear_layers(network).items()}
    report = quantize.quantize_(network, int4, progress=False)
    assert list(report) == list(before)
    for name, layer in linear_layers(network).items():
        expected = int4(before[name])
        assert torch.equal(report[name].codes, expected.codes)
        assert torch.equal(weight_of(layer), expected.dequantize())


def test_all_else_is_left_alone():
    network, twin = tiny.model(), tiny.model()
    quantize.quantize_(network, int2)
    matrices = {id(layer.weight) for layer in linear_layers(network).values()}
    for new, old in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(new, old) == (id(new) not in matrices)


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_each_layer_is_calibrated_on_what_the_quantized_model_feeds_it(kind, batches):
    network, method = tiny.model(kind), Recorder()
    report = quantize.quantize_(network, method, calibration=batches, progress=False)
    inputs = inputs_of(
        network, batches
    )  # of the finished model: what came before stays
    order = sorted(report, key=lambda name: list(report).index(name))
    assert len(method.seen) == len(order)
    left = list(method.seen)
    for name in order:  # methods see layers in the order of the forward pass
        match = [i for i, X in enumerate(left) if same(X, inputs[name])]
        assert match, f"{name} was calibrated on other inputs"
        left.pop(match[0])


@pytest.mark.parametrize("kind", ["Llama", "Gemma3Text", "GPT2", "Phi"])
def test_float_inputs_are_those_of_the_model_as_it_was(kind, batches):
    network, method = tiny.model(kind), Recorder()
    inputs = inputs_of(network, batches)
    quantize.quantize_(network, method, calibration=batches, float_inputs=True)
    left = list(method.seen)
    for X in inputs.values():
        left.pop(next(i for i, seen in enumerate(left) if same(seen, X)))
    assert not left


def same(a, b):
    """Equal except for the rounding of float32 sums in another order."""
    return a.shape == b.shape and torch.allclose(a, b.to(a.dtype), rtol=1e-3, atol=1e-4)


def test_h_is_the_gram_matrix_of_x(batches):
    xs, hs = [], []

    def takes_x(W, X):
        xs.append(X)
        return int4(W)

    def takes_h(W, H):
        hs.append(H)
        return int4(W)

    for method in (takes_x, takes_h):
        quantize.quantize(tiny.model(), method, calibration=batches)
    assert len(xs) == len(hs) == 14
    for X, H in zip(xs, hs, strict=True):
        torch.testing.assert_close(H, (X.T @ X).to(H), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "groups_of"),
    [
        ("Llama", [3, 1, 2, 1]),
        ("GPT2", [1, 1, 1, 1]),
        ("Phi", [4, 1, 1]),
        ("OPT", [3, 1, 1, 1]),
    ],
)
def test_a_method_of_ws_gets_all_matrices_that_share_an_input(kind, groups_of, batches):
    sizes = []

    def together(Ws, X):
        sizes.append(len(Ws))
        assert all(W.shape[1] == X.shape[1] for W in Ws)
        return [int4(W) for W in Ws]

    report = quantize.quantize_(tiny.model(kind), together, calibration=batches)
    assert sizes == 2 * groups_of
    assert len(report) == 2 * sum(groups_of)


def test_a_method_that_ignores_its_input_ends_as_the_one_without(batches):
    plain, _ = quantize.quantize(tiny.model(), int4)
    for method in (lambda W, X: int4(W), lambda Ws: [int4(W) for W in Ws]):
        walked, _ = quantize.quantize(tiny.model(), method, calibration=batches)
        pairs = zip(plain.parameters(), walked.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_quantize_copies_and_leaves_the_original(batches):
    network, untouched = tiny.model(), tiny.model()
    twin, report = quantize.quantize(network, lambda W, H: int2(W), calibration=batches)
    pairs = zip(network.parameters(), untouched.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert torch.equal(
        twin.model.layers[1].mlp.up_proj.weight,
        report["model.layers.1.mlp.up_proj"].dequantize(),
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_keep_their_dtype(dtype, batches):
    network = tiny.model(dtype=dtype)
    report = quantize.quantize_(network, lambda W, H: int4(W), calibration=batches)
    for name, layer in linear_layers(network).items():
        assert layer.weight.dtype == dtype
        assert torch.equal(layer.weight, report[name].dequantize().to(dtype))


def test_only_names_what_is_quantized(batches):
    network = tiny.model()
    for only in ("mlp", ["model.layers.1.self_attn.q_proj"], r"layers\.0.*[qk]_proj"):
        _, report = quantize.quantize(network, int4, only=only)
        assert len(report) == {"mlp": 6, r"layers\.0.*[qk]_proj": 2}.get(str(only), 1)
    sizes = []

    def together(Ws, X):
        sizes.append(len(Ws))
        return [int4(W) for W in Ws]

    quantize.quantize(network, together, calibration=batches, only="[qk]_proj|down")
    assert sizes == [2, 1, 2, 1]
    with pytest.raises(ValueError, match="only='lm_head' names no layer; the layers a"):
        quantize.quantize(network, int4, only="lm_head")
    with pytest.raises(ValueError, match=r"names \['up'\]"):
        quantize.quantize(network, int4, only=["up"])


def test_shared_weights_are_quantized_once_and_reported_twice(batches):
    network = tiny.model()
    first, second = (network.model.layers[i].mlp.up_proj for i in (0, 1))
    second.weight = first.weight
    method = Recorder()
    report = quantize.quantize_(network, method, calibration=batches)
    names = ("model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj")
    assert report[names[0]] is report[names[1]]
    assert len(method.seen) == 13 and len(report) == 14
    assert second.weight is first.weight


def test_an_interruption_leaves_each_layer_old_or_new(batches):
    network, before = tiny.model(), tiny.model()
    calls = []

    def interrupted(W, X):
        calls.append(0)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return int2(W)

    with pytest.raises(KeyboardInterrupt):
        quantize.quantize_(network, interrupted, calibration=batches)
    new = 0
    for old, layer in zip(
        linear_layers(before).values(), linear_layers(network).values(), strict=True
    ):
        changed = not torch.equal(layer.weight, old.weight)
        expected = int2(old.weight).dequantize() if changed else old.weight
        assert torch.equal(layer.weight, expected)
        new += changed
    assert (
        new == 7
    )  # the first block; of q, k, v none is written before all are quantized
    assert not any(m._forward_pre_hooks for m in network.modules())
    assert not any(m._forward_hooks for m in network.modules())
    network(input_ids=batches[0])  # and it still runs


METHODS = {
    "rtn": int4,
    "gptq": functools.partial(gptq.quantize_gptq, grid=grids.zero_point(4)),
    "awq": functools.partial(
        awq.quantize_awq_shared, grid=grids.zero_point(4), ratios=(0, 0.5), clip=None
    ),
}


@pytest.mark.parametrize("kind", tiny.CONFIGS)
@pytest.mark.parametrize("name", METHODS)
def test_every_family_by_every_method_holds_what_its_report_says(kind, name, batches):
    network = tiny.model(kind)
    report = quantize.quantize_(network, METHODS[name], calibration=batches)
    layers = linear_layers(network)
    assert list(report) == list(layers)
    for name, layer in layers.items():
        assert torch.equal(weight_of(layer), report[name].dequantize())
    assert network(input_ids=batches[0]).logits.isfinite().all()


def read_by(network, names, batches):
    """H of these layers, from whole passes through the model as it is."""
    H = []

    def see(_, args):
        X = args[0].flatten(0, -2).float()
        H[:] = [H[0].addmm_(X.T, X) if H else X.T @ X]

    hook = network.get_submodule(names[0]).register_forward_pre_hook(see)
    for ids in batches:
        network(input_ids=ids)
    hook.remove()
    return H[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_going_on_gives_the_codes_of_starting_again_for_each_group(
    kind, dtype, batches
):
    network = tiny.model(kind, dtype=dtype)
    report = quantize.quantize_(network, METHODS["gptq"], calibration=batches)
    slow = tiny.model(kind, dtype=dtype)
    layers = linear_layers(slow)
    for names in calibrate.sharing(slow, layers, batches):
        H = read_by(slow, names, batches)
        for name in names:
            W = weight_of(layers[name])
            expected = METHODS["gptq"](W, H=H)
            assert torch.equal(report[name].codes, expected.codes)
            W.copy_(expected.dequantize())


UNEQUAL = {"hidden_size": 48, "intermediate_size": 80}
BY16, BY32 = groups.per_group(16), groups.per_group(32)


@pytest.mark.parametrize("name", METHODS)
def test_rows_that_groups_do_not_divide_get_one_scale_each_and_are_named(
    name, batches, capsys
):
    network = tiny.model(**UNEQUAL)
    method = functools.partial(METHODS[name], granularity=BY32)
    _, report = quantize.quantize(network, method, calibration=batches)
    assert set(report.fell_back) == set(report)  # neither 48 nor 80 fits
    (line,) = capsys.readouterr().out.splitlines()
    assert "; 14 layers have one scale per row, as groups of 32 do not divide" in line
    assert "divide rows of 48 (model.layers.0.self_attn.q_proj, " in line
    assert "divide rows of 80 (model.layers.0.mlp.down_proj, " in line
    by_row = functools.partial(METHODS[name], granularity=groups.PER_CHANNEL)
    _, expected = quantize.quantize(network, by_row, calibration=batches)
    assert expected.fell_back == {}
    assert "one scale per row" not in capsys.readouterr().out
    for layer, q in report.items():
        assert q.granularity == groups.PER_CHANNEL
        assert torch.equal(q.codes, expected[layer].codes)


def test_only_the_rows_that_do_not_fit_fall_back(capsys):
    method = functools.partial(int4, granularity=BY16)
    _, report = quantize.quantize(tiny.model(intermediate_size=40), method)
    why = "groups of 16 do not divide rows of 40"
    downs = [f"model.layers.{i}.mlp.down_proj" for i in (0, 1)]
    assert report.fell_back == dict.fromkeys(downs, why)
    assert all((q.granularity == BY16) == (n not in downs) for n, q in report.items())
    assert why in capsys.readouterr().out
    quantize.quantize(tiny.model(intermediate_size=40), method, progress=False)
    assert capsys.readouterr().out == ""


def test_resumed_work_still_knows_what_fell_back():
    network = tiny.model(**UNEQUAL)
    method = functools.partial(int4, granularity=BY32)
    report = Report()
    quantize.quantize_(network, method, only="down_proj", report=report)
    rest = quantize.quantize_(network, int4, report=report)
    assert set(rest.fell_back) == {n for n in rest if n.endswith("down_proj")}


def test_two_layers_of_one_weight_fall_back_together():
    network = tiny.model(**UNEQUAL)
    first, second = (network.model.layers[i].mlp.up_proj for i in (0, 1))
    second.weight = first.weight
    method = functools.partial(int4, granularity=BY32)
    assert len(quantize.quantize_(network, method).fell_back) == 14


def test_groups_that_a_method_does_not_tell_stay_an_error_that_names_the_layer():
    network = tiny.model(intermediate_size=40)
    message = "mlp.down_proj: group_size 16 does not divide in_features 40; choose"
    with pytest.raises(ValueError, match=message):
        quantize.quantize(network, lambda W: int4(W, granularity=BY16))
    with pytest.raises(
        ValueError, match="group_size 16 does not divide in_features 40"
    ):
        int4(torch.ones(2, 40), granularity=BY16)


class Stops:
    """A method that raises an error the k-th time that it is called."""

    def __init__(self, method, k):
        self.method, self.k, self.calls = method, k, 0
        self.__signature__ = inspect.signature(method)

    def __call__(self, *given, **named):
        self.calls += 1
        if self.calls == self.k:
            raise KeyboardInterrupt
        return self.method(*given, **named)


@pytest.mark.parametrize("kind", ["Llama", "GPT2", "Phi"])
@pytest.mark.parametrize("name", METHODS)
def test_interrupted_work_goes_on_and_ends_as_if_it_had_not_been(kind, name, batches):
    whole = tiny.model(kind)
    expected = quantize.quantize_(whole, METHODS[name], calibration=batches)
    for k in (1, 3, 6):
        network, report = tiny.model(kind), Report()
        stops = Stops(METHODS[name], k)
        options = {"calibration": batches, "report": report, "progress": False}
        with pytest.raises(KeyboardInterrupt):
            quantize.quantize_(network, stops, **options)
        before = len(report)
        assert before < len(expected)
        stops.k = 0
        resumed = quantize.quantize_(network, stops, **options)
        assert list(resumed) == list(expected) and resumed.keys() == report.keys()
        for layer in expected:
            assert torch.equal(resumed[layer].codes, expected[layer].codes)
        pairs = zip(whole.parameters(), network.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_stopped_between_two_writes_of_one_group_it_goes_on_too(batches, monkeypatch):
    whole = tiny.model()
    together = METHODS["awq"]
    quantize.quantize_(whole, together, calibration=batches)
    network, report, writes = tiny.model(), Report(), []

    class Bar(tqdm.std.tqdm):
        def update(self, n=1):
            writes.append(n)
            if len(writes) == 3:  # 0 at the start, q, and now k: v is not written
                raise KeyboardInterrupt

    options = {"calibration": batches, "report": report}
    with monkeypatch.context() as patch:
        patch.setattr(quantize, "tqdm", Bar)
        with pytest.raises(KeyboardInterrupt):
            quantize.quantize_(network, together, **options)
    assert len(report) == 3
    v = network.model.layers[0].self_attn.v_proj.weight
    assert torch.equal(v, tiny.model().model.layers[0].self_attn.v_proj.weight)
    quantize.quantize_(network, together, **options)
    pairs = zip(whole.parameters(), network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_copy_goes_on_from_the_report_of_an_interrupted_one(batches):
    expected, _ = quantize.quantize(tiny.model(), METHODS["gptq"], calibration=batches)
    report, stops = Report(), Stops(METHODS["gptq"], 9)
    for _ in range(2):
        try:
            twin, _ = quantize.quantize(
                tiny.model(), stops, calibration=batches, report=report
            )
        except KeyboardInterrupt:
            assert len(report) == 7
    pairs = zip(expected.parameters(), twin.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_report_lets_two_methods_share_a_model():
    network, report = tiny.model(), Report()
    quantize.quantize_(network, int2, only="mlp", report=report)
    both = quantize.quantize_(network, int4, report=report)
    assert len(both) == 14 and both.keys() == report.keys()
    for name, q in both.items():
        assert q.grid == grids.zero_point(2 if "mlp" in name else 4)


def test_a_report_that_does_not_fit_is_refused_and_nothing_changes(batches):
    network, before = tiny.model(), tiny.model()
    other = quantize.quantize_(tiny.model(intermediate_size=64), int4)
    with pytest.raises(ValueError, match=r"report holds '.*gate_proj' \(64, 32\), but"):
        quantize.quantize_(network, int4, report=Report(other))
    partly = quantize.quantize_(tiny.model(), int4, only="mlp")
    with pytest.raises(ValueError, match="report holds 6 layers, but with float_in"):
        quantize.quantize_(
            network,
            METHODS["gptq"],
            calibration=batches,
            report=partly,
            float_inputs=True,
        )
    pairs = zip(network.parameters(), before.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        (
            lambda W, X: int4(W),
            ValueError,
            "method needs X, but calibration is None; pass",
        ),
        (
            lambda W, H, X: W,
            ValueError,
            "method needs H and X, but calibration is None",
        ),
        (lambda Ws: Ws, ValueError, "needs to know which layers share an input, but"),
        (
            rtn.quantize_rtn,
            ValueError,
            r"also needs grid, .* functools.partial\(method, grid=",
        ),
        (lambda: 0, TypeError, "its first parameter should be W"),
        (
            lambda W: W,
            TypeError,
            "method returned a Tensor for model.layers.0.self_attn.q",
        ),
        (
            lambda W: int4(W[:, :16]),
            ValueError,
            r"\(32, 32\) into a matrix \(32, 16\) that does",
        ),
    ],
)
def test_a_method_that_does_not_fit_is_named_and_nothing_changes(
    method, error, message
):
    network, before = tiny.model(), tiny.model()
    with pytest.raises(error, match=message):
        quantize.quantize_(network, method)
    pairs = zip(network.parameters(), before.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_weights_that_overflow_their_dtype_are_refused():
    network = tiny.model(dtype=torch.float16)
    with pytest.raises(
        ValueError, match="is not finite in torch.float16; check the sc"
    ):
        quantize.quantize_(network, lambda W: int4(W.float() * 1e6))


@pytest.mark.parametrize("progress", [True, False])
def test_the_bar_counts_layers_and_can_be_silenced(progress, capsys, monkeypatch):
    def eager(**options):  # without the delay that spares short work a bar
        return tqdm.std.tqdm(**{**options, "delay": 0})

    monkeypatch.setattr(quantize, "tqdm", eager)
    quantize.quantize_(tiny.model(), int4, progress=progress)
    assert ("14/14" in capsys.readouterr().err) == progress


def test_the_bar_shows_the_mean_error_of_the_layers_so_far(batches, monkeypatch):
    shown = []

    class Bar(tqdm.std.tqdm):
        def set_postfix(self, **postfix):
            shown.append(float(postfix["error"]))

    monkeypatch.setattr(quantize, "tqdm", Bar)
    network, seen = tiny.model(), []

    def method(W, X):
        D = int2(W).dequantize() - W
        seen.append(((X @ D.T).norm() / (X @ W.T).norm()).square().item())
        return int2(W)

    quantize.quantize_(network, method, calibration=batches)
    assert len(shown) == 8  # groups
    means = [sum(seen[:k]) / k for k in (3, 4, 6, 7, 10, 11, 13, 14)]
    assert shown == pytest.approx(means, rel=0.01)  # two decimals are shown
