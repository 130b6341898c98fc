"""Beam variant ``hf`` against ``generate`` of transformers: the same models give the same tokens and scores."""

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.decoding.base import DecodeRequest, plain_request
from flaxformer_lite.decoding.beam import BeamSearch
from flaxformer_lite.decoding.beam_scoring import hugging_face
from flaxformer_lite.decoding.decode_loop import Greedy
from flaxformer_lite.decoding.logits_processors import (
    MinLength,
    NoRepeatNgram,
    RepetitionPenalty,
    SuppressSequences,
    SuppressTokens,
)
from flaxformer_lite.types import SpecialIds
from tests.decoding.fake_models import SPECIAL, VOCABULARY, Recurrent, search
from tests.transformers_reference import torch, transformers

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of other libraries

VALUES = [False, True, "never"]
T5_SPECIAL = SpecialIds(pad=0, end=1, begin=0, unknown=2)


class FakeInTorch(transformers.PreTrainedModel, transformers.GenerationMixin):
    """``Recurrent`` as a language model whose prompt is the begin token."""

    config_class = transformers.PretrainedConfig

    def __init__(self, model: Recurrent):
        super().__init__(transformers.PretrainedConfig(vocab_size=VOCABULARY))
        names = ("inputs", "transition", "outputs")
        self.weights = [torch.tensor(getattr(model, name), dtype=torch.float32) for name in names]
        self.anchor = torch.nn.Parameter(torch.zeros(()))  # transformers reads device and dtype from it

    def prepare_inputs_for_generation(self, input_ids, source=None, **_):
        return {"input_ids": input_ids, "source": source}

    def forward(self, input_ids, source=None, **_):
        inputs, transition, outputs = self.weights
        hidden, logits = torch.zeros(len(input_ids), len(transition)), []
        for token in input_ids.T:
            hidden = torch.tanh(hidden @ transition + inputs[token] + source)
            logits.append(hidden @ outputs[:-1] + outputs[-1])
        return transformers.modeling_outputs.CausalLMOutput(logits=torch.stack(logits, 1))


class TokenCache(NamedTuple):
    """A cache of the generated tokens."""

    ids: jax.Array
    position: jax.Array

    def select(self, parents) -> Self:
        return TokenCache(
            jnp.take_along_axis(self.ids, parents[:, :, None], axis=1), jnp.take_along_axis(self.position, parents, 1)
        )


class T5:
    """A small T5 with random weights, which computes the logits of whole prefixes for our search."""

    def __init__(self, seed: int):
        sizes = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 3}
        config = transformers.T5Config(vocab_size=37, decoder_start_token_id=0, dropout_rate=0.0, **sizes)
        self.model = transformers.T5ForConditionalGeneration(config).eval()
        self.model.lm_head = torch.nn.Linear(16, 37)  # untied, because a random tied model repeats one token
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, weights in sorted(self.model.named_parameters()):  # independent of the version of transformers
                weights.normal_(std=0.3) if weights.ndim > 1 else weights.fill_(float("norm" in name))
            self.model.shared.weight.normal_(std=1.0)
            self.model.lm_head.weight.normal_(std=2.0)
            self.model.lm_head.bias[1] = 2.0  # ends now and then

    def start(self, rows, beams, max_length):
        return TokenCache(jnp.zeros((rows, beams, max_length + 1), jnp.int32), jnp.zeros((rows, beams), jnp.int32))

    def step(self, token, cache, encoded):
        here = jnp.arange(cache.ids.shape[-1]) == cache.position[:, :, None]
        ids = jnp.where(here, token[:, :, None], cache.ids)
        shape = jax.ShapeDtypeStruct((*token.shape, 37), jnp.float32)
        logits = jax.pure_callback(self._logits, shape, ids, cache.position, encoded)
        return logits, TokenCache(ids, cache.position + 1)

    @torch.no_grad()
    def _logits(self, ids, position, sources):
        b, m, _ = ids.shape
        ids, sources = (np.array(x, np.int64) for x in (ids, sources))
        sources = torch.tensor(np.repeat(sources, m, axis=0))
        found = self.model(
            input_ids=sources,
            attention_mask=(sources != 0).long(),
            decoder_input_ids=torch.tensor(ids.reshape(b * m, -1)[:, : int(np.max(position)) + 1]),
        )
        return found.logits[:, -1].reshape(b, m, -1).numpy()


