import dataclasses
import json
from functools import cache

import jax
import numpy as np
import pytest

from flaxformer_lite.errors import InputError
from flaxformer_lite.models.encoder_decoder import make_model
from flaxformer_lite.monitoring.chips import CHIPS, find_chip
from flaxformer_lite.plan import format_report, roofline
from flaxformer_lite.plan.collectives import Collective, by_axes
from flaxformer_lite.plan.compile_step import make_plan_layout, trace_step
from flaxformer_lite.plan.matmuls import Matmul
from flaxformer_lite.plan.parameter_shards import bytes_per_device, group_layers, list_parameters
from flaxformer_lite.plan.report import PlanReport, make_report
from flaxformer_lite.plan.warnings import find_warnings
from flaxformer_lite.training.setup import make_training
from tests.marks import slow_except
from tests.micro_config import micro
from tests.plan.test_matmuls import SIZES

_SCALARS = 64  # bytes of loss, accuracy, weight and other scalars


def _config(data: int, fsdp: int, tensor: int):
    return micro({"mesh.data": data, "mesh.fsdp": fsdp, "mesh.tensor": tensor})


@cache
def _plan(data: int, fsdp: int, tensor: int) -> PlanReport:
    return make_report(_config(data, fsdp, tensor), SIZES, CHIPS["h100"], jax.devices())


def _communicated(plan: PlanReport) -> dict[tuple[str, str], int]:
    """Bytes of whole arrays in collectives of a step, by axes and kind, without scalars."""
    found = {
        ("+".join(axes), kind): sum(each.bytes * each.executions for each in members)
        for (axes, kind), members in by_axes(plan.collectives).items()
    }
    return {key: amount for key, amount in found.items() if amount > _SCALARS}


def test_data_parallelism_only_reduces_gradients():
    plan = _plan(8, 1, 1)
    gradients = sum(parameter.bytes for parameter in plan.parameters)
    (table,) = (parameter.bytes for parameter in plan.parameters if parameter.name == "target_embedding/table")
    (((axes, kind), amount),) = _communicated(plan).items()
    assert (axes, kind) == ("data", "all-reduce")
    # The table is used as input and as output embedding, and the CPU compiler reduces both gradients.
    assert 0 <= amount - gradients - table <= _SCALARS


def test_fsdp_only_gathers_parameters_and_scatters_gradients():
    """An accidental all-gather, such as of activations, would be found here."""
    plan = _plan(1, 8, 1)
    divided = sum(parameter.bytes for parameter in plan.parameters if any(parameter.partition))
    whole = sum(parameter.bytes for parameter in plan.parameters) - divided
    (table,) = (parameter.bytes for parameter in plan.parameters if parameter.name == "target_embedding/table")
    vectors = sum(
        parameter.bytes for parameter in plan.parameters if any(parameter.partition) and len(parameter.shape) == 1
    )
    found = _communicated(plan)
    (axis,) = {axes for axes, _ in found}
    assert found.pop((axis, "reduce-scatter")) == divided + table  # input and output embedding
    assert 0 <= found.pop((axis, "all-gather")) - divided - table <= vectors  # these are gathered twice
    assert 0 <= found.pop((axis, "all-reduce")) - whole <= 8 * _SCALARS
    assert not found


