"""NLLB's architecture from scratch (NLLB team 2022), one of the dense ones.

Model    12 + 12 layers of 1,024, 16 heads, sines and cosines, norm before each sublayer; 615.1 M parameters
Data     your own text, as configs/text.py takes it; 256,000 SentencePieces of your text for both sides
Expect   that depends on your text; watch eval/chrf and eval/bleu. Not run here
Time     hours to days on accelerators; flaxformer-lite plan --config=configs/nllb.py estimates memory and speed
Train    flaxformer-lite train --config=configs/nllb.py --workdir=runs/nllb \
             --config.data.text.train=train.src,train.trg --config.data.text.validation=val.src,val.trg
Vary     other sizes: presets.nllb below (1.3b, 3.3b)
         fewer pieces: --config.data.source_vocabulary.size=32000 (and target_vocabulary)
"""

from ml_collections import ConfigDict

from flaxformer_lite.models import presets
from flaxformer_lite.run_cards import bart, text


def get_config() -> ConfigDict:
    """What differs from configs/text.py; trained as configs/bart.py."""
    return bart.trained(text.of_family(presets.nllb("600m"), pieces=256_000, longest=512))
