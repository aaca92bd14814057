"""The benchmark of packed products, as far as it goes without a GPU: what it counts as
wrong, what it says when something fails, and that no two copies share memory."""

import argparse
import io
import itertools
import math
import sys
from types import SimpleNamespace

import pytest
import torch

from benchmarks import matmul as benchmark
from minquant.kernels import launch, matmul
from minquant.kernels.packed_words import dequantize

decode, ways = benchmark.decode, sys.modules["ways"]
SMALL = {"width": 64, "mlp": 96, "heads": 4, "vocabulary": 50}
CARD = SimpleNamespace(name="Card", major=9, minor=0, L2_cache_size=10_000)
NAN = math.nan


def arguments(**changed):
    """As `main` reads them."""
    usual = {"bits": 4, "group": 32, "tokens": [1, 4], "layers": 2}
    return argparse.Namespace(**usual | changed)


@pytest.fixture
def card(monkeypatch):
    """A card that is asked for its cache, and takes a second for each product."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: CARD)

    monkeypatch.setattr(benchmark, "graph_seconds", lambda run: float(len(run())))
    for clock in ("graph_seconds", "eager_seconds", "host_seconds"):
        monkeypatch.setattr(decode, clock, lambda run: float(len(run())))


def only(monkeypatch, **makers):
    """The benchmark with these ways alone; ours are those named so."""
    names = {"cublas": "fp16 cuBLAS", "ours": "ours", "peer": "peer"}
    listed = [(names[n], torch.float16, make) for n, make in makers.items()]
    monkeypatch.setattr(benchmark, "ways", lambda bits: iter(listed))
    monkeypatch.setattr(benchmark, "ours", makers.get("ours"))


def times(number):
    """Our way, its product multiplied."""

    def make(packed):
        made = [dequantize(packed, torch.float32)]
        run = lambda X: (X.float() @ made[0].T * number).half()  # noqa: E731
        return ways.Made(run, made, is_ours=True)

    return make


def peer(packed):
    """Somebody else's way, of other numbers."""
    return ways.Made(lambda X: X @ W.T, [W := 1.1 * packed_floats(packed)])


def packed_floats(packed):
    """W_hat in fp16."""
    return dequantize(packed, torch.float16)


def broken(packed):
    """A way that is there and does not run."""
    raise RuntimeError("no kernel image\nand more that nobody reads")


def rows(capsys, **changed):
    """What `product_rows` returns, and the lines that it prints."""
    right = benchmark.product_rows(64, 128, arguments(**changed), 1e12, "cpu")
    return right, capsys.readouterr().out.splitlines()


# --- each copy in memory of its own ---


