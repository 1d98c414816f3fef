"""Nothing that a file names is run or imported by reading it; each payload does run where it is loaded."""

import copyreg
import io
import json
import subprocess
import sys

import pytest

from freezeinspect.readers.limits import Unreadable
from freezeinspect.readers.unpickle import unpickle
from hostile import payloads
from hostile.child import OPTIONS, TOKEN, report, report_all, watch
from hostile.opcodes import NONE, archive, program


def named(attack):
    return attack.__name__


@pytest.fixture
def folder(tmp_path):
    """Give a folder with the module that some payloads import."""
    seen = tmp_path / "seen"
    seen.mkdir()
    (seen / f"{TOKEN}.py").write_text(payloads.MODULE)
    return tmp_path


@pytest.mark.parametrize("attack", [*payloads.PAYLOADS, *payloads.INSIDE, payloads.torch_load], ids=named)
def test_a_payload_does_not_run_and_is_not_passed_over_in_silence(attack, folder):
    seen = report(archive(attack()), folder)
    assert not (folder / "seen" / TOKEN).exists()
    assert seen[1].code == 2 or json.loads(seen[1].out)["imports"]


@pytest.mark.parametrize("attack", payloads.PAYLOADS, ids=named)
def test_the_payload_runs_where_it_is_unpickled(attack, folder):
    (folder / "payload").write_bytes(attack())
    watched = watch([[str(folder / "payload")]], folder / "seen", alone=True)
    assert watched.log, watched.runs
    assert (folder / "seen" / TOKEN).exists(), watched.runs


LOADER = """
import json, os, sys, torch
for name in json.loads(sys.argv[1]):
    if os.path.exists(sys.argv[2]): os.remove(sys.argv[2])
    try: torch.load(name, weights_only=False)
    except Exception: pass
    print(name, os.path.exists(sys.argv[2]))
"""


def test_the_payload_inside_a_model_runs_where_torch_loads_it(tmp_path):
    for attack in payloads.INSIDE:
        (tmp_path / attack.__name__).write_bytes(archive(attack()))
    names = [attack.__name__ for attack in payloads.INSIDE]
    command = [sys.executable, "-c", LOADER, json.dumps(names), TOKEN]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [word for name in names for word in (name, "True")]


def test_a_function_does_not_pass_for_a_class_of_the_model(folder):
    """A name that is called is told, also where a module names it as its class; picklescan lists `runstring`."""
    evil = ("numpy.testing._private.utils", "runstring")
    call = payloads.call(*evil, payloads.text(payloads.PYTHON), payloads.DICT)
    pickle = program(call + b"0" + payloads.module([("fc", payloads.module(of=evil))]))
    (seen,) = report(archive(pickle), folder, OPTIONS[1:2])
    assert seen.code == 2 or ".".join(evil) in json.loads(seen.out)["imports"]


def test_a_persistent_id_of_any_kind_is_shown_or_refused(tmp_path):
    report_all({kind: archive(pickle) for kind, pickle in payloads.PERSISTENT.items()}, tmp_path)


@pytest.mark.parametrize("kind", payloads.EXTENSIONS)
def test_a_code_of_copyreg_is_not_looked_up(kind, tmp_path, monkeypatch):
    """CPython's `_pickle` takes an extension from copyreg's cache before it asks find_class."""
    ran = []
    code = int.from_bytes(payloads.EXTENSIONS[kind][1:], "little")
    monkeypatch.setitem(copyreg._extension_cache, code, ran.append)
    monkeypatch.setitem(copyreg._inverted_registry, code, (TOKEN, "Allocated"))
    pickle = program(payloads.EXTENSIONS[kind] + NONE + b"\x85R")
    assert str(unpickle(pickle).imports[0]) == f"copyreg.extension {code}"
    assert not ran
    assert TOKEN not in sys.modules
    import pickle as real

    real.load(io.BytesIO(pickle))
    assert ran == [None], "this cache is no longer asked, so this test cannot fail"
    report(archive(pickle), tmp_path, OPTIONS[:1])


@pytest.mark.parametrize("attack", payloads.PAYLOADS, ids=named)
def test_the_machine_gives_only_its_own_kinds(attack):
    """Whatever a pickle holds becomes plain data or a stand-in."""
    from freezeinspect.readers import standins

    own = (standins.Global, standins.Made, standins.Persistent, standins.Composite)
    try:
        value = unpickle(attack()).value
    except Unreadable:
        return
    assert type(value) in (*own, dict, list, tuple, str, int, type(None))
