"""configs/wikipron.py with a GRU that attends as in Luong et al. (2015), by the general score.

Expect   test WER 9.6 / 5.3 / 14.9 % in Icelandic / Hungarian / Armenian (seed 0)
Time     2 to 4 minutes on one CPU core
Train    flaxformer-lite train --config=configs/wikipron_gru_attention.py --workdir=runs/hun_gru_attention \
             --config.data.text.train=train/hun_train.tsv --config.data.text.validation=dev/hun_dev.tsv \
             --config.data.text.test=test/hun_test.tsv
Vary     feeding attention back: --config.model.decoder.rnn.input_feeding=True
"""

from ml_collections import ConfigDict

from flaxformer_lite.run_cards import wikipron_lstm_attention


def get_config() -> ConfigDict:
    """What differs from configs/wikipron_lstm_attention.py."""
    config = wikipron_lstm_attention.get_config()

    config.model.encoder.rnn.cell = "gru"
    config.model.decoder.rnn.design = "luong"
    config.model.decoder.rnn.attention = "general"
    return config
