"""configs/wikipron.py with an LSTM without attention, as in Sutskever et al. (2014).

Expect   test WER 23.3 / 22.7 / 27.3 % in Icelandic / Hungarian / Armenian (seed 0)
Time     4 to 6 minutes on one CPU core
Train    flaxformer-lite train --config=configs/wikipron_lstm.py --workdir=runs/hun_lstm \
             --config.data.text.train=train/hun_train.tsv --config.data.text.validation=dev/hun_dev.tsv \
             --config.data.text.test=test/hun_test.tsv
Vary     the summary read at each step, as in Cho et al. (2014): --config.model.decoder.rnn.design=cho
"""

from ml_collections import ConfigDict

from flaxformer_lite.run_cards import wikipron_lstm_attention


def get_config() -> ConfigDict:
    """What differs from configs/wikipron_lstm_attention.py."""
    config = wikipron_lstm_attention.get_config()

    config.model.encoder.width = 256  # the state must represent the whole word
    config.model.decoder.rnn.design = "sutskever"
    return config
