"""llama.cpp itself, asked from Python by the package xllamacpp, where it is installed.

ask("model.gguf", "The capital of France is")     # what it says, and how fast
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

THREADS = 1  # more would wait for each other where other programs run
TIMES = 3  # it answers, as a busy machine slows some of them
CONTEXT = 512  # tokens of prompt and answer together


@dataclass(frozen=True)
class Answer:
    """What llama.cpp said. text: how it goes on with the prompt, each token the most
    likely one; None if it is not installed. per_second: tokens that it wrote, in
    the fastest of TIMES answers."""

    text: str | None = None
    per_second: float = 0.0

    def __repr__(self) -> str:
        if self.text is None:
            return (
                "llama.cpp is not installed here (pip install xllamacpp), so nobody "
                "was asked."
            )
        return f"{self.text!r}, at {self.per_second:.0f} tokens a second"


def ask(path: str | Path, prompt: str, tokens: int = 24) -> Answer:
    """Let llama.cpp open a file and go on with a prompt, on THREADS threads.

    Raises RuntimeError (of xllamacpp) if llama.cpp does not open the file.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        return Answer()
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.verbosity = str(path), CONTEXT, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
    asked = {"prompt": prompt, "n_predict": tokens, "temperature": 0}
    server = xllamacpp.Server(params)
    said = [server.handle_completions(dict(asked)) for _ in range(TIMES)]
    (first,) = said[0]["choices"]
    fastest = max(times["timings"]["predicted_per_second"] for times in said)
    return Answer(first["text"], fastest)
