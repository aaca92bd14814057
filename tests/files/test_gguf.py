"""The container: what is written is read back, and a bad file is refused by name."""

import os
import random
import resource
import struct

import gguf as reference  # llama.cpp's own package
import numpy as np
import pytest
import torch

from minquant.files import gguf
from minquant.files.gguf import GgufError, GgufTensor

FUZZ = int(os.environ.get("MINQUANT_FUZZ", "300"))  # 10,000 now and then
SETTINGS = {
    "general.architecture": "llama",
    "a.uint8": np.uint8(7),
    "a.int64": np.int64(-(2**40)),
    "a.float64": np.float64(0.1),
    "a.true": True,
    "a.text": "Zoë — 量",
    "a.empty": "",
    "a.words": ["", "b", "ü"],
    "a.numbers": np.array([1.5, -2.5], np.float32),
    "a.flags": np.array([True, False]),
    "a.no_words": [],
}


def tensors():
    """One tensor of each shape, in four types."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(6, 64, generator=generator)
    return {
        "vector": GgufTensor.of(normal[0], "F32"),
        "matrix": GgufTensor.of(normal, "Q4_0"),
        "halves": GgufTensor.of(normal[:3, :5], "F16"),
        "cube": GgufTensor.of(normal.reshape(2, 3, 64), "Q8_0"),
    }


@pytest.fixture
def file(tmp_path):
    """A small file with everything in it."""
    return gguf.write(tmp_path / "model.gguf", SETTINGS, tensors())


def same(a, b):
    """Equal in value and in type."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and a == b


# --- there and back ---


def test_settings_come_back_with_their_types(file):
    read = gguf.read(file).settings
    assert list(read) == list(SETTINGS)
    for name, value in SETTINGS.items():
        assert same(read[name], value), name


def test_tensors_come_back_byte_for_byte(file):
    read = gguf.read(file).tensors
    for name, tensor in tensors().items():
        assert (read[name].type, read[name].shape) == (tensor.type, tensor.shape)
        assert torch.equal(read[name].data, tensor.data)
        assert torch.equal(read[name].dequantize(), tensor.dequantize())
    assert list(read) == list(tensors())


def test_the_same_content_gives_the_same_bytes(file, tmp_path):
    again = gguf.write(tmp_path / "again.gguf", SETTINGS, tensors())
    assert again.read_bytes() == file.read_bytes()
    read = gguf.read(file)
    third = gguf.write(tmp_path / "third.gguf", read.settings, read.tensors)
    assert third.read_bytes() == file.read_bytes()


def test_llama_cpps_package_reads_what_we_write(file):
    read = reference.GGUFReader(file)
    assert read.fields["a.text"].contents() == SETTINGS["a.text"]
    assert read.fields["a.words"].contents() == SETTINGS["a.words"]
    ours = tensors()
    for tensor in read.tensors:
        expected = ours[tensor.name]
        assert tensor.tensor_type.name == expected.type
        assert tuple(int(n) for n in tensor.shape[::-1]) == expected.shape
        assert tensor.data.tobytes() == expected.data.numpy().tobytes()


def test_we_read_what_llama_cpps_package_writes(tmp_path):
    path = tmp_path / "theirs.gguf"
    writer = reference.GGUFWriter(path, "llama")
    writer.add_block_count(3)
    writer.add_token_list(["a", "b"])
    matrix = np.arange(64, dtype=np.float32).reshape(2, 32)
    writer.add_tensor("m", matrix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = gguf.read(path)
    assert same(read.settings["llama.block_count"], np.uint32(3))
    assert read.settings["tokenizer.ggml.tokens"] == ["a", "b"]
    assert torch.equal(read.tensors["m"].dequantize(), torch.from_numpy(matrix))


def test_pythons_numbers_become_those_that_llama_cpp_expects(tmp_path):
    given = {"n": 3, "minus": -3, "x": 0.5, "many": [1, 2], "some": [0.5]}
    read = gguf.read(gguf.write(tmp_path / "f.gguf", given, {})).settings
    kinds = {name: np.asarray(value).dtype.name for name, value in read.items()}
    assert kinds == {
        "n": "uint32",
        "minus": "int32",
        "x": "float32",
        "many": "int32",
        "some": "float32",
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2**40, "32 bits do not hold"),
        (None, "of a type that GGUF lacks"),
        ({"a": 1}, "of a type that GGUF lacks"),
        ([1, "a"], "of a type that GGUF lacks"),
    ],
)
def test_what_has_no_type_is_refused_and_nothing_is_left(tmp_path, value, message):
    with pytest.raises(ValueError, match=message):
        gguf.write(tmp_path / "f.gguf", {"a.setting": value}, {})
    assert list(tmp_path.iterdir()) == []


def test_another_alignment_holds_for_all_tensors(tmp_path):
    settings = {"general.alignment": 4096}
    path = gguf.write(tmp_path / "f.gguf", settings, tensors())
    assert path.stat().st_size % 4096 == 0
    read = gguf.read(path)
    assert torch.equal(read.tensors["cube"].data, tensors()["cube"].data)
    assert len(reference.GGUFReader(path).tensors) == 4


def test_an_interrupted_write_leaves_the_file_as_it_was(file, monkeypatch):
    before = file.read_bytes()

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf, "_write_data", fail)
    with pytest.raises(KeyboardInterrupt):
        gguf.write(file, {}, tensors())
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


