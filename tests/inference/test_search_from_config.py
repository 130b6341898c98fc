"""Searches and logits processors that the config names as import paths."""

import dataclasses
from typing import Annotated

import jax.numpy as jnp
import pytest

import flaxformer_lite
from flaxformer_lite.config import parsing
from flaxformer_lite.config.value_types import Bounds
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.decoding.base import NEG_INF, LogitsProcessor
from flaxformer_lite.decoding.decode_loop import Greedy
from flaxformer_lite.decoding.logits_processors import MinLength, RenormalizeLogits
from flaxformer_lite.errors import InputError
from flaxformer_lite.inference.search_from_config import make_search
from tests.micro_config import micro, use_devices
from tests.work_dirs import LETTERS, make_folder

HERE = "tests.inference.test_search_from_config"


@dataclasses.dataclass(frozen=True)
class Shortened:
    """Greedy search that stops after ``length`` tokens."""

    length: Annotated[int, Bounds(at_least=1)]
    processors: tuple[LogitsProcessor, ...] = ()
    end_ids: tuple[int, ...] = ()

    @property
    def beam_size(self):
        return 1

    def __call__(self, step, cache, encoded, request, max_length, special):
        request = request._replace(max_lengths=jnp.minimum(request.max_lengths, self.length))
        return Greedy(self.processors, self.end_ids)(step, cache, encoded, request, max_length, special)


@dataclasses.dataclass(frozen=True)
class Only:
    """Forbids all tokens except those of a text and the end."""

    vocabulary: Vocabulary
    end_ids: tuple[int, ...]
    text: str

    def __call__(self, log_probs, history):
        allowed = jnp.isin(
            jnp.arange(log_probs.shape[-1]), jnp.array([*self.vocabulary.encode(self.text), *self.end_ids])
        )
        return jnp.where(allowed, log_probs, NEG_INF)


def never_first_letter(log_probs, history):
    return log_probs.at[..., LETTERS.encode("a")[0]].set(NEG_INF)


@dataclasses.dataclass
class Mutable:
    def __call__(self, log_probs, history):
        return log_probs


@dataclasses.dataclass(frozen=True)
class NoSearch:
    pass


def config(**values):
    return micro({f"decode.{key}": value for key, value in values.items()}).decode


def test_a_search_gets_processors_and_options():
    search = make_search(
        config(method=f"{HERE}:Shortened", options={"length": 3}, min_length=2, end_tokens=("j",)), LETTERS
    )
    end_ids = tuple(LETTERS.encode("j"))
    assert search == Shortened(3, (MinLength(2, (LETTERS.special.end, *end_ids)),), end_ids)


def test_processors_are_applied_in_order_before_renormalization():
    decode = config(
        logits_processors=(f"{HERE}:Only", f"{HERE}:never_first_letter"),
        logits_processor_options={"Only": {"text": "ab"}},
        renormalize_logits=True,
    )
    search = make_search(decode, LETTERS)
    expected = (Only(LETTERS, (LETTERS.special.end,), "ab"), never_first_letter, RenormalizeLogits())
    assert search == Greedy(expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "nowhere:X"}, r"config\.decode\.method='nowhere:X': there is no module nowhere"),
        ({"method": f"{HERE}:Shortened"}, r"config\.decode\.options\.length: is missing"),
        (
            {"method": f"{HERE}:Shortened", "options": {"length": 0}},
            r"config\.decode\.options\.length=0: must be at least 1",
        ),
        ({"method": f"{HERE}:Shortened", "options": {"lenght": 2}}, r"options\.lenght: .* did you mean length\?"),
        ({"method": f"{HERE}:NoSearch"}, r"config\.decode\.method=.*: does not implement decoding\.base\.Search"),
        ({"logits_processors": (f"{HERE}:NoSearch",)}, r"config\.decode\.logits_processors=.*: .* not callable"),
        ({"logits_processors": (f"{HERE}:Mutable",)}, r"must be hashable .*; declare it as dataclass\(frozen=True\)"),
        (
            {"logits_processors": (f"{HERE}:Only",), "logits_processor_options": {"Only": {"txt": "a"}}},
            r"config\.decode\.logits_processor_options\.Only\.txt: .* did you mean text\?",
        ),
    ],
)
def test_errors_name_the_key(values, message):
    with pytest.raises(InputError, match=message):
        make_search(config(**values), LETTERS)


def test_a_model_decodes_with_both(tmp_path, monkeypatch):
    use_devices(monkeypatch, 1)
    changes = {
        "method": f"{HERE}:Shortened",
        "options": {"length": 3},
        "logits_processors": (f"{HERE}:Only",),
        "logits_processor_options": {"Only": {"text": "abc"}},
        "min_length": 2,
    }
    run = micro({f"decode.{key}": value for key, value in changes.items()})
    make_folder(tmp_path / "run", run)
    model = flaxformer_lite.load(tmp_path / "run")
    assert model.config == parsing.from_dict(parsing.to_dict(run))
    found = model.decode(["abc", "jih", "d"])
    assert all(2 <= len(text) <= 3 and set(text) <= set("abc") for text in found)