def can_run(make):
    """Whether this way keeps a matrix on a CPU."""
    try:
        make(benchmark.random_packed(64, 128, 4, 32, "cpu"))
    except (ImportError, NotImplementedError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize(
    "name", ["ours", "cublas", "tinygemm", "gemlite", "bitsandbytes"]
)
def test_copies_of_a_matrix_share_no_memory(name, card):
    make = getattr(ways, name)
    if not can_run(make):
        pytest.skip(f"{name} is not installed, or keeps matrices on a GPU alone")
    packed = benchmark.random_packed(64, 128, 4, 32, "cpu")
    held = ways.copies(make, packed)
    assert len(held) >= 4 and sum(made.nbytes for made in held) >= 3 * 10_000
    where = [t.data_ptr() for made in held for t in made.reads]
    assert len(set(where)) == len(where)
    assert packed.words.data_ptr() not in where


def test_ours_reads_all_of_the_packed_matrix():
    packed = benchmark.random_packed(64, 128, 4, 32, "cpu")
    made = benchmark.ours(packed)
    assert made.nbytes == packed.nbytes and made.is_ours
    assert made.reads[0] is packed.words and made.reads[1] is packed.scales


def test_copies_that_share_memory_are_refused(card):
    one = torch.zeros(100)
    packed = benchmark.random_packed(64, 128, 4, 32, "cpu")
    with pytest.raises(RuntimeError, match="copies share memory"):
        ways.copies(lambda p: ways.Made(None, [one]), packed)


def test_there_are_so_many_copies_that_three_caches_are_full(monkeypatch):
    cache = SimpleNamespace(L2_cache_size=50 * 2**20)  # an H100's
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: cache)
    assert ways.copies_of(4096 * 4096 // 2) == 19
    assert ways.copies_of(2**29) == 4


# --- what is wrong ---


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_random_matrices_are_symmetric_and_keep_the_size_of_what_they_multiply(bits):
    packed = benchmark.random_packed(256, 512, bits, 64, "cpu")
    Y = matmul.matmul(torch.randn(16, 512), packed)
    assert 0.5 < Y.std() < 2 and packed.zeros is None


def test_the_error_is_seen_and_in_slices_of_rows_the_same(monkeypatch):
    packed, X = benchmark.random_packed(64, 128, 4, 32, "cpu"), torch.randn(3, 128)
    right = lambda X: matmul.matmul(X, packed)  # noqa: E731
    assert ways.error(right, X, packed) < 1e-6
    wrong = [ways.error(lambda X: right(X) * 1.01, X, packed)]
    monkeypatch.setattr(launch, "PART", 128 * 10)
    wrong.append(ways.error(lambda X: right(X) * 1.01, X, packed))
    assert wrong == pytest.approx([0.01, 0.01], rel=1e-3)


def test_a_way_may_be_held_to_weights_of_its_own():
    packed, X = benchmark.random_packed(64, 128, 4, 32, "cpu"), torch.randn(3, 128)
    W = torch.randn(64, 128)
    assert ways.error(lambda X: X @ W.T, X, packed) > 0.1
    assert ways.error(lambda X: X @ W.T, X, packed, lambda: W) < 1e-6


@pytest.mark.parametrize("number", [NAN, math.inf, 1.01, 0])
def test_ours_is_refused_where_it_is_wrong_and_nan_is_wrong(
    number, card, monkeypatch, capsys
):
    only(monkeypatch, cublas=ways.cublas, ours=times(number))
    right, lines = rows(capsys)
    assert not right
    (said,) = (
        line for line in lines if "WRONG" in line
    )  # at three tokens, and no more
    assert said.startswith("  ours          does not run here: ArithmeticError: WRONG")
    assert said.endswith("from float64, not timed")


def test_ours_is_judged_at_every_number_of_tokens(card, monkeypatch, capsys):
    def make(packed):
        made = times(1)(packed)
        wrong = lambda X: made.product(X) * (NAN if len(X) == 4 else 1)  # noqa: E731
        return ways.Made(wrong, made.reads, is_ours=True)

    only(monkeypatch, cublas=ways.cublas, ours=make)
    right, lines = rows(capsys)
    assert not right
    (said,) = (line for line in lines if "WRONG" in line)
    assert said.split()[:3] == ["ours", "4", "ArithmeticError:"]
    assert any(line.split()[:3] == ["ours", "1", "1000000.0"] for line in lines)


def test_a_peer_that_is_further_off_is_timed_and_marked(card, monkeypatch, capsys):
    only(monkeypatch, cublas=ways.cublas, ours=times(1), peer=peer)
    right, lines = rows(capsys)
    assert right
    marked = [line for line in lines if line.endswith(" *")]
    assert [line.split()[0] for line in marked] == ["peer", "peer"]
    assert all("1000000.0" in line and "1e-01 *" in line for line in marked)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_kernels_themselves_are_right(dtype):
    device = "cuda" if torch.cuda.is_available() else "cpu"  # there interpreted
    packed = benchmark.random_packed(32, 128, 4, 32, device)
    X = torch.randn(3, 128, dtype=dtype, device=device)
    assert ways.judged(benchmark.ours(packed), X, packed) < benchmark.WITHIN[dtype]


# --- what fails ---


def test_a_peer_that_fails_is_named_and_costs_nothing(card, monkeypatch, capsys):
    only(monkeypatch, cublas=ways.cublas, ours=times(1), peer=broken)
    right, lines = rows(capsys)
    assert right
    assert "  peer          does not run here: RuntimeError: no kernel image" in lines
    assert lines[-2] == "  ours, 1 tokens: 1.00× fp16 cuBLAS, — peer"


def test_a_row_of_a_peer_that_fails_leaves_its_other_rows(card, monkeypatch, capsys):
    def fails_at_one(packed):
        made = peer(packed)
        product = lambda X: made.product(X if len(X) > 1 else broken(X))  # noqa: E731
        return ways.Made(product, made.reads)

    only(monkeypatch, cublas=ways.cublas, ours=times(1), peer=fails_at_one)
    right, lines = rows(capsys)
    assert right
    assert "  peer               1   RuntimeError: no kernel image" in lines
    assert lines[-2].endswith("— peer") and lines[-1].endswith("1.00× peer")


def test_ours_failing_is_a_fault_and_no_other_row_becomes_the_base(
    card, monkeypatch, capsys
):
    only(monkeypatch, cublas=broken, ours=times(1), peer=peer)
    right, lines = rows(capsys)
    assert right  # cuBLAS is no fault of ours
    assert [line.split()[5] for line in lines if line[:6] == "  ours"][:2] == ["—", "—"]
    assert lines[-1] == "  ours, 4 tokens: — fp16 cuBLAS, 1.00× peer"
    only(monkeypatch, cublas=ways.cublas, ours=broken, peer=peer)
    right, lines = rows(capsys)
    assert not right
    assert lines[-1] == "  ours, 4 tokens: — fp16 cuBLAS, — peer"


def test_a_line_is_out_at_once(monkeypatch):
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file))
    decode.say("a line")
    assert file.getvalue() == b"a line\n"


