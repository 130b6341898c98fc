"""Several processes that run one program through ``jax.distributed``: joining, exchanging values, ending.

A single process is the primary one and needs none of this.
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

# jax is imported inside functions: modules that log and write ask here for the primary process, also without jax.

# Words of the runtime's errors when processes cannot reach one another.
_CONNECTION_ERROR = re.compile("gloo|nccl|peer|connection|socket|barrier|coordination|heartbeat", re.IGNORECASE)
OTHERS_GONE = 75  # the exit code of a process that ends because another one did: sysexits.h's "try again later"


@dataclass(frozen=True)
class ProcessPlace:
    """Number of processes, the index of this one, and the ``address`` (host:port) of the one with index 0."""

    address: str
    count: int
    index: int


@dataclass(frozen=True)
class _Group:
    index: int
    count: int


_group = _Group(0, 1)
_abort_message: Callable[[], str] = str  # printed when the runtime ends this process
_handler: Any = None  # a reference, since the C library's does not keep it from being collected


def join(place: ProcessPlace | None, join_timeout: int, heartbeat_timeout: int) -> None:
    """Joins the other processes; must precede any use of devices.

    Afterwards only the primary process writes to standard output, and libraries in other languages that write there
    write to standard error.

    Args:
      place: as the user gives it; None: as Slurm, Open MPI or Cloud TPU give it.
      join_timeout: seconds to wait until all processes have joined.
      heartbeat_timeout: seconds without a heartbeat after which a process counts as dead.

    Raises:
      InputError: the number of processes and the index of this one are unknown. Where they do not all join, jax ends
        the process; its last line states that.
    """
    import jax

    where = f"at {place.address} " if place else ""
    set_abort_message(
        lambda: f"the processes did not all join {where}within {join_timeout} s; start all of them at the same time"
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
        reason = f"no Slurm, Open MPI or Cloud TPU was found that numbers them ({error})"
        raise InputError("processes", reason, "give address, count and index of this one") from error
    except RuntimeError as error:  # such as a port that is taken
        raise InputError(f"processes {where}".rstrip(), f"cannot join: {str(error).splitlines()[0]}") from error
    _set_group(_Group(jax.process_index(), jax.process_count()))


def is_primary() -> bool:
    """Whether this is the process that logs and writes files for all."""
    return _group.index == 0


def is_single_process() -> bool:
    """Whether there are no other processes."""
    return _group.count == 1


def process_indices() -> set[int]:
    """The indices of all processes."""
    return set(range(_group.count))


def process_index() -> int:
    """The index of this process."""
    return _group.index


def process_label() -> str:
    """Index and count of processes for error messages; "" of a single process."""
    return "" if is_single_process() else f" (process {_group.index} of {_group.count})"


def all_gather_json(value: Any) -> list[Any]:
    """Gathers a JSON value of each process, in their order. All processes must call this."""
    if is_single_process():
        return [value]
    import jax
    import numpy as np
    from jax.experimental.multihost_utils import process_allgather

    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    with jax.transfer_guard("allow"):
        sizes = process_allgather(np.int32(len(data)))
        longest = 256 * -(-int(sizes.max()) // 256)  # few different shapes, each of which is compiled
        rows = process_allgather(np.pad(data, (0, longest - len(data))))
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


@contextlib.contextmanager
def primary_first() -> Iterator[None]:
    """Runs the body in the primary process first, then in the others."""
    if not is_primary():
        all_gather_json(None)
    yield
    if is_primary():
        all_gather_json(None)


class MaxOverProcesses:
    """The maximum of a number over all processes, such as of a signal that one of them received."""

    def __init__(self):
        self._pending: Any = None

    def __call__(self, number: int) -> int:
        """Returns the largest number of the previous call over all processes; of a single process the number itself.

        The result is read one call late, so that no process waits for computations in progress.
        """
        if is_single_process():
            return number
        import jax

        pending, self._pending = self._pending, _largest(number)
        return 0 if pending is None else int(jax.device_get(pending))


def set_abort_message(words: Callable[[], str]) -> None:
    """Sets the message that is printed if the runtime ends this process, as it does when another one has ended."""
    global _abort_message
    _abort_message = words


def exit_process(code: int) -> int:
    """Ends this process at once if there are others, for which it would wait forever at exit; else returns the code."""
    if not is_single_process():
        _end(code)
    return code


def fail(error: Exception) -> NoReturn:
    """Ends this process, one of several, after an internal error."""
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
    set_abort_message(lambda: "another process has ended, or the runtime failed; its message is above")
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
    """Prints the abort message when the runtime calls abort(), with which jax ends a process unseen by Python.

    This is a handler of the C library, since Python's would wait for the interpreter's next instruction. It may run
    Python code: abort() raises the signal in its own thread while nothing else runs in it.
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
