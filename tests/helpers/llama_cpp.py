"""llama.cpp itself, as the judge of our GGUF files: tokens and logits of a given text.

The wheel `xllamacpp` holds the whole engine and exports its C functions. They are
called here without their headers: a struct of parameters is passed as the bytes that
the engine's own function for defaults returned.
"""

import contextlib
import ctypes
import importlib.util
from ctypes import (
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_int,
    c_int8,
    c_int32,
    c_void_p,
)
from pathlib import Path

import torch

SPEC = importlib.util.find_spec("xllamacpp")


class Params(Structure):
    """Parameters of a model or a context, larger than either: only passed on."""

    _fields_ = [("data", ctypes.c_uint32 * 256)]


class Batch(Structure):
    """Tokens to read; the engine's struct of this name."""

    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    ]


def library():
    """The engine, with the types of the functions that are used here."""
    (place,) = Path(SPEC.origin).parent.glob("xllamacpp*.so")
    engine = ctypes.CDLL(str(place))
    for name, gives, takes in (
        ("llama_log_set", None, [c_void_p, c_void_p]),
        ("llama_model_default_params", Params, []),
        ("llama_context_default_params", Params, []),
        ("llama_model_load_from_file", c_void_p, [c_char_p, Params]),
        ("llama_init_from_model", c_void_p, [c_void_p, Params]),
        ("llama_model_get_vocab", c_void_p, [c_void_p]),
        ("llama_vocab_n_tokens", c_int32, [c_void_p]),
        (
            "llama_tokenize",
            c_int32,
            [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool],
        ),
        ("llama_batch_init", Batch, [c_int32, c_int32, c_int32]),
        ("llama_batch_free", None, [Batch]),
        ("llama_decode", c_int, [c_void_p, Batch]),
        ("llama_get_logits_ith", POINTER(ctypes.c_float), [c_void_p, c_int32]),
        ("llama_free", None, [c_void_p]),
        ("llama_model_free", None, [c_void_p]),
    ):
        function = getattr(engine, name)
        function.restype, function.argtypes = gives, takes
    return engine


SILENT = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)(lambda *_: None)


class Engine:
    """A model opened by llama.cpp. Raises RuntimeError if it does not open the file."""

    def __init__(self, path, context=512):
        self.lib, self.context = library(), context
        self.lib.llama_log_set(SILENT, None)
        params = self.lib.llama_model_default_params()
        self.model = self.lib.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise RuntimeError(f"llama.cpp does not open {path}")
        self.vocab = self.lib.llama_model_get_vocab(self.model)

    def tokens(self, text):
        """The ids of a text, special tokens in it recognised and none added."""
        data = text.encode()
        room = (c_int32 * (len(data) + 8))()
        args = self.vocab, data, len(data), room, len(room), False, True
        count = self.lib.llama_tokenize(*args)
        assert count >= 0
        return list(room[:count])

    def logits(self, ids):
        """Logits (tokens, vocabulary) after each token of a text, float32."""
        params = self.lib.llama_context_default_params()
        assert params.data[0] in (0, 512)  # n_ctx comes first in this struct
        params.data[0] = max(self.context, len(ids))
        params.data[1] = params.data[2] = max(512, len(ids))  # n_batch and n_ubatch
        context = self.lib.llama_init_from_model(self.model, params)
        assert context
        batch = self.lib.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, i, 1
            batch.seq_id[i][0], batch.logits[i] = 0, 1
        with contextlib.ExitStack() as after:
            after.callback(self.lib.llama_free, context)
            after.callback(self.lib.llama_batch_free, batch)
            assert self.lib.llama_decode(context, batch) == 0
            size = self.lib.llama_vocab_n_tokens(self.vocab)
            rows = []
            for i in range(len(ids)):
                row = self.lib.llama_get_logits_ith(context, i)
                rows.append(
                    torch.frombuffer(
                        bytearray(ctypes.string_at(row, 4 * size)), dtype=torch.float32
                    ).clone()
                )
        return torch.stack(rows)

    def close(self):
        """Give the memory back."""
        self.lib.llama_model_free(self.model)
