"""T5's architecture from scratch (Raffel et al. 2020).

Model    6 + 6 layers of 512, 8 heads, relative positions, RMSNorm before each sublayer; 60.5 M parameters
Data     your own text, as configs/text.py takes it; 32,000 SentencePieces of your text for both sides
Expect   that depends on your text; watch eval/chrf and eval/bleu. Not run here
Time     hours to days on accelerators; flaxformer-lite plan --config=configs/t5.py estimates memory and speed
Train    flaxformer-lite train --config=configs/t5.py --workdir=runs/t5 \
             --config.data.text.train=train.src,train.trg --config.data.text.validation=val.src,val.trg
Vary     other sizes: presets.t5 below (base, large, 3b, 11b)
         T5 1.1 and Flan-T5: configs/t5_1_1.py
"""

from ml_collections import ConfigDict

from flaxformer_lite.models import presets
from flaxformer_lite.run_cards import text


def get_config() -> ConfigDict:
    """What differs from configs/text.py."""
    config = trained(text.of_family(presets.t5("small"), pieces=32_000, longest=512))
    config.model.vocab_pad_multiple = 128  # rows of tables, as T5 has them
    return config


def trained(config: ConfigDict) -> ConfigDict:
    """The same, with the optimizer that T5 and Pegasus are trained with."""
    config.optim.optimizer = "adafactor"
    config.optim.learning_rate = 0.01
    config.optim.schedule = "inverse_sqrt"
    config.optim.warmup_steps = 10_000
    config.optim.clip_norm = 0.0
    return config
