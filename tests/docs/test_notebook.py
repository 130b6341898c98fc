"""The cells of the notebook run, in order."""

import json

import pytest

from tests.micro_config import use_devices


@pytest.mark.slow
def test_python_api(repository, tmp_path, monkeypatch):
    use_devices(monkeypatch, 1)
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((repository / "docs" / "python_api.ipynb").read_text("utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(sources) > 5
    names = {}
    for source in sources:
        exec(compile(source, "python_api.ipynb", "exec"), names)
    assert names["model"].step == names["config"].train.steps
