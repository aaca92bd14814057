"""The two tables of mixed precision say what they were given."""

import pytest

from minquant.course.low_bits.figure_widths import widths

NATS = {
    "model.layers.0.self_attn.q_proj": 0.0012,
    "model.layers.0.mlp.up_proj": 0.031,
    "model.layers.1.self_attn.q_proj": 0.0,
    "model.layers.1.mlp.up_proj": 0.004,
}
BITS = dict(zip(NATS, (2, 4, 2, 3), strict=True))


def words(ax):
    return [text.get_text() for text in ax.texts]


def test_each_number_stands_in_the_row_of_its_layer_and_the_column_of_its_matrix():
    costs, given = widths(NATS, BITS, at=3).axes
    assert words(costs) == [".0012", ".0310", ".0000", ".0040"]
    assert words(given) == ["2", "4", "2", "3"]
    assert [t.get_text() for t in costs.get_xticklabels()] == ["q", "up"]
    assert [t.get_text() for t in costs.get_yticklabels()] == ["layer 0", "layer 1"]


def test_a_layer_that_costs_nothing_is_the_palest_and_the_words_say_zero():
    fig = widths(NATS, BITS, at=3)
    shown = fig.axes[0].images[0].get_array()
    assert shown.min() == shown[1, 0] > 0  # a logarithmic scale has no 0
    assert "1.self_attn.q_proj: 0.0000 nats, 2 bits" in fig.alt


def test_the_words_have_the_numbers():
    alt = widths(NATS, BITS, at=3).alt
    assert "alone at 3 bits" in alt and "0.mlp.up_proj: 0.0310 nats, 4 bits" in alt


def test_a_model_whose_layers_differ_leaves_cells_empty():
    some = {name: NATS[name] for name in list(NATS)[:3]}
    costs, _ = widths(some, {name: BITS[name] for name in some}, at=3).axes
    assert len(words(costs)) == 3


@pytest.mark.parametrize(
    ("nats", "bits", "said"),
    [
        ({}, {}, "give both the same"),
        (NATS, {}, "nats has 4 layers and bits 0"),
        ({"head": 1.0}, {"head": 2}, "nats has 'head', a name without a number"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(nats, bits, said):
    with pytest.raises(ValueError, match=said):
        widths(nats, bits, at=3)
