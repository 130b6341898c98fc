import logging
import threading

import pytest

from flaxformer_lite.system import heartbeat


def test_messages_come_while_something_takes_long_and_end_with_it(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "flaxformer_lite")
    monkeypatch.setattr(heartbeat, "_FIRST_SECONDS", 0.01)
    before = threading.active_count()
    with heartbeat.heartbeat("counting"):
        threading.Event().wait(0.2)
    assert threading.active_count() == before
    assert 2 <= caplog.text.count("counting: 0 s so far") <= 5  # at 0.01, 0.03, 0.07 and 0.15 s


def test_what_is_short_has_no_message(caplog):
    caplog.set_level(logging.INFO, "flaxformer_lite")
    with pytest.raises(ZeroDivisionError), heartbeat.heartbeat("dividing"):
        raise ZeroDivisionError
    assert caplog.text == ""
