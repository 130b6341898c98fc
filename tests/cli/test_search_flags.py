import argparse
import dataclasses

import pytest

from flaxformer_lite.cli import search_flags
from flaxformer_lite.errors import InputError


def decode_config(config, *argv):
    parser = argparse.ArgumentParser(exit_on_error=False)
    search_flags.add_arguments(parser)
    parser.add_argument("--n_best", type=int)
    return search_flags.decode_config(config, parser.parse_args(["--workdir=w", *argv]))


def with_decode(config, **values):
    return dataclasses.replace(config, decode=dataclasses.replace(config.decode, **values))


def test_without_flags_it_is_the_folders_own(config):
    for own in (config, with_decode(config, method="beam", beam_size=7, n_best=3, length_penalty=1.0)):
        assert decode_config(own) == own.decode


def test_a_flag_wins_over_the_folder(config):
    own = with_decode(config, method="beam", beam_size=7)
    changed = decode_config(own, "--beam_size=4", "--length_penalty=0.25", "--batch_size=3", "--n_best=2")
    assert changed == dataclasses.replace(own.decode, beam_size=4, length_penalty=0.25, batch_size=3, n_best=2)


@pytest.mark.parametrize("flag", ["--beam_size=3", "--length_penalty=0", "--n_best=2"])
def test_flags_of_beam_search_imply_it(config, flag):
    assert config.decode.method == "greedy"
    assert decode_config(config, flag).method == "beam"
    with pytest.raises(InputError, match=f"{flag.partition('=')[0]}=.* is of no use to --method=greedy: drop"):
        decode_config(config, "--method=greedy", flag)


def test_flags_of_any_search_imply_none(config):
    assert decode_config(config, "--n_best=1", "--batch_size=2").method == "greedy"


def test_the_folders_n_best_gives_way_to_fewer_beams(config):
    own = with_decode(config, method="beam", beam_size=7, n_best=5)
    assert decode_config(own, "--beam_size=2").n_best == 2
    assert decode_config(own, "--method=greedy").n_best == 1


@pytest.mark.parametrize(
    "flag", ["--n_best=6", "--beam_size=0", "--length_penalty=-1.5", "--batch_size=0", "--n_best=0"]
)
def test_what_cannot_be_names_the_flag(config, flag):
    with pytest.raises(InputError, match=f"^{flag}: ") as error:
        decode_config(config, flag)
    assert "config.decode" not in str(error.value)


@pytest.mark.parametrize(("text", "step"), [("best", "best"), ("latest", "latest"), ("1200", 1200)])
def test_step(text, step):
    parser = argparse.ArgumentParser(exit_on_error=False)
    search_flags.add_arguments(parser)
    assert parser.parse_args(["--workdir=w", f"--step={text}"]).step == step


@pytest.mark.parametrize("text", ["worst", "-3", "1.5", ""])
def test_step_that_is_none(text):
    parser = argparse.ArgumentParser(exit_on_error=False)
    search_flags.add_arguments(parser)
    with pytest.raises(argparse.ArgumentError, match="neither best, latest, average nor the number"):
        parser.parse_args(["--workdir=w", f"--step={text}"])
