"""Translation by a deep LSTM without attention: Sutskever et al. (2014), "Sequence to Sequence Learning".

Model    4 + 4 LSTM layers of 1,000, words of 1,000; source read backwards, its last states start the decoder
Task     the paper's: WMT'14 English to French, 160,000 and 80,000 words; any --config.data.text.train=a.en,b.fr
Expect   the paper: BLEU 30.59 (one model, beam 12); not run here
Time     the paper: ten days on 8 GPUs of 2014
Train    flaxformer-lite train --config=configs/sutskever2014.py --workdir=runs/sutskever2014 \
             --config.data.text.train=train.en,train.fr --config.data.text.validation=val.en,val.fr
Vary     small enough for 2 CPU cores: configs/wikipron_lstm.py
         the paper's optimizer is SGD, halved by the epoch; here it is Adam
"""

from ml_collections import ConfigDict

from flaxformer_lite.run_cards import text


def get_config() -> ConfigDict:
    """What differs from configs/text.py."""
    config = text.get_config()

    for vocabulary, size in ((config.data.source_vocabulary, 160_000), (config.data.target_vocabulary, 80_000)):
        vocabulary.kind = "word"
        vocabulary.size = size

    config.model.encoder.kind = config.model.decoder.kind = "rnn"
    config.model.encoder.width = 1_000
    config.model.encoder.num_layers = 4
    config.model.share_embeddings = "none"
    config.model.encoder.dropout = 0.0
    config.model.encoder.rnn.cell = "lstm"
    config.model.encoder.rnn.direction = "backward"
    config.model.decoder.rnn.design = "sutskever"
    config.model.decoder.rnn.bridge = "copy"

    config.optim.clip_norm = 5.0
    config.optim.learning_rate = 1e-3

    config.train.batch_size = 128
    config.train.label_smoothing = 0.0

    config.decode.method = "beam"
    config.decode.beam_size = 12
    config.decode.length_penalty = 0.0
    return config
