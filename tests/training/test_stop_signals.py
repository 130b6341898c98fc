import hashlib
import logging
import os
import signal
import threading
import time

import pytest

from flaxformer_lite.training import stop_signals
from flaxformer_lite.training.stop_signals import StopSignals


@pytest.fixture(autouse=True)
def default_handlers():
    """A shell starts background jobs with SIGINT ignored."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture
def announced():
    """The messages, each with the time at which it was logged."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    stop_signals.logger.addHandler(handler)
    yield records
    stop_signals.logger.removeHandler(handler)


def test_the_first_signal_is_recorded_and_the_second_one_interrupts(announced):
    with StopSignals() as signals, signals.deferred():
        signal.raise_signal(signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        while len(announced) < 2:  # another thread logs them
            time.sleep(0.01)
    assert [record.getMessage().split(" (")[0] for record in announced] == [
        "SIGTERM: saving after the current step",
        "SIGINT: saving after the current step",
    ]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_before_the_first_step_is_announced(announced):
    with pytest.raises(KeyboardInterrupt), StopSignals():
        signal.raise_signal(signal.SIGINT)
    assert [record.getMessage() for record in announced] == [
        "SIGINT: stopping before the first step; the same command starts again"
    ]


def test_a_signal_during_a_long_call_is_announced_at_once(announced):
    """Such as a compilation, during which Python runs no handler."""
    with StopSignals() as signals, signals.deferred():
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1_500_000)
        end = time.time()
        assert signals.received == signal.SIGINT
    assert announced[0].created < end - 0.1


def test_other_threads_handle_no_signals():
    received = []

    def run():
        with StopSignals() as signals, signals.deferred():
            received.append(signals.received)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert received == [0]