def test_a_ratio_needs_both_of_its_numbers():
    assert decode.ratio(3.0, 2.0) == "1.50×"
    assert decode.ratio(None, 2.0) == decode.ratio(3.0, None) == "—"


def test_ours_meets_a_peer_in_the_peers_own_numbers():
    took = {
        "fp16 cuBLAS": {1: 8.0},
        "ours": {1: 2.0},
        "ours bf16": {1: 4.0},
        "tinygemm bf16": {1: 6.0},
        "gemlite": {1: 3.0},
    }
    said = "4.00× fp16 cuBLAS, 1.50× tinygemm bf16, 1.50× gemlite"
    assert benchmark.against(took, 1) == said


def test_a_reason_names_the_error_and_what_led_to_it():
    try:
        try:
            broken(None)
        finally:
            raise ValueError("capture failed")
    except ValueError as problem:
        said = decode.reason(problem)
    assert said == "ValueError: capture failed, after RuntimeError: no kernel image"
    assert decode.reason(KeyError()) == "KeyError: no message"


def test_a_lost_card_ends_the_run_and_says_how_to_go_on(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: broken(None))
    with pytest.raises(SystemExit, match="an illegal address\nthe card's context is"):
        decode.reason(RuntimeError("an illegal address"))


# --- time ---


class Recorder:
    """Streams, graphs and events that are not there: what was asked, in order."""

    def __init__(self):
        self.log = []

    def __call__(self, *given, **named):
        return self

    def __enter__(self):
        self.log.append("enter")

    def __exit__(self, *problem):
        self.log.append("exit")

    def wait_stream(self, other):
        self.log.append("wait")

    def synchronize(self):
        self.log.append("synchronize")

    def replay(self):
        self.log.append("replay")

    def event(self, **named):
        log = self.log
        return SimpleNamespace(
            record=lambda: log.append("record"),
            elapsed_time=lambda end: float(log.count("record")),  # ms: 2, 4, 6, …
        )


@pytest.fixture
def recorder(monkeypatch):
    """In the place of torch.cuda's own."""
    made = Recorder()
    for name in ("Stream", "CUDAGraph", "current_stream", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, made)
    monkeypatch.setattr(torch.cuda, "synchronize", made.synchronize)
    monkeypatch.setattr(torch.cuda, "Event", made.event)
    return made


def test_a_graph_is_warmed_up_captured_and_replayed_behind_another(recorder):
    log = recorder.log
    took = decode.graph_seconds(lambda: log.append("run"), replays=5)
    warm_up = ["wait", "enter", "run", "run", "synchronize", "enter", "run"]
    replay = ["replay", "record", "replay", "record", "synchronize"]
    assert log == [*warm_up, "exit", "exit", *8 * replay]
    assert took == pytest.approx(12e-3)  # the median of 8, 10, 12, 14, 16


def test_a_failing_capture_leaves_the_stream(recorder):
    def run():
        recorder.log.append("run")
        return recorder.log.count("run") < 3 or broken(None)

    with pytest.raises(RuntimeError, match="no kernel image"):
        decode.graph_seconds(run)
    assert recorder.log[-2:] == ["exit", "exit"]


def test_python_waits_for_the_card_after_a_step_and_not_after_a_call(recorder):
    log = recorder.log
    assert 0 <= decode.host_seconds(lambda: log.append("run"), calls=5) < 1
    assert log == [*20 * ["run"], "synchronize", *5 * ["run"]]
    log.clear()
    assert 0 <= decode.eager_seconds(lambda: log.append("run"), steps=2) < 1
    assert log == 5 * ["run", "synchronize"]


