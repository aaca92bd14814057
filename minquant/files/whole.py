"""Write a file whole or not at all.

    with whole_file(path) as place:
        save_file(tensors, place)

The bytes go into a file beside the one that is meant. It takes the name at the end, in
one step, so a reader sees the old file or the new one. A program that still has the old
one mapped into its memory keeps the old bytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A place to write to, which becomes `path` if the block ends without an error.

    path: "~" is the home folder; folders that are missing are made.

    Raises ValueError if the file cannot be replaced: Windows refuses while a program
    has it open, for example a model that was read from it.
    """
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(f".{path.name}.unfinished")  # a kill leaves it, once
    try:
        yield place
        try:
            place.replace(path)
        except PermissionError as problem:
            raise ValueError(
                f"path {path} cannot be replaced ({problem}); a program may have it "
                "open, such as one that read a model from it: take another name"
            ) from problem
    finally:
        place.unlink(missing_ok=True)  # there is none if all went well
