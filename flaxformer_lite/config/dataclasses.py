"""Every configuration key with its type; those of models are in ``model_dataclasses``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from flaxformer_lite.config.model_dataclasses import ModelConfig
from flaxformer_lite.config.value_types import (
    Bounds,
    Fraction,
    ImportPath,
    NonNegativeFloat,
    NonNegativeInt,
    Options,
    PositiveFloat,
    PositiveInt,
    Rate,
    Seed,
)


@dataclass(frozen=True)
class VocabularyConfig:
    """How text becomes token ids (``data.source_vocabulary``, ``data.target_vocabulary``)."""

    kind: Literal["byte", "character", "word", "sentencepiece", "tags", "ids", "tokenizer", "saved"] | ImportPath
    size: NonNegativeInt
    model: str
    model_type: Literal["unigram", "bpe"]
    sample_size: NonNegativeInt
    tag_pattern: str
    tag_separator: str
    special_tokens: tuple[str, ...]
    num_sentinels: NonNegativeInt
    options: Options


@dataclass(frozen=True)
class CmudictConfig:
    """The CMU pronouncing dictionary."""

    keep_stress: bool
    data_dir: str


@dataclass(frozen=True)
class TextConfig:
    """The user's own text: for each split two parallel files, a table in one or more files, or plain text."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    format: Literal["auto", "parallel", "lines", "tsv", "jsonl", "parquet"]
    source_columns: tuple[str, ...]
    target_columns: tuple[str, ...]
    meta_columns: tuple[str, ...]
    column_separator: str
    header: bool
    group_references: bool


@dataclass(frozen=True)
class TfdsConfig:
    """Any prepared TensorFlow Datasets data set with two text features."""

    name: str
    data_dir: str
    source_feature: str
    target_feature: str


@dataclass(frozen=True)
class HfConfig:
    """A saved or cached Hugging Face dataset with two text fields."""

    name_or_path: str
    config_name: str
    source_field: str
    target_field: str


@dataclass(frozen=True)
class ReverseConfig:
    """Random short strings and their reversals."""

    alphabet: str
    min_length: PositiveInt
    max_length: int
    examples: Annotated[PositiveInt, Bounds(at_least=10)]


@dataclass(frozen=True)
class DataConfig:
    """Training and evaluation data, and how they are batched."""

    task: Literal["cmudict", "text", "tfds", "hf", "reverse"] | ImportPath
    cmudict: CmudictConfig
    text: TextConfig
    tfds: TfdsConfig
    hf: HfConfig
    reverse: ReverseConfig
    options: Options
    mixture: Options
    mixture_temperature: NonNegativeFloat
    source_prefix: str
    preprocess: Literal["none"] | ImportPath
    preprocess_options: Options
    objective: Literal["supervised", "span_corruption", "ul2", "bart", "prefix_lm"] | ImportPath
    objective_options: Options
    validation_fraction: Rate
    on_bad_row: Literal["error", "drop", "keep_empty"]
    source_vocabulary: VocabularyConfig
    target_vocabulary: VocabularyConfig
    share_vocabulary: bool
    source_subword_sampling: Fraction
    target_subword_sampling: Fraction
    max_source_length: Annotated[PositiveInt, Bounds(at_least=2)]
    max_target_length: Annotated[PositiveInt, Bounds(at_least=2)]
    overlength: Literal["drop", "truncate", "split"]
    window_overlap: NonNegativeInt
    split_at_sentences: bool
    num_buckets: PositiveInt
    pack: bool
    packed_length: PositiveInt
    prefetch: NonNegativeInt


@dataclass(frozen=True)
class PlateauConfig:
    """The schedule plateau: when and by how much it reduces the learning rate."""

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
    tokens_per_batch: NonNegativeInt
    rows_multiple: PositiveInt
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
    best_metric: str
    max_examples: NonNegativeInt
    num_samples: NonNegativeInt
    group_by: str


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
    """Number of devices along each mesh axis; -1: all remaining ones."""

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

    seed: Seed
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
