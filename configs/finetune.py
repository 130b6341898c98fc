"""Fine-tune the model of configs/pretrain.py on pairs: two parallel files, or a table of sources and targets.

Model    that of configs/pretrain.py, with its vocabulary and the parameters of its best evaluation
Expect   that depends on your text; watch eval/chrf and eval/bleu
Time     minutes to hours on 2 CPU cores
Train    flaxformer-lite train --config=configs/finetune.py --workdir=runs/finetuned \
             --config.data.text.train=train.de,train.en --config.data.text.validation=val.de,val.en
Vary     from random parameters, to compare: --config.train.init_from=
         a model at another place: --config.train.init_from=runs/other \
             --config.data.source_vocabulary.model=runs/other/source.vocabulary.json, and the same of target_vocabulary
"""

from ml_collections import ConfigDict

from flaxformer_lite.run_cards import pretrain


def get_config() -> ConfigDict:
    """What differs from configs/pretrain.py."""
    config = pretrain.get_config()

    config.train.init_from = "runs/pretrained"
    config.data.source_vocabulary.update(kind="saved", model="runs/pretrained/source.vocabulary.json")
    config.data.target_vocabulary.update(kind="saved", model="runs/pretrained/target.vocabulary.json")
    for vocabulary in (config.data.source_vocabulary, config.data.target_vocabulary):
        vocabulary.num_sentinels = 0  # the saved vocabulary has them

    config.data.text.format = "auto"
    config.data.objective = "supervised"
    config.data.overlength = "drop"
    config.data.validation_fraction = 0.0
    config.data.pack = False

    config.model.encoder.dropout = 0.1
    config.optim.learning_rate = 5e-4
    config.optim.warmup_steps = 200
    config.train.steps = 4_000
    config.train.batch_size = 64
    config.train.label_smoothing = 0.1
    config.train.eval_every = 500

    config.eval.metrics = ("bleu", "chrf")
    config.eval.best_metric = "chrf"
    return config
