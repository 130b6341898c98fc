"""Translation by attention alone: the base model of Vaswani et al. (2017), "Attention Is All You Need".

Model    6 + 6 layers of 512, 8 heads, feed-forward of 2,048, norm after each sublayer, all word vectors shared
Task     the paper's: WMT'14 English to German, 37,000 subwords; any --config.data.text.train=a.en,b.de
Expect   the paper: BLEU 27.3 (last 5 checkpoints averaged, beam 4); not run here
Time     the paper: 100,000 steps, 12 hours on 8 GPUs of 2017
Train    flaxformer-lite train --config=configs/vaswani2017.py --workdir=runs/vaswani2017 \
             --config.data.text.train=train.en,train.de --config.data.text.validation=val.en,val.de
Vary     the big model: --config.model.encoder.width=1024 --config.model.encoder.mlp_dim=4096 \
             --config.model.encoder.num_heads=16 --config.model.encoder.dropout=0.3
         small enough for 2 CPU cores: configs/wikipron.py
"""

from ml_collections import ConfigDict

from flaxformer_lite.models import presets
from flaxformer_lite.run_cards import text


def get_config() -> ConfigDict:
    """What differs from configs/text.py."""
    config = text.of_family(presets.vaswani("base"), pieces=37_000, longest=256)

    config.optim.learning_rate = 7e-4  # the peak of the paper's equation 3: (512 * 4000) ** -0.5
    config.optim.warmup_steps = 4_000
    config.optim.clip_norm = 0.0

    config.train.batch_size = 800  # about 25,000 tokens of each side at WMT's mean length
    config.train.keep_latest = 5

    config.decode.method = "beam"
    config.decode.beam_size = 4
    return config
