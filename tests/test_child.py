"""A child process: what it is given, what it printed last, and how it ended."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reelbank.data.system.child import Child, ending

# The process does what its first word says.
MODULE = """
import os, signal, socket, sys, time

def serve(words):
    number, parent, what, *others = words
    assert int(parent) == os.getppid()
    connection = socket.socket(fileno=int(number))
    if what == "answer":
        connection.sendall(" ".join([*others, os.environ["GIVEN"]]).encode())
    elif what == "print":
        print("first line", flush=True)
        print("last line", file=sys.stderr)
        sys.exit(3)
    elif what == "end":
        os.kill(os.getpid(), int(others[0]))
    elif what == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        connection.sendall(b"hangs")
        time.sleep(1000)
"""


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Starts children; they are closed at the end."""
    (tmp_path / "child_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    started: list[Child] = []

    def start(*words: str) -> Child:
        environment = os.environ | {"GIVEN": "by environment"}
        started.append(Child("child_module", words, environment=environment))
        return started[-1]

    yield start
    for child in started:
        child.kill()
        child.close()


def test_a_child_gets_words_a_socket_and_an_environment(children):
    child = children("answer", "by", "words,")
    assert child.socket.makefile().read() == "by words, by environment"
    assert child.exit_code(60) == 0 and child.last_line() == ""


def test_the_last_line_and_the_exit_code_are_known(children):
    child = children("print")
    assert child.exit_code(60) == 3 and child.last_line() == "last line"


@pytest.mark.parametrize(
    ("number", "words"),
    [(11, "SIGSEGV"), (9, "SIGKILL: out of memory?"), (40, "signal 40")],
)
def test_the_signal_that_ended_a_child_is_named(children, number, words):
    code = children("end", str(number)).exit_code(60)
    assert code == -number and ending(code) == words


def test_a_child_that_does_not_end_is_killed(children):
    child = children("hang")
    assert child.socket.recv(5) == b"hangs"
    child.process.terminate()
    assert child.exit_code(0.1) is None
    assert child.process.poll() == -9
