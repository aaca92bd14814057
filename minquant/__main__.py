"""python -m minquant MODEL --out FOLDER: what `mq.compress` does, as a command."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

EXAMPLES = """\
examples:
  python -m minquant smollm2 --format gguf --out small
      SmolLM2-135M-Instruct in 4 bits, as a file for llama.cpp
  python -m minquant Qwen/Qwen2.5-0.5B --text my.txt --out small
      a model from the hub, as a folder for vLLM and transformers, calibrated on
      one half of my.txt and judged by the other
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with 2."""
        self.exit(2, f"minquant: {' '.join(message.split())}\n")


def parser() -> Parser:
    """The command's arguments: those of `compress`."""
    made = Parser(
        prog="python -m minquant",
        description="Quantize a language model, measure what it lost, and write it for "
        "other\nprograms, with a page (README.md) that says what was done.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add(
        "model",
        metavar="MODEL",
        help="a folder with safetensors, a .gguf file, an id on the hub, 'smollm2' or "
        "'almanac'",
    )
    add("--out", metavar="FOLDER", required=True, help="the new folder")
    add(
        "--format",
        choices=("compressed-tensors", "gguf"),
        default="compressed-tensors",
        help="for vLLM and transformers (the default), or for llama.cpp",
    )
    add(
        "--method",
        default="gptq",
        metavar="{gptq,awq,rtn}",
        help="gptq (the default) and awq look at text; rtn rounds to nearest, in "
        "seconds",
    )
    add("--bits", type=int, default=4, metavar="N", help="bits of a weight; default 4")
    add(
        "--group-size",
        type=int,
        metavar="N",
        help="how many weights share a scale: fewer are better and larger; default: 32 "
        "for gguf, else the largest of 128, 64 and 32 that fits",
    )
    add(
        "--text",
        metavar="FILE",
        help="a UTF-8 text file of some pages, one half to calibrate on, the other to "
        "judge by; default: text that the model writes itself, which takes a while",
    )
    add(
        "--damping",
        type=float,
        metavar="X",
        help="of GPTQ; default: both 0.01 and 0.1 are tried, which takes twice as long",
    )
    add(
        "--dtype",
        choices=("float16", "bfloat16"),
        default="float16",
        help="of scales and of what is not quantized, in compressed-tensors; default "
        "float16",
    )
    add(
        "--resume",
        action="store_true",
        help="go on where the same command was interrupted",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status: 0, 2 for bad input, 130 after Ctrl-C."""
    command = parser()
    options = vars(command.parse_args(arguments))
    try:
        import torch

        from minquant.serving.compress import compress

        options["dtype"] = getattr(torch, options["dtype"])
        done = compress(options.pop("model"), **options)
    except (ValueError, TypeError, OSError) as problem:
        command.error(str(problem))
    except KeyboardInterrupt:
        print("minquant: stopped; --resume goes on from here", file=sys.stderr)
        return 130
    _, _, page = done.card.split("---\n", 2)
    print(page.strip(), f"\nwritten: {options['out']}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
