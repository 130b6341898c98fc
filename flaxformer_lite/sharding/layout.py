"""Where arrays live: the one place that knows the mesh. A run is laid out by jit over a mesh, or by pmap."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

from flaxformer_lite.config.dataclasses import Config, LogicalAxisRulesConfig, MeshConfig
from flaxformer_lite.errors import InputError

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(("data", "fsdp"))  # rows of a batch; every device of one tensor group has the same rows

# Every device has every parameter whole.
UNDIVIDED = LogicalAxisRulesConfig(
    embed="none",
    heads="none",
    head_dim="none",
    mlp="none",
    gates="none",
    vocab="none",
    length="none",
    layers="none",
)

Step = Callable[..., tuple[Any, Any]]  # (fixed, state, batch, key, reduce) → (state, results), as steps.TrainStep


@runtime_checkable  # so that the tests' run-time checks can ask
class Layout(Protocol):
    """A way to run one program on many devices."""

    shards: int  # into how many shares the rows of a batch are divided; batch sizes are multiples of it
    share: tuple[int, int]  # (i, n): of n equal parts of a batch's rows, this process's devices hold part i
    mesh_layout: MeshLayout  # where what ``whole`` gives lies

    def shapes(self, make_state: Callable[[], Any]) -> Any:
        """What ``whole(init(make_state))`` would be, as ``jax.ShapeDtypeStruct``: nothing is made."""
        ...

    def init(self, make_state: Callable[[], Any]) -> Any:
        """Makes the state on the devices, each making its own part."""
        ...

    def compile(self, step: Step, key: jax.Array, shapes: Any) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
        """The step as a function of (fixed, state, batch), for a state of these ``shapes``.

        ``fixed`` is what it reads beside the parameters and never changes; ``spread`` puts it and the state where they
        must lie, ``put`` the batch. The state is used up.
        """
        ...

    def put(self, batch: Any) -> Any:
        """Lays this process's rows of a batch (NumPy arrays) out over the devices."""
        ...

    def whole(self, state: Any) -> Any:
        """The state as checkpoints and evaluation take it: global arrays of ``mesh_layout``."""
        ...

    def spread(self, state: Any) -> Any:
        """The inverse of ``whole``."""
        ...


def make_layout(config: Config) -> Layout:
    """The layout that ``parallel.mode`` names, over all devices."""
    layout = PmapLayout() if config.parallel.mode == "pmap" else MeshLayout(config.mesh, config.logical_axis_rules)
    check_batch(config, layout)
    return layout


def check_batch(config: Config, layout: Layout) -> None:
    """Raises InputError where a batch cannot be shared out evenly."""
    batch_size, parts = config.train.batch_size, config.train.grad_accum_steps
    if batch_size % (layout.shards * parts):
        in_parts = f", each in config.train.grad_accum_steps={parts} parts" * (parts > 1)
        raise InputError(
            f"config.train.batch_size={batch_size} must be a multiple of {layout.shards * parts}: {layout.shards} "
            f"shares of a batch (config.mesh.data times config.mesh.fsdp){in_parts}"
        )


