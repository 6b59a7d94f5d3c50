"""Checks before anything is opened for writing that no output is also an input."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

Named = tuple[str, Path | str | None]
"""A user's name for a path (`--events`), and the path. None means that it was not given."""


def clash(writes: Iterable[Named], reads: Iterable[Named]) -> str | None:
    """Why one of `writes` would overwrite one of `reads` or another of `writes`, in one line. Returns None if there is
    no clash.

    Paths are compared by their targets, so no symlink, hard link or spelling hides a clash. A directory in `reads`
    stands for all its files. A directory in `writes` stands only for itself, so name the files that are written into
    it. Devices, pipes and sockets never clash. Nothing is opened.
    """
    given = [(said, Path(path)) for said, path in writes if path is not None]
    inputs = [(said, Path(path)) for said, path in reads if path is not None]
    for index, (said, path) in enumerate(given):
        if _is_special(path):
            continue
        for other, read in inputs:
            if _same(path, read) or _lies_in(path, read):
                return f"{said} {path}: would overwrite what {other} {read} reads; give another path"
        for other, written in given[:index]:
            if _same(path, written):
                return f"{said} {path}: is also what {other} writes; give another path"
    return None


def model_files(directory: Path) -> Iterator[Named]:
    """The files of a model directory that a running program reads (see `engine.model`)."""
    for name in ("mesnet.json", "mesnet.safetensors", "mesnet_2d.onnx", "mesnet_1d.onnx", "mesnet.onnx.json"):
        yield "--model", directory / name


def _is_special(path: Path) -> bool:
    mode = _mode(path)
    return mode is not None and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # missing, unreadable or no path at all: the code that opens it reports this
        return None


def _same(a: Path, b: Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:  # one of them does not exist yet
        return os.path.realpath(a) == os.path.realpath(b)
    except ValueError:  # a name with a NUL is no file
        return False


def _lies_in(path: Path, directory: Path) -> bool:
    """Whether `path` is an existing file in `directory`, at any depth, under this or another name."""
    mode = _mode(path)
    if mode is None or not stat.S_ISREG(mode) or not directory.is_dir():
        return False
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory)):
        return True
    if path.stat().st_nlink == 1:
        return False
    return any(_same(path, Path(folder) / name) for folder, _, names in os.walk(directory) for name in names)
