"""Jobs that do not train, in a module because submitit's processes must import them."""

import os
import signal
import time
from dataclasses import dataclass

from flaxformer_lite.errors import InputError
from flaxformer_lite.sweeps.job import Job
from flaxformer_lite.sweeps.resources import JobResources


@dataclass(frozen=True)
class Sleeper(Job):
    """Writes its environment to a file and sleeps until SIGTERM."""

    def _train(self, num_processes):
        if "error" in self.config:
            raise self.config["error"]
        received = []
        signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
        with (self.path / "started").open("a") as file:
            file.write(f"{os.getpid()} {sorted(os.sched_getaffinity(0))} {os.environ.get('GIVEN')} {num_processes}\n")
        end = time.monotonic() + 30
        while not received and time.monotonic() < end:
            time.sleep(0.02)
        (self.path / "saved").touch()
        return 128 + received[0]


def sleeper(folder, **config):
    core = max(os.sched_getaffinity(0))
    return Sleeper(folder, config, JobResources((core,), {"GIVEN": "yes"}), ["flaxformer-lite"])


def failing(folder, message):
    return sleeper(folder, error=InputError(message))


def crashing(folder, message):
    return sleeper(folder, error=ZeroDivisionError(message))
