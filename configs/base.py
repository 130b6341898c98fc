"""Every key once, with the values that the other configs differ from. Not meant to be trained as it stands.

Change a value on the command line:  --config.model.num_layers=2 --config.optim.learning_rate=3e-4

Write a config of your own, anywhere, as what differs from this one; `configs` can be imported from every config file:

    from configs import base

    def get_config():
        config = base.get_config()
        config.data.task = "text"
        config.data.text.train = ("train.de", "train.en")
        return config
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The defaults of every key."""
    config = ConfigDict()
    config.seed = 0  # of parameters, data order and dropout: the same seed is the same run

    config.data = data = ConfigDict()
    data.task = "reverse"  # cmudict | text | tfds | reverse: what is read; more settings in the group of its name
    data.cmudict = ConfigDict(
        {
            "keep_stress": False,  # True: AH0, AH1 and AH2 stay distinct
            "data_dir": "",  # where the prepared data set is kept; "": ~/.cache/flaxformer_lite
        }
    )
    data.text = ConfigDict(
        {  # for each split ("source file", "target file"), or ("file.tsv",) with two columns; .gz is read as it is
            "train": ("",),  # what the model learns from
            "validation": ("",),  # what it is evaluated on in training
            "test": ("",),  # what `evaluate` measures
        }
    )
    data.tfds = ConfigDict(
        {
            "name": "",  # such as "wmt14_translate/de-en"
            "data_dir": "",  # where it was prepared; "": TFDS's default
            "source_feature": "",  # such as "de"
            "target_feature": "",  # such as "en"
        }
    )
    data.reverse = ConfigDict(
        {
            "alphabet": "abcdefghij",  # the characters that strings are made of
            "min_length": 1,  # characters
            "max_length": 10,  # characters
            "examples": 20_000,  # to train on; validation and test have a tenth of that each
        }
    )
    vocabulary = {
        "kind": "character",  # byte | character | word | sentencepiece
        "size": 0,  # entries at most, special ones included; 0: all that the training text has (SentencePiece: 8000)
        "model": "",  # a SentencePiece .model file; "": train one on the training split
    }
    data.source_vocabulary = ConfigDict(vocabulary)
    data.target_vocabulary = ConfigDict(vocabulary)
    data.share_vocabulary = False  # one vocabulary built from source and target text together
    data.max_source_length = 64  # tokens, the end token included
    data.max_target_length = 64  # tokens, the end token included
    data.overlong = "drop"  # drop | truncate: what happens to longer training examples (counted and printed)
    data.buckets = 4  # number of padded shapes, each compiled once; chosen to waste the least padding
    data.prefetch = 8  # batches made ahead

    config.model = model = ConfigDict()
    model.width = 256  # of embeddings and layers
    model.num_heads = 4  # of each attention; divides the width
    model.mlp_width = 1024  # hidden units of the feed-forward sublayer
    model.num_layers = 3  # of the encoder
    model.num_decoder_layers = model.get_oneway_ref("num_layers")  # the same unless set
    model.positions = "sinusoidal"  # sinusoidal | learned
    model.norm = "before"  # before | after: layer norm before each sublayer, or after its residual sum (the paper's)
    model.share_embeddings = "target"  # all: source, target and output | target: target and output | none
    model.dropout = 0.1  # rate, of embeddings, attention weights, hidden units and each sublayer's output

    config.optim = optim = ConfigDict()
    optim.optimizer = "adam"  # adam | adamw
    optim.learning_rate = 1e-3  # the peak, reached after warm-up
    optim.schedule = "inverse_sqrt"  # inverse_sqrt | cosine | linear | constant; cosine and linear end at 0
    optim.warmup_steps = 1_000  # steps of linear rise
    optim.beta1 = 0.9  # decay of the mean of the gradients
    optim.beta2 = 0.98  # decay of the mean of their squares
    optim.epsilon = 1e-9  # added to the root of that mean, which divides
    optim.weight_decay = 0.0  # adamw only
    optim.clip_norm = 1.0  # largest global norm of the gradient; 0: no clipping

    config.train = train = ConfigDict()
    train.steps = 10_000  # updates in all
    train.batch_size = 128  # examples a step, over all devices
    train.loss = "cross_entropy"  # cross_entropy | kl_divergence: less the smoothed labels' entropy, so 0 is perfect
    train.label_smoothing = 0.1  # probability spread evenly over the vocabulary
    train.log_every = 100  # steps
    train.eval_every = 1_000  # steps
    train.save_every = 1_000  # steps; a checkpoint is saved after each evaluation too
    train.keep_latest = 2  # checkpoints
    train.keep_best = 1  # checkpoints, by eval.best_metric
    train.patience = 0  # evaluations without a better eval.best_metric before stopping; 0: never
    train.max_skipped = 10  # updates in a row skipped for a loss or gradient that is not finite, before the run stops

    config.eval = evaluation = ConfigDict()
    evaluation.metrics = ("exact_match",)  # by decoding: exact_match, wer, per, bleu, chrf
    evaluation.best_metric = "loss"  # loss, token_accuracy or one of eval.metrics
    evaluation.max_examples = 1_000  # of the validation split, at each evaluation in training; 0: all
    evaluation.samples = 3  # decodes shown at each evaluation

    config.decode = decode = ConfigDict()
    decode.method = "greedy"  # greedy | beam
    decode.beam_size = 5  # hypotheses kept of each line; beam only
    decode.length_penalty = 0.6  # alpha of Wu et al. (2016), equation 14: log P / ((5 + length) / 6)**alpha; 0: none
    decode.n_best = 1  # hypotheses printed for each line
    decode.batch_size = 64  # lines decoded together
    decode.max_length_ratio = 2.0  # an output has at most ratio * (source tokens) + offset tokens
    decode.max_length_offset = 10  # tokens

    config.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})  # devices along each axis; -1: all that are left
    config.parallel = ConfigDict({"mode": "jit"})  # jit: sharded over the mesh | pmap: plain data parallelism
    return config
