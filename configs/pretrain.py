"""Pre-train on plain text with span corruption, the objective of T5; configs/finetune.py starts from the result.

Model    T5 1.1 in a reduced size: 4 + 4 layers of 256, 10.4 M parameters with 8,000 SentencePieces and 100 sentinels
Paper    Raffel et al. (2020), "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer"
Expect   that depends on your text; eval/loss, of the tokens in spans, falls for as long as there is new text
Time     hours on 2 CPU cores, minutes on a GPU for 60,000 sentences
Train    flaxformer-lite train --config=configs/pretrain.py --workdir=runs/pretrained --config.data.text.train=text.txt
Look     flaxformer-lite data with the same flags shows corrupted examples
Vary     prefix language modeling: --config.data.objective=prefix_lm
         BART and UL2, which need more special tokens: docs/pretraining.md
"""

from ml_collections import ConfigDict

from flaxformer_lite.config import defaults
from flaxformer_lite.models import presets

_SMALLER = {"width": 256, "mlp_dim": 512, "num_layers": 4, "num_heads": 4, "dropout": 0.0}


def get_config() -> ConfigDict:
    """What differs from the defaults."""
    config = defaults.get_config()

    config.data.task = "text"
    config.data.text.format = "lines"
    config.data.objective = "span_corruption"
    config.data.overlength = "split"  # no token of a long line is lost
    config.data.validation_fraction = 0.01
    config.data.share_vocabulary = True
    for vocabulary in (config.data.source_vocabulary, config.data.target_vocabulary):
        vocabulary.kind = "sentencepiece"
        vocabulary.num_sentinels = 100
    config.data.max_source_length = 128
    config.data.max_target_length = 128
    config.data.pack = True
    config.data.packed_length = 256

    config.model.update_from_flattened_dict(presets.t5_1_1("small").model)
    config.model.encoder.update(_SMALLER)

    config.optim.schedule = "inverse_sqrt"
    config.optim.learning_rate = 2e-3
    config.optim.warmup_steps = 1_000

    config.train.steps = 20_000
    config.train.batch_size = 16  # packed rows of 256 source tokens
    config.train.label_smoothing = 0.0
    config.train.eval_every = 2_000
    config.train.save_every = 500

    config.eval.metrics = ()
    config.eval.best_metric = "loss"
    return config
