"""Run `freezeinspect report` in a process that is watched, and held to memory and time."""

import json
import subprocess
import sys
from typing import NamedTuple

MEMORY = 512 * 2**20
SECONDS = 5
TOKEN = "hostile_payload"  # in every payload's code, in the names of its modules and of its files
OPTIONS = ([], ["--format", "json"], ["--filter", "**.x"])

# The hook reports what no reading of a file does; what freezeinspect's own imports compile has no TOKEN in it.
RUNNER = """
import json, os, resource, signal, sys, traceback
memory, seconds, folder, runs, token, alone = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
log = os.open(f"{folder}/log", os.O_WRONLY | os.O_CREAT)
ends = os.open(f"{folder}/ends", os.O_WRONLY | os.O_CREAT)
outputs = [[os.open(f"{folder}/{kind}{i}", os.O_WRONLY | os.O_CREAT) for kind in ("out", "err")]
           for i in range(len(runs))]
if alone:
    import pickle
else:
    from freezeinspect.cli import main
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
ALWAYS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename", "subprocess.", "socket.",
          "ctypes.", "pty.", "shutil.", "webbrowser.", "urllib.", "pickle.find_class", "os.putenv", "os.kill")

FOREIGN = ("torch", "numpy", "pandas", "ctypes", "socket", "runpy", "timeit", "pip")

def told(value):
    if isinstance(value, (str, bytes)):
        return token in (value if isinstance(value, str) else value.decode("latin-1"))
    return type(value).__name__ == "code" and any(token in str(x) for x in (value.co_names, value.co_consts))

def hook(event, args):
    bad = event.startswith(ALWAYS) or (event == "open" and (args[2] or 0) & WRITES)
    if event in ("exec", "compile"):
        bad = any(map(told, args))
    if event == "import":
        bad = args[0].partition(".")[0] in FOREIGN or token in args[0]
    if bad:
        os.write(log, f"{event} {args!r:.200}\\n".encode("utf-8", "replace"))

sys.addaudithook(hook)
for (out, err), args in zip(outputs, runs):
    os.dup2(out, 1), os.dup2(err, 2)
    signal.setitimer(signal.ITIMER_PROF, seconds)  # of its own, whatever else the machine does
    signal.setitimer(signal.ITIMER_REAL, 12 * seconds)
    code = 1
    try:
        if alone:
            with open(args[0], "rb") as opened:
                pickle.load(opened)
            code = 0
        else:
            main(args, prog_name="freezeinspect")
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush(), sys.stderr.flush()
    os.write(ends, f"{code or 0}\\n".encode())
signal.setitimer(signal.ITIMER_PROF, 0)
signal.setitimer(signal.ITIMER_REAL, 0)
os._exit(0)
"""


class Seen(NamedTuple):
    """What came of one command: an exit code, or None where the process died or was stopped in it, or before."""

    command: tuple[str, ...]
    code: int | None
    out: str
    err: str


class Watched(NamedTuple):
    """What came of all the commands of one process, what its hook reported, and what it died of."""

    runs: tuple[Seen, ...]
    log: str
    death: int


def watch(commands, folder, alone=False, **more):
    """Run some command lines, one after the other; `alone` unpickles files instead: the proof that a payload bites."""
    folder.mkdir(exist_ok=True)
    given = json.dumps([2**40 if alone else MEMORY, SECONDS, str(folder), commands, TOKEN, alone])
    done = subprocess.run(
        [sys.executable, "-B", "-X", "utf8", "-c", RUNNER, given], cwd=folder, capture_output=True, check=False, **more
    )
    assert (folder / "log").exists(), done.stderr
    ends = [int(code) for code in (folder / "ends").read_text().split()]
    codes = [*ends, *[None] * (len(commands) - len(ends))]
    texts = ((_text(folder / f"out{i}"), _text(folder / f"err{i}")) for i in range(len(commands)))
    seen = (Seen(tuple(args), code, *said) for args, code, said in zip(commands, codes, texts, strict=True))
    return Watched(tuple(seen), _text(folder / "log"), done.returncode)


def _text(path):
    return path.read_bytes().decode("utf-8", "surrogateescape")


def report(data, folder, options=OPTIONS):
    """Write a file's bytes and report it with each list of options, held to what is promised of any file."""
    return report_all({"model": data}, folder, options)["model"]


def report_all(files, folder, options=OPTIONS):
    """Do the same with several small files in one process, each command within its own time."""
    commands = []
    for i, data in enumerate(files.values()):
        (folder / f"{i}.pt").write_bytes(data)
        commands += [["report", *given, "--", str(folder / f"{i}.pt")] for given in options]
    seen = held(watch(commands, folder / "seen"))
    return {kind: seen[i * len(options) : (i + 1) * len(options)] for i, kind in enumerate(files)}


def held(watched):
    """Hold reports to what is promised of any file: nothing ran, and an answer or one line, in time and memory."""
    assert watched.log == "", f"something ran: {watched.log}"
    for one in watched.runs:
        assert "Traceback" not in one.out + one.err, f"{one.command}: {one.err[-600:]}"
        assert one.code in (0, 2), f"{one.command} did not end: {watched.death}, {one.err[-300:]}"
        if one.code == 2:
            assert one.err.startswith("freezeinspect: ")
            assert one.err.endswith("\n")
            assert len(one.err.splitlines()) == 1, f"{one.command}: {one.err[:600]}"
            assert len(one.err) < 5_000, f"{one.command}: one line of {len(one.err):,} characters"
        else:
            assert one.err == "", one.command
    return watched.runs
