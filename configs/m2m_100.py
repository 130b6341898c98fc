"""M2M-100's architecture from scratch (Fan et al. 2020).

Model    12 + 12 layers of 1,024, 16 heads, sines and cosines, layers left out at random; 483.9 M parameters
Data     your own text, as configs/text.py takes it; 128,000 SentencePieces of your text for both sides
Expect   that depends on your text; watch eval/chrf and eval/bleu. Not run here
Time     hours to days on accelerators; flaxformer-lite plan --config=configs/m2m_100.py says what fits and how fast
Train    flaxformer-lite train --config=configs/m2m_100.py --workdir=runs/m2m_100 \
             --config.data.text.train=train.src,train.trg --config.data.text.validation=val.src,val.trg
Vary     other sizes: families.m2m_100 below (1.2b)
         every layer in every step: --config.model.layer_dropout=0
"""

from ml_collections import ConfigDict

from configs import text
from flaxformer_lite.models import families


def get_config() -> ConfigDict:
    """What differs from configs/text.py."""
    config = text.get_config()

    config.data.share_vocabulary = True
    for vocabulary in (config.data.source_vocabulary, config.data.target_vocabulary):
        vocabulary.size = 128_000
    config.data.max_source_length = 512
    config.data.max_target_length = 512

    config.model.update_from_flattened_dict(families.m2m_100("418m").model)

    config.optim.optimizer = "adamw"
    config.optim.learning_rate = 5e-4
    config.optim.schedule = "inverse_sqrt"
    config.optim.warmup_steps = 4_000
    config.optim.weight_decay = 0.01

    config.train.steps = 100_000
    config.train.batch_size = 128
    return config
