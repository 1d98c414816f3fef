"""`freezeinspect run`: a script ends, prints and fails as it does under Python alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTHING = "freezeinspect: no optimizer's step was seen, so there is nothing to tell\n"
RUN = [sys.executable, "-m", "freezeinspect", "run"]

LIFE = """
import atexit, multiprocessing, os, pickle, signal, sys

class Mine:
    pass

class Stop(BaseException):
    pass

def fails():
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise ValueError("after it") from error

def double(number):
    return 2 * number

def spawned():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(double, [1, 2]))

def hooked():
    sys.excepthook = lambda kind, error, traceback: print(kind.__name__, traceback.tb_frame.f_code.co_name)
    fails()

def leaves_late():
    atexit.register(sys.exit, 9)
    atexit.register(print, "last words")

def many():
    raise ExceptionGroup("both", [ValueError("one"), KeyError("two")])

def stops():
    raise Stop

def aborts():
    import click

    raise click.Abort

ENDS = {
    "none": lambda: sys.exit(), "number": lambda: sys.exit(17), "text": lambda: sys.exit("good bye"),
    "object": lambda: sys.exit(["a", 1]), "fails": fails, "many": many, "stops": stops, "hooked": hooked,
    "interrupted": lambda: os.kill(os.getpid(), signal.SIGINT), "terminated": lambda: os.kill(os.getpid(), 15),
    "killed": lambda: os.kill(os.getpid(), 9), "at once": lambda: os._exit(5), "late": leaves_late,
    "closed": lambda: sys.stdout.close(), "all closed": lambda: (sys.stdout.close(), sys.stderr.close()),
    "spawned": spawned, "replaced": lambda: os.execv("/bin/echo", ["echo", "another"]), "done": lambda: None,
    "aborted": aborts,
}

if __name__ == "__main__":
    main = sys.modules["__main__"]
    print(sys.argv, __name__, __file__, sys.path[0], __spec__ and __spec__.name, main.Mine is Mine, flush=True)
    print(sorted(name for name in vars(main) if name.startswith("__")), type(__loader__), type(__builtins__).__name__)
    print(type(pickle.loads(pickle.dumps(Mine()))) is Mine, "torch" in sys.modules, flush=True)
    ENDS[sys.argv[1]]()
"""
SILENT = ("terminated", "killed", "at once", "replaced", "all closed")  # there is no end at which to say anything
ENDS = "none number text object fails many stops hooked interrupted late closed spawned done aborted".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "life.py").write_text(LIFE, encoding="utf-8")
    (folder / "wrong.py").write_text("x = (\n", encoding="utf-8")
    (folder / "packed").mkdir()
    (folder / "packed/__main__.py").write_text("import sys; print(sys.argv, sys.path[0]); 1 / 0", encoding="utf-8")
    return folder


def both(folder: Path, *args: str) -> tuple[Any, Any]:
    """Run the same by Python alone, and watched."""
    programs = [sys.executable], RUN
    plain, watched = (
        subprocess.run([*one, *args], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        for one in programs
    )
    return plain, watched


@pytest.mark.parametrize("end", [*ENDS, *SILENT])
def test_a_script_lives_and_ends_as_it_does_alone(folder: Path, end: str) -> None:
    plain, watched = both(folder, "life.py", end, "--help", "-m", "--", "--log")
    assert (watched.returncode, watched.stdout) == (plain.returncode, plain.stdout)
    assert watched.stderr == plain.stderr + NOTHING * (end not in SILENT)


@pytest.mark.parametrize(
    "args",
    [("-m", "life", "fails", "-m"), ("-m", "nowhere"), ("-m", "json.tool", "--help"), ("packed", "x"), ("wrong.py",)],
    ids=" ".join,
)
def test_so_does_a_module_a_folder_and_what_is_no_python(folder: Path, args: tuple[str, ...]) -> None:
    plain, watched = both(folder, *args)
    assert (watched.returncode, watched.stdout) == (plain.returncode, plain.stdout)
    assert watched.stderr == plain.stderr + NOTHING


def test_two_dashes_may_stand_before_the_script(folder: Path) -> None:
    program = [*RUN, "--", "life.py", "done", "--every", "x"]
    watched = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=True)
    assert "['life.py', 'done', '--every', 'x']" in watched.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nowhere.py",), "freezeinspect: can't open file '{}/nowhere.py': [Errno 2] No such file or directory\n"),
        (("--log", "no/where.jsonl", "life.py"), "freezeinspect: --log no/where.jsonl: no such folder; make it, or"),
        (("--every", "0", "life.py"), "Usage: "),
        (("--evidence", "some", "life.py"), "Usage: "),
        ((), "Usage: "),
    ],
)
def test_a_call_that_cannot_be_used_runs_nothing(folder: Path, args: tuple[str, ...], said: str) -> None:
    done = subprocess.run([*RUN, *args], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said.format(folder))


def test_a_script_in_the_place_of_a_command_is_told_how_it_runs(folder: Path) -> None:
    program = [sys.executable, "-m", "freezeinspect", "life.py"]
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)
    assert done.stderr == "freezeinspect: life.py is a file, not a command; to run it: freezeinspect run life.py\n"


def test_the_page_shows_what_is_printed(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs/how-to/watch-a-script.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "train.py").write_text(code, encoding="utf-8")
    for call, shown in re.findall(r"```console\n\$ freezeinspect (.*?)\n(.*?)```", page, re.DOTALL):
        program = [sys.executable, "-m", "freezeinspect", *call.split()]
        done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert (done.stdout + done.stderr).replace(f"{tmp_path}/", "") == shown
