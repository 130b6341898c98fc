"""Between which values each number of a config must lie."""

from __future__ import annotations

from typing import Any

from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import require

# Smallest allowed value of every number that has one.
AT_LEAST = {
    "seed": 0,
    "data.source_vocabulary.size": 0,
    "data.target_vocabulary.size": 0,
    "data.reverse.min_length": 1,
    "data.reverse.examples": 10,
    "data.max_source_length": 2,
    "data.max_target_length": 2,
    "data.num_buckets": 1,
    "data.prefetch": 0,
    "model.width": 1,
    "model.num_heads": 1,
    "model.num_key_heads": 1,
    "model.head_width": 0,
    "model.mlp_width": 1,
    "model.num_layers": 1,
    "model.decoder_width": 1,
    "model.num_decoder_heads": 1,
    "model.num_decoder_key_heads": 1,
    "model.decoder_head_width": 0,
    "model.decoder_mlp_width": 1,
    "model.num_decoder_layers": 1,
    "model.dropout": 0,
    "model.final_dropout": 0,
    "model.layer_dropout": 0,
    "model.position_details.longest": 0,
    "model.position_details.offset": 0,
    "model.position_details.buckets": 4,
    "model.position_details.max_distance": 2,
    "model.position_details.theta": 1,
    "model.norms.epsilon": 0,
    "model.attention.query_scalar": 0,
    "model.attention.softcap": 0,
    "model.attention.window": 0,
    "model.attention.dropout": 0,
    "model.feed_forward.dropout": 0,
    "model.embeddings.multiple": 1,
    "model.output.softcap": 0,
    "model.rnn.embedding_width": 0,
    "model.rnn.attention_width": 0,
    "model.rnn.readout_width": 0,
    "model.rnn.residual_from": 0,
    "optim.learning_rate": 0,
    "optim.warmup_steps": 0,
    "optim.decay_steps": 0,
    "optim.plateau.factor": 0.01,
    "optim.plateau.patience": 1,
    "optim.plateau.window": 1,
    "optim.momentum": 0,
    "optim.beta1": 0,
    "optim.beta2": 0,
    "optim.epsilon": 0,
    "optim.weight_decay": 0,
    "optim.clip_norm": 0,
    "train.steps": 1,
    "train.batch_size": 1,
    "train.grad_accum_steps": 1,
    "train.label_smoothing": 0,
    "train.z_loss": 0,
    "train.r_drop": 0,
    "train.distill.weight": 0,
    "train.distill.temperature": 0.01,
    "train.ema_decay": 0,
    "train.log_every": 1,
    "train.eval_every": 1,
    "train.save_every": 1,
    "train.keep_latest": 1,
    "train.keep_best": 0,
    "train.patience": 0,
    "train.max_nonfinite_steps": 1,
    "train.max_compiles": 0,
    "eval.max_examples": 0,
    "eval.num_samples": 0,
    "decode.beam_size": 1,
    "decode.length_penalty": 0,
    "decode.num_beam_groups": 1,
    "decode.diversity_penalty": 0,
    "decode.num_samples": 1,
    "decode.temperature": 0.01,
    "decode.top_k": 0,
    "decode.top_p": 0.001,
    "decode.min_p": 0,
    "decode.repetition_penalty": 0.01,
    "decode.no_repeat_ngram_size": 0,
    "decode.min_length": 0,
    "decode.n_best": 1,
    "decode.batch_size": 1,
    "decode.max_length_ratio": 0,
    "decode.max_length_offset": 1,
}
BELOW_ONE = (
    *("model.dropout", "model.attention.dropout", "model.feed_forward.dropout"),
    *("model.final_dropout", "model.layer_dropout", "train.label_smoothing", "train.ema_decay"),
    *("optim.plateau.factor", "optim.beta1", "optim.beta2", "optim.momentum"),
)
AT_MOST_ONE = ("train.distill.weight", "decode.top_p", "decode.min_p")


def check_ranges(config: Config) -> None:
    """Raises ``InputError`` of the first number that is out of its range."""

    def get(key: str) -> float:
        value: Any = config
        for name in key.split("."):
            value = getattr(value, name)
        return value

    for key, low in AT_LEAST.items():
        require(get(key) >= low, f"config.{key}={get(key)}: must be at least {low}")
    for key in BELOW_ONE:
        require(get(key) < 1, f"config.{key}={get(key)}: must be below 1")
    for key in AT_MOST_ONE:
        require(get(key) <= 1, f"config.{key}={get(key)}: must be at most 1")
