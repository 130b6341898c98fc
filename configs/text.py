"""Training on your own text: two parallel files, or a table; UTF-8, plain, .gz or .zst.

Model    the Transformer of Vaswani et al. (2017), 7.6 M parameters with two vocabularies of 8,000 SentencePieces
Expect   that depends on your text; watch eval/chrf and eval/bleu
Time     some hours for 30,000 sentences on 2 CPU cores, minutes on a GPU
Train    flaxformer-lite train --config=configs/text.py --workdir=runs/mine \
             --config.data.text.train=train.de,train.en --config.data.text.validation=val.de,val.en
Look     flaxformer-lite data with the same flags, before training
Vary     a test split for flaxformer-lite evaluate --split=test: --config.data.text.test=test.de,test.en
         characters: --config.data.source_vocabulary.kind=character --config.data.target_vocabulary.kind=character
"""

from ml_collections import ConfigDict

from flaxformer_lite.config import defaults
from flaxformer_lite.models.presets import Preset


def get_config() -> ConfigDict:
    """What differs from the base."""
    config = defaults.get_config()

    config.data.task = "text"
    config.data.source_vocabulary.kind = "sentencepiece"
    config.data.target_vocabulary.kind = "sentencepiece"

    config.train.steps = 20_000
    config.train.batch_size = 64

    config.optim.learning_rate = 5e-4
    config.optim.warmup_steps = 2_000

    config.eval.metrics = ("bleu", "chrf")
    config.eval.best_metric = "chrf"
    config.eval.max_examples = 500
    return config


def of_family(preset: Preset, pieces: int, longest: int) -> ConfigDict:
    """A published architecture, to be trained from scratch on your own text.

    Args:
      preset: of ``flaxformer_lite/models/presets.py``.
      pieces: SentencePieces of each vocabulary, or of the one that both sides share.
      longest: maximum number of tokens of sources and targets.
    """
    config = get_config()
    config.data.share_vocabulary = preset.model.get("share_embeddings") in ("all", "inputs")
    for vocabulary in (config.data.source_vocabulary, config.data.target_vocabulary):
        vocabulary.size = pieces
    config.data.max_source_length = longest
    config.data.max_target_length = longest
    config.model.update_from_flattened_dict(preset.model)
    if config.model.encoder.positions.kind == "sinusoidal_fairseq":
        config.model.encoder.positions.offset = 1  # after the padding id, which is 0 in vocabularies built here

    config.train.steps = 100_000
    config.train.batch_size = 128
    return config
