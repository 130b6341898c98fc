import dataclasses
import json
from functools import cache

import jax
import numpy as np
import pytest

from flaxformer_lite.errors import InputError
from flaxformer_lite.models.encoder_decoder import make_model
from flaxformer_lite.monitoring.chips import CHIPS, find_chip
from flaxformer_lite.plan import roofline, tables
from flaxformer_lite.plan.arrays import bytes_per_device, fold_layers, read_parameters
from flaxformer_lite.plan.collectives import Collective, by_axes
from flaxformer_lite.plan.flops import Product
from flaxformer_lite.plan.programs import make_plan_layout, trace_step
from flaxformer_lite.plan.report import Plan, make_plan
from flaxformer_lite.plan.warnings import find_cautions
from flaxformer_lite.training.setup import make_training
from tests.micro_config import micro
from tests.plan.test_flops import SIZES

_SUMS = 64  # bytes of loss, hits, weight and the like


def _config(data: int, fsdp: int, tensor: int):
    return micro({"mesh.data": data, "mesh.fsdp": fsdp, "mesh.tensor": tensor})


@cache
def _plan(data: int, fsdp: int, tensor: int) -> Plan:
    return make_plan(_config(data, fsdp, tensor), SIZES, CHIPS["h100"], jax.devices())


def _exchanged(plan: Plan) -> dict[tuple[str, str], int]:
    """Bytes of whole arrays that devices exchange in a step, by axes and kind, without sums of a few numbers."""
    found = {
        ("+".join(axes), kind): sum(each.bytes * each.times for each in members)
        for (axes, kind), members in by_axes(plan.collectives).items()
    }
    return {key: amount for key, amount in found.items() if amount > _SUMS}


def test_data_parallelism_adds_gradients_and_nothing_else():
    plan = _plan(8, 1, 1)
    gradients = sum(parameter.bytes for parameter in plan.parameters)
    (table,) = (parameter.bytes for parameter in plan.parameters if parameter.name == "target_embedding/table")
    (((axes, kind), amount),) = _exchanged(plan).items()
    assert (axes, kind) == ("data", "all-reduce")
    # The table is read on the way in and on the way out, and the CPU's compiler adds both gradients over devices.
    assert 0 <= amount - gradients - table <= _SUMS


def test_dividing_weights_gathers_them_and_scatters_their_gradients_and_nothing_else():
    """That is where an accidental all-gather, such as of activations, is seen."""
    plan = _plan(1, 8, 1)
    divided = sum(parameter.bytes for parameter in plan.parameters if any(parameter.division))
    whole = sum(parameter.bytes for parameter in plan.parameters) - divided
    (table,) = (parameter.bytes for parameter in plan.parameters if parameter.name == "target_embedding/table")
    vectors = sum(
        parameter.bytes for parameter in plan.parameters if any(parameter.division) and len(parameter.shape) == 1
    )
    found = _exchanged(plan)
    (axis,) = {axes for axes, _ in found}
    assert found.pop((axis, "reduce-scatter")) == divided + table  # the table is read on the way in and on the way out
    assert 0 <= found.pop((axis, "all-gather")) - divided - table <= vectors  # gains and biases in forward and backward
    assert 0 <= found.pop((axis, "all-reduce")) - whole <= 8 * _SUMS
    assert not found