@pytest.fixture(scope="module")
def fake():
    ends_often = tuple(1.5 * (i == SPECIAL.end) for i in range(VOCABULARY))
    return Recurrent.random(seed=7, bias=ends_often)


@pytest.fixture(scope="module")
def t5():
    return T5(seed=5)


@pytest.fixture(scope="module")
def sentences():
    """Source tokens of five lengths, padded."""
    random = np.random.default_rng(2)
    return np.array([[*random.integers(2, 37, size=n), 1, *[0] * (7 - n)] for n in (7, 3, 5, 1, 6)], np.int32)


def generated(model, end, beams, limit, **settings):
    """Tokens and scores of ``generate``, [b][m]; tokens after the prompt up to the end token."""
    with torch.no_grad():
        found = model.generate(
            num_beams=beams,
            num_return_sequences=beams,
            max_new_tokens=limit,
            do_sample=False,
            eos_token_id=end,
            return_dict_in_generate=True,
            output_scores=True,
            **settings,
        )
    rows = []
    for ids in found.sequences[:, 1:].tolist():
        places = [place for place, token in enumerate(ids, start=1) if token in np.atleast_1d(end)]
        rows.append(ids[: min(places, default=len(ids))])
    scores = getattr(found, "sequences_scores", None)
    if scores is None:  # greedy search returns none
        steps = model.compute_transition_scores(found.sequences, found.scores, normalize_logits=True)
        scores = torch.where(torch.isfinite(steps), steps, 0).sum(1)
    grouped = [rows[i : i + beams] for i in range(0, len(rows), beams)]
    return grouped, scores.reshape(-1, beams).numpy()


def by_fake(fake, sources, beams, limit, **settings):
    return generated(
        FakeInTorch(fake),
        SPECIAL.end,
        beams,
        limit,
        input_ids=torch.full((len(sources), 1), SPECIAL.begin),
        source=torch.tensor(np.asarray(sources)),
        suppress_tokens=[SPECIAL.pad, SPECIAL.begin],
        pad_token_id=SPECIAL.pad,
        use_cache=False,
        **settings,
    )


def by_t5(t5, sentences, beams, limit, end=1, **settings):
    sources = torch.tensor(sentences.astype(np.int64))
    mask = (sources != 0).long()
    return generated(
        t5.model, end, beams, limit, input_ids=sources, attention_mask=mask, suppress_tokens=[0], **settings
    )


def ours_by_t5(t5, sentences, method, limit):
    def run(sources, request: DecodeRequest):
        return method(t5.step, t5.start(len(sentences), method.beam_size, limit), sources, request, limit, T5_SPECIAL)

    found = jax.jit(run)(jnp.asarray(sentences), plain_request(jnp.full(len(sentences), limit)))
    return jax.tree.map(np.asarray, found)


def assert_same(found, expected):
    rows, scores = expected
    ours = [
        [ids[:n].tolist() for ids, n in zip(*row, strict=True)] for row in zip(found.ids, found.lengths, strict=True)
    ]
    assert ours == rows
    np.testing.assert_allclose(found.scores, scores, rtol=2e-5, atol=1e-5)
    return rows


def assert_some_end(rows):
    ended = [ids[-1] == SPECIAL.end == T5_SPECIAL.end for row in rows for ids in row]
    assert any(ended)
    assert not all(ended)


@pytest.mark.parametrize("early_stopping", VALUES)
@pytest.mark.parametrize(("beams", "alpha"), [(2, 0.0), (3, 0.7), (4, 1.0), (2, 1.0), (3, 2.0)])
def test_a_fake_model(fake, beams, early_stopping, alpha):
    sources = fake.sources(seed=4, rows=17)
    expected = by_fake(fake, sources, beams, 7, length_penalty=alpha, early_stopping=early_stopping)
    found = search(fake, sources, [7] * 17, 7, BeamSearch(beams, hugging_face(alpha, early_stopping)))
    assert_some_end(assert_same(found, expected))


