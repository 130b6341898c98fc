"""Historical normalization: the modern spelling of a historical word, "Effter" → "Efter" (Bollmann 2019).

Task     TSV of historical and modern word. Swedish 28,237 / 2,590 / 33,544 words, whose files separate sentences by
         rows of empty texts, which are dropped; Icelandic 52,440 / 6,443 / 6,384
Metrics  word accuracy (exact match), percent; chrF
Paper    the Transformer of Wu, Cotterell & Hulden (2021), "Applying the Transformer to Character-level Transduction"
Expect   not measured here. Published (Bollmann 2019, table 6): with 10,000 words Swedish 84.4 to 88.6, with 25,000
         Icelandic 77.6 to 81.8
Time     not measured here
Train    flaxformer-lite train --config=configs/histnorm.py --workdir=runs/swedish \
             --config.data.text.train=histnorm/swedish-gaw.train.txt.gz \
             --config.data.text.validation=histnorm/swedish-gaw.dev.txt.gz \
             --config.data.text.test=histnorm/swedish-gaw.test.txt.gz
Measure  flaxformer-lite evaluate --workdir=runs/swedish --split=test
Vary     Icelandic: icelandic-icepahc instead of swedish-gaw
"""

from ml_collections import ConfigDict

from flaxformer_lite.config import defaults


def get_config() -> ConfigDict:
    """What differs from the base."""
    config = defaults.get_config()

    config.data.task = "text"
    config.data.on_bad_row = "drop"  # rows of two empty texts between sentences
    config.data.source_vocabulary.kind = "character"
    config.data.target_vocabulary.kind = "character"
    config.data.max_source_length = 40  # the longest word has 36 letters
    config.data.max_target_length = 40
    _set_character_transformer(config)
    return config


def _set_character_transformer(config: ConfigDict) -> None:
    """Model and training of Wu et al. (2021)."""
    config.model.encoder.width = 256
    config.model.encoder.num_heads = 4
    config.model.encoder.mlp_dim = 1024
    config.model.encoder.num_layers = 4
    config.model.encoder.dropout = 0.3

    config.optim.learning_rate = 1e-3
    config.optim.schedule = "inverse_sqrt"
    config.optim.warmup_steps = 4_000

    config.train.steps = 20_000
    config.train.batch_size = 400  # they find that large batches matter
    config.train.label_smoothing = 0.1
    config.train.eval_every = 2_000
    config.train.save_every = 2_000

    config.eval.metrics = ("exact_match", "chrf")
    config.eval.best_metric = "exact_match"

    config.decode.method = "beam"
