"""COGS (Kim & Linzen 2020): from an English sentence to its logical form.

Task     TSV of sentence, logical form and type: 24,155 / 3,000 / 3,000 for training / validation / test, and 21,000 of
         21 types that test generalization
Metrics  exact match, percent; of generalization also by type (``exact_match/cp_recursion`` …)
Paper    sizes of Kim & Linzen (2020); learning rate and relative positions after Csordás et al. (2021), with T5's
         biases instead of Transformer-XL's
Expect   not measured here. Published, Transformer: test 96, generalization 35 (Kim & Linzen 2020), 81 (Csordás et al.)
Time     not measured here
Train    flaxformer-lite train --config=configs/cogs.py --workdir=runs/cogs --config.data.text.train=cogs/train.tsv.gz \
             --config.data.text.validation=cogs/dev.tsv.gz --config.data.text.test=cogs/test.tsv.gz
Measure  flaxformer-lite evaluate --workdir=runs/cogs --split=test
         flaxformer-lite evaluate --workdir=runs/cogs --text=cogs/gen.tsv.gz
Vary     absolute positions, as in Kim & Linzen (2020): --config.model.encoder.positions.kind=sinusoidal
"""

from ml_collections import ConfigDict

from flaxformer_lite.config import defaults


def get_config() -> ConfigDict:
    """What differs from the base."""
    config = defaults.get_config()

    config.data.task = "text"
    config.data.text.meta_columns = ("2",)  # the type; columns 0 and 1 are sentence and logical form
    config.data.source_vocabulary.kind = "word"
    config.data.target_vocabulary.kind = "word"
    config.data.max_source_length = 64  # sentences have at most 22 words, those of generalization 61
    config.data.max_target_length = 512  # logical forms have at most 162 tokens, those of generalization 480

    config.model.encoder.width = 512
    config.model.encoder.num_heads = 4
    config.model.encoder.mlp_dim = 512
    config.model.encoder.num_layers = 2
    config.model.encoder.dropout = 0.1
    config.model.encoder.positions.kind = "relative_bias"

    config.optim.learning_rate = 1e-4
    config.optim.schedule = "constant"
    config.optim.warmup_steps = 0

    config.train.steps = 50_000
    config.train.batch_size = 128
    config.train.label_smoothing = 0.0
    config.train.eval_every = 2_500
    config.train.save_every = 2_500

    config.eval.metrics = ("exact_match",)
    config.eval.best_metric = "exact_match"
    config.eval.group_by = "2"

    config.decode.max_length_ratio = 8.0  # logical forms are several times as long as sentences
    config.decode.max_length_offset = 40
    return config
