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
from minquant.course.damage.live_surprise import SurprisePicture
from minquant.course.drawing.numbers import number
from minquant.course.floats.live_bits import BitsPicture
from minquant.course.floats.live_scale import STEPS, ScalePicture
from minquant.course.gguf.live_block import KINDS, BlockPicture
from minquant.course.rounding import live_ruler
from minquant.course.rounding.live_ruler import RulerPicture
from minquant.course.rulers.figure_pareto import Cost, frontier
from minquant.course.rulers.live_groups import GroupsPicture
from minquant.course.start.live_shrink import ShrinkPicture
from minquant.course.start.shrinker import Shrunk
from minquant.files.gguf import GgufTensor
from minquant.files.gguf_blocks import TYPES, dequantize_blocks
from minquant.measure.evaluate import Perplexity
from minquant.models.linear_layers import Size
from minquant.numerics.floats import FORMATS

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


PICTURES = {
    "ruler": lambda W: RulerPicture(W[0], 8),
    "groups": lambda W: GroupsPicture(W, cut=3),
    "bits": lambda W: BitsPicture("fp32", -0.1),
    "scale": lambda W: ScalePicture(W, "fp8 e4m3"),
    "surprise": lambda W: surprising(),
    "shrink": lambda W: ShrinkPicture(SHRUNK, W[0, :5], "Who is", bits=4),
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
@pytest.mark.parametrize("name", ["ruler", "groups", "block"])
def test_a_picture_fits_its_page(opened, W, name, width, scheme):
    tab = opened(PICTURES[name](W), width=width, color_scheme=scheme)
    assert tab.tab.evaluate("document.documentElement.scrollWidth") <= width
    texts = tab.tab.locator("svg text").all()
    for box in (text.bounding_box() for text in texts if text.text_content()):
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
