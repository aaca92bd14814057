"""A folder that answers over HTTP, for as long as a `with` block lasts.

    with serve(folder) as url:                     # http://127.0.0.1:<port>/v1
        client = openai.OpenAI(base_url=url, api_key="none")
        client.completions.create(model=str(folder), prompt="The river", max_tokens=9)

The server is transformers' own, `transformers serve`, in a process of its own. It reads
what `mq.export` wrote, speaks the protocol that most programs speak to a
language model, and is listened to on this machine alone. For many users at once take an
engine that is made for it, such as vLLM: the folder and the protocol are the same.

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

NEEDS = ("compressed_tensors", "fastapi", "uvicorn", "openai")  # to import
_COMMAND = ("-m", "transformers.cli.transformers", "serve")


def missing() -> list[str]:
    """What serving needs beside the package and is not installed, by PyPI's names."""
    absent = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    return [name.replace("_", "-") for name in absent]


@contextlib.contextmanager
def serve(
    folder: str | Path, *, dtype: str = "auto", seconds: float = 120
) -> Iterator[str]:
    """The address of a server of this folder, which stops when the block ends.

    dtype: what it computes in, such as "float32"; "auto" is what the folder says.
    seconds: how long to wait for its first sign of life.

    Raises ValueError if the folder has no config.json or a package is `missing`, and
    RuntimeError with the server's last words if it does not start.
    """
    folder = Path(folder)
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
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}  # all it needs is in the folder
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=offline)
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", seconds, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()  # does nothing to one that has ended
            process.wait()


def _wait(process: subprocess.Popen, url: str, seconds: float, log: IO[str]) -> None:
    """Returns when the server answers; RuntimeError if it ends, or takes too long."""
    direct = build_opener(ProxyHandler({}))  # no proxy leads to this machine
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        with (
            contextlib.suppress(OSError),  # nobody listens yet
            direct.open(url, timeout=1),
        ):
            return
        time.sleep(0.1)
    code = process.poll()
    how = f"ended with {code}" if code is not None else f"took over {seconds:g} s"
    log.seek(0)
    last = " ".join(log.read().split())[-600:]
    raise RuntimeError(f"the server did not answer: it {how}, and said: {last}")
