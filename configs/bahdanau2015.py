"""Translation by a GRU that attends: Bahdanau et al. (2015), "Neural Machine Translation by Jointly Learning to Align".

Model    RNNsearch: a GRU of 1,000 in each direction, words of 620, additive attention of 1,000 units, maxout of 500
Task     the paper's: WMT'14 English to French, 30,000 words each; any --config.data.text.train=a.en,b.fr
Expect   the paper: BLEU 26.75 (28.45 trained longer), sentences of up to 50 words; not run here
Time     the paper: days on one GPU of 2015
Train    flaxformer-lite train --config=configs/bahdanau2015.py --workdir=runs/bahdanau2015 \
             --config.data.text.train=train.en,train.fr --config.data.text.validation=val.en,val.fr
Vary     small enough for 2 CPU cores: configs/wikipron_lstm_attention.py
         the paper's optimizer is Adadelta, here it is Adam
"""

from ml_collections import ConfigDict

from flaxformer_lite.run_cards import text


def get_config() -> ConfigDict:
    """What differs from configs/text.py."""
    config = text.get_config()

    for vocabulary in (config.data.source_vocabulary, config.data.target_vocabulary):
        vocabulary.kind = "word"
        vocabulary.size = 30_000
    config.data.max_source_length = 51  # 50 words and the end token
    config.data.max_target_length = 51

    config.model.encoder.kind = config.model.decoder.kind = "rnn"
    config.model.encoder.width = 1_000
    config.model.encoder.num_layers = 1
    config.model.share_embeddings = "none"
    config.model.encoder.dropout = 0.0
    config.model.encoder.rnn.cell = "gru2014"
    config.model.encoder.rnn.direction = "both"
    config.model.decoder.rnn.design = "bahdanau"
    config.model.decoder.rnn.attention = "additive"
    config.model.encoder.rnn.embedding_dim = 620
    config.model.decoder.rnn.readout_dim = 500

    config.optim.clip_norm = 1.0

    config.train.batch_size = 80
    config.train.label_smoothing = 0.0

    config.decode.method = "beam"
    config.decode.beam_size = 12
    config.decode.length_penalty = 0.0
    return config