def test_the_values_of_early_stopping_differ(fake):
    sources = fake.sources(seed=4, rows=17)
    found = [by_fake(fake, sources, 3, 7, length_penalty=1.0, early_stopping=value)[0] for value in VALUES]
    assert found[0] != found[1] != found[2] != found[0]


def test_one_beam_is_greedy_search(fake, t5, sentences):
    sources = fake.sources(seed=4, rows=17)
    rows, _ = by_fake(fake, sources, 1, 7)
    found = search(fake, sources, [7] * 17, 7, Greedy())
    assert [[ids[0, : n[0]].tolist()] for ids, n in zip(found.ids, found.lengths, strict=True)] == rows
    rows, _ = by_t5(t5, sentences, 1, 9)
    found = ours_by_t5(t5, sentences, Greedy(), 9)
    assert [[ids[0, : n[0]].tolist()] for ids, n in zip(found.ids, found.lengths, strict=True)] == rows


@pytest.mark.parametrize("early_stopping", VALUES)
@pytest.mark.parametrize(("beams", "alpha"), [(2, 1.0), (3, 0.0), (4, 0.6), (3, 1.7)])
def test_a_real_t5(t5, sentences, beams, early_stopping, alpha):
    expected = by_t5(t5, sentences, beams, 9, length_penalty=alpha, early_stopping=early_stopping)
    method = BeamSearch(beams, hugging_face(alpha, early_stopping))
    rows = assert_same(ours_by_t5(t5, sentences, method, 9), expected)
    if alpha <= 0.6:  # higher ones favor unfinished targets
        assert_some_end(rows)


@pytest.mark.parametrize(
    ("settings", "processor"),
    [
        ({"repetition_penalty": 1.4}, RepetitionPenalty(1.4)),
        ({"no_repeat_ngram_size": 1}, NoRepeatNgram(1)),
        ({"no_repeat_ngram_size": 2}, NoRepeatNgram(2)),
        ({"min_new_tokens": 4}, MinLength(4, end_ids=(1,))),
        ({"bad_words_ids": [[5], [9]]}, SuppressTokens((5, 9))),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_logits_processors_equal_those_of_transformers(t5, sentences, settings, processor):
    plain, _ = by_t5(t5, sentences, 3, 9, length_penalty=1.0)
    expected = by_t5(t5, sentences, 3, 9, length_penalty=1.0, **settings)
    method = BeamSearch(3, hugging_face(1.0), (processor,))
    rows = assert_same(ours_by_t5(t5, sentences, method, 9), expected)
    assert rows != plain


def test_suppressed_sequences(t5, sentences):
    plain, _ = by_t5(t5, sentences, 3, 9)
    sequences = (tuple(plain[0][1][1:3]), tuple(plain[1][0][:3]), tuple(plain[2][1][:2]))
    expected = by_t5(t5, sentences, 3, 9, bad_words_ids=[list(ids) for ids in sequences])
    method = BeamSearch(3, hugging_face(1.0), (SuppressSequences(sequences),))
    assert assert_same(ours_by_t5(t5, sentences, method, 9), expected) != plain


@pytest.mark.parametrize("beams", [1, 3])
def test_several_end_tokens(t5, sentences, beams):
    plain, _ = by_t5(t5, sentences, beams, 9)
    ends = tuple(
        {ids[place] for row in plain for ids, place in zip(row, (3, 2, 4), strict=False) if len(ids) > 5} - {1}
    )
    expected = by_t5(t5, sentences, beams, 9, end=[1, *ends])
    method = BeamSearch(3, hugging_face(1.0), end_ids=ends) if beams > 1 else Greedy(end_ids=ends)
    found = ours_by_t5(t5, sentences, method, 9)
    rows = assert_same(found if beams > 1 else found._replace(scores=expected[1]), expected)
    assert {ids[-1] for row in rows for ids in row} & set(ends)
    assert rows != plain
