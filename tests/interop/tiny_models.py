"""Tiny models of every published family, all sizes different, which together set every key of config.json."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.interop.model_pairs import ModelPair, make_pair
from tests.transformers_reference import transformers


class TinyModel(NamedTuple):
    """Config of one model.

    Attributes:
      kind: name of the config's class in transformers without ``Config``.
      settings: its arguments.
      untied: parameters that get a tensor of their own, where no config key does it.
    """

    kind: str
    settings: dict[str, Any]
    untied: tuple[str, ...] = ()

    def config(self) -> Any:
        return getattr(transformers, f"{self.kind}Config")(**self.settings)

    def make_pair(self) -> ModelPair:
        return make_pair(self.config(), self.untied)


_T5 = {
    **{"vocab_size": 37, "d_model": 12, "d_kv": 5, "d_ff": 14, "num_layers": 2, "num_decoder_layers": 3},
    **{"num_heads": 3, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 9},
    **{"layer_norm_epsilon": 1e-5, "decoder_start_token_id": 0},
}
_BART = {
    **{"vocab_size": 37, "max_position_embeddings": 19, "d_model": 12, "encoder_layers": 3, "decoder_layers": 2},
    **{"encoder_attention_heads": 3, "decoder_attention_heads": 2, "encoder_ffn_dim": 14, "decoder_ffn_dim": 11},
    **{"encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0},
    **{"pad_token_id": 1, "eos_token_id": 2, "bos_token_id": 0, "decoder_start_token_id": 2},
}
_APART = {"tie_word_embeddings": False}
_OWN_OUTPUT = ("lm_head.weight",)
_GEMMA = {
    **{"vocab_size": 37, "num_key_value_heads": 2, "head_dim": 6, "query_pre_attn_scalar": 5, "sliding_window": 3},
    **{"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "rms_norm_eps": 1e-5},
    **{"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}, "max_position_embeddings": 9},
}
_ENCODER = {"hidden_size": 20, "intermediate_size": 14, "num_hidden_layers": 3, "num_attention_heads": 4}
_DECODER = {"hidden_size": 12, "intermediate_size": 18, "num_hidden_layers": 2, "num_attention_heads": 6}
_PLAIN = {
    **{"attention_bias": True, "attn_logit_softcapping": None, "final_logit_softcapping": None},
    **{"hidden_activation": "relu"},
}
_FULL = {"num_key_value_heads": 1, "hidden_activation": "silu"}


def _gemma(encoder: dict[str, Any], decoder: dict[str, Any], **both: Any) -> dict[str, Any]:
    return {"encoder": {**_GEMMA, **_ENCODER, **encoder}, "decoder": {**_GEMMA, **_DECODER, **decoder}, **both}


MODELS = {
    "t5": TinyModel("T5", _T5),
    "t5 1.1": TinyModel("T5", {**_T5, **_APART, "feed_forward_proj": "gated-gelu"}, _OWN_OUTPUT),
    "t5, derived keys are set": TinyModel(
        "T5",
        {**_T5, "num_decoder_layers": None, "feed_forward_proj": "gated-relu"}
        | {"dense_act_fn": "gelu", "scale_decoder_outputs": False},
    ),
    "mt5": TinyModel("MT5", {**_T5, "feed_forward_proj": "gelu"}, _OWN_OUTPUT),
    "umt5": TinyModel("UMT5", {**_T5, "feed_forward_proj": "gated-silu"}),
    "umt5, untied": TinyModel("UMT5", {**_T5, "feed_forward_proj": "relu"}, _OWN_OUTPUT),
    "bart": TinyModel("Bart", _BART),
    "bart, untied": TinyModel("Bart", {**_BART, **_APART, "scale_embedding": True, "activation_function": "relu"}),
    "mbart": TinyModel("MBart", {**_BART, "scale_embedding": True}),
    "mbart, untied": TinyModel("MBart", {**_BART, **_APART, "activation_function": "silu"}),
    "marian": TinyModel("Marian", {**_BART, "scale_embedding": True, "activation_function": "swish"}),
    "marian, untied": TinyModel("Marian", {**_BART, **_APART, "activation_function": "relu"}),
    "marian, two vocabularies": TinyModel(
        "Marian",
        {**_BART, "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 43}
        | {"activation_function": "gelu_new"},
    ),
    "pegasus": TinyModel("Pegasus", {**_BART, "scale_embedding": True, "activation_function": "relu"}),
    "pegasus, untied": TinyModel("Pegasus", {**_BART, **_APART}),
    "m2m_100": TinyModel("M2M100", _BART),
    "m2m_100, untied": TinyModel(
        "M2M100",
        {**_BART, **_APART, "scale_embedding": False, "activation_function": "gelu", "pad_token_id": 4},
    ),
    "t5gemma": TinyModel("T5Gemma", _gemma({}, {})),
    "t5gemma, untied": TinyModel(
        "T5Gemma",
        _gemma(
            {**_PLAIN, "vocab_size": 43, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]},
            {**_PLAIN, "layer_types": ["sliding_attention"] * 2},
            **_APART,
        ),
    ),
    "t5gemma, all full": TinyModel(
        "T5Gemma",
        _gemma(
            {**_FULL, "layer_types": ["full_attention"] * 3},
            {**_FULL, "layer_types": ["full_attention"] * 2},
            vocab_size=37,
        ),
    ),
}
