import dataclasses

import jax
import pytest

from flaxformer_lite.errors import InputError
from flaxformer_lite.monitoring.chips import CHIPS
from flaxformer_lite.plan import fit, tables
from flaxformer_lite.plan.report import Plan, make_plan
from tests.micro_config import micro
from tests.plan.test_flops import SIZES


def _fake_plan(config, sizes, chip, devices) -> Plan:
    """Memory and time by a rule: more parts and more that is computed again take less memory and more time."""
    mesh = dataclasses.asdict(config.mesh)
    again = {"none": 1.0, "dots_with_no_batch_dims": 0.5, "full": 0.25}[config.model.remat]
    base = _real_plan()
    memory = dataclasses.replace(
        base.memory,
        weights=1000 // (mesh["fsdp"] * mesh["tensor"]),
        optimizer=0,
        batch=0,
        gradients=0,
        activations=int(64_000 * again / config.train.grad_accum_steps),
    )
    roofline = dataclasses.replace(
        base.roofline, products=2 - again, memory=0.0, exchanges=0.1 * config.train.grad_accum_steps
    )
    return dataclasses.replace(
        base,
        mesh=mesh,
        chip=chip,
        accumulate=config.train.grad_accum_steps,
        remat=config.model.remat,
        memory=memory,
        roofline=roofline,
    )


_PLANS: list[Plan] = []


def _real_plan() -> Plan:
    if not _PLANS:
        _PLANS.append(make_plan(micro(), SIZES, CHIPS["h100"], jax.devices()[:1]))
    return _PLANS[0]


def _fit(monkeypatch, memory: float):
    monkeypatch.setattr(fit, "make_plan", _fake_plan)
    said: list[str] = []
    config = micro({"train.batch_size": 32})
    return fit.find_fit(config, SIZES, CHIPS["h100"]._replace(memory=memory / 0.9), jax.devices(), said.append), said


@pytest.mark.parametrize(
    ("memory", "remat", "accumulate"),
    [(80_000, "none", 1), (40_000, "none", 2), (17_000, "none", 4), (4_500, "full", 4)],
)
def test_the_fastest_that_fits_is_found(monkeypatch, memory, remat, accumulate):
    found, said = _fit(monkeypatch, memory)
    best = found.plans[0]
    assert best.memory.total <= memory
    assert best.roofline.step == min(plan.roofline.step for plan in found.plans)
    assert (best.remat, best.accumulate) == (remat, accumulate)
    assert len(said) == found.compiled <= 3 + 4
    assert found.considered > 50
    assert f"--config.train.grad_accum_steps={accumulate}" in fit.flags_of(best)


def test_nothing_fits(monkeypatch):
    with pytest.raises(InputError, match=r"nothing fits in h100's memory on 8 devices: \d+ settings were considered"):
        _fit(monkeypatch, 100)


def test_what_was_found_is_shown(monkeypatch):
    found, _ = _fit(monkeypatch, 80_000)
    text = "\n".join(tables.fit_as_text(found))
    assert f"{found.considered} settings considered, {found.compiled} compiled" in text
    assert " ".join(fit.flags_of(found.plans[0])) in text
    values = tables.fit_as_json(found)
    assert values["flags"] == fit.flags_of(found.plans[0])
    assert len(values["fitting"]) == len(found.plans)


@pytest.mark.slow
def test_formulas_agree_with_compiled_programs_on_exchanges():
    """They rank settings before any is compiled, so they need be right to a factor, and in their order."""
    config = micro({"model.encoder.num_layers": 2, "model.encoder.dropout": 0.0})
    meshes = {"fsdp": fit.MeshConfig(1, 8, 1), "both": fit.MeshConfig(4, 1, 2)}
    for mesh in meshes.values():
        changed = fit.with_setting(config, mesh, "none", 1)
        plan = make_plan(changed, SIZES, CHIPS["h100"], jax.devices())
        formula = fit._exchanges(config, mesh, 1, plan)
        assert 0.5 < formula / plan.roofline.exchanges < 2
