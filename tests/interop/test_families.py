"""Every published family against transformers itself: tiny models with random weights, made on the spot."""

import numpy as np
import pytest

from tests.interop import published
from tests.interop.published import Both, both, rows, transformers, untied

pytestmark = pytest.mark.filterwarnings("ignore")  # those of other libraries are not ours to mend

_T5 = {
    "vocab_size": 37,
    "d_model": 12,
    "d_kv": 5,
    "d_ff": 14,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 9,
    "layer_norm_epsilon": 1e-5,
    "decoder_start_token_id": 0,
}

_BART = {
    "vocab_size": 37,
    "max_position_embeddings": 19,
    "d_model": 12,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 14,
    "decoder_ffn_dim": 11,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "bos_token_id": 0,
    "decoder_start_token_id": 2,
}
_GEMMA = {
    "vocab_size": 37,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "query_pre_attn_scalar": 5,
    "sliding_window": 3,
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 3.0,
    "rope_parameters": {"rope_type": "default", "rope_theta": 50.0},
}
_ENCODER = {"hidden_size": 20, "intermediate_size": 14, "num_hidden_layers": 3, "num_attention_heads": 4}
_DECODER = {"hidden_size": 12, "intermediate_size": 18, "num_hidden_layers": 2, "num_attention_heads": 6}


def _gemma(*, tied: bool = True, encoder=_ENCODER, decoder=_DECODER, **changes) -> Both:
    sides = {"encoder": {**_GEMMA, **encoder, **changes}, "decoder": {**_GEMMA, **decoder, **changes}}
    return both(transformers.T5GemmaConfig(**sides, tie_word_embeddings=tied, vocab_size=37))


MODELS = {
    "t5": lambda: both(transformers.T5Config(**_T5)),
    "t5 1.1": lambda: untied(
        transformers.T5Config(**_T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False), "lm_head.weight"
    ),
    "t5, gated silu": lambda: both(transformers.T5Config(**_T5, feed_forward_proj="gated-silu")),
    "mt5": lambda: untied(transformers.MT5Config(**_T5), "lm_head.weight"),
    "umt5": lambda: both(transformers.UMT5Config(**_T5)),
    "umt5, untied": lambda: untied(transformers.UMT5Config(**_T5, feed_forward_proj="relu"), "lm_head.weight"),
    "bart": lambda: both(transformers.BartConfig(**_BART)),
    "bart, untied": lambda: both(
        transformers.BartConfig(**_BART, tie_word_embeddings=False, scale_embedding=True, activation_function="relu")
    ),
    "mbart": lambda: both(transformers.MBartConfig(**_BART, scale_embedding=True)),
    "marian": lambda: both(transformers.MarianConfig(**_BART, scale_embedding=True, activation_function="swish")),
    "marian, two vocabularies": lambda: both(
        transformers.MarianConfig(
            **_BART, share_encoder_decoder_embeddings=False, decoder_vocab_size=43, activation_function="gelu_new"
        )
    ),
    "pegasus": lambda: both(transformers.PegasusConfig(**_BART, activation_function="relu")),
    "m2m_100": lambda: both(transformers.M2M100Config(**_BART)),
    "m2m_100, untied": lambda: both(transformers.M2M100Config(**_BART, tie_word_embeddings=False)),
    "t5gemma": _gemma,
    "t5gemma, untied, biases": lambda: _gemma(
        tied=False, attention_bias=True, attn_logit_softcapping=None, final_logit_softcapping=None
    ),
    "t5gemma, all full": lambda: _gemma(
        encoder={**_ENCODER, "layer_types": ["full_attention"] * 3},
        decoder={**_DECODER, "layer_types": ["full_attention"] * 2},
        num_key_value_heads=1,
        hidden_activation="silu",
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request) -> Both:
    return MODELS[request.param]()


def test_logits_loss_and_gradients_are_the_references(model):
    source_size, target_size = model.ours.source_size, model.ours.target_size
    source, target = rows((7, 13, 4), 13, source_size), rows((5, 2, 11), 11, target_size)
    labels = np.roll(target.ids, -1, axis=1)
    expected = published.theirs(model, source, target, labels)
    found = published.ours(model, source, target, labels)
    inside = target.segments != 0
    np.testing.assert_allclose(found.logits[inside], expected.logits[inside], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5)
    assert set(found.gradients) - set(expected.gradients) <= {"final_logits_bias"}  # which the reference never trains
    largest = max(np.abs(gradient).max() for gradient in expected.gradients.values())
    for name, gradient in expected.gradients.items():
        # All of a tensor's by its largest one; those of keys' biases are nothing but rounding.
        close = 1e-4 * np.abs(gradient).max() + 1e-7 * largest
        np.testing.assert_allclose(found.gradients[name], gradient, rtol=1e-4, atol=close, err_msg=name)
