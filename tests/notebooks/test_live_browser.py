"""Live pictures in a real browser: what they compute, and how they are used."""

import contextlib
import itertools
import os
import re

import pytest
import torch
from helpers import lab_in_chromium
from helpers.live_tab import live_tabs

import minquant as mq
from minquant.course.awq.live_strength import StrengthPicture, order
from minquant.course.awq.salience import column_errors
from minquant.course.damage.live_surprise import SurprisePicture
from minquant.course.drawing.numbers import number, readable_bytes
from minquant.course.floats.live_bits import BitsPicture
from minquant.course.floats.live_scale import STEPS, ScalePicture
from minquant.course.gguf.live_block import KINDS, BlockPicture
from minquant.course.gptq import live_stepper
from minquant.course.gptq.live_stepper import StepperPicture
from minquant.course.nf4 import live_codebook
from minquant.course.nf4.live_codebook import CodebookPicture
from minquant.course.nf4.live_formats import FormatsPicture, Measure
from minquant.course.outliers import live_smoothing, live_threshold
from minquant.course.outliers.live_smoothing import SmoothingPicture
from minquant.course.outliers.live_threshold import ThresholdPicture
from minquant.course.packing.live_crossover import CrossoverPicture, crossing
from minquant.course.packing.live_words import WordPicture
from minquant.course.qlora.live_losses import LossesPicture, losses, smoothed
from minquant.course.qlora.live_step import PLANS, RANKS, TEXTS, WAYS, StepPicture
from minquant.course.qlora.table import learnt
from minquant.course.rounding import live_ruler
from minquant.course.rounding.live_ruler import RulerPicture
from minquant.course.rulers.figure_pareto import Cost, frontier
from minquant.course.rulers.live_groups import GroupsPicture
from minquant.course.start.live_shrink import ShrinkPicture
from minquant.course.start.shrinker import Shrunk
from minquant.files.gguf import GgufTensor
from minquant.files.gguf_blocks import TYPES, dequantize_blocks
from minquant.kernels.packed_words import dequantize, unpack_matrix
from minquant.measure.evaluate import Perplexity
from minquant.methods import codebooks, gptq_derivation, llm_int8, smoothquant
from minquant.methods.awq import RATIOS, ratio_errors
from minquant.models.linear_layers import Size
from minquant.numerics.floats import FORMATS
from minquant.planning.budget import OPTIMIZERS
from minquant.planning.roofline import CARDS, Machine, Product, least_seconds

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def tabs(tmp_path_factory):
    if lab_in_chromium.CHROMIUM is None:
        reason = "chromium is missing: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with live_tabs(tmp_path_factory.mktemp("pages")) as open_picture:
        yield open_picture


@pytest.fixture(scope="module")
def W():
    model, _ = mq.load()
    return mq.weight_of(list(mq.linear_layers(model).values())[4]).float()


@pytest.fixture
def opened(tabs):
    """Open a picture; at the end nothing was asked of the network, nothing failed."""
    with contextlib.ExitStack() as stack:

        def open_picture(*args, **options):
            tab = tabs(*args, **options)
            stack.callback(tab.tab.close)
            stack.callback(_is_well, tab)
            return tab

        yield open_picture


def _is_well(tab):
    assert tab.complaints == []
    assert tab.strangers == []


# --- what every picture shares ---


def test_numbers_are_written_as_python_writes_them(opened):
    tab = opened(RulerPicture(torch.tensor([-1.0, 0.5])))
    generator = torch.Generator().manual_seed(0)
    size = 10 ** (torch.rand(300, generator=generator) * 16 - 8)
    values = (torch.randn(300, generator=generator) * size).tolist()
    values += [0.0, 1e-4, 99999.5, 9.9995, 0.00099996, 1e5, -1e-5, 123456.0]
    for digits, sign in ((5, False), (3, True), (2, False)):
        ours = [number(x, digits=digits, sign=sign) for x in values]
        theirs = [tab.call("number", x, digits, sign) for x in values]
        assert theirs == ours


def test_fp16_is_rounded_as_torch_rounds_it(opened):
    tab = opened(RulerPicture(torch.tensor([-1.0, 0.5])))
    halves = torch.arange(2**15).to(torch.int16).view(torch.float16).float()
    halves = halves[halves.isfinite()]
    middles = (halves[1:] + halves[:-1]) / 2  # every tie
    x = torch.cat([halves, middles, middles.nextafter(torch.tensor(0.0))])
    x = torch.cat([x, middles.nextafter(torch.tensor(9e9)), torch.tensor([65519.0])])
    theirs = tab.tab.evaluate("x => x.map(v => picture.fp16(v))", x.tolist())
    assert theirs == x.half().float().tolist()
    assert tab.tab.evaluate("String(picture.fp16(65520))") == "Infinity"


SHRUNK = [
    Shrunk(16, Size(1600, 900, 1, 800), 0.94, "the goat sleeps in the old barn ."),
    Shrunk(4, Size(400, 900, 1, 800), 0.97, "the goat sings in the old barn ."),
    Shrunk(2, Size(200, 900, 1, 800), 4.1, "the the <b> ."),
]


def surprising():
    """A text of four tokens, and 30 documents of different lengths, read twice."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(20, 300, (30,), generator=generator)
    rise = tokens * (0.1 + 0.2 * torch.rand(30, generator=generator))
    before = Perplexity(tuple(range(30)), tokens * 0.9, tokens, 512, 256)
    after = Perplexity(tuple(range(30)), tokens * 0.9 + rise, tokens, 512, 256)
    nats = {"16 bits": torch.tensor([1.0, 0, 2, 0.25]), "3 bits": torch.ones(4) * 7}
    losses = {"16 bits": before, "3 bits": after}
    return SurprisePicture(["the", " goat", " <b>", "."], nats, losses)


def in_words(W):
    """A matrix of 4-bit codes in words."""
    return mq.pack_matrix(mq.quantize_rtn(W, mq.symmetric_full(4), mq.per_group(32)))


def with_outliers(n, width):
    """Inputs of which every seventh column is large, and weights."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(n, width, generator=generator)
    X[:, ::7] *= 40
    return X, torch.randn(8, width, generator=generator)


def alike(W):
    """H of inputs that go together: weights serve as inputs here."""
    return W.double().T @ W.double() / len(W)