# --- bad files ---


def header(*, version=3, n_tensors=0, n_settings=0, rest=b""):
    """A file by hand."""
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_settings) + rest


def text(said):
    """A string as the format has it."""
    return struct.pack("<Q", len(said)) + said


def tensor(name=b"t", shape=(32,), kind=0, offset=0):
    """What a header says of a tensor."""
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dims + struct.pack("<IQ", kind, offset)


HUGE = 2**62
BAD = {
    "empty": (b"", "has 0 bytes"),
    "another format": (b"PK\x03\x04" + bytes(40), "does not begin with GGUF"),
    "version 1": (header(version=1), "has version 1"),
    "big endian": (header(version=3 << 24), "has version 50331648"),
    "too many settings": (header(n_settings=HUGE), f"announces {HUGE} settings"),
    "too many tensors": (header(n_tensors=HUGE), f"announces {HUGE} tensors"),
    "a long name": (
        header(n_settings=1, rest=struct.pack("<Q", HUGE) + bytes(20)),
        "is cut off",
    ),
    "no UTF-8": (header(n_settings=1, rest=text(b"\xff\xfe") + bytes(20)), "no UTF-8"),
    "an unknown kind": (
        header(n_settings=1, rest=text(b"a") + struct.pack("<I", 99)),
        "a of type 99",
    ),
    "a list of lists": (
        header(n_settings=1, rest=text(b"a") + struct.pack("<IIQ", 9, 9, 1)),
        "of type 9",
    ),
    "a list without end": (
        header(n_settings=1, rest=text(b"a") + struct.pack("<IIQ", 9, 4, HUGE)),
        f"announces {HUGE} numbers",
    ),
    "words without end": (
        header(n_settings=1, rest=text(b"a") + struct.pack("<IIQ", 9, 8, HUGE)),
        f"announces {HUGE} strings",
    ),
    "neither true nor false": (
        header(n_settings=1, rest=text(b"a") + struct.pack("<IB", 7, 2)),
        "neither true nor false",
    ),
    "a setting twice": (
        header(n_settings=2, rest=2 * (text(b"a") + struct.pack("<IB", 7, 1))),
        "twice",
    ),
    "an alignment of 0": (
        header(
            n_settings=1, rest=text(b"general.alignment") + struct.pack("<II", 4, 0)
        ),
        "general.alignment 0",
    ),
    "five dimensions": (
        header(n_tensors=1, rest=tensor(shape=(1,) * 5)),
        "5 dimensions",
    ),
    "an unknown type": (header(n_tensors=1, rest=tensor(kind=77)), "of type 77"),
    "no whole block": (
        header(n_tensors=1, rest=tensor(shape=(33,), kind=2)),
        "whole number of blocks",
    ),
    "nothing in it": (header(n_tensors=1, rest=tensor(shape=(0, 4))), "not empty"),
    "larger than any memory": (
        header(n_tensors=1, rest=tensor(shape=(2**40, 2**40))),
        "is cut off",
    ),
    "cut off": (header(n_tensors=1, rest=tensor() + bytes(90)), "is cut off"),
    "not aligned": (
        header(n_tensors=1, rest=tensor(offset=8) + bytes(300)),
        "not a multiple",
    ),
    "overlapping": (
        header(n_tensors=2, rest=tensor() + tensor(b"u", offset=96) + bytes(600)),
        "overlapping",
    ),
    "a tensor twice": (
        header(n_tensors=2, rest=tensor() + tensor(offset=128) + bytes(600)),
        "twice",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_and_says_why(tmp_path, name):
    content, message = BAD[name]
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(GgufError, match=message):
        gguf.read(tmp_path / "bad.gguf")


def test_no_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        gguf.read(tmp_path / "none.gguf")


def test_every_cut_is_noticed(file, tmp_path):
    content, bad = file.read_bytes(), tmp_path / "cut.gguf"
    last = len(content) - max(-tensors()["cube"].nbytes % 32, 1)
    for length in range(0, last, 7):
        bad.write_bytes(content[:length])
        with pytest.raises(GgufError):
            gguf.read(bad)


def damaged(content, rng):
    """Some bytes changed, cut off, repeated or taken out."""
    made = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(made))
        deed = rng.randrange(5)
        if deed == 0:
            made[at] = rng.randrange(256)
        elif deed == 1:
            made[at : at + 8] = struct.pack("<Q", rng.choice([0, 1, 2**31, 2**63 - 1]))
        elif deed == 2:
            made[at : at + rng.randint(1, 40)] = b""
        elif deed == 3:
            made[at:at] = made[at : at + rng.randint(1, 40)]
        else:
            made[at:] = b""
        if not made:
            break
    return bytes(made)


def test_damaged_files_are_read_or_refused_and_nothing_else(file, tmp_path):
    content, rng, path = file.read_bytes(), random.Random(0), tmp_path / "d.gguf"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for _ in range(FUZZ):
        path.write_bytes(damaged(content[:2000], rng) + content[2000:])
        try:
            for found in gguf.read(path).tensors.values():
                found.dequantize()
        except GgufError:
            refused += 1
    assert FUZZ / 4 < refused < FUZZ
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000  # kB: no announced size was believed
