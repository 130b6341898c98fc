"""Several processes that run one program together, through ``jax.distributed``: how they meet, agree and end.

One process needs nothing of this and is the first and only one.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from flaxformer_lite.errors import InputError

# jax is imported inside functions: what reports and writes asks here who may, and answers --help without it.

# What the runtime's errors speak of when processes cannot reach one another.
_CONNECTION_ERROR = re.compile("gloo|nccl|peer|connection|socket|barrier|coordination|heartbeat", re.IGNORECASE)
OTHERS_GONE = 75  # the exit code of a process that ends because another one did: sysexits.h's "try again later"


@dataclass(frozen=True)
class ProcessPlace:
    """Where a process stands among the others: by ``address`` (host:port) of the one with index 0."""

    address: str
    count: int
    index: int


@dataclass(frozen=True)
class _Group:
    index: int
    count: int


_group = _Group(0, 1)
_abort_message: Callable[[], str] = str  # what a process says last when the runtime ends it
_handler: Any = None  # kept, or it would be collected while the C library holds it


def join(place: ProcessPlace | None, join_timeout: int, heartbeat_timeout: int) -> None:
    """Meets the other processes. Before anything else asks for devices.

    From then on standard output belongs to the first process alone, and what libraries in other languages write there
    goes to standard error.

    Args:
      place: as the user says; None: as Slurm, Open MPI or Cloud TPU do.
      join_timeout: seconds to wait until all have come.
      heartbeat_timeout: seconds after which one that gives no sign of life counts as dead.

    Raises:
      InputError: nothing says how many processes there are and which this is. Where they do not come together, jax ends
        the process; the last line says so.
    """
    import jax

    where = f"at {place.address} " if place else ""
    set_abort_message(
        lambda: f"the processes did not all meet {where}within {join_timeout} s; start all of them, at one time"
    )
    _install_abort_handler()
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    explicit = (place.address, place.count, place.index) if place else (None, None, None)
    try:
        jax.distributed.initialize(
            *explicit,
            cluster_detection_method="deactivate" if place else None,
            initialization_timeout=join_timeout,
            heartbeat_timeout_seconds=heartbeat_timeout,
            shutdown_timeout_seconds=heartbeat_timeout,
        )
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise InputError(
            f"--distributed: found no Slurm, Open MPI or Cloud TPU that says which process this is ({error}); name it: "
            f"--coordinator=HOST:PORT --processes=N --process=I"
        ) from error
    except RuntimeError as error:  # such as a port that is taken
        raise InputError(f"the processes cannot meet {where}: {str(error).splitlines()[0]}") from error
    _set_group(_Group(jax.process_index(), jax.process_count()))


def is_primary() -> bool:
    """Whether this is the process that speaks and writes for all."""
    return _group.index == 0


def is_single_process() -> bool:
    """Whether there are no others."""
    return _group.count == 1


def process_indices() -> set[int]:
    """The indices of all processes."""
    return set(range(_group.count))


def process_index() -> int:
    """Which process this is."""
    return _group.index


def process_label() -> str:
    """Which process this is, for error messages; nothing where there is but one."""
    return "" if is_single_process() else f" (process {_group.index} of {_group.count})"


def all_gather_json(value: Any) -> list[Any]:
    """What each process gave, in their order. All must come here; values are such as JSON takes."""
    if is_single_process():
        return [value]
    import jax
    import numpy as np
    from jax.experimental.multihost_utils import process_allgather

    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    with jax.transfer_guard("allow"):
        sizes = process_allgather(np.int32(len(data)))
        longest = 256 * -(-int(sizes.max()) // 256)  # so that few shapes are compiled
        rows = process_allgather(np.pad(data, (0, longest - len(data))))
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


@contextlib.contextmanager
def primary_first() -> Iterator[None]:
    """The first process does what stands below it, and then the others do."""
    if not is_primary():
        all_gather_json(None)
    yield
    if is_primary():
        all_gather_json(None)


class MaxOverProcesses:
    """A number that one process comes to know is soon known to all, at the same call: say, of a signal."""

    def __init__(self):
        self._pending: Any = None

    def __call__(self, number: int) -> int:
        """The largest number that any process gave at the call before this one; alone, the number itself.

        The devices carry it, and it is read a call late: nobody waits for what is still under way.
        """
        if is_single_process():
            return number
        import jax

        pending, self._pending = self._pending, _largest(number)
        return 0 if pending is None else int(jax.device_get(pending))


def set_abort_message(words: Callable[[], str]) -> None:
    """What to say if the runtime ends this process, which it does when another one is gone."""
    global _abort_message
    _abort_message = words


def exit_process(code: int) -> int:
    """After a failure: ends this process at once if there are others, which may never come to where it would wait.

    Returns:
      The code, where there are none.
    """
    if not is_single_process():
        _end(code)
    return code


def fail(error: Exception) -> NoReturn:
    """Ends this process, one of several, after an error that is none of the user's mistakes."""
    from jax.errors import JaxRuntimeError

    if isinstance(error, JaxRuntimeError) and _CONNECTION_ERROR.search(str(error)):
        print(str(error).splitlines()[0], file=sys.stderr)
        _log_abort_message()
    traceback.print_exception(error)
    _end(1)


def _log_abort_message() -> NoReturn:
    print(f"flaxformer-lite: error{process_label()}: {_abort_message()}", file=sys.stderr)
    _end(OTHERS_GONE)


def _end(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _set_group(group: _Group) -> None:
    global _group
    _group = group
    set_abort_message(lambda: "another process is gone, or the runtime failed; its own words stand above")
    if not is_single_process():
        sys.stdout.flush()
        ours = os.dup(1) if is_primary() else os.open(os.devnull, os.O_WRONLY)
        sys.stdout = open(ours, "w", encoding=sys.stdout.encoding)  # noqa: SIM115
        os.dup2(2, 1)


def _largest(number: int) -> Any:
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    everywhere = NamedSharding(Mesh(np.asarray(jax.devices()), "devices"), PartitionSpec("devices"))
    own = np.full(jax.local_device_count(), number, np.int32)
    with jax.transfer_guard("allow"):
        return _max()(jax.make_array_from_process_local_data(everywhere, own))


@functools.cache
def _max() -> Callable[[Any], Any]:
    import jax

    return jax.jit(jax.numpy.max)


def _install_abort_handler() -> None:
    """Says the last words where the runtime calls abort(), which is how jax ends a process, and nothing of Python sees.

    A handler of the C library, since one of Python's would wait for the interpreter's next instruction. It may run
    Python: abort() raises the signal in its own thread, at a place where nothing else is under way.
    """
    if os.name != "posix":
        return
    global _handler
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)

    def aborted(_: int) -> None:
        _log_abort_message()

    _handler = kind(aborted)
    install = ctypes.CDLL(None).signal
    install.argtypes, install.restype = [ctypes.c_int, kind], ctypes.c_void_p
    install(signal.SIGABRT, _handler)
