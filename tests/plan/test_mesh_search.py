import dataclasses

import jax
import pytest

from flaxformer_lite.errors import InputError
from flaxformer_lite.monitoring.chips import CHIPS
from flaxformer_lite.plan import format_report, mesh_search
from flaxformer_lite.plan.report import PlanReport, make_report
from tests.micro_config import micro
from tests.plan.test_matmuls import SIZES


def _fake_plan(config, sizes, chip, devices) -> PlanReport:
    """More microbatches and more rematerialization take less memory and more time."""
    mesh = dataclasses.asdict(config.mesh)
    kept = {"none": 1.0, "dots_with_no_batch_dims": 0.5, "full": 0.25}[config.model.remat]
    base = _real_plan()
    memory = dataclasses.replace(
        base.memory,
        params=1000 // (mesh["fsdp"] * mesh["tensor"]),
        opt_state=0,
        batch=0,
        gradients=0,
        activations=int(64_000 * kept / config.train.grad_accum_steps),
    )
    roofline = dataclasses.replace(
        base.roofline, matmuls=2 - kept, memory=0.0, communication=0.1 * config.train.grad_accum_steps
    )
    return dataclasses.replace(
        base,
        mesh=mesh,
        chip=chip,
        grad_accum_steps=config.train.grad_accum_steps,
        remat=config.model.remat,
        memory=memory,
        roofline=roofline,
    )


_PLANS: list[PlanReport] = []


def _real_plan() -> PlanReport:
    if not _PLANS:
        _PLANS.append(make_report(micro(), SIZES, CHIPS["h100"], jax.devices()[:1]))
    return _PLANS[0]


def _search(monkeypatch, memory: float):
    compiled = []
    monkeypatch.setattr(mesh_search, "make_report", lambda *args: compiled.append(args) or _fake_plan(*args))
    chip = CHIPS["h100"]._replace(memory=memory / 0.9)
    return mesh_search.search_mesh(micro({"train.batch_size": 32}), SIZES, chip, jax.devices()), compiled


@pytest.mark.parametrize(
    ("memory", "remat", "accumulate"),
    [(80_000, "none", 1), (40_000, "none", 2), (17_000, "none", 4), (4_500, "full", 4)],
)
def test_search_finds_the_fastest_setting_that_fits(monkeypatch, memory, remat, accumulate):
    found, compiled = _search(monkeypatch, memory)
    best = found.plans[0]
    assert best.memory.total <= memory
    assert best.roofline.step == min(plan.roofline.step for plan in found.plans)
    assert (best.remat, best.grad_accum_steps) == (remat, accumulate)
    assert len(compiled) == found.compiled <= 3 + 4
    assert found.considered > 50
    assert f"--config.train.grad_accum_steps={accumulate}" in mesh_search.to_overrides(best)


def test_nothing_fits(monkeypatch):
    with pytest.raises(InputError, match=r"8 h100: nothing fits in memory: of \d+ settings \d+ were compiled"):
        _search(monkeypatch, 100)


def test_search_result_is_formatted(monkeypatch):
    found, _ = _search(monkeypatch, 80_000)
    text = "\n".join(format_report.search_to_text(found))
    assert f"{found.considered} settings considered, {found.compiled} compiled" in text
    assert " ".join(mesh_search.to_overrides(found.plans[0])) in text
    values = format_report.search_to_json(found)
    assert values["flags"] == mesh_search.to_overrides(found.plans[0])
    assert len(values["fitting"]) == len(found.plans)


@pytest.mark.slow
def test_communication_formulas_agree_with_compiled_programs():
    """Formulas rank settings before compilation; a factor of 2 suffices."""
    config = micro({"model.encoder.num_layers": 2, "model.encoder.dropout": 0.0})
    meshes = {"fsdp": mesh_search.MeshConfig(1, 8, 1), "both": mesh_search.MeshConfig(4, 1, 2)}
    for mesh in meshes.values():
        changed = mesh_search.with_setting(config, mesh, "none", 1)
        plan = make_report(changed, SIZES, CHIPS["h100"], jax.devices())
        formula = mesh_search._communication(config, mesh, 1, plan)
        assert 0.5 < formula / plan.roofline.communication < 2
