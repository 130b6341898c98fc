"""Every configuration key with its type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from flaxformer_lite.config.key_types import (
    Bounds,
    Fraction,
    ImportPath,
    NonNegativeFloat,
    NonNegativeInt,
    Options,
    PositiveFloat,
    PositiveInt,
    Rate,
)


@dataclass(frozen=True)
class VocabularyConfig:
    """How text becomes token ids (``data.source_vocabulary``, ``data.target_vocabulary``)."""

    kind: Literal["byte", "character", "word", "sentencepiece", "saved"] | ImportPath
    size: NonNegativeInt  # at most this many entries, special ones included; 0: as many as the training text has
    model: str  # sentencepiece: a model file to use as it is, "": train one; saved: the file of a work folder
    options: Options


@dataclass(frozen=True)
class CmudictConfig:
    """The CMU pronouncing dictionary."""

    keep_stress: bool
    data_dir: str  # where the prepared data set is kept; "": the user's cache folder


@dataclass(frozen=True)
class TextConfig:
    """The user's own text: for each split two parallel files, or one file of tab-separated columns."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class TfdsConfig:
    """Any prepared TensorFlow Datasets data set with two text features."""

    name: str
    data_dir: str  # "": TFDS's own default
    source_feature: str
    target_feature: str


@dataclass(frozen=True)
class ReverseConfig:
    """Random short strings and their reversals."""

    alphabet: str
    min_length: PositiveInt
    max_length: int
    examples: Annotated[int, Bounds(at_least=10)]  # of the training split; validation and test have a tenth each


@dataclass(frozen=True)
class DataConfig:
    """What to learn from, and how it is cut into batches."""

    task: Literal["cmudict", "text", "tfds", "reverse"] | ImportPath
    cmudict: CmudictConfig
    text: TextConfig
    tfds: TfdsConfig
    reverse: ReverseConfig
    options: Options
    validation_fraction: Rate
    source_vocabulary: VocabularyConfig
    target_vocabulary: VocabularyConfig
    share_vocabulary: bool
    max_source_length: Annotated[int, Bounds(at_least=2)]
    max_target_length: Annotated[int, Bounds(at_least=2)]
    overlength: Literal["drop", "truncate"]
    num_buckets: PositiveInt
    prefetch: NonNegativeInt


@dataclass(frozen=True)
class RnnConfig:
    """What recurrent encoders and decoders have of their own."""

    cell: Literal["elman", "lstm", "gru", "gru2014"]
    direction: Literal["forward", "backward", "both"]
    design: Literal["sutskever", "cho", "bahdanau", "luong"]
    attention: Literal["additive", "concat", "dot", "general"]
    input_feeding: bool
    bridge: Literal["copy", "dense"]
    embedding_width: int
    attention_width: int
    readout_width: int
    residual_from: int
    variational_dropout: bool


@dataclass(frozen=True)
class PositionDetailsConfig:
    """What the kinds of positions have of their own."""

    longest: int
    offset: int
    scale: bool
    buckets: int
    max_distance: int
    theta: float


@dataclass(frozen=True)
class AttentionConfig:
    """What every attention of a Transformer is made of."""

    bias: bool
    query_scalar: float
    softcap: float
    window: int
    pattern: tuple[Literal["full", "window"], ...]
    dropout: float


@dataclass(frozen=True)
class FeedForwardConfig:
    """What every feed-forward sublayer is made of."""

    activation: Literal["relu", "gelu", "gelu_tanh", "silu"]
    gated: bool
    bias: bool
    dropout: float


@dataclass(frozen=True)
class NormsConfig:
    """Which norm, and where there are more than those of sublayers."""

    kind: Literal["layer", "rms", "rms_from_one"]
    epsilon: float
    embeddings: bool
    final: Literal["unless_after", "always", "never"]


@dataclass(frozen=True)
class EmbeddingsConfig:
    """Word vectors."""

    scale: bool
    multiple: int


@dataclass(frozen=True)
class OutputConfig:
    """From what a decoder says to logits."""

    bias: Literal["untied", "always", "never"]
    scale: bool
    softcap: float


@dataclass(frozen=True)
class ModelConfig:
    """An encoder and a decoder, each a Transformer (Vaswani et al. 2017) or recurrent."""

    encoder: Literal["transformer", "rnn"]
    decoder: Literal["transformer", "rnn"]
    width: int
    num_heads: int
    num_key_heads: int
    head_width: int
    mlp_width: int
    num_layers: int
    decoder_width: int
    num_decoder_heads: int
    num_decoder_key_heads: int
    decoder_head_width: int
    decoder_mlp_width: int
    num_decoder_layers: int
    positions: Literal["sinusoidal", "halves", "fairseq", "learned", "relative", "relative_per_layer", "rotary", "none"]
    position_details: PositionDetailsConfig
    norm: Literal["before", "after", "around"]
    norms: NormsConfig
    attention: AttentionConfig
    feed_forward: FeedForwardConfig
    embeddings: EmbeddingsConfig
    output: OutputConfig
    share_embeddings: Literal["all", "inputs", "target", "none"]
    init: Literal["glorot", "fan_in", "small"]
    dropout: float
    final_dropout: float
    layer_dropout: float
    remat: Literal["none", "full", "dots", "dots_with_no_batch_dims"]
    scan_layers: bool
    rnn: RnnConfig


@dataclass(frozen=True)
class PlateauConfig:
    """When the learning rate falls that waits for the loss to stand still."""

    factor: Annotated[float, Bounds(at_least=0.01, below=1)]
    patience: PositiveInt
    window: PositiveInt


