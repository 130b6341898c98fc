"""Grapheme to phoneme in a language of SIGMORPHON 2020, task 1: a small Transformer on 3,600 words.

Task     3,600 / 450 / 450 words, a TSV a language; the files are the shared task's
Metrics  word error rate (WER) and phone error rate (PER), percent
Expect   test WER 12.9 / 12.0 / 17.1 % in Icelandic / Hungarian / Armenian (seed 0): cut short, more steps do better
Time     4 to 6 minutes on one CPU core
Train    flaxformer-lite train --config=configs/wikipron.py --workdir=runs/hun \
             --config.data.text.train=train/hun_train.tsv --config.data.text.validation=dev/hun_dev.tsv \
             --config.data.text.test=test/hun_test.tsv
Measure  flaxformer-lite evaluate --workdir=runs/hun --split=test
Vary     other models on the same: configs/wikipron_lstm_attention.py, wikipron_gru_attention.py, wikipron_lstm.py
"""

from ml_collections import ConfigDict

from flaxformer_lite.config import defaults


def get_config() -> ConfigDict:
    """What differs from the base."""
    config = defaults.get_config()

    config.data.task = "text"
    config.data.source_vocabulary.kind = "character"
    config.data.target_vocabulary.kind = "word"  # phones are written with spaces between them
    config.data.max_source_length = 40
    config.data.max_target_length = 40
    config.data.overlength = "truncate"
    config.data.num_buckets = 3

    config.model.encoder.width = 128
    config.model.encoder.mlp_dim = 512
    config.model.encoder.num_layers = 3
    config.model.encoder.dropout = 0.3

    config.optim.learning_rate = 2e-3
    config.optim.schedule = "linear"
    config.optim.warmup_steps = 300

    config.train.steps = 3_000
    config.train.batch_size = 64
    config.train.eval_every = 300
    config.train.save_every = 300

    config.eval.metrics = ("wer", "per")
    config.eval.best_metric = "wer"

    config.decode.method = "beam"
    return config
