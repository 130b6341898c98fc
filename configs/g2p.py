"""Grapheme to phoneme: from the letters of an English word to its phones, on CMUdict without stress.

Task     107,146 / 6,302 / 12,604 words for training / validation / test, divided as in the Sphinx project's
         g2p-seq2seq (distinct words in file order, index modulo 20: 19 validation, 17 and 18 test)
Metrics  word error rate (WER): a word is right if it equals any of its pronunciations; phone error rate (PER)
Paper    the Transformer of Vaswani et al. (2017); for this task Yolchuyeva et al. (2019), "Transformer based
         Grapheme-to-Phoneme Conversion"
Expect   validation WER 28.4 %, PER 7.1 % (greedy, seed 0); test WER 29.8 %, with beam 5 29.3 % and PER 7.2 %
Time     at most 20 minutes on 2 CPU cores
Train    flaxformer-lite train --config=configs/g2p.py --workdir=runs/g2p
Use      echo "flaxformer" | flaxformer-lite decode --workdir=runs/g2p
Measure  flaxformer-lite evaluate --workdir=runs/g2p --split=test
Vary     with stress: --config.data.cmudict.keep_stress=True
         better and longer: configs/g2p_long.py
"""

from ml_collections import ConfigDict

from flaxformer_lite.config import defaults


def get_config() -> ConfigDict:
    """What differs from the base."""
    config = defaults.get_config()

    config.data.task = "cmudict"
    config.data.source_vocabulary.kind = "character"
    config.data.target_vocabulary.kind = "word"  # phones are written with spaces between them
    config.data.max_source_length = 29  # the longest word has 28 letters and the longest pronunciation 28 phones, so
    config.data.max_target_length = 29  # with the end token nothing is left out

    config.model.encoder.width = 128
    config.model.encoder.mlp_dim = 512
    config.model.encoder.num_layers = 3
    config.model.encoder.dropout = 0.0  # 12 epochs are too few to overfit: 2 without dropout do better than 4 with 0.1

    config.optim.learning_rate = 1.5e-3
    config.optim.schedule = "linear"
    config.optim.warmup_steps = 1_000

    config.train.steps = 10_000
    config.train.batch_size = 128
    config.train.eval_every = 2_000
    config.train.save_every = 500

    config.eval.metrics = ("wer", "per")
    config.eval.best_metric = "wer"
    return config