def test_tensor_parallelism_only_reduces_outputs_and_input_gradients():
    plan = _plan(4, 1, 2)
    found = _communicated(plan)
    assert set(found) == {("data", "all-reduce"), ("tensor", "all-reduce")}
    s, t = (plan.batch_size // 4 * length * 16 * 4 for length in (SIZES.source_length, SIZES.target_length))
    forward = (1 + 2) * s + (1 + 3) * t  # embeddings, and the output of each sublayer
    # The inputs of each column-parallel product: queries, keys and values, those of cross-attention, the feed-forward
    # layer and the logits.
    backward = (3 + 1) * s + (3 + 1 + 1 + 1) * t + 2 * s
    softmax = _SCALARS * plan.batch_size
    assert 0 <= found["tensor", "all-reduce"] - forward - backward <= softmax


@pytest.mark.parametrize("sizes", slow_except([(2, 2, 2)], [(8, 1, 1), (1, 8, 1), (2, 2, 2)]))
def test_bytes_per_device_equal_those_of_arrays(sizes):
    config = _config(*sizes)
    layout = make_plan_layout(config, jax.devices())
    predicted = trace_step(config, SIZES, layout).state
    training = make_training(config, make_model(config, SIZES.source_vocabulary, SIZES.target_vocabulary), [])
    state = layout.init(training.init_state)
    for shapes, arrays in ((predicted.params, state.params), (predicted.opt_state, state.opt_state)):
        for device in jax.devices():
            held = sum(
                shard.data.nbytes
                for array in jax.tree.leaves(arrays)
                for shard in array.addressable_shards
                if shard.device == device
            )
            assert held == bytes_per_device(shapes)
    for parameter in list_parameters(predicted.params):
        array = state.params
        for name in parameter.name.split("/"):
            array = array[name]
        assert parameter.shape == array.shape
        assert parameter.device_bytes == array.addressable_shards[0].data.nbytes


def test_activations_are_divided_by_data_parallelism():
    one = make_report(_config(1, 1, 1), SIZES, CHIPS["h100"], jax.devices()[:1])
    eight = _plan(8, 1, 1)
    assert one.flops.model == eight.flops.model == 8 * eight.flops.device
    assert one.memory.activations / 8 < eight.memory.activations + eight.memory.gradients < one.memory.activations
    assert not one.collectives


def test_report_is_valid_json():
    plan = _plan(2, 2, 2)
    values = format_report.to_json(plan)
    assert json.loads(json.dumps(values)) == values
    assert sum(parameter["device_bytes"] for parameter in values["parameters"]) == plan.memory.params
    assert values["memory"]["total"] == sum(dataclasses.astuple(plan.memory))
    text = "\n".join(format_report.to_text(plan))
    for word in ("data 2 × fsdp 2 × tensor 2", "encoder/layers_", "all-reduce", "MFU", "exact", "estimate"):
        assert word in text


def test_equal_layers_are_grouped():
    config = micro({"model.encoder.num_layers": 3})
    traced = trace_step(config, SIZES, make_plan_layout(config, jax.devices()[:1]))
    parameters = list_parameters(traced.state.params)
    names = {group.name: group.num_parameters for group in group_layers(parameters)}
    assert names["target_embedding/table"] == 1
    assert names["encoder/layers_*/feed_forward/up/kernel"] == 3
    assert sum(names.values()) == len(parameters)


def test_roofline_by_hand():
    chip = find_chip("h100")._replace(bfloat16=100.0, bandwidth=10.0, link=8.0, network=1.0)
    products = [Matmul(flops=750, bytes=8, runs=2), Matmul(flops=3, bytes=80, runs=1)]
    inside = Collective("all-gather", ("x",), 2, 2, 128, 1, "")
    across = inside._replace(axes=("y",), group=4, per_node=2, bytes=32)
    line = roofline.estimate_roofline(products, 40, [inside, across], chip, "bfloat16")
    assert line.matmuls == pytest.approx(20)
    assert line.memory == pytest.approx(10 + 10)
    assert line.by_axes == pytest.approx({"x": 10, "y": 15})
    assert (line.step, line.overlapped) == pytest.approx((65, 40))
    assert line.bound == "communication along y"


def test_warnings():
    plan = _plan(8, 1, 1)
    assert find_warnings(plan) == []
    tight = dataclasses.replace(plan, chip=plan.chip._replace(memory=1e4))
    assert "does not fit" in find_warnings(tight)[0]
    padded = dataclasses.replace(plan, sizes=SIZES._replace(padding=0.5, source_vocabulary=32_001))
    message = " ".join(find_warnings(padded))
    assert "50 % of a batch is padding" in message
    assert "32,001 of the source vocabulary is not a multiple of 128" in message
    twice = dataclasses.replace(plan, flops=dataclasses.replace(plan.flops, device=2 * plan.flops.device))
    assert "2.00 times" in find_warnings(twice)[0]
    sums = [each._replace(executions=5) for each in plan.collectives]
    looped = dataclasses.replace(plan, collectives=sums)
    assert "inside a loop, 5 times" in find_warnings(looped)[0]
    large = dataclasses.replace(plan, memory=dataclasses.replace(plan.memory, params=10**9))
    assert "every device stores all parameters" in " ".join(find_warnings(large))


@pytest.mark.parametrize(
    ("sizes", "message"), [((3, 1, 1), "mesh of 3 devices"), ((1, 1, 8), "'heads' of size 2 cannot be divided")]
)
def test_invalid_mesh_is_an_error(sizes, message):
    with pytest.raises(InputError, match=message):
        make_report(_config(*sizes), SIZES, CHIPS["h100"], jax.devices())


def test_unknown_chip_is_an_error():
    with pytest.raises(InputError, match="did you mean h100"):
        find_chip("h10")
    assert np.all(
        [chip.bfloat16 >= chip.float32 > chip.bandwidth > chip.link > chip.network for chip in CHIPS.values()]
    )