class MeshLayout:
    """``jit`` over a mesh (data, fsdp, tensor): rows divided by data and fsdp, parameters by the rules.

    Args:
      config: the sizes of the mesh.
      rules: which of its axes divides which of a parameter's.
      devices: those that make it up; all there are, unless given.
    """

    def __init__(self, config: MeshConfig, rules: LogicalAxisRulesConfig = UNDIVIDED, devices: Sequence[Any] = ()):
        devices = devices or jax.devices()
        sizes = mesh_sizes(config, len(devices))
        self.mesh = Mesh(np.asarray(devices).reshape(sizes), AXES)
        self.shards = sizes[0] * sizes[1]
        processes = [[device.process_index for device in row] for row in self.mesh.devices.reshape(self.shards, -1)]
        self.share = share_of_rows(np.array(processes), jax.process_index())
        self.mesh_layout = self
        self._rules = {axis: None if rule == "none" else rule for axis, rule in dataclasses.asdict(rules).items()}

    def shapes(self, make_state: Callable[[], Any]) -> Any:
        """Every array as its logical axes say."""
        boxed = jax.eval_shape(make_state)
        return jax.tree.map_with_path(
            lambda path, axes, array: jax.ShapeDtypeStruct(
                array.shape,
                array.dtype,
                sharding=NamedSharding(self.mesh, self._spec(jax.tree_util.keystr(path), axes, array.shape)),
            ),
            nn.get_partition_spec(boxed),
            nn.meta.unbox(boxed),
            is_leaf=lambda x: isinstance(x, PartitionSpec),
        )

    def init(self, make_state: Callable[[], Any]) -> Any:
        """Makes each parameter where it will live; no device ever holds them all."""
        shardings = jax.tree.map(lambda array: array.sharding, self.shapes(make_state))
        return jax.jit(lambda: nn.meta.unbox(make_state()), out_shardings=shardings)()

    def compile(self, step: Step, key: jax.Array, shapes: Any) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
        """Compiles for global arrays: the compiler itself puts in what devices must tell one another."""
        shardings = jax.tree.map(lambda array: array.sharding, shapes)

        def all_rows(fixed: Any, state: Any, batch: Any) -> Any:
            # The models name the axes of what they compute, here the names get their meaning.
            with (
                jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh),
                nn.logical_axis_rules(self._activation_rules()),
            ):
                return step(fixed, state, batch, jax.random.fold_in(key, state.step), reduce=lambda sums: sums)

        # Said by name, so that the state lies in the same words however it came to be, and nothing is compiled twice.
        return jax.jit(all_rows, donate_argnums=1, out_shardings=(shardings, None))

    def rows(self, least: int) -> int:
        """The smallest number of rows, ``least`` or more, that the devices share out evenly."""
        return -(-least // self.shards) * self.shards

    def put(self, batch: Any) -> Any:
        """Makes global arrays of every process's rows."""
        rows = NamedSharding(self.mesh, BATCH)
        with jax.transfer_guard("allow"):  # several processes' rows jax counts as moved by accident
            return jax.tree.map(lambda x: jax.make_array_from_process_local_data(rows, x), batch)

    def put_shapes(self, batch: Any) -> Any:
        """The same of shapes alone."""
        rows = NamedSharding(self.mesh, BATCH)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows), batch)

    def share_out(self, batch: Any) -> Any:
        """Lays out rows that every process has all of."""
        part, parts = self.share
        return self.put(jax.tree.map(lambda x: x[len(x) * part // parts : len(x) * (part + 1) // parts], batch))

    def gather(self, results: Any) -> Any:
        """What lies on the devices as NumPy arrays, on every process all of it."""
        if not all(x.is_fully_addressable or x.is_fully_replicated for x in jax.tree.leaves(results)):
            results = self.replicate(results)
        return jax.device_get(results)

    def whole(self, state: Any) -> Any:
        """Global arrays are whole as they are."""
        return state

    def spread(self, state: Any) -> Any:
        """Global arrays are spread as they are."""
        return state

    def replicate(self, tree: Any) -> Any:
        """A copy on every device."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def replicated(self, shapes: Any) -> Any:
        """The same of shapes alone, for what is yet to be read."""
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), shapes)

    def _activation_rules(self) -> list[tuple[str, Any]]:
        """What divides each logical axis of what is computed: rows as a batch's, all else as in parameters.

        What divides rows divides nothing else, so a parameter that it divides is gathered where it is used.
        """
        of_rows = BATCH[0]
        others = [(axis, rule) for axis, rule in self._rules.items() if rule not in of_rows]
        return [("batch", of_rows), *others]

    def _spec(self, name: str, logical: PartitionSpec, shape: tuple[int, ...]) -> PartitionSpec:
        axes = [self._rules[axis] if axis is not None else None for axis in logical]
        used = [axis for axis in axes if axis is not None]
        if len(set(used)) < len(used):
            raise InputError(
                f"{name} with axes {tuple(logical)}: config.logical_axis_rules divides two of them by one mesh axis, "
                f"{axes}; set one of them to 'none'"
            )
        for axis, mesh_axis, size in zip(logical, axes, shape, strict=False):
            if mesh_axis is not None and size % self.mesh.shape[mesh_axis]:
                raise InputError(
                    f"{name}: its axis {axis!r} of size {size} cannot be divided by "
                    f"config.mesh.{mesh_axis}={self.mesh.shape[mesh_axis]}; set that to a divisor of {size}, or "
                    f"config.logical_axis_rules.{axis} to 'none'"
                )
        return PartitionSpec(*axes)


class PmapLayout:
    """``pmap``: every device has the whole state and its share of the rows (plain data parallelism).

    Each device draws its own dropout masks, so with dropout a run under pmap is another run than one under jit; with
    none they have the same losses.
    """

    def __init__(self):
        self.shards = jax.device_count()
        self.share = jax.process_index(), jax.process_count()
        self.mesh_layout = MeshLayout(MeshConfig(data=-1, fsdp=1, tensor=1))
        self._devices = jax.local_devices()
        self._each = NamedSharding(Mesh(np.asarray(self._devices), AXES[:1]), PartitionSpec(AXES[0]))

    def shapes(self, make_state: Callable[[], Any]) -> Any:
        """Every array whole on every device."""
        return self.mesh_layout.replicated(nn.meta.unbox(jax.eval_shape(make_state)))

    def init(self, make_state: Callable[[], Any]) -> Any:
        """Makes the state once and copies it."""
        return self.spread(jax.jit(lambda: nn.meta.unbox(make_state()))())

    def compile(self, step: Step, key: jax.Array, shapes: Any) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
        """Compiles for one device's rows; sums over rows are added over the devices."""
        run = partial(step, reduce=partial(jax.lax.psum, axis_name=AXES[0]))

        def own(fixed: Any, state: Any, batch: Any) -> Any:
            mine = jax.random.fold_in(jax.random.fold_in(key, state.step), jax.lax.axis_index(AXES[0]))
            return run(fixed, state, batch, mine)

        parallel = jax.pmap(own, axis_name=AXES[0], donate_argnums=1)

        def first_of_sums(fixed: Any, state: Any, batch: Any) -> tuple[Any, ...]:
            state, results = parallel(fixed, state, batch)
            return state, _first(results)

        return first_of_sums

    def put(self, batch: Any) -> Any:
        """Adds a leading axis of devices."""
        count = len(self._devices)
        shares = jax.tree.map(lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:]), batch)
        return jax.device_put(shares, self._each)

    def whole(self, state: Any) -> Any:
        """The devices' copies as one array."""
        place = NamedSharding(self.mesh_layout.mesh, PartitionSpec())

        def join(x: jax.Array) -> jax.Array:
            copies = [shard.data.reshape(x.shape[1:]) for shard in x.addressable_shards]
            return jax.make_array_from_single_device_arrays(x.shape[1:], place, copies)

        return jax.tree.map(join, state)

    def spread(self, state: Any) -> Any:
        """A copy for each device."""
        count = len(self._devices)
        copies = jax.tree.map(lambda x: np.broadcast_to(np.asarray(x)[None], (count, *x.shape)), state)
        return jax.device_put(copies, self._each)


def _first(stacked: Any) -> Any:
    return jax.tree.map(lambda x: x.addressable_shards[0].data[0], stacked)


def share_of_rows(processes: Int[np.ndarray, "shards copies"], own: int) -> tuple[int, int]:
    """Which of n equal parts of a batch's rows a process holds: (i, n).

    Args:
      processes: whose the devices are that hold each share of the rows.
      own: the process.

    Raises:
      InputError: the devices of the processes do not hold equal parts, each of shares that follow one another.
    """
    held = {process: np.flatnonzero((processes == process).any(axis=1)) for process in np.unique(processes)}
    size = len(held[own])
    for shares in held.values():
        if len(shares) != size or shares[0] % size or shares[-1] - shares[0] != size - 1:
            raise InputError(
                f"config.mesh.{AXES[2]}={processes.shape[1]}: {len(held)} processes cannot share the rows of a batch "
                f"evenly; set it to a divisor or a multiple of the {processes.size // len(held)} devices of each"
            )
    return int(held[own][0]) // size, len(processes) // size


def mesh_sizes(config: MeshConfig, devices: int) -> tuple[int, int, int]:
    """The mesh with its one inferred size filled in.

    Raises:
      InputError: it does not fit the number of devices.
    """
    sizes = [config.data, config.fsdp, config.tensor]
    if -1 in sizes:
        others = -int(np.prod(sizes))
        sizes[sizes.index(-1)] = max(devices // others, 1)
    if np.prod(sizes) != devices:
        named = ", ".join(f"config.mesh.{axis}={size}" for axis, size in zip(AXES, sizes, strict=True))
        raise InputError(f"{named} make a mesh of {int(np.prod(sizes))} devices, but there are {devices}")
    return sizes[0], sizes[1], sizes[2]