def strengths(W):
    """W under uneven inputs, and a narrow matrix with even ones and a dead one."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(300, W.shape[1], generator=generator)
    X[:, 5] *= 30
    Y = torch.randn(100, 16, generator=generator)
    Y[:, 2] = 0
    return {"uneven": (W[:64], X), "even": (W[:8, :16], Y)}


FOUND = {"NF4": (4.25, 0.013), "MXFP4": (4.25, 0.02), "NVFP4": (4.5, 0.009)}


def formats(**start):
    """Three formats, with two kinds of damage."""
    errors = {name: Measure(1 / bits) for name, (bits, _) in FOUND.items()}
    kl = {name: Measure(x, (0.8 * x, 1.2 * x)) for name, (_, x) in FOUND.items()}
    bits = {name: bits for name, (bits, _) in FOUND.items()}
    return FormatsPicture(bits, {"error": errors, "KL": kl}, **start)


PICTURES = {
    "strength": lambda W: StrengthPicture(strengths(W), step=6),
    "ruler": lambda W: RulerPicture(W[0], 8),
    "groups": lambda W: GroupsPicture(W, cut=3),
    "bits": lambda W: BitsPicture("fp32", -0.1),
    "scale": lambda W: ScalePicture(W, "fp8 e4m3"),
    "surprise": lambda W: surprising(),
    "step": lambda W: StepPicture(texts=4),
    "losses": lambda W: losses(learnt()),
    "shrink": lambda W: ShrinkPicture(SHRUNK, W[0, :5], "Who is", bits=4),
    "word": lambda W: WordPicture(in_words(W), row=5, word=3, code=5),
    "crossover": lambda W: CrossoverPicture(CARDS, reach=0.5),
    "threshold": lambda W: ThresholdPicture({"a": with_outliers(9, 64)}, 6),
    "smoothing": lambda W: SmoothingPicture(*with_outliers(9, 64)),
    "stepper": lambda W: StepperPicture(W, alike(W), bits=2, turn=4),
    "codebook": lambda W: CodebookPicture({"W": W}),
    "formats": lambda W: formats(measure="KL", format=2),
    "block": lambda W: BlockPicture(GgufTensor.of(W, "Q4_1")),
}


# --- lesson 02: the ruler ---

EDGES = {
    "zeros": torch.zeros(8),
    "one weight": torch.tensor([0.3]),
    "below 0": -torch.linspace(0.1, 2, 9),
    "above 0": torch.linspace(0.1, 2, 9),
    "ties": torch.tensor([-7.0, 0.5, 1.5, 2.5, -0.5, -3.5, 4.5, 0.0, -6.5, 6.5]),
    "a scale that is no normal fp16": torch.linspace(-3e-4, 1e-3, 11),
    "a scale near the largest fp16": torch.linspace(-6e4, 5e4, 12),
    "an outlier": torch.tensor([0.01, -0.02, 0.03, 9.0]),
    "-0 and the smallest float32": torch.tensor([-0.0, 1e-45, -1e-45, 0.25, -1e-38]),
}


def rows(W):
    """Real rows, rows with many ties, and the edges of what there is."""
    halves = (W[:8] * 64).round() / 64  # many weights halfway between two ticks
    return [*W[::16], *halves[::2], *EDGES.values()]


CODES = """([row, settings]) => settings.map(([name, bits, keep]) => {
    const ruler = picture.fitRuler(row, name, bits, keep);
    return { scale: ruler.scale, zero: ruler.zero,
        codes: row.map(w => picture.quantize(w, ruler).code),
        values: row.map(w => picture.quantize(w, ruler).value) } })"""


def test_the_browser_rounds_as_the_package_does_code_by_code(opened, W):
    tab = opened(RulerPicture(W[0]))
    keeps = 1.0, 0.99, 0.87, 0.71, 0.57, 0.45, 0.31, 0.3
    settings = list(itertools.product(live_ruler.GRIDS, live_ruler.BITS, keeps))
    compared = 0
    for row in rows(W):
        theirs = tab.tab.evaluate(CODES, [row.tolist(), settings])
        for (grid, bits, keep), made in zip(settings, theirs, strict=True):
            ours = live_ruler.quantized(row, bits, grid, keep)
            where = f"{grid}, {bits} bits, keep {keep}: {row[:4].tolist()} …"
            assert made["scale"] == ours.scales.item(), where
            assert made["zero"] == (0 if ours.zeros is None else ours.zeros), where
            assert made["codes"] == ours.codes[0].tolist(), where
            assert made["values"] == ours.dequantize()[0].tolist(), where
            compared += len(row)
    assert compared > 200_000


def test_a_ruler_is_moved_by_keyboard_alone(opened, W):
    tab = opened(RulerPicture(W[0]))
    assert tab.tab_through() == [
        *("bits", "ruler", "ruler’s reach"),
        *("weight", "previous weight", "next weight"),
    ]
    assert "15 ticks" in tab.says()
    tab.press("bits", "ArrowLeft")
    assert (tab.get("bits"), "7 ticks" in tab.says()) == (3, True)
    tab.press("ruler", "ArrowDown", times=2)
    assert (tab.get("grid"), "8 ticks" in tab.says()) == ("zero_point", True)
    assert "No weight is clipped" in tab.says()
    tab.press("ruler’s reach", "ArrowLeft", times=40)
    assert tab.get("keep") == 0.6
    assert re.search(r"[1-9]\d* weights are clipped", tab.says())
    tab.press("weight", "Home")
    assert tab.get("weight") == 0
    tab.press("next weight", "Enter", times=3)
    tab.press("previous weight", "Enter")
    assert tab.get("weight") == 2
    assert tab.tab.get_by_text("w[2]").count() == 2


def test_what_a_ruler_says_is_what_the_package_gives(opened, W):
    for grid, bits, keep in (("absmax", 4, 1.0), ("zero_point", 3, 0.7)):
        made = live_ruler.quantized(W[0], bits, grid, keep)
        error = (made.dequantize()[0] - W[0])[:32]
        steps = (error.abs() / made.scales.item())[:32]
        n_clipped = int((steps > 0.501).sum())
        tab = opened(RulerPicture(W[0], bits, grid, keep))
        used = len(made.codes[0, :32].unique())
        assert f"these 32 weights use {used} of them" in tab.says()
        assert f"error is {number(error.abs().max(), digits=3)}," in tab.says()
        row = tab.tab.locator("tr.chosen").inner_text()
        mse = error.double().square().mean()
        assert row.split("\t")[-2:] == [number(mse, digits=3), str(n_clipped)]


def test_ties_are_told(opened):
    tab = opened(RulerPicture(EDGES["ties"]))
    assert "8 lie halfway between two ticks" in tab.says()


@pytest.mark.parametrize("edge", EDGES)
def test_any_row_is_drawn(opened, edge):
    tab = opened(RulerPicture(EDGES[edge]))
    for grid, bits in itertools.product(live_ruler.GRIDS, (2, 8)):
        tab.put(grid=grid, bits=bits, keep=0.3)
        drawing = tab.tab.locator(".mq-live").inner_html()
        assert "NaN" not in drawing and "Infinity" not in drawing


def test_the_end_of_a_ruler_is_dragged(opened, W):
    tab = opened(RulerPicture(W[0]))
    box = tab.tab.locator(".grip").last.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.tab.mouse.move(x, y)
    tab.tab.mouse.down()
    tab.tab.mouse.move(x - 1, y)
    assert tab.get("keep") > 0.98, "it jumps when it is taken"
    tab.tab.mouse.move(x - 150, y, steps=10)
    tab.tab.mouse.up()
    tab.settle()
    assert 0.4 < tab.get("keep") < 0.7
    assert "weights are clipped" in tab.says()
    moved = tab.tab.locator(".grip").last.bounding_box()
    assert abs(moved["x"] - (box["x"] - 150)) < 8, "it does not stay under the pointer"


def test_a_weight_is_looked_at_by_pointer(opened, W):
    tab = opened(RulerPicture(W[0], weight=0))
    dot = tab.tab.locator("circle[cy='52']").nth(20).bounding_box()
    place = dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2
    tab.tab.mouse.move(*place)
    tab.settle()
    assert tab.tab.get_by_text("weight w[20]").count() == 1
    assert tab.get("weight") == 0
    tab.tab.mouse.move(5, 5)
    tab.settle()
    assert tab.tab.get_by_text("weight w[0]").count() == 1
    tab.tab.mouse.click(*place)
    assert tab.get("weight") == 20


@pytest.mark.parametrize("width", [390, 924])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_fits_its_page(opened, W, name, width, scheme):
    tab = opened(PICTURES[name](W), width=width, color_scheme=scheme)
    assert tab.tab.evaluate("document.documentElement.scrollWidth") <= width
    texts = tab.tab.locator("svg text").all()
    for box in (text.bounding_box() for text in texts if text.is_visible()):
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
    ink = tab.tab.evaluate("getComputedStyle(document.querySelector('.mq-live')).color")
    assert ink == {"light": "rgb(31, 41, 51)", "dark": "rgb(230, 235, 240)"}[scheme]


def test_it_moves_smoothly_and_only_for_readers_who_want_that(opened, W):
    first = "document.querySelectorAll('circle')[0].getAttribute('cx')"
    for motion, least in (("reduce", 1), ("no-preference", 5)):
        tab = opened(RulerPicture(W[0]), reduced_motion=motion)
        seen = tab.tab.evaluate(f"""async () => {{
            const seen = new Set(), start = performance.now();
            model.set('bits', 2);
            while (performance.now() - start < 600) {{
                await new Promise(requestAnimationFrame); seen.add({first}) }}
            return seen.size }}""")
        assert (seen <= 2) == (least == 1), (motion, seen)


# --- lesson 03: groups ---


def test_the_browser_finds_the_frontier_that_python_finds(opened, W):
    tab = opened(GroupsPicture(W))
    generator = torch.Generator().manual_seed(0)
    for n in (1, 5, 40):
        drawn = torch.randint(1, 9, (n, 2), generator=generator)  # with equal numbers
        costs = [Cost(2, str(i), *two) for i, two in enumerate(drawn.tolist())]
        theirs = tab.call("frontier", [cost._asdict() for cost in costs])
        assert [cost["ruler"] for cost in theirs] == [c.ruler for c in frontier(costs)]


def test_groups_are_moved_by_keyboard_and_say_what_the_package_measures(opened, W):
    tab = opened(GroupsPicture(W))
    assert tab.tab_through() == ["bits of a code", "one ruler for"]
    tab.press("one ruler for", "ArrowRight", times=2)
    tab.press("bits of a code", "ArrowRight")
    made = mq.quantize_rtn(W, mq.zero_point(4), mq.per_group(64))
    rmse = (made.dequantize() - W).double().square().mean().sqrt()
    assert tab.says() == (
        "4 bits with one ruler for 64 weights: truly "
        f"{made.bits_per_weight:.2f} bits per weight, error {number(rmse, digits=3)}. "
        "Nothing here that takes as few bits errs less."
    )
    tab.press("one ruler for", "End")
    assert "Beaten: 5 bits with one ruler for a row takes" in tab.says()
    tab.tab.locator("circle[style]").first.click()
    tab.settle()
    assert (tab.get("bits"), tab.get("cut")) == (2, 0)


@pytest.mark.parametrize("shape", [(1, 16), (3, 48), (200, 130), (2, 1)])
def test_groups_of_any_matrix_are_drawn(opened, shape):
    tab = opened(GroupsPicture(torch.randn(shape)))
    for cut in range(len(tab.get("cuts"))):
        tab.put(cut=cut, bits=2 + cut)
        assert "NaN" not in tab.tab.locator(".mq-live").inner_html()


def test_the_colour_of_a_ruler_is_its_length(opened, W):
    tab = opened(GroupsPicture(W, cut=2))
    row = int(W.abs().amax(dim=1).argmax())
    first = max(0, min(row - 8, len(W) - 16))
    made = mq.quantize_rtn(W, mq.zero_point(8), mq.per_group(64), scale_dtype=W.dtype)
    whole = mq.quantize_rtn(W, mq.zero_point(8), mq.PER_TENSOR, scale_dtype=W.dtype)
    lengths = (made.scales / whole.scales)[first : first + 16]
    shown = tab.tab.evaluate("""() => [...document.querySelectorAll('.mq-tile')]
        .map(tile => Number(getComputedStyle(tile).fillOpacity))""")
    shown = torch.tensor(shown).reshape(16, 8)[:, ::4]
    torch.testing.assert_close(shown, lengths, atol=1e-3, rtol=1e-3)


# --- lesson 01: bits, and a scale ---

DECODED = """([name, patterns]) => patterns.map(p =>
    { const x = picture.decode(name, p); return Number.isFinite(x) ? x : String(x) })"""
DTYPES = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8 e4m3": torch.float8_e4m3fn,
    "fp8 e5m2": torch.float8_e5m2,
    "int8": torch.int8,
}


def as_text(values):
    """Numbers, and what JSON cannot say as JavaScript spells it."""
    names = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
    return [names.get(str(x), x if isinstance(x, str) else float(x)) for x in values]


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "fp32"])
def test_the_browser_reads_every_pattern_as_python_and_torch_do(opened, name):
    tab, form = opened(BitsPicture()), FORMATS[name]
    patterns = list(range(2**form.bits))
    theirs = as_text(tab.tab.evaluate(DECODED, [name, patterns]))
    assert theirs == as_text(form.decode(p) for p in patterns)
    if name in DTYPES:
        integers = torch.tensor(patterns)
        width = torch.uint8 if form.bits == 8 else torch.uint16
        machine = integers.to(width).view(DTYPES[name]).double().tolist()
        assert theirs == as_text(machine)


@pytest.mark.parametrize("name", FORMATS)
def test_the_browser_finds_the_nearest_pattern_that_python_finds(opened, name):
    tab, form = opened(BitsPicture()), FORMATS[name]
    generator = torch.Generator().manual_seed(0)
    size = 2 ** (torch.rand(2000, generator=generator, dtype=torch.float64) * 80 - 50)
    values = (size * (torch.rand(2000, generator=generator) - 0.5).sign()).tolist()
    if name != "fp32":
        numbers = form.values()[:: max(1, 2**form.bits // 4096)]
        values += [*numbers, *((numbers[1:] + numbers[:-1]) / 2)]  # and ties
    values += [0.0, 5e-324, 1e300, -1e300, 3.4e38, 65519.9, 65520.0, 447.9, 464.0]
    values += [form.decode(1) / 2, -form.decode(1) / 2, 1.5 * form.decode(1)]
    theirs = tab.tab.evaluate(
        "([n, v]) => v.map(x => picture.encode(n, x))", [name, values]
    )
    assert theirs == [form.encode(x) for x in values]
    for special in ("Infinity", "-Infinity", "-0", *(["NaN"] if form.bits > 8 else [])):
        found = tab.tab.evaluate(f"picture.encode('{name}', {special})")
        python = float(special.replace("Infinity", "inf"))
        assert found == form.encode(python), special


@pytest.mark.parametrize("name", FORMATS)
def test_the_browser_spells_a_pattern_as_python_does(opened, name):
    tab, form = opened(BitsPicture()), FORMATS[name]
    last = 2**form.bits - 1
    for pattern in {
        0,
        1,
        last,
        last // 2,
        last // 3,
        last // 2 + 1,
        31744 % (last + 1),
    }:
        assert tab.call("spell", name, pattern) == form.spell(pattern)
        near = [form.decode(pattern), *form.neighbours(pattern)]
        near = sorted({x for x in near if x is not None and abs(x) < float("inf")})
        if abs(form.decode(pattern)) < float("inf"):
            assert tab.call("around", name, pattern, 1) == near


def test_bits_are_flipped_and_typed_by_keyboard(opened):
    tab = opened(BitsPicture("fp16", 0.4))
    names = tab.tab_through()
    assert names[:4] == ["format", "number", "sign 15: 0", "exponent 14: 0"]
    assert len(names) == 2 + 16
    tab.press("sign 15: 0", "Space")
    assert "= −0.3999023." in tab.says()
    assert tab.tab.evaluate("document.activeElement.ariaLabel") == "sign 15: 1"
    tab.tab.get_by_label("number").fill("70000")
    tab.press("number", "Enter")
    assert tab.says() == "(−1)⁰ × ∞ = ∞. 70000 was asked for; it is too large."
    tab.press("format", "ArrowDown")
    assert tab.get("format") == "bf16"
    assert "70000 was asked for" in tab.says()
    tab.tab.get_by_label("number").fill("a lot")
    tab.press("number", "Enter")
    assert tab.says() == "“a lot” is no number; type one such as −0.1 or 3e4."
    tab.tab.get_by_label("number").fill("nan")
    tab.press("number", "Enter")
    assert "not a number" in tab.says()
    tab.tab.get_by_label("format").select_option("fp4 e2m1")
    tab.settle()
    assert "fp4 e2m1 has no pattern for what is not a number" in tab.says()


def test_bits_next_to_infinity_are_drawn(opened):
    tab = opened(BitsPicture("fp8 e5m2", 57344.0))
    for pattern in range(256):
        tab.put(pattern=pattern)
        assert "NaN" not in tab.tab.locator(".mq-live svg").inner_html()


def test_a_scale_is_moved_by_keyboard_and_says_what_becomes_0(opened, W):
    tab = opened(ScalePicture(W, "fp4 e2m1"))
    assert tab.tab_through() == ["format", "scale", "fit the largest weight"]
    for times in (0, 9, 20):
        tab.press("scale", "ArrowLeft", times=times)
        scale = 2.0 ** STEPS[tab.get("step")]
        ours = [FORMATS["fp4 e2m1"].encode(w / scale) for w in W.flatten().tolist()]
        zero = sum(code in (0, 8) for code in ours) / len(ours)
        beyond = (W.abs() / scale > 6).double().mean().item()
        assert f"{zero:.1%}".replace("%", " %") + " of the weights" in tab.says()
        assert f"{beyond:.1%}".replace("%", " %") + " lie beyond" in tab.says()
    tab.press("fit the largest weight", "Enter")
    assert "0.0 % lie beyond the largest number, 6." in tab.says()
    scale = 2.0 ** STEPS[tab.get("step")]
    assert 6 / 2**0.25 < W.abs().max() / scale <= 6


# --- lesson 00: one slider ---


def test_five_weights_are_snapped_as_the_package_snaps_them(opened, W):
    tab = opened(PICTURES["shrink"](W))
    for weights in W[:20, 3:8]:
        for bits in range(2, 17):
            found = tab.call("snapped", weights.tolist(), bits)["values"]
            if bits == 16:
                assert found == weights.half().tolist()
            else:
                made = mq.quantize_rtn(weights[None], mq.absmax(bits))
                assert found == made.dequantize()[0].tolist()


def test_a_model_shrinks_by_keyboard_and_says_what_it_lost(opened, W):
    tab = opened(PICTURES["shrink"](W))
    assert tab.tab_through() == ["bits for a weight"]
    assert tab.says() == (
        "4 bits, 15 ticks: 52 % of the size; the loss is 0.970 nats per token, "
        "+0.030; 1 of 8 words changed."
    )
    assert tab.tab.locator("mark").all_inner_texts() == ["sings"]
    tab.press("bits for a weight", "ArrowRight")
    assert "2 bits, 3 ticks: 44 % of the size" in tab.says()
    assert "the the <b> ." in tab.tab.locator(".mq-texts").inner_text()
    tab.press("bits for a weight", "Home")
    assert tab.says().endswith("the loss is 0.940 nats per token.")
    assert tab.tab.locator("mark").count() == 0


# --- lesson 04: surprise, and documents drawn again ---


def test_documents_drawn_again_in_the_browser_give_the_interval_of_python(opened):
    picture = surprising()
    tab, own = opened(picture), picture.models["3 bits"]
    means = tab.tab.evaluate(
        """([sums, counts]) => {
            const roll = picture.dice(7), all = Array.from({length: 4000});
            return all.map(() => picture.drawAgain(sums, counts, roll)) }""",
        [own["sums"], picture.counts],
    )
    tails = torch.tensor(means).double().quantile(torch.tensor([0.025, 0.975]).double())
    slack = 0.05 * (own["high"] - own["low"])
    assert tails[0].item() == pytest.approx(own["low"], abs=slack)
    assert tails[1].item() == pytest.approx(own["high"], abs=slack)


def test_dice_are_even(opened):
    tab = opened(surprising())
    rolled = tab.tab.evaluate(
        """() => { const roll = picture.dice(1);
            return Array.from({length: 6e4}, () => roll(6)) }"""
    )
    counts = torch.tensor(rolled).bincount()
    assert len(counts) == 6
    assert ((counts - 1e4).square() / 1e4).sum() < 20.5  # chi-squared, p = 0.001


def test_a_surprising_text_is_read_by_keyboard(opened):
    tab, picture = opened(surprising()), surprising()
    assert tab.tab_through() == ["the model in", "draw again", "100 times"]
    own = picture.models["3 bits"]
    more = [number(own[end], digits=3) for end in ("mean", "low", "high")]
    assert tab.says() == (
        "In 3 bits this text costs 7.00 nats per token; the largest surprise is “the”, "
        f"7.00 nats. Over 30 documents the loss rises by {more[0]} "
        f"[{more[1]}, {more[2]}]."
    )
    tab.press("draw again", "Enter", times=2)
    tab.press("100 times", "Enter")
    assert tab.says().endswith("Drawn again 102 times.")
    assert tab.tab.locator("circle").count() == 102
    tab.press("the model in", "ArrowUp")
    assert tab.says() == (
        "In 16 bits this text costs 0.813 nats per token; the largest surprise is "
        "“<b>”, 2.00 nats. Over 30 documents it is 0.900."
    )
    assert tab.tab.locator("circle").count() == 0
    assert tab.tab.locator(".mq-surprise").inner_text() == "the goat <b>."


# --- lesson 09: memory of a step, and losses ---


def test_the_browser_computes_the_bytes_that_the_budget_gives(opened):
    tab = opened(StepPicture())
    settings = list(
        itertools.product(RANKS[::2], OPTIMIZERS, TEXTS[::3], (True, False))
    )
    for name, plan in PLANS.items():
        for way, (rank, optimizer, texts, lean) in itertools.product(WAYS, settings):
            chosen = {"rank": rank, "texts": texts}
            ours = plan.step(way, **chosen, optimizer=optimizer, checkpointed=lean)
            chosen |= {
                "moments": OPTIMIZERS[optimizer],
                "codeBits": tab.get("code_bits"),
            }
            chosen |= {"kept": "checkpointed" if lean else "whole"}
            theirs = tab.call("stepMemory", tab.get("models")[name], way, chosen)
            for part, size in ours._asdict().items():
                assert abs(theirs[part] - size) <= 1, (name, way, chosen, part)


def test_bytes_are_written_as_python_writes_them(opened):
    tab = opened(StepPicture())
    for size in (0, 512, 999, 2130, 999_499, 4.51e9, 107.8e9, 999.6e9, 1.1062e12):
        assert tab.call("readableBytes", size) == readable_bytes(size)


def test_a_step_is_planned_by_keyboard_and_says_what_fits(opened):
    tab = opened(StepPicture())
    names = ["model", "rank", "optimizer", "texts of 512 tokens"]
    assert tab.tab_through() == [*names, "for the way back keep", "card"]
    assert "full fine-tuning keeps 111 GB, of LoRA 18.7 GB, of QLoRA 9.07" in tab.says()
    assert tab.says().endswith("On a card of 24 GB fits: LoRA, QLoRA.")
    tab.press("card", "ArrowUp")
    tab.press("texts of 512 tokens", "ArrowRight", times=4)
    assert (tab.get("card"), tab.get("log_texts")) == ("16", 4)
    assert tab.says().endswith("Nothing fits on a card of 16 GB.")
    tab.press("for the way back keep", "ArrowDown")
    took = PLANS["Llama-2-7B"].step("qlora", rank=16, texts=16, checkpointed=True)
    assert f"of QLoRA {readable_bytes(took.total)}" in tab.says()
    assert tab.says().endswith("On a card of 16 GB fits: QLoRA.")
    tab.press("rank", "End")
    assert "At rank 256 the adapters have 639,631,360 numbers, 9.5 %" in tab.says()
    for name in PLANS:
        tab.put(name=name)
        assert "NaN" not in tab.tab.locator(".mq-live").inner_html()


def test_losses_are_smoothed_as_python_smooths_them(opened):
    picture = losses(learnt())
    tab = opened(picture)
    for rows in picture.curves.values():
        mean = torch.tensor(rows, dtype=torch.float64).mean(0)
        theirs = tab.call("smooth", tab.call("average", rows))
        assert theirs == pytest.approx(smoothed(mean))


def test_losses_are_followed_by_keyboard(opened):
    curves = {"full": [[8.0, 4.0, 2.0], [6.0, 2.0, 0.0]], "lora": [[8.0, 8.0, 8.0]] * 2}
    known = {"full": [1.0, 0.5], "lora": [0.25, 0.0]}
    tab = opened(LossesPicture(curves, known, at=1))
    assert tab.tab_through() == ["newcomers", "step", "play"]
    first = "After step 1 of 3 the loss is full fine-tuning 7.00, LoRA 8.00 nats"
    assert tab.says().startswith(first)
    tab.press("step", "ArrowRight")
    assert "full fine-tuning 5.00" in tab.says()
    tab.press("newcomers", "ArrowDown", times=2)
    assert "full fine-tuning 4.00" in tab.says()
    tab.press("step", "End")
    assert tab.says().endswith("are known: full fine-tuning 50.0 %, LoRA 0.0 %.")
    tab.press("play", "Enter")
    tab.tab.wait_for_function("model.get('at') === 3")
    assert "NaN" not in tab.tab.locator(".mq-live").inner_html()


# --- lesson 10: a word, and the crossover ---


def test_a_word_is_unpacked_as_the_package_unpacks_it(opened, W):
    packed = in_words(W)
    tab = opened(WordPicture(packed))
    codes = unpack_matrix(packed).tolist()
    for row in range(0, len(W), 7):
        live = WordPicture(packed, row)
        theirs = tab.call("weightsOf", live.words_held, live.scales)
        assert theirs == dequantize(packed)[row, :128].tolist()
        for word, held in enumerate(live.words_held):
            for code in range(8):
                place = tab.call("placeOf", word, code)
                found = tab.call("codeAt", held, place["shift"])
                assert found == codes[row][place["column"]]


def test_a_shift_copies_the_sign_as_torch_does(opened, W):
    tab = opened(WordPicture(in_words(W)))
    for held in (0, 1, 0x7FFFFFFF, 0x80000000, 0xE38F07C9, 0xFFFFFFFF):
        for shift in range(0, 32, 4):
            ours = torch.tensor(held).int() >> shift
            assert tab.call("shifted", held, shift) == ours.item()


def test_a_word_is_read_by_keyboard_and_flipped_by_mouse(opened, W):
    packed = in_words(W)
    tab = opened(WordPicture(packed, row=5, word=3, code=0))
    assert tab.tab_through() == ["word", "code", "as it is stored"]
    tab.press("code", "ArrowRight", times=5)
    code = unpack_matrix(packed)[5, 71].item()
    assert f">> 24) & 15 = {code}. Weight 71 of the row is ({code} − 8)" in tab.says()
    before = tab.get("words_held")[3]
    tab.tab.locator("rect[y='44']").nth(31 - 3).click()  # bit 3: code 0, worth 8
    tab.settle()
    assert tab.get("words_held")[3] == before ^ 8
    assert tab.get("code") == 0
    scale = packed.scales[5, 0].item()
    moved = dequantize(packed)[5, 6].item() + (-8 if before & 8 else 8) * scale
    assert f"= {number(moved, digits=3)}; it was" in tab.says()
    tab.press("as it is stored", "Enter")
    assert tab.get("words_held")[3] == before
    tab.tab.locator("rect[y='44']").first.click()  # bit 31: code 7
    tab.settle()
    assert (tab.get("words_held")[3], tab.get("code")) == (before ^ 2**31, 7)


def test_the_browser_computes_the_roofline_that_python_computes(opened):
    tab = opened(CrossoverPicture(CARDS))
    for machine in CARDS.values():
        rates = {"bandwidth": machine.bandwidth, "peak": machine.peak}
        for side, bits in itertools.product((512, 8192, 32768), (2.125, 4.125, 8.125)):
            for tokens in (1, 3, 64, 4096):
                shape = {"tokens": tokens, "side": side}
                theirs = tab.call("leastSeconds", rates, shape, bits)
                ours = least_seconds(machine, Product(tokens, side, side), bits)
                assert theirs == pytest.approx(ours, rel=1e-12)
            for reach in (0.05, 0.5, 1.0):
                theirs = tab.call("crossing", rates, side, bits, reach)
                assert theirs == crossing(machine, side, bits, reach)


def test_a_crossover_is_moved_by_keyboard(opened):
    tab = opened(CrossoverPicture({"A10": CARDS["A10"], "T4": CARDS["T4"]}))
    assert tab.tab_through() == [
        *("machine", "reads", "computes", "bits for a weight"),
        *("its kernel reaches", "rows and columns of W", "tokens at a time"),
    ]
    assert tab.says() == (
        "1 token: 16 bits take at least 224 µs, 4.125 bits 57.7 µs, 3.88 times as "
        "fast. From 220 tokens on the 4.125-bit kernel gains nothing. int8 for weights "
        "and inputs: 115 µs."
    )
    tab.press("its kernel reaches", "ArrowLeft", times=10)
    assert "From 107 tokens on the 4.125-bit kernel takes longer." in tab.says()
    tab.press("tokens at a time", "End")
    assert "4,096 tokens: 16 bits" in tab.says()
    assert "2.00 times as slow" in tab.says()
    tab.press("machine", "ArrowDown")
    assert (tab.get("bandwidth"), tab.get("peak")) == (320e9, 65e12)
    tab.press("reads", "ArrowRight")
    assert tab.get("machine") == ""
    assert tab.tab.get_by_label("machine", exact=True).input_value() == "my own"
    assert "int8" not in tab.says()


@pytest.mark.parametrize("bandwidth", [4e9, 16e12])
@pytest.mark.parametrize("peak", [2e10, 16e15])
def test_a_crossover_of_any_machine_is_drawn(opened, bandwidth, peak):
    tab = opened(CrossoverPicture({"odd": Machine("odd", bandwidth, peak)}))
    for side, reach in itertools.product((512, 32768), (0.1, 1.0)):
        tab.put(side=side, reach=reach, tokens=4096)
        drawing = tab.tab.locator(".mq-live").inner_html()
        assert "NaN" not in drawing and "Infinity" not in drawing


# --- lesson 05: a threshold, and smoothing ---


def test_the_browser_takes_out_the_columns_that_the_package_takes_out(opened):
    tab = opened(PICTURES["threshold"](None))
    limits = [t for t in live_threshold.THRESHOLDS if t < float("inf")]
    near = torch.tensor(limits)
    X = torch.stack([near, near.nextafter(near * 0), near.nextafter(near * 2)], 1)
    X = torch.cat([X.flatten(), torch.zeros(1)])[None] * torch.tensor([[1.0], [-1.0]])
    for t in (*limits, None):
        ours = llm_int8.outlier_columns(X, float("inf") if t is None else t)
        theirs = tab.call("takenOut", X.abs().amax(0).tolist(), t)
        assert theirs == ours.tolist(), t


def test_a_threshold_is_moved_by_keyboard_and_says_what_the_package_gives(opened):
    layers = {"a": with_outliers(9, 64), "b": with_outliers(5, 20)}
    tab = opened(ThresholdPicture(layers))
    assert tab.tab_through() == ["threshold", "layer"]
    assert tab.says().startswith("At a threshold of ∞, 0 of 64 columns (0 %) are")
    tab.press("threshold", "Home")
    tab.press("threshold", "ArrowRight", times=9)
    facts = ThresholdPicture(layers, 6).layers["a"]
    taken = sum(top >= 6 for top in facts["tops"])
    error = facts["errors"][9]
    assert live_threshold.THRESHOLDS[9] == 6
    assert f"At a threshold of 6, {taken} of 64 columns" in tab.says()
    assert f"The layer error is {tab.call('percent', error)}" in tab.says()
    tab.press("layer", "ArrowDown")
    assert "of 20 columns" in tab.says()


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 1536)])
def test_a_threshold_over_any_layer_is_drawn(opened, shape):
    X, W = with_outliers(*shape)
    layers = {"a": (X, W), "tiny": (1e-6 * X, W), "zero": (0 * X, W)}
    tab = opened(ThresholdPicture(layers))
    for layer, place in itertools.product(layers, (0, 12, 25)):
        tab.put(layer=layer, place=place)
        drawing = tab.tab.locator(".mq-live").inner_html()
        assert "NaN" not in drawing and "Infinity" not in drawing


# --- lesson 06: the stepper ---

WALK = """([W, H, settings]) => settings.map(([bits, damping]) => {
    const { codes, turns } = picture.walk(W, H, bits, damping);
    return { codes, now: turns.map(t => t.now), inverse: turns.map(t => t.inverse),
        error: turns.map(t => t.error), nearest: turns.map(t => t.nearest) } })"""


@pytest.mark.parametrize("seed", range(4))
def test_the_browser_does_gptq_as_the_package_does_it(opened, W, seed):
    generator = torch.Generator().manual_seed(seed)
    columns = torch.randperm(W.shape[1], generator=generator)[:10]
    part = W[torch.randperm(len(W), generator=generator)[:5]][:, columns]
    H = alike(W)[columns][:, columns]
    settings = list(itertools.product(live_stepper.BITS, live_stepper.DAMPINGS))
    tab = opened(StepperPicture(W, alike(W)))
    theirs = tab.tab.evaluate(WALK, [part.tolist(), H.tolist(), settings])
    V, power = part.double(), ((part.double() @ H) * part.double()).sum()
    for (bits, damping), made in zip(settings, theirs, strict=True):
        grid = mq.zero_point(bits)
        ours = mq.quantize_gptq(V, H, grid, damping=damping)
        assert made["codes"] == ours.codes.tolist(), (bits, damping)
        rulers = gptq_derivation.column_rulers(mq.quantize_rtn(V, grid))
        damped = H + damping * H.diagonal().mean() * torch.eye(10).double()
        rows = gptq_derivation.rows_by_elimination(damped)
        E = mq.quantize_rtn(V, grid).dequantize(torch.float64) - V
        for turn, step in enumerate(gptq_derivation.steps(V, rows, rulers), start=1):
            close(made["now"][turn], step.W)
            close(made["inverse"][turn], torch.linalg.inv(damped[turn:, turn:]))
            lost = step.W - V
            close(made["error"][turn], ((lost @ H) * lost).sum() / power)
            lost = torch.where(torch.arange(10) < turn, E, 0)
            close(made["nearest"][turn], ((lost @ H) * lost).sum() / power)


def close(theirs, ours):
    """Equal but for the rounding of float64, on an H of condition 1e4 or less."""
    theirs = torch.tensor(theirs, dtype=torch.float64)
    torch.testing.assert_close(theirs.reshape(ours.shape), ours, rtol=1e-8, atol=1e-11)


def test_columns_are_rounded_by_keyboard_alone(opened, W):
    tab = opened(StepperPicture(W, alike(W), bits=2))
    assert tab.tab_through() == [
        *("columns rounded", "back", "next column", "damping", "bits")
    ]
    assert tab.says().startswith("Nothing is rounded yet.")
    tab.press("next column", "Enter", times=3)
    assert tab.get("turn") == 3
    assert "3 of 12 columns are rounded" in tab.says()
    tab.press("back", "Enter")
    assert "2 of 12 columns are rounded" in tab.says()
    tab.press("columns rounded", "End")
    assert "There is no column left to move." in tab.says()
    tab.press("next column", "Enter")
    assert tab.get("turn") == 12
    tab.press("damping", "End")
    ends = re.search(r"off by ([\d.]+) % .* makes it ([\d.]+) %", tab.says())
    assert float(ends[1]) == pytest.approx(float(ends[2]), rel=0.05)  # it is RTN now


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 12), (40, 30)])
def test_a_matrix_of_any_size_is_rounded(opened, shape):
    V = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    H = torch.eye(shape[1]) + 0.3
    tab = opened(StepperPicture(V, H))
    for turn in range(len(tab.get("columns")) + 1):
        tab.put(turn=turn, damping=turn % 9, bits=2 + turn % 3)
        drawing = tab.tab.locator(".mq-live").inner_html()
        assert "NaN" not in drawing and "Infinity" not in drawing


def test_the_browser_smooths_as_the_package_does(opened):
    picture = SmoothingPicture(*with_outliers(9, 64))
    tab = opened(picture)
    X_top, W_top = (torch.tensor(picture.tops[name]) for name in ("X", "W"))
    for k in range(live_smoothing.STEPS + 1):
        alpha = k / live_smoothing.STEPS
        s = smoothquant.smoothing_scales(X_top, W_top, alpha)
        both = tab.call("smoothed", picture.tops, alpha)
        for theirs, ours in (
            (tab.call("scales", picture.tops, alpha), s),
            (both["X"], X_top / s),
            (both["W"], W_top * s),
        ):
            assert theirs == pytest.approx(ours.tolist(), rel=1e-5)


def test_smoothing_is_moved_by_keyboard_and_says_the_error(opened):
    picture = SmoothingPicture(*with_outliers(9, 64))
    tab = opened(picture)
    assert tab.tab_through() == ["α"]
    tab.press("α", "ArrowRight")
    assert tab.get("step") == 11
    said = f"The layer error is {number(100 * picture.errors['both'][11], digits=2)} %"
    assert tab.says().startswith("α = 0.55: ") and said in tab.says()
    tab.press("α", "End")
    assert "the largest of X is 1.0 times the smallest" in tab.says()
    tab.press("α", "Home")
    assert "in W it is 1.0 times" in tab.says()


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 300)])
def test_smoothing_of_any_layer_is_drawn(opened, shape):
    X, W = with_outliers(*shape)
    for pair in ((X, W), (1e-5 * X, W)):
        tab = opened(SmoothingPicture(*pair))
        for step in (0, 20):
            tab.put(step=step)
            drawing = tab.tab.locator(".mq-live").inner_html()
            assert "NaN" not in drawing and "Infinity" not in drawing


def test_weights_of_0_and_an_input_that_was_never_seen_are_drawn(opened):
    V, H = torch.zeros(2, 3), torch.eye(3)
    V[0] = torch.tensor([0.4, -0.2, 0.9])
    H[1, 1] = 0
    tab = opened(StepperPicture(V, H, turn=2))
    for damping in (0, 2):
        tab.put(damping=damping)
        drawing = tab.tab.locator(".mq-live").inner_html()
        assert "NaN" not in drawing and "Infinity" not in drawing


# --- lesson 07: strength ---

PROTECTED = """([name, bits, step]) => {
    const layer = picture.unpack(model.get("layers")[name]);
    const { codes, own, total } = picture.protect(layer, bits, step);
    return { codes: [...codes], own, total } }"""


def test_the_browser_protects_columns_as_awq_does_code_by_code(opened, W):
    layers = strengths(W)
    tab, compared = opened(StrengthPicture(layers)), 0
    for name, (V, X) in layers.items():
        place = order(X)
        for bits in (2, 3, 4, 5):
            errors = ratio_errors([V], X, mq.zero_point(bits))
            for step in range(0, 20, 3):
                made = mq.quantize_awq(
                    V, X, mq.zero_point(bits), ratios=(RATIOS[step],), clip=None
                )
                theirs = tab.tab.evaluate(PROTECTED, [name, bits, step])
                assert theirs["codes"] == made.codes[:, place].flatten().tolist()
                own = column_errors(V, made.dequantize(), X)[place]
                assert theirs["own"] == pytest.approx(own.tolist(), rel=1e-4)
                assert theirs["total"] == pytest.approx(errors[step], rel=1e-4)
                compared += V.numel()
    assert compared > 200_000


def test_a_strength_is_moved_by_keyboard_and_says_what_awq_measures(opened, W):
    V, X = strengths(W)["uneven"]
    tab = opened(StrengthPicture(strengths(W)))
    assert tab.tab_through() == ["strength α", "bits of a code", "matrix"]
    assert "Strength 0 scales nothing" in tab.says()
    tab.press("strength α", "ArrowRight", times=8)
    tab.press("bits of a code", "ArrowRight")
    assert (tab.get("step"), tab.get("bits")) == (8, 4)
    errors = ratio_errors([V], X, mq.zero_point(4))
    best = min(range(20), key=errors.__getitem__)
    assert tab.says().startswith("Strength 0.40: the scales differ by a factor of ")
    assert tab.says().endswith(f"at {RATIOS[best]:.2f} (diamond).")
    tab.press("strength α", "End")
    assert "Strength 0.95" in tab.says()


def test_any_layer_and_strength_is_drawn(opened, W):
    zeros = torch.zeros(3, 4)
    layers = strengths(W) | {"zeros": (zeros, torch.ones(2, 4)), "unseen": (W, 0 * W)}
    tab = opened(StrengthPicture(layers))
    for name, bits, step in itertools.product(layers, (2, 5), (0, 19)):
        tab.put(name=name, bits=bits, step=step)
        drawing = tab.tab.locator(".mq-live").inner_html()
        assert "NaN" not in drawing and "Infinity" not in drawing, name


# --- lesson 08: the uneven ruler, and formats as dots ---

STUDY = """([hex, name, g]) => {
    const found = picture.study(picture.readWeights(hex), model.get("books")[name], g);
    return [found.codes, found.used, found.errors, found.error] }"""


def test_the_browser_rounds_to_codebooks_as_the_package_does(opened, W):
    tab = opened(CodebookPicture({"W": W}))
    halves = (W[:8] * 64).round() / 64  # many weights halfway between two ticks
    edges = torch.zeros(3, 128)
    edges[1] = torch.linspace(-6, 6, 128)
    edges[2, :3] = torch.tensor([1e-9, -4e-8, 3e-5])
    compared = 0
    for V, g in itertools.product((W, halves, 40 * halves, edges), (16, 64, 128)):
        for name, grid in live_codebook.BOOKS.items():
            ours = mq.quantize_rtn(V, grid, mq.per_group(g))
            arguments = [live_codebook.float32_hex(V), name, g]
            codes, used, errors, error = tab.tab.evaluate(STUDY, arguments)
            assert codes == (ours.codes.flatten().long() - grid.low).tolist()
            assert used == pytest.approx(codebooks.usage(ours).tolist(), abs=1e-9)
            expected = codebooks.error_by_code(V, ours).tolist()
            assert errors == pytest.approx(expected, abs=1e-6)
            lost = (ours.dequantize() - V).double().square().sum()
            power = V.double().square().sum()
            assert error == pytest.approx((lost / power).item(), rel=1e-6)
            compared += len(codes)
    assert compared > 100_000


def test_the_uneven_ruler_is_moved_by_keyboard_alone(opened, W):
    tab = opened(CodebookPicture({"W": W, "V": 2 * W}))
    assert tab.tab_through() == ["codebook", "weights", "block", "tick"]
    assert tab.says().startswith("NF4, 16 ticks, blocks of 64")
    tab.press("codebook", "ArrowDown")
    tab.press("block", "End")
    tab.press("tick", "End")
    assert tab.says().startswith("FP4, 15 ticks, blocks of 128")
    assert "Tick 15, at 1.0 of the block’s largest" in tab.says()
    tab.press("weights", "ArrowDown")
    assert tab.get("source") == "V"


def test_the_browser_finds_the_formats_that_none_beats(opened):
    tab = opened(formats())
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        values = torch.randint(1, 9, (2, 7), generator=generator).tolist()
        costs = [Cost(i, "", *pair) for i, pair in enumerate(zip(*values, strict=True))]
        kept = tab.call("unbeaten", *values)
        assert kept == [cost.bits for cost in frontier(costs)]


def test_formats_are_chosen_by_keyboard_and_by_pointer(opened):
    tab = opened(formats())
    assert tab.tab_through() == ["damage", "format"]
    tab.press("damage", "ArrowDown")
    tab.press("format", "ArrowRight")
    said = "MXFP4: 4.25 bits per weight. KL: 0.0200 [0.0160, 0.0240]. Beaten by NF4"
    assert tab.says().startswith(said)
    tab.tab.wait_for_timeout(400)  # until the dots have moved
    tab.tab.locator("circle").last.hover()
    tab.settle()
    assert tab.says().startswith("NVFP4: 4.50 bits per weight.")
    assert "Nothing here that takes as few bits loses less." in tab.says()


def test_names_of_formats_are_moved_apart(opened):
    tab = opened(formats())
    assert tab.call("spread", [5, 5, 100, 4], 10, 0, 100) == [14, 24, 100, 4]
    assert tab.call("spread", [98, 99, 100], 10, 0, 100) == [80, 90, 100]


# --- lesson 13: the bytes of a block ---


@pytest.mark.parametrize("kind", KINDS)
def test_the_browser_decodes_blocks_as_the_package_does(opened, W, kind):
    tab = opened(PICTURES["block"](W))
    generator = torch.Generator().manual_seed(0)
    n = TYPES[kind].nbytes
    data = torch.randint(256, (2000, n), dtype=torch.uint8, generator=generator)
    finite = dequantize_blocks(data, kind).isfinite().all(1)
    real = GgufTensor.of(W, kind).data.reshape(-1, n)
    data = torch.cat([data[finite], real, torch.zeros(1, n, dtype=torch.uint8)])
    theirs = tab.tab.evaluate(
        "([kind, all]) => all.map(bytes => picture.decode(kind, bytes).weights)",
        [kind, data.tolist()],
    )
    assert theirs == dequantize_blocks(data, kind).tolist()


def test_the_browser_reads_every_fp16_number(opened, W):
    tab = opened(PICTURES["block"](W))
    halves = torch.arange(2**16).to(torch.uint16).view(torch.float16).float()
    theirs = tab.tab.evaluate(
        """() => Array.from({length: 65536}, (_, i) => picture.half(i & 255, i >> 8))
            .map(x => Number.isFinite(x) ? x : String(x))"""
    )
    assert as_text(theirs) == as_text(halves.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_has_a_place_in_the_block_and_the_place_has_the_weight(
    opened, W, kind
):
    tab = opened(PICTURES["block"](W))
    places = [tab.call("placeOf", kind, i) for i in range(32)]
    back = [tab.call("weightAt", kind, p["byte"], p["part"]) for p in places]
    assert back == list(range(32))
    assert len({(p["byte"], p["part"]) for p in places}) == 32
    assert tab.call("weightAt", kind, 1, "all") is None


def test_a_block_is_read_by_keyboard_and_by_clicks(opened, W):
    tensor = GgufTensor.of(W, "Q4_1")
    tab = opened(BlockPicture(tensor, weight=0))
    names = ["type", "weight", "previous weight", "next weight"]
    assert tab.tab_through() == names
    tab.press("weight", "ArrowRight", times=17)
    assert tab.get("weight") == 17
    byte, w = int(tensor.data[0, 5]), tensor.dequantize()[0, 17]
    assert tab.says().startswith(f"Byte 5 is {byte:02x}; its high half, {byte >> 4:x},")
    assert tab.says().endswith(f"= {number(w, digits=4)}.")
    tab.tab.locator("[data-byte='5'][data-part='low']").click()
    tab.settle()
    assert tab.get("weight") == 1
    tab.press("type", "ArrowDown")
    assert (tab.get("type"), "− 8)" in tab.says()) == ("Q4_0", True)
    tab.press("type", "ArrowDown")
    tab.press("weight", "End")
    code = GgufTensor.of(tensor.dequantize()[:1, :32], "Q8_0").data[0, 33]
    assert tab.says().startswith(f"Byte 33 is {int(code):02x}, which is ")
    tab.press("previous weight", "Enter", times=2)
    assert tab.get("weight") == 29


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_of_zeros_is_drawn(opened, kind):
    tab = opened(BlockPicture(GgufTensor.of(torch.zeros(1, 32), kind), type=kind))
    assert "NaN" not in tab.tab.locator(".mq-live").inner_html()
    assert tab.says().endswith("= 0.")
