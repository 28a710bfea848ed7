from __future__ import annotations

import os
import signal
import threading

import pytest

from compress.training.interrupts import deferred_interrupt


@pytest.fixture(autouse=True)
def _default_handler() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_first_ctrl_c_waits_and_the_second_does_not() -> None:
    with pytest.raises(KeyboardInterrupt), deferred_interrupt() as interrupted:
        assert not interrupted()
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted()
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_of_others_are_left_alone() -> None:
    def theirs(number: int, frame: object) -> None:
        raise AssertionError

    signal.signal(signal.SIGINT, theirs)
    try:
        with deferred_interrupt() as interrupted:
            assert signal.getsignal(signal.SIGINT) is theirs
            assert not interrupted()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_other_threads_install_nothing() -> None:
    found = []

    def work() -> None:
        with deferred_interrupt() as interrupted:
            found.append(interrupted())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
