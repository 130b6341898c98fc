"""Tiny models of every published family, all sizes different, which together set whatever a config.json can."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.interop import published
from tests.interop.published import Both
from tests.reference import transformers


class Tiny(NamedTuple):
    """One model.

    Attributes:
      kind: of its config: the name of the reference's class without ``Config``.
      settings: what its config is made of.
      untied: parameters that become tensors of their own, where a config alone cannot say so.
    """

    kind: str
    settings: dict[str, Any]
    untied: tuple[str, ...] = ()

    def config(self) -> Any:
        """The reference's."""
        return getattr(transformers, f"{self.kind}Config")(**self.settings)

    def both(self) -> Both:
        """The reference's model, and ours with the same weights."""
        return published.both(self.config(), self.untied)


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
    "t5": Tiny("T5", _T5),
    "t5 1.1": Tiny("T5", {**_T5, **_APART, "feed_forward_proj": "gated-gelu"}, _OWN_OUTPUT),
    "t5, what is derived is said": Tiny(
        "T5",
        {**_T5, "num_decoder_layers": None, "feed_forward_proj": "gated-relu"}
        | {"dense_act_fn": "gelu", "scale_decoder_outputs": False},
    ),
    "mt5": Tiny("MT5", {**_T5, "feed_forward_proj": "gelu"}, _OWN_OUTPUT),
    "umt5": Tiny("UMT5", {**_T5, "feed_forward_proj": "gated-silu"}),
    "umt5, untied": Tiny("UMT5", {**_T5, "feed_forward_proj": "relu"}, _OWN_OUTPUT),
    "bart": Tiny("Bart", _BART),
    "bart, untied": Tiny("Bart", {**_BART, **_APART, "scale_embedding": True, "activation_function": "relu"}),
    "mbart": Tiny("MBart", {**_BART, "scale_embedding": True}),
    "mbart, untied": Tiny("MBart", {**_BART, **_APART, "activation_function": "silu"}),
    "marian": Tiny("Marian", {**_BART, "scale_embedding": True, "activation_function": "swish"}),
    "marian, untied": Tiny("Marian", {**_BART, **_APART, "activation_function": "relu"}),
    "marian, two vocabularies": Tiny(
        "Marian",
        {**_BART, "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 43}
        | {"activation_function": "gelu_new"},
    ),
    "pegasus": Tiny("Pegasus", {**_BART, "scale_embedding": True, "activation_function": "relu"}),
    "pegasus, untied": Tiny("Pegasus", {**_BART, **_APART}),
    "m2m_100": Tiny("M2M100", _BART),
    "m2m_100, untied": Tiny(
        "M2M100",
        {**_BART, **_APART, "scale_embedding": False, "activation_function": "gelu", "pad_token_id": 4},
    ),
    "t5gemma": Tiny("T5Gemma", _gemma({}, {})),
    "t5gemma, untied": Tiny(
        "T5Gemma",
        _gemma(
            {**_PLAIN, "vocab_size": 43, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]},
            {**_PLAIN, "layer_types": ["sliding_attention"] * 2},
            **_APART,
        ),
    ),
    "t5gemma, all full": Tiny(
        "T5Gemma",
        _gemma(
            {**_FULL, "layer_types": ["full_attention"] * 3},
            {**_FULL, "layer_types": ["full_attention"] * 2},
            vocab_size=37,
        ),
    ),
}
