"""Jobs that do not train: what submitit starts must be able to import them."""

import os
import signal
import time
from dataclasses import dataclass

from flaxformer_lite.errors import InputError
from flaxformer_lite.sweeps.job import Job
from flaxformer_lite.sweeps.resources import Share


@dataclass(frozen=True)
class Sleeper(Job):
    """Sleeps until it is told to stop, and says what it sees."""

    def _train(self, tasks):
        if "error" in self.config:
            raise self.config["error"]
        received = []
        signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
        with (self.folder / "begun").open("a") as file:
            file.write(f"{os.getpid()} {sorted(os.sched_getaffinity(0))} {os.environ.get('GIVEN')} {tasks}\n")
        end = time.monotonic() + 30
        while not received and time.monotonic() < end:
            time.sleep(0.02)
        (self.folder / "saved").touch()
        return 128 + received[0]


def sleeper(folder, **config):
    core = max(os.sched_getaffinity(0))
    return Sleeper(folder, config, Share((core,), {"GIVEN": "yes"}), ["flaxformer-lite"])


def failing(folder, message):
    return sleeper(folder, error=InputError(message))


def crashing(folder, message):
    return sleeper(folder, error=ZeroDivisionError(message))