# --- other plans ---


@pytest.mark.parametrize("tokens", benchmark.TOKENS)
def test_the_tables_own_plans_are_among_those_it_tries(tokens):
    tried = {benchmark.named(by) for by in benchmark.candidates(tokens)}
    for out, _ in benchmark.SHAPES:
        assert benchmark.named(launch.plan_for(tokens, out, (9, 0))) in tried


def test_tuning_prints_every_plan_and_goes_on_after_one_that_fails(
    card, monkeypatch, capsys
):
    def product(X, packed, by):
        if by.block_n == 2:
            raise RuntimeError("PassManager::run failed")
        return matmul.matmul(X, packed)

    monkeypatch.setattr(launch, "product", product)
    assert benchmark.tune(32, 128, arguments(tokens=[1]), "cpu")
    lines = capsys.readouterr().out.splitlines()
    plans = list(benchmark.candidates(1))
    assert len(lines) == 1 + len(plans) + 3
    failed = [line for line in lines if "RuntimeError: PassManager::run failed" in line]
    assert len(failed) == 4 and all("1 × 2, split" in line for line in failed)
    assert all(line.startswith("best") and "µs" in line for line in lines[-3:])


def test_a_plan_that_makes_other_numbers_is_a_fault(card, monkeypatch, capsys):
    wrong = lambda X, packed, by: matmul.matmul(X, packed) * NAN  # noqa: E731
    monkeypatch.setattr(launch, "product", wrong)
    assert not benchmark.tune(32, 128, arguments(tokens=[1]), "cpu")
    lines = capsys.readouterr().out.splitlines()
    assert all("WRONG" in line for line in lines[1:]) and len(lines) == 17


# --- the model ---


def by_torch(packed):
    """The product without kernels."""
    return lambda X: matmul.matmul(X, packed, backend="torch")


def test_the_model_writes_the_same_packed_and_not():
    """A step of three tokens' worth: the same weights, packed and dequantized."""
    made = []

    def packed(out, width):
        made.append(decode.random_packed(out, width, 4, 32, "cpu"))
        return by_torch(made[-1])

    model = decode.Decoder(packed, 2, "cpu", torch.float32, **SMALL)
    weights = (dequantize(matrix) for matrix in made)

    def unpacked(out, width):
        W = next(weights)
        return lambda X: X @ W.T

    plain = decode.Decoder(unpacked, 2, "cpu", torch.float32, **SMALL)
    for name in ("cache", "embedding", "head"):
        setattr(plain, name, getattr(model, name).clone())
    token = other = torch.tensor([7])
    for _ in range(3):
        token, other = model(token), plain(other)
        assert token.shape == (1,) and torch.equal(token, other)


def test_a_step_is_compared_with_the_same_weights_in_floats():
    like = {"device": "cpu", "dtype": torch.float32}
    wraps = [
        by_torch,
        decode.layer,
        lambda p: lambda X: by_torch(p)(X) * 1.1,
        lambda p: lambda X: by_torch(p)(X) * NAN,
    ]
    errors = [decode.step_error(wrap, 4, 32, **like, **SMALL) for wrap in wraps]
    assert max(errors[:2]) < 1e-5
    assert errors[2] > decode.STEP_WITHIN and math.isnan(errors[3])


def test_a_step_in_fp16_is_well_within_what_is_allowed():
    like = {"device": "cpu", "dtype": torch.float16}
    assert decode.step_error(by_torch, 4, 32, **like, **SMALL) < decode.STEP_WITHIN / 2


def model_rows(capsys, **changed):
    """What `decode.rows` returns and prints."""
    right = decode.rows(arguments(**changed), "cpu", **SMALL)
    return right, capsys.readouterr().out.splitlines()


def test_three_kinds_of_layer_are_timed_with_a_graph_and_without(
    card, monkeypatch, capsys
):
    monkeypatch.setattr(decode, "bare", by_torch)
    right, lines = model_rows(capsys)
    assert right
    found = [tuple(line.split()[:2]) for line in lines if "tokens/s" in line]
    kinds = ("nn.Linear", "matmul", "QuantLinear")
    assert found == list(itertools.product(kinds, ("graph", "eager")))
    assert all("1.00× nn.Linear" in line for line in lines if "tokens/s" in line)
    assert [line.split()[0] for line in lines if " host " in line] == list(kinds)


