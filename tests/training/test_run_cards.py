"""Run cards of public data sets load, train for some steps and evaluate."""

import json

import pytest

from flaxformer_lite.cli import main as cli

_SMALL = {
    **{"train.steps": 3, "train.batch_size": 16, "model.encoder.width": 16, "model.encoder.num_heads": 2},
    **{"model.encoder.mlp_dim": 16, "model.encoder.num_layers": 1, "data.num_buckets": 1, "eval.max_examples": 4},
    **{"decode.method": "greedy", "data.max_target_length": 64},
}
_CARDS = {
    "scan": ("scan/train_simple.tsv.gz", "", "scan/test_simple.tsv.gz"),
    "cogs": ("cogs/train.tsv.gz", "cogs/dev.tsv.gz", "cogs/gen.tsv.gz"),
    "histnorm": tuple(f"histnorm/swedish-gaw.{split}.txt.gz" for split in ("train", "dev", "test")),
    "inflection": tuple(f"sigmorphon2022-inflection/hun{suffix}" for suffix in ("_large.train", ".dev", ".gold")),
}


@pytest.mark.slow
@pytest.mark.parametrize("card", _CARDS)
def test_a_run_card_trains_and_evaluates(real_data, tmp_path, capsys, card):
    train, validation, test = _CARDS[card]
    files = {"train": train, "test": test} | ({"validation": validation} if validation else {})
    flags = [f"--config.data.text.{split}={real_data / name}" for split, name in files.items()]
    flags += [f"--config.{key}={value}" for key, value in _SMALL.items()]
    assert cli.main(["train", f"--config={card}", f"--workdir={tmp_path}", *flags]) == 0
    assert ("validation: 60 rows dropped, empty source; the first is " in capsys.readouterr().err) == (
        card == "histnorm"
    )
    evaluate = ["evaluate", f"--workdir={tmp_path}", "--split=test", "--max_examples=42", "--json"]
    assert cli.main(evaluate) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert {"loss", "token_accuracy", "exact_match"} <= set(metrics)
    assert any(name.startswith("exact_match/") for name in metrics) == (card == "cogs")
    logged = (tmp_path / "metrics.jsonl").read_text()
    assert ("eval/exact_match/in_distribution" in logged) == (card == "cogs")