def test_dividing_heads_and_hidden_units_adds_what_layers_say_and_nothing_else():
    plan = _plan(4, 1, 2)
    found = _exchanged(plan)
    assert set(found) == {("data", "all-reduce"), ("tensor", "all-reduce")}
    s, t = (plan.rows // 4 * length * 16 * 4 for length in (SIZES.source_length, SIZES.target_length))
    forward = (1 + 2) * s + (1 + 3) * t  # the vectors of tokens, and what each sublayer gives
    # What each product that divides its output read: queries, keys and values each by themselves, those of the source
    # too, the hidden units and the logits.
    backward = (3 + 1) * s + (3 + 1 + 1 + 1) * t + 2 * s
    assert 0 <= found["tensor", "all-reduce"] - forward - backward <= _SUMS * plan.rows  # the softmax over the logits


@pytest.mark.parametrize("sizes", [(8, 1, 1), (1, 8, 1), (2, 2, 2)])
def test_bytes_of_each_device_are_those_of_real_arrays(sizes):
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
    for parameter in read_parameters(predicted.params):
        array = state.params
        for name in parameter.name.split("/"):
            array = array[name]
        assert parameter.shape == array.shape
        assert parameter.device_bytes == array.addressable_shards[0].data.nbytes


def test_activations_of_eight_devices_are_a_share_of_one_devices():
    one = make_plan(_config(1, 1, 1), SIZES, CHIPS["h100"], jax.devices()[:1])
    eight = _plan(8, 1, 1)
    assert one.work.model == eight.work.model == 8 * eight.work.device
    assert one.memory.activations / 8 < eight.memory.activations + eight.memory.gradients < one.memory.activations
    assert not one.collectives


def test_a_plan_survives_json():
    plan = _plan(2, 2, 2)
    values = tables.as_json(plan)
    assert json.loads(json.dumps(values)) == values
    assert sum(parameter["device_bytes"] for parameter in values["parameters"]) == plan.memory.weights
    assert values["memory"]["total"] == sum(dataclasses.astuple(plan.memory))
    text = "\n".join(tables.as_text(plan))
    for word in ("data 2 × fsdp 2 × tensor 2", "encoder/layers_", "all-reduce", "MFU", "exact", "estimate"):
        assert word in text


def test_layers_are_folded_where_they_are_alike():
    config = micro({"model.encoder.num_layers": 3})
    traced = trace_step(config, SIZES, make_plan_layout(config, jax.devices()[:1]))
    parameters = read_parameters(traced.state.params)
    names = {group.name: group.members for group in fold_layers(parameters)}
    assert names["target_embedding/table"] == 1
    assert names["encoder/layers_*/feed_forward/up/kernel"] == 3
    assert sum(names.values()) == len(parameters)


def test_a_roofline_by_hand():
    chip = find_chip("h100")._replace(bfloat16=100.0, bandwidth=10.0, link=8.0, network=1.0)
    products = [Product(flops=750, bytes=8, runs=2), Product(flops=3, bytes=80, runs=1)]
    inside = Collective("all-gather", ("x",), 2, 2, 128, 1, "")
    across = inside._replace(axes=("y",), group=4, spread=2, bytes=32)
    line = roofline.predict(products, 40, [inside, across], chip, "bfloat16")
    assert line.products == pytest.approx(20)
    assert line.memory == pytest.approx(10 + 10)
    assert line.by_axes == pytest.approx({"x": 10, "y": 15})
    assert (line.step, line.hidden) == pytest.approx((65, 40))
    assert line.bound == "exchanges along y"


def test_what_is_amiss_is_said():
    plan = _plan(8, 1, 1)
    assert find_cautions(plan) == []
    tight = dataclasses.replace(plan, chip=plan.chip._replace(memory=1e4))
    assert "does not fit" in find_cautions(tight)[0]
    padded = dataclasses.replace(plan, sizes=SIZES._replace(padding=0.5, source_vocabulary=32_001))
    said = " ".join(find_cautions(padded))
    assert "50 % of the places" in said
    assert "32,001 entries is no multiple of 128" in said
    twice = dataclasses.replace(plan, work=dataclasses.replace(plan.work, device=2 * plan.work.device))
    assert "2.00 times" in find_cautions(twice)[0]
    sums = [each._replace(times=5) for each in plan.collectives]
    looped = dataclasses.replace(plan, collectives=sums)
    assert "within a loop, 5 times" in find_cautions(looped)[0]
    large = dataclasses.replace(plan, memory=dataclasses.replace(plan.memory, weights=10**9))
    assert "every device holds all weights" in " ".join(find_cautions(large))


@pytest.mark.parametrize(
    ("sizes", "said"), [((3, 1, 1), "mesh of 3 devices"), ((1, 1, 8), "'heads' of size 2 cannot be divided")]
)
def test_a_mesh_that_cannot_be_is_an_error(sizes, said):
    with pytest.raises(InputError, match=said):
        make_plan(_config(*sizes), SIZES, CHIPS["h100"], jax.devices())


def test_a_chip_nobody_knows_is_an_error():
    with pytest.raises(InputError, match="did you mean h100"):
        find_chip("h10")
    assert np.all(
        [chip.bfloat16 >= chip.float32 > chip.bandwidth > chip.link > chip.network for chip in CHIPS.values()]
    )
