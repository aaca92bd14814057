"""The mixes of llama.cpp, by hand and by what files really weigh."""

import pytest

from minquant.course.gguf import mixture
from minquant.files.gguf_blocks import TYPES


def test_q4_k_m_gives_more_to_the_ends_and_to_every_third():
    types = mixture.mixture("Q4_K_M", 32)
    more = [i for i, kind in enumerate(types["ffn_down"]) if kind == "Q6_K"]
    assert more == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    assert types["attn_v"] == types["ffn_down"]
    assert set(types["ffn_up"]) == {"Q4_K"}


def test_q4_k_s_gives_more_to_the_first_blocks():
    types = mixture.mixture("Q4_K_S", 48)
    assert types["attn_v"] == ["Q5_K"] * 4 + ["Q4_K"] * 44
    assert types["ffn_down"] == ["Q5_K"] * 6 + ["Q4_K"] * 42


@pytest.mark.parametrize(
    ("name", "gigabytes"),  # of Llama 3 8B as it is handed out
    [("Q4_K_S", 4.69), ("Q4_K_M", 4.92), ("Q5_K_M", 5.73), ("Q6_K", 6.60)],
)
def test_a_mix_weighs_what_its_files_weigh(name, gigabytes):
    weights = (
        32 * sum(n for m, n in mixture.LLAMA_8B.items() if m in mixture.MATRICES)
        + 2 * mixture.LLAMA_8B["output"]
    )
    bits = mixture.bits_per_weight(name, 32, mixture.LLAMA_8B)
    assert bits * weights / 8e9 == pytest.approx(gigabytes, rel=0.004)


def test_bits_are_those_of_the_blocks():
    for name, bits in mixture.BITS.items():
        if name in TYPES:
            assert TYPES[name].bits_per_weight == bits


def test_an_unknown_mix_is_refused():
    with pytest.raises(ValueError, match="name is 'Q4_K_XL'; choose from Q4_K_S"):
        mixture.mixture("Q4_K_XL", 32)
