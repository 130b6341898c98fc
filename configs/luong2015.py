"""Translation by an LSTM that attends after each step: Luong et al. (2015), "Effective Approaches to Attention".

Model    4 + 4 LSTM layers of 1,000, words of 1,000; general attention over a source read backwards, input feeding
Task     the paper's: WMT'14 English to German, 50,000 words each; any --config.data.text.train=a.en,b.de
Expect   the paper, of its "global (location)" base with feeding: BLEU 18.1, and 20.9 with local attention and unknown
         words replaced; not run here
Time     the paper: 7 to 10 days on one GPU of 2015
Train    flaxformer-lite train --config=configs/luong2015.py --workdir=runs/luong2015 \
             --config.data.text.train=train.en,train.de --config.data.text.validation=val.en,val.de
Vary     small enough for 2 CPU cores: configs/wikipron_gru_attention.py
         the score: --config.model.decoder.rnn.attention=dot; the paper's optimizer is SGD, here it is Adam
"""

from ml_collections import ConfigDict

from flaxformer_lite.run_cards import text


def get_config() -> ConfigDict:
    """What differs from configs/text.py."""
    config = text.get_config()

    for vocabulary in (config.data.source_vocabulary, config.data.target_vocabulary):
        vocabulary.kind = "word"
        vocabulary.size = 50_000
    config.data.max_source_length = 51  # 50 words and the end token
    config.data.max_target_length = 51

    config.model.encoder.kind = config.model.decoder.kind = "rnn"
    config.model.encoder.width = 1_000
    config.model.encoder.num_layers = 4
    config.model.share_embeddings = "none"
    config.model.encoder.dropout = 0.2
    config.model.encoder.rnn.cell = "lstm"
    config.model.encoder.rnn.direction = "backward"
    config.model.decoder.rnn.design = "luong"
    config.model.decoder.rnn.attention = "general"
    config.model.decoder.rnn.input_feeding = True
    config.model.decoder.rnn.bridge = "copy"

    config.optim.clip_norm = 5.0

    config.train.batch_size = 128
    config.train.label_smoothing = 0.0

    config.decode.method = "beam"
    config.decode.beam_size = 10
    config.decode.length_penalty = 0.0
    return config