def test_without_fp16_nothing_takes_its_place(card, monkeypatch, capsys):
    monkeypatch.setattr(decode, "bare", by_torch)
    monkeypatch.setattr(torch.nn, "Linear", lambda *a, **k: broken(None))
    right, lines = model_rows(capsys)
    assert right  # it may not fit the card
    assert lines[1] == "  nn.Linear    FAILED: RuntimeError: no kernel image"
    timed = [line for line in lines if "tokens/s" in line]
    assert len(timed) == 4 and all("— nn.Linear" in line for line in timed)


def test_a_step_that_cannot_be_captured_is_still_timed_without_a_graph(
    card, monkeypatch, capsys
):
    monkeypatch.setattr(decode, "bare", by_torch)
    monkeypatch.setattr(decode, "graph_seconds", broken)
    right, lines = model_rows(capsys)
    assert not right
    failed = [line.split()[:2] for line in lines if "FAILED: RuntimeError" in line]
    assert failed == [
        [name, "graph"] for name in ("nn.Linear", "matmul", "QuantLinear")
    ]
    assert sum("1.00× nn.Linear" in line for line in lines) == 3  # eager


@pytest.mark.parametrize("wrap", [broken, lambda p: lambda X: by_torch(p)(X) * NAN])
def test_layers_of_ours_that_fail_or_are_wrong_are_a_fault(
    wrap, card, monkeypatch, capsys
):
    monkeypatch.setattr(decode, "bare", wrap)
    right, lines = model_rows(capsys)
    assert not right
    (said,) = (line for line in lines if "FAILED" in line)
    assert said.startswith("  matmul       FAILED: ")
    assert "no kernel image" in said or "WRONG: a step is nan" in said
    assert sum("QuantLinear" in line for line in lines) == 3  # and on it went


# --- the run ---


@pytest.fixture
def run(card, monkeypatch):
    """`main` on a card that is not there; what it was asked to measure."""
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(benchmark, "copy_rate", lambda: 2e12)

    def note(what):
        return lambda *given: asked.append((what, *given[:2])) or what != "wrong"

    monkeypatch.setattr(benchmark, "product_rows", note("rows"))
    monkeypatch.setattr(benchmark, "tune", note("tune"))
    monkeypatch.setattr(decode, "rows", lambda args: asked.append(("decode",)) or True)
    return asked


def test_shapes_and_parts_are_chosen(run, capsys):
    two = ["--shapes", "64x128", "32×256"]
    assert benchmark.main(two) == 0
    assert run == [("rows", 64, 128), ("rows", 32, 256), ("decode",)]
    run.clear()
    assert benchmark.main([*two, "--only", "products"]) == 0
    assert benchmark.main([*two, "--tune"]) == 0
    assert run == [
        (what, *s) for what in ("rows", "tune") for s in ((64, 128), (32, 256))
    ]
    run.clear()
    assert benchmark.main(["--only", "decode"]) == 0
    assert run == [("decode",)]


def test_the_header_says_what_a_table_must(run, capsys):
    benchmark.main(["--only", "decode", "--bits", "2"])
    out = capsys.readouterr().out
    assert out.startswith("$ python benchmarks/matmul.py --only decode --bits 2\n")
    told = (
        "Card, sm_90, driver ",
        f"CUDA {torch.version.cuda}, torch ",
        "triton ",
        "gemlite ",
        "bitsandbytes ",
        "2 bits in groups of 128, symmetric",
        "2.00 TB/s",
    )
    assert [said for said in told if said not in out] == []
    assert benchmark.of("torch") and benchmark.of("no-such-package") == "absent"


def test_one_part_that_is_wrong_makes_the_run_fail(run, monkeypatch, capsys):
    monkeypatch.setattr(decode, "rows", lambda args: False)
    assert benchmark.main(["--shapes", "64x128"]) == 1
    assert benchmark.main(["--shapes", "64x128", "--only", "products"]) == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--shapes", "4096"], "give OUTxIN, such as 4096x11008"),
        (["--shapes", "64x100"], "--group 128 does not divide 100 inputs"),
        (["--tokens", "0"], "--tokens 0; give 1 or more"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(given, said, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(given)
    assert said in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure")
def test_without_a_gpu_nothing_is_measured_and_it_says_so(capsys):
    assert benchmark.main([]) == 0
    assert capsys.readouterr().out.startswith("no GPU here: nothing was measured")
