"""A script or a module run as Python itself runs it: its `__main__`, its arguments, its path, its end."""

from __future__ import annotations

import builtins
import os
import pkgutil
import runpy
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import SourceFileLoader
from io import open_code
from itertools import zip_longest
from types import ModuleType, TracebackType

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def can_read(script: str) -> None:
    """Check that a script is there to be run. Raises OSError."""
    if not _is_folder(script):
        with open_code(os.path.abspath(script)):
            pass


def run(argv: Sequence[str], is_module: bool) -> None:
    """Run a script, or a module, with its arguments. Raises what it raises, which then is shown without our frames."""
    program, *_ = sys.argv[:] = argv
    main = sys.modules["__main__"] = ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, __annotations__={})
    if not sys.flags.safe_path:
        sys.path[0] = _first_on_path(program, is_module)
    try:
        if is_module:
            runpy._run_module_as_main(program)  # type: ignore[attr-defined]
        elif _is_folder(program):
            runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
        else:
            _run_file(os.path.abspath(program), main)
    except BaseException:
        _hide_our_frames()
        raise


def _first_on_path(program: str, is_module: bool) -> str:
    if is_module:
        return os.getcwd()
    return os.path.abspath(program) if _is_folder(program) else os.path.dirname(os.path.realpath(program))


def _is_folder(script: str) -> bool:
    """Tell whether it is a folder or a zip, of which Python runs the __main__.py."""
    return pkgutil.get_importer(script) is not None


def _run_file(path: str, main: ModuleType) -> None:
    main.__dict__.update(__file__=path, __cached__=None, __loader__=SourceFileLoader("__main__", path))
    with open_code(path) as file:
        code = pkgutil.read_code(file)
    if code is None:
        with open_code(path) as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
    exec(code, main.__dict__)


def _hide_our_frames() -> None:
    """Have what the script raised shown as it would be without us, by whatever hook shows it."""
    show = sys.excepthook

    def shown(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        for one in _chain(error):
            one.__traceback__ = _without_ours(one.__traceback__)
        show(kind, error, error.__traceback__)

    sys.excepthook = shown


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Give an exception, those that led to it, and those within a group."""
    found: dict[int, BaseException] = {}
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in found:
            found[id(one)] = one
            waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
            yield one


def _without_ours(traceback: TracebackType | None) -> TracebackType | None:
    """Leave out the frames up to where the script begins, and those of the watch's hooks."""
    frames: list[TracebackType] = []
    while traceback is not None:
        is_ours = traceback.tb_frame.f_code.co_filename.startswith(_OURS)
        frames = [] if traceback.tb_frame.f_code in _STARTS else frames if is_ours else [*frames, traceback]
        traceback = traceback.tb_next
    for one, below in zip_longest(frames, frames[1:]):
        one.tb_next = below
    return frames[0] if frames else None


_STARTS: tuple[object, ...] = (run.__code__, _run_file.__code__)
