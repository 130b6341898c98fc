import argparse
import dataclasses

import pytest

from flaxformer_lite.cli import decode_flags
from flaxformer_lite.errors import InputError


def decode_config(config, *argv):
    parser = argparse.ArgumentParser(exit_on_error=False)
    decode_flags.add_arguments(parser, n_best=True)
    return decode_flags.decode_config(config, parser.parse_args(["--workdir=w", *argv]))


def with_decode(config, **values):
    return dataclasses.replace(config, decode=dataclasses.replace(config.decode, **values))


def test_without_flags_the_settings_are_those_of_the_run(config):
    for own in (config, with_decode(config, method="beam", beam_size=7, n_best=3, length_penalty=1.0)):
        assert decode_config(own) == own.decode


def test_a_flag_overrides_the_run(config):
    own = with_decode(config, method="beam", beam_size=7)
    changed = decode_config(own, "--beam_size=4", "--length_penalty=0.25", "--batch_size=3", "--n_best=2")
    assert changed == dataclasses.replace(own.decode, beam_size=4, length_penalty=0.25, batch_size=3, n_best=2)


@pytest.mark.parametrize("flag", ["--beam_size=3", "--length_penalty=0", "--n_best=2"])
def test_flags_of_beam_search_imply_it(config, flag):
    assert config.decode.method == "greedy"
    assert decode_config(config, flag).method == "beam"
    with pytest.raises(InputError, match=f"{flag.partition('=')[0]}=.*: has no effect with --method=greedy; drop"):
        decode_config(config, "--method=greedy", flag)


@pytest.mark.parametrize(
    ("flags", "method"),
    [
        (["--beam_variant=marian"], "beam"),
        (["--num_beam_groups=5", "--diversity_penalty=0.3"], "beam"),
        (["--early_stopping=never", "--beam_variant=hf"], "beam"),
        (["--top_p=0.9"], "sample"),
        (["--temperature=0.5", "--n_best=4"], "sample"),
        (["--utility=bleu"], "mbr"),
        (["--utility=bleu", "--num_samples=9"], "mbr"),
        (["--method=mbr", "--top_k=4"], "mbr"),
        (["--repetition_penalty=1.2", "--no_repeat_ngram_size=3", "--min_length=2", "--suppress_tokens=a,b"], "greedy"),
    ],
)
def test_the_method_that_flags_imply(config, flags, method):
    assert decode_config(config, *flags).method == method


@pytest.mark.parametrize(
    "flags",
    [
        ["--top_p=0.9", "--beam_size=4"],
        ["--utility=bleu", "--num_beam_groups=1"],
        ["--method=sample", "--utility=chrf"],
    ],
)
def test_flags_of_different_methods_contradict(config, flags):
    with pytest.raises(InputError, match="has no effect with --method="):
        decode_config(config, *flags)


def test_every_key_of_decode_is_a_flag(config):
    values = {
        "suppress_tokens": "a,b",
        "end_tokens": "a,b",
        "early_stopping": "never",
        "beam_variant": "hf",
        "method": "beam",
        "ensemble": "log_probability",
    }
    kinds = {int: "3", float: "0.5", bool: "true"}
    options = ("options", "logits_processors", "logits_processor_options")
    for field in dataclasses.fields(config.decode):
        if field.name in options:
            continue
        value = values.get(field.name) or kinds.get(type(getattr(config.decode, field.name)))
        if field.name == "utility":
            value = "bleu"
        own = with_decode(config, beam_variant="hf", beam_size=3)
        changed = getattr(decode_config(own, f"--{field.name}={value}"), field.name)
        assert changed == (("a", "b") if value == "a,b" else type(changed)(value)), field.name


def test_a_quoted_comma_is_a_token(config):
    assert decode_config(config, '--suppress_tokens=a,",",b').suppress_tokens == ("a", ",", "b")
    assert decode_config(config, "--suppress_tokens=").suppress_tokens == ()


def test_values_of_the_run_that_contradict_flags_are_adjusted(config):
    own = with_decode(config, method="beam", beam_size=6, num_beam_groups=3, beam_variant="hf", early_stopping="true")
    assert decode_config(own, "--beam_size=4").num_beam_groups == 1
    assert decode_config(own, "--beam_variant=google").early_stopping == "false"
    with pytest.raises(InputError, match=r"^--num_beam_groups=4: must divide beam_size=6"):
        decode_config(own, "--num_beam_groups=4")
    with pytest.raises(InputError, match=r"^--early_stopping='true': belongs to beam_variant='hf'"):
        decode_config(own, "--beam_variant=google", "--early_stopping=true")


@pytest.mark.parametrize(
    ("flags", "samples", "n_best"),
    [
        (["--method=sample"], 1, 1),
        (["--top_p=0.9"], 1, 1),
        (["--method=sample", "--num_samples=8"], 8, 8),
        (["--method=sample", "--n_best=3"], 3, 3),
        (["--num_samples=8", "--n_best=2"], 8, 2),
        (["--method=mbr"], 16, 1),
        (["--method=mbr", "--num_samples=8"], 8, 1),
    ],
)
def test_all_samples_are_the_output_unless_flags_give_two_numbers(config, flags, samples, n_best):
    decode = decode_config(config, *flags)
    assert (decode.num_samples, decode.n_best) == (samples, n_best)


def test_the_run_sets_the_number_of_samples(config):
    own = with_decode(config, method="sample", num_samples=9, n_best=4)
    assert decode_config(own, "--temperature=0.5") == dataclasses.replace(own.decode, temperature=0.5)
    assert decode_config(own, "--num_samples=3").n_best == 3


def test_commas_separate_work_directories():
    assert decode_flags.directories("a,b") == ["a", "b"]
    assert decode_flags.directories("a,") == ["a"]
    assert decode_flags.directories(",") == [","]


def test_flags_of_every_method_imply_none(config):
    assert decode_config(config, "--n_best=1", "--batch_size=2").method == "greedy"


def test_fewer_beams_lower_the_n_best_of_the_run(config):
    own = with_decode(config, method="beam", beam_size=7, n_best=5)
    assert decode_config(own, "--beam_size=2").n_best == 2
    assert decode_config(own, "--method=greedy").n_best == 1


@pytest.mark.parametrize(
    "flag", ["--n_best=6", "--beam_size=0", "--length_penalty=-1.5", "--batch_size=0", "--n_best=0"]
)
def test_errors_name_the_flag(config, flag):
    with pytest.raises(InputError, match=f"^{flag}: "):
        decode_config(config, flag)


@pytest.mark.parametrize(("text", "step"), [("best", "best"), ("latest", "latest"), ("1200", 1200)])
def test_step(text, step):
    parser = argparse.ArgumentParser(exit_on_error=False)
    decode_flags.add_arguments(parser)
    assert parser.parse_args(["--workdir=w", f"--step={text}"]).step == step


@pytest.mark.parametrize("text", ["worst", "-3", "1.5", ""])
def test_rejects_other_values_of_step(text):
    parser = argparse.ArgumentParser(exit_on_error=False)
    decode_flags.add_arguments(parser)
    with pytest.raises(argparse.ArgumentError, match="neither best, latest, average nor the number"):
        parser.parse_args(["--workdir=w", f"--step={text}"])
