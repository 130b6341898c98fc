"""Pegasus's architecture from scratch (Zhang et al. 2020).

Model    16 + 16 layers of 1,024, 16 heads, sines and cosines, norm before each sublayer; 568.7 M parameters
Data     your own text, as configs/text.py takes it; 96,000 SentencePieces of your text for both sides
Expect   that depends on your text; watch eval/chrf and eval/bleu. Not run here
Time     hours to days on accelerators; flaxformer-lite plan --config=configs/pegasus.py says what fits and how fast
Train    flaxformer-lite train --config=configs/pegasus.py --workdir=runs/pegasus \
             --config.data.text.train=train.src,train.trg --config.data.text.validation=val.src,val.trg
Vary     other sizes: families.pegasus below (none other published)
         half as deep: --config.model.num_layers=8
"""

from ml_collections import ConfigDict

from configs import text
from flaxformer_lite.models import families


def get_config() -> ConfigDict:
    """What differs from configs/text.py."""
    config = text.get_config()

    config.data.share_vocabulary = True
    for vocabulary in (config.data.source_vocabulary, config.data.target_vocabulary):
        vocabulary.size = 96_000
    config.data.max_source_length = 512
    config.data.max_target_length = 512

    config.model.update_from_flattened_dict(families.pegasus("large").model)

    config.optim.optimizer = "adafactor"
    config.optim.learning_rate = 0.01
    config.optim.schedule = "inverse_sqrt"
    config.optim.warmup_steps = 10_000
    config.optim.clip_norm = 0.0

    config.train.steps = 100_000
    config.train.batch_size = 128
    return config