@dataclass(frozen=True)
class OptimConfig:
    """How parameters follow gradients."""

    optimizer: Literal["adam", "adamw", "adafactor", "lion", "muon"] | ImportPath
    options: Options
    learning_rate: NonNegativeFloat
    schedule: Literal["inverse_sqrt", "cosine", "linear", "constant", "wsd", "plateau"] | ImportPath
    schedule_options: Options
    warmup_steps: NonNegativeInt
    decay_steps: NonNegativeInt
    plateau: PlateauConfig
    beta1: Rate
    beta2: Rate
    epsilon: NonNegativeFloat
    momentum: Rate
    weight_decay: NonNegativeFloat
    no_decay: tuple[str, ...]
    lr_multipliers: tuple[str, ...]
    frozen: tuple[str, ...]
    clip_norm: NonNegativeFloat


@dataclass(frozen=True)
class DistillConfig:
    """Trained models whose word by word predictions are learned, beside the labels."""

    teachers: tuple[str, ...]
    weight: Fraction
    temperature: PositiveFloat


@dataclass(frozen=True)
class TrainConfig:
    """The training run."""

    init_from: str
    steps: PositiveInt
    batch_size: PositiveInt
    grad_accum_steps: PositiveInt
    loss: Literal["cross_entropy", "kl_divergence"]
    label_smoothing: Rate
    z_loss: NonNegativeFloat
    r_drop: NonNegativeFloat
    loss_terms: tuple[ImportPath, ...]
    loss_options: Options
    distill: DistillConfig
    ema_decay: Rate
    log_every: PositiveInt
    eval_every: PositiveInt
    save_every: PositiveInt
    keep_latest: PositiveInt
    keep_best: NonNegativeInt
    patience: NonNegativeInt
    max_nonfinite_steps: PositiveInt
    max_compiles: NonNegativeInt


@dataclass(frozen=True)
class EvalConfig:
    """Evaluation during training and by the ``evaluate`` command."""

    metrics: tuple[Literal["exact_match", "wer", "per", "bleu", "chrf"] | ImportPath, ...]
    metric_options: Options
    best_metric: Literal["loss", "token_accuracy", "exact_match", "wer", "per", "bleu", "chrf"] | ImportPath
    max_examples: NonNegativeInt
    num_samples: NonNegativeInt


@dataclass(frozen=True)
class DecodeConfig:
    """From a source to hypotheses."""

    method: Literal["greedy", "beam", "sample", "mbr"] | ImportPath
    options: Options
    beam_size: PositiveInt
    beam_variant: Literal["google", "hf", "fairseq", "marian"]
    length_penalty: NonNegativeFloat
    early_stopping: Literal["false", "true", "never"]
    num_beam_groups: PositiveInt
    diversity_penalty: NonNegativeFloat
    num_samples: PositiveInt
    temperature: PositiveFloat
    top_k: NonNegativeInt
    top_p: Annotated[float, Bounds(at_least=0.001, at_most=1)]
    min_p: Fraction
    utility: Literal["chrf", "bleu", "edit_distance"]
    repetition_penalty: PositiveFloat
    no_repeat_ngram_size: NonNegativeInt
    min_length: NonNegativeInt
    suppress_tokens: tuple[str, ...]
    end_tokens: tuple[str, ...]
    renormalize_logits: bool
    forced_bos: bool
    forced_eos: bool
    logits_processors: tuple[ImportPath, ...]
    logits_processor_options: Options
    ensemble: Literal["probability", "log_probability"]
    n_best: PositiveInt
    batch_size: PositiveInt
    max_length_ratio: NonNegativeFloat
    max_length_offset: PositiveInt


@dataclass(frozen=True)
class MeshConfig:
    """How many devices lie along each axis of the mesh; -1: all that are left."""

    data: int
    fsdp: int
    tensor: int


Axis = Literal["none", "data", "fsdp", "tensor"]


@dataclass(frozen=True)
class LogicalAxisRulesConfig:
    """For each logical axis of parameters the axis of the mesh that divides it."""

    embed: Axis
    heads: Axis
    head_dim: Axis
    mlp: Axis
    gates: Axis
    vocab: Axis
    length: Axis
    layers: Axis


@dataclass(frozen=True)
class PrecisionConfig:
    """The dtypes of training and of what is computed on the way."""

    param_dtype: Literal["float32", "bfloat16"]
    dtype: Literal["float32", "bfloat16"]
    moment_dtype: Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class ParallelConfig:
    """How the one train step is compiled for many devices."""

    mode: Literal["jit", "pmap"]


@dataclass(frozen=True)
class Config:
    """A whole run."""

    seed: NonNegativeInt
    data: DataConfig
    model: ModelConfig
    optim: OptimConfig
    train: TrainConfig
    eval: EvalConfig
    decode: DecodeConfig
    mesh: MeshConfig
    logical_axis_rules: LogicalAxisRulesConfig
    precision: PrecisionConfig
    parallel: ParallelConfig


# The free options of each key that accepts an import path. Where the key lists several, its options are keyed by the
# name of the class: config.eval.metric_options.Rouge belongs to "my_metrics:Rouge".
OPTIONS_KEYS = {
    "data.task": "data.options",
    "data.source_vocabulary.kind": "data.source_vocabulary.options",
    "data.target_vocabulary.kind": "data.target_vocabulary.options",
    "optim.optimizer": "optim.options",
    "optim.schedule": "optim.schedule_options",
    "decode.method": "decode.options",
}
LIST_OPTIONS_KEYS = {
    "eval.metrics": "eval.metric_options",
    "train.loss_terms": "train.loss_options",
    "decode.logits_processors": "decode.logits_processor_options",
}
