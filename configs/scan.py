"""SCAN (Lake & Baroni 2018): from a command to its actions, "jump twice" → "I_JUMP I_JUMP".

Task     TSV of commands and actions; splits simple 16,728 / 4,182, length 16,990 / 3,920, addprim_jump 14,670 / 7,706;
         a twentieth of the training examples is held out for validation
Metrics  exact match, percent
Paper    the Transformer of Csordás et al. (2021), "The Devil is in the Detail", with T5's relative position biases
         instead of relative positions after Transformer-XL
Expect   not measured here. Published: LSTM 99.8 simple, 20.8 length, 1.2 addprim_jump (Lake & Baroni 2018)
Time     not measured here
Train    flaxformer-lite train --config=configs/scan.py --workdir=runs/scan \
             --config.data.text.train=scan/train_simple.tsv.gz --config.data.text.test=scan/test_simple.tsv.gz
Measure  flaxformer-lite evaluate --workdir=runs/scan --split=test
Vary     another split: train_length.tsv.gz and test_length.tsv.gz
"""

from ml_collections import ConfigDict

from flaxformer_lite.config import defaults


def get_config() -> ConfigDict:
    """What differs from the base."""
    config = defaults.get_config()

    config.data.task = "text"
    config.data.validation_fraction = 0.05
    config.data.source_vocabulary.kind = "word"
    config.data.target_vocabulary.kind = "word"
    config.data.max_source_length = 10  # the longest command has 9 words, the longest action sequence 48
    config.data.max_target_length = 50

    config.model.encoder.width = 128
    config.model.encoder.num_heads = 8
    config.model.encoder.mlp_dim = 256
    config.model.encoder.num_layers = 3
    config.model.encoder.dropout = 0.5
    config.model.encoder.positions.kind = "relative_bias"

    config.optim.learning_rate = 1e-3
    config.optim.schedule = "constant"
    config.optim.warmup_steps = 0

    config.train.steps = 50_000
    config.train.batch_size = 256
    config.train.label_smoothing = 0.0
    config.train.eval_every = 2_500
    config.train.save_every = 2_500

    config.eval.metrics = ("exact_match",)
    config.eval.best_metric = "exact_match"

    config.decode.max_length_ratio = 0.0  # actions are many more than words
    config.decode.max_length_offset = 60
    return config
