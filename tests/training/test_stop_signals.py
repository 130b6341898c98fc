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
    """Restores SIGINT's handler, which is ignored in background jobs of a shell."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture
def logged():
    """The messages, each with the time at which it was logged."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    stop_signals.logger.addHandler(handler)
    yield records
    stop_signals.logger.removeHandler(handler)


def test_the_first_signal_is_recorded_and_the_second_one_interrupts(logged):
    with StopSignals() as signals, signals.deferred():
        signal.raise_signal(signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        while len(logged) < 2:  # another thread logs them
            time.sleep(0.01)
    assert [record.getMessage().split(" (")[0] for record in logged] == [
        "SIGTERM: saving after the current step",
        "SIGINT: saving after the current step",
    ]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_before_the_first_step_is_logged(logged):
    with pytest.raises(KeyboardInterrupt), StopSignals():
        signal.raise_signal(signal.SIGINT)
    assert [record.getMessage() for record in logged] == [
        "SIGINT: stopping before the first step; the same command starts again"
    ]


def test_a_signal_during_a_long_call_is_logged_at_once(logged):
    """Python runs no handler during a long call, such as a compilation."""
    with StopSignals() as signals, signals.deferred():
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1_500_000)
        end = time.time()
        assert signals.received == signal.SIGINT
    assert logged[0].created < end - 0.1


def test_other_threads_handle_no_signals():
    received = []

    def run():
        with StopSignals() as signals, signals.deferred():
            received.append(signals.received)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert received == [0]
