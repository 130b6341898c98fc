"""T5Gemma's architecture from scratch (Zhang et al. 2025): Gemma 2's layers in an encoder and a decoder.

Model    8 + 8 layers of 512, 8 heads, rotary positions, windows in every other layer, RMSNorm around sublayers; 312.5 M
Data     your own text, as configs/text.py takes it; 256,000 SentencePieces of your text a side
Expect   that depends on your text; watch eval/chrf and eval/bleu. Not run here
Time     hours to days on accelerators; flaxformer-lite plan --config=configs/t5gemma.py estimates memory and speed
Train    flaxformer-lite train --config=configs/t5gemma.py --workdir=runs/t5gemma \
             --config.data.text.train=train.src,train.trg --config.data.text.validation=val.src,val.trg
Vary     other sizes: presets.t5gemma below (b-b, l-l, ml-ml, xl-xl, 2b-2b, 9b-2b, 9b-9b)
         no windows: --config.model.encoder.attention.sliding_window=0 \
             --config.model.encoder.attention.layer_pattern=global
"""

from ml_collections import ConfigDict

from flaxformer_lite.models import presets
from flaxformer_lite.run_cards import text


def get_config() -> ConfigDict:
    """What differs from configs/text.py."""
    config = text.of_family(presets.t5gemma("s-s"), pieces=256_000, longest=512)
    config.optim.optimizer = "adamw"
    config.optim.learning_rate = 1e-3
    config.optim.schedule = "cosine"
    config.optim.warmup_steps = 1_000
    config.optim.weight_decay = 0.1
    return config
