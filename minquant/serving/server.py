"""Serve an exported folder over HTTP, inside a `with` block.

    with serve(folder) as url:                     # http://127.0.0.1:<port>/v1
        client = openai.OpenAI(base_url=url, api_key="none")
        client.completions.create(model=str(folder), prompt="The river", max_tokens=9)

This starts the server of transformers, `transformers serve`, in another process. It
reads what `mq.export` wrote, speaks the protocol that most programs use to talk to a
language model, and can be reached from this machine only. For many users take an engine
that is made for them, such as vLLM: the folder and the protocol are the same.

What is left out: keys, streaming, batches. Lesson 12.
"""

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.request import ProxyHandler, build_opener

NEEDS = ("compressed_tensors", "fastapi", "uvicorn", "openai")  # modules
_COMMAND = ("-m", "transformers.cli.transformers", "serve")


def missing() -> list[str]:
    """The packages that serving needs and that are not installed, as PyPI names."""
    absent = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    return [name.replace("_", "-") for name in absent]


@contextlib.contextmanager
def serve(
    folder: str | Path, *, dtype: str = "auto", seconds: float = 120
) -> Iterator[str]:
    """Starts a server for this folder, and stops it when the block ends; its address.

    dtype: what the model computes in, such as "float32"; "auto" is what the folder
    says. seconds: how long to wait until the server answers.

    Raises ValueError if the folder has no config.json or a package is `missing`, and
    RuntimeError with the end of the server's output if it does not start.
    """
    folder = Path(folder).expanduser()
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"folder {folder} has no config.json; give what mq.export wrote"
        )
    if missing():
        raise ValueError(
            f"folder {folder} cannot be served without {', '.join(missing())}; "
            f"pip install {' '.join(missing())}"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, *_COMMAND, str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", dtype]
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}  # the folder has all it needs
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=offline)
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", seconds, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()  # does nothing if it has ended
            process.wait()


def _wait(process: subprocess.Popen, url: str, seconds: float, log: IO[str]) -> None:
    """Returns when the server answers; RuntimeError if it ends, or takes too long."""
    direct = build_opener(ProxyHandler({}))  # a proxy would not find this machine
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        with (
            contextlib.suppress(OSError),  # nobody listens yet
            direct.open(url, timeout=1),
        ):
            return
        time.sleep(0.1)
    code = process.poll()
    problem = f"took over {seconds:g} s" if code is None else f"ended with {code}"
    log.seek(0)
    output = " ".join(log.read().split())[-600:]
    raise RuntimeError(f"the server did not answer: it {problem}, and said: {output}")
