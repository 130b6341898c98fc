"""Morphological inflection (SIGMORPHON 2022, task 0): from lemma and tags to the form.

Task     TSV of lemma, form and tags, "innian innoden V;SBJV;PL;PST"; of each language 7,000 for training, about 1,000
         for validation and 2,000 for test (``.gold``); five languages: ang, heb, hun, kat, tur
Metrics  exact match, percent
Paper    the Transformer of Wu, Cotterell & Hulden (2021), "Applying the Transformer to Character-level Transduction"
Expect   not measured here. Published, neural baseline, test: ang 61.1, heb 48.5, hun 77.2, kat 87.3, tur 39.7
Time     not measured here
Train    flaxformer-lite train --config=configs/inflection.py --workdir=runs/ang \
             --config.data.text.train=ang_large.train --config.data.text.validation=ang.dev \
             --config.data.text.test=ang.gold
Measure  flaxformer-lite evaluate --workdir=runs/ang --split=test
Vary     tags as letters: --config.data.source_vocabulary.kind=character
"""

from ml_collections import ConfigDict

from flaxformer_lite.run_cards import histnorm


def get_config() -> ConfigDict:
    """What differs from configs/histnorm.py."""
    config = histnorm.get_config()

    config.data.on_bad_row = "error"
    config.data.text.source_columns = ("0", "2")  # lemma and tags, joined by a blank
    config.data.text.target_columns = ("1",)
    config.data.source_vocabulary.kind = "tags"  # a tag is a token, and so is each letter of the lemma
    config.data.max_source_length = 80
    config.data.max_target_length = 60

    config.eval.metrics = ("exact_match",)

    config.decode.max_length_offset = 20
    return config
