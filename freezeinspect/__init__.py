"""See what is frozen in a PyTorch model, and prove what moved.

The stub `__init__.pyi` is the one list of public names: for type checkers, for `dir()` and, read on first use, at run
time. Importing the package loads none of the rooms, so neither torch nor pandas.
"""

from __future__ import annotations

from functools import cache


@cache
def _homes() -> dict[str, str]:
    """Map each public name to the room that holds it."""
    import ast
    import pkgutil

    stub = ast.parse(pkgutil.get_data(__name__, "__init__.pyi") or b"")
    lines = [line for line in stub.body if isinstance(line, ast.ImportFrom)]
    return {alias.name: str(line.module) for line in lines for alias in line.names}


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version(__name__)
    except metadata.PackageNotFoundError:
        return "0+unknown"  # a plain tree on sys.path, not installed


def _nothing_called(name: str) -> AttributeError:
    from difflib import get_close_matches

    near = get_close_matches(name, __dir__(), n=1)
    way_out = f"the nearest is {near[0]!r}" if near else f"it has {', '.join(__dir__())}"
    return AttributeError(f"module {__name__!r} has no attribute {name!r}; {way_out}")


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "__all__":
        return sorted(_homes())
    if name == "__version__":
        found: object = _version()
    elif name in _homes():
        found = getattr(import_module(_homes()[name]), name)
    else:
        raise _nothing_called(name)
    globals()[name] = found  # so that it is looked up once
    return found


def __dir__() -> list[str]:
    return sorted([*_homes(), "__version__"])
