"""configs/wikipron.py with an LSTM that attends as in Bahdanau et al. (2015).

Expect   test WER 9.6 / 4.9 / 13.8 % in Icelandic / Hungarian / Armenian (seed 0)
Time     2 to 4 minutes on one CPU core
Train    flaxformer-lite train --config=configs/wikipron_lstm_attention.py --workdir=runs/hun_lstm_attention \
             --config.data.text.train=train/hun_train.tsv --config.data.text.validation=dev/hun_dev.tsv \
             --config.data.text.test=test/hun_test.tsv
Vary     the cell: --config.model.encoder.rnn.cell=gru
"""

from ml_collections import ConfigDict

from flaxformer_lite.run_cards import wikipron


def get_config() -> ConfigDict:
    """What differs from configs/wikipron.py."""
    config = wikipron.get_config()

    config.model.encoder.kind = config.model.decoder.kind = "rnn"
    config.model.encoder.num_layers = 1
    config.model.encoder.width = 128
    config.model.encoder.rnn.cell = "lstm"
    config.model.encoder.rnn.direction = "both"
    config.model.decoder.rnn.design = "bahdanau"
    config.model.decoder.rnn.attention = "additive"
    return config
