"""What stands under a file's name may be no file: a folder, a pipe, a device, or an input without an end."""

import os
import resource
import socket
import subprocess
import sys

import pytest

from hostile import zips
from hostile.child import SECONDS, held, watch


def refused(name, folder):
    (seen,) = held(watch([["report", "--", str(name)]], folder / "seen"))
    assert seen.code == 2
    assert all(character.isprintable() or character == "\n" for character in seen.err)
    return seen.err


def a_folder(path):
    path.mkdir()


def a_pipe(path):
    os.mkfifo(path)


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


def a_loop_of_links(path):
    path.symlink_to(path)


def a_link_to_nothing(path):
    path.symlink_to("nothing")


def a_link_to_a_device(path):
    path.symlink_to("/dev/zero")


def missing(path):
    pass


def empty(path):
    path.touch()


def text(path):
    path.write_text("hello\n\x1b[2Jfreezeinspect: fine\n" * 100)


def a_plain_pickle(path):
    path.write_bytes(zips.BENIGN)


KINDS = (a_folder, a_pipe, a_socket, a_loop_of_links, a_link_to_nothing, a_link_to_a_device, missing, empty, text)


@pytest.mark.parametrize("make", [*KINDS, a_plain_pickle], ids=lambda make: make.__name__)
def test_what_is_no_file_of_torch_is_refused_in_one_line(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "model.pt")
    refused(tmp_path / "model.pt", tmp_path)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/random", "/dev/full", "/dev/tty", "/proc/self/mem", "/dev/fd/0"])
def test_a_device_is_refused(device, tmp_path):
    refused(device, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path):
    (tmp_path / "model.pt").write_bytes(zips.plain())
    (tmp_path / "model.pt").chmod(0)
    assert "permission denied" in refused(tmp_path / "model.pt", tmp_path)


@pytest.mark.parametrize("name", ["a\nfreezeinspect: fine", "\x1b]0;owned\x07\x1b[2J", "\u202egnp.x", "x" * 3000, ""])
def test_a_files_name_cannot_write_to_the_terminal(name, tmp_path):
    refused(tmp_path / name if name else name, tmp_path)


def test_a_files_name_that_is_no_text_is_shown(tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff\x1b[2J\n.pt"
    with open(name, "wb") as file:
        file.write(zips.plain())
    (seen,) = held(watch([["report", os.fsdecode(name)]], tmp_path / "seen"))
    assert seen.code == 0
    assert all(character.isprintable() or character == "\n" for character in seen.out)


def piped(chunk, first=b""):
    """Report a standard input that has no end; files may grow to 32 MB, so that the disk stays free."""
    child = subprocess.Popen(
        [sys.executable, "-m", "freezeinspect", "report", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**25, 2**25)),
    )
    with child:
        try:
            child.stdin.write(first)
            while child.poll() is None:
                child.stdin.write(chunk)
        except BrokenPipeError:
            pass
        said = child.stderr.read().decode()
        child.wait(SECONDS)
    return child.returncode, said


@pytest.mark.parametrize("first", [b"", b"PK\3\4", zips.plain()], ids=["zeros", "start", "archive"])
def test_an_input_without_an_end_is_refused(first):
    code, said = piped(bytes(2**16), first)
    assert code == 2
    assert said.startswith("freezeinspect: -: ")
    assert said.count("\n") == 1
