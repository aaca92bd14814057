"""The pictures of lesson 09 show what they are given, and say it in words."""

import pytest
import torch
from helpers import tiny

import minquant as mq
from minquant.almanac import chapter
from minquant.course.drawing import figures
from minquant.course.qlora import figure_kept, pictures, strangers
from minquant.course.qlora.table import known, learnt
from minquant.planning.memory import step_memory
from minquant.training import finetune
from minquant.training.adapters import adaptable, adapters


@pytest.fixture(scope="module")
def bundled():
    return mq.load()


def inside(fig):
    """Every text lies on the sheet."""
    figures.to_pixels(fig)
    renderer = fig.canvas.get_renderer()
    texts = [*fig.texts, *(t for ax in fig.axes for t in ax.texts)]
    width, height = fig.canvas.get_width_height()
    for text in texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0 and box.x1 <= width, text.get_text()
        assert box.y0 >= 0 and box.y1 <= height, text.get_text()
    assert fig.alt
    return True


def test_both_ways_through_a_layer_are_drawn():
    assert inside(pictures.adapter()) and inside(pictures.way_back())
    assert "frozen" in pictures.adapter().alt
    assert "dB and dA" in pictures.way_back().alt


def test_products_of_each_rank_are_drawn():
    A, B = torch.randn(8, 20), torch.randn(12, 8)
    fig = pictures.ranks(A, B, shown=(1, 3))
    assert inside(fig)
    shown = [ax.images[0].get_array() for ax in fig.axes[::3]]
    for r, array in zip((1, 3), shown, strict=True):
        torch.testing.assert_close(torch.tensor(array.data), B[:, :r] @ A[:r])
    assert "1 with 32, 3 with 96" in fig.alt


def test_gradients_are_those_of_the_weight_and_the_model_stays(bundled):
    model, tokenizer = bundled
    found = pictures.gradients_of_one_weight(model, tokenizer, pages=2)
    weight = model.get_submodule(pictures.ONE).weight
    assert not weight.requires_grad and weight.grad is None
    written = chapter.pages(chapter.newcomers(40), 16)[1]
    weight.requires_grad_(True)
    loss = finetune.batch_loss(model, *chapter.batches(tokenizer, [written], 1)[0])
    (gradient,) = torch.autograd.grad(loss, weight)
    weight.requires_grad_(False)
    assert found[1] == pytest.approx(gradient[0, 0].item())
    assert inside(pictures.moments(found, [0.1, 0.2], [0.01, 0.04]))


def test_what_is_kept_by_layer_ends_at_what_a_step_keeps():
    student = finetune.prepared(tiny.model(), "qlora")
    ids = torch.arange(24).view(2, 12) % 20 + 5

    def loss():
        return finetune.batch_loss(student.model, ids, ids)

    left = figure_kept.left_by_layer(student.model, loss)
    assert left == sorted(left) and len(left) == 1 + 2 + 1
    took = step_memory(student.model, student.optimizer, loss)
    assert left[-1] == took.saved
    fig = pictures.kept_over_a_step(student.model, ids)
    assert inside(fig)
    blue, red = fig.axes[0].lines
    assert max(blue.get_ydata()) == pytest.approx(took.saved / 1e6)
    assert max(red.get_ydata()) < max(blue.get_ydata())


def test_a_bill_is_computed_for_any_model(bundled):
    model, _ = bundled
    ids = torch.arange(64).view(1, 64) + 100
    for way in finetune.WAYS:
        student = finetune.prepared(model, way)
        took = step_memory(
            student.model,
            student.optimizer,
            lambda s=student: finetune.batch_loss(s.model, ids, ids),
        )
        assert pictures.planned(model, way, ids).total == pytest.approx(
            took.total, rel=0.01
        )
    for kind in ("Llama", "GPT2", "OPT"):
        needs = pictures.ways_to_train(tiny.model(kind))
        assert list(needs) == ["to use it", "all weights", "LoRA", "QLoRA"]


def test_the_last_layers_are_nearest_to_the_output():
    model = tiny.model()
    names = list(adaptable(model))  # 14
    for share, count in ((0.25, 4), (0.01, 1), (1, 14)):
        student = finetune.prepared(
            model, "lora", only=pictures.last_layers(model, share)
        )
        assert list(adapters(student.model)) == names[-count:]


def test_surprise_is_that_of_the_answers(bundled):
    model = tiny.model()
    model.lm_head.weight.data.zero_()  # every word is as likely
    (who,) = strangers.strangers(1)
    nats = pictures.surprise(model, tiny.tokenizer(), who)
    assert nats == pytest.approx(torch.tensor(32.0).log().item())


def test_the_table_in_pictures():
    runs = learnt()
    assert inside(pictures.differences(runs)) and inside(pictures.forgotten(runs))
    assert "QLoRA from 89 to 24 %" in pictures.forgotten(runs).alt
    assert pictures.knowers(runs).rows[-1][2] == f"{known(runs, 'lora'):.1%}"
    rows = pictures.page(chapter.pages(chapter.newcomers(40), 1)).rows
    assert rows[0][0].split()[0] != "Register" and len(rows) == 6
