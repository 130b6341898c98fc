"""Every key once, with the values that the other configs differ from. Not meant to be trained as it stands.

Change a value on the command line:  --config.model.encoder.num_layers=2 --config.optim.learning_rate=3e-4

A config file of your own, anywhere, contains the differences from these defaults (or from a run card, such as
``flaxformer_lite.run_cards.tiny``):

    from flaxformer_lite.config import defaults

    def get_config():
        config = defaults.get_config()
        config.data.task = "text"
        config.data.text.train = ("train.de", "train.en")
        return config
"""

from typing import Any

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The defaults of every key."""
    config = ConfigDict()
    config.seed = 0  # of parameters, data order and dropout: the same seed is the same run
    config.data = _data()
    config.model = _model()
    config.optim = _optim()
    config.train = _train()
    config.eval = _eval()
    config.decode = _decode()
    config.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})  # devices along each axis; -1: all that are left
    config.logical_axis_rules = _rules()
    config.precision = ConfigDict(
        {  # float32 | bfloat16; norms, softmax, logits and losses are float32 in any case
            "param_dtype": "float32",  # that updates are added to, and checkpoints hold
            "dtype": "float32",  # that products are made in, with a copy of the weights
            "moment_dtype": "float32",  # of the optimizer's first moments; second moments are always float32
        }
    )
    config.parallel = ConfigDict({"mode": "jit"})  # jit: sharded over the mesh | pmap: plain data parallelism
    return config


def _data() -> ConfigDict:
    """What is learned from, and how it is cut into batches."""
    data = ConfigDict()
    data.task = "reverse"  # cmudict | text | tfds | hf | reverse, each with its group below | module:name
    data.update(_tasks())
    data.options = ConfigDict()  # of a task module:name
    data.mixture = ConfigDict()  # tasks by name, each with a rate and the keys of this group in which it differs, as in
    # {"de-en": {"rate": 2.0, "text": {"train": ("train.de", "train.en")}}, …}; {}: one task
    data.mixture_temperature = 0.0  # rates are multiplied by sizes^(1/T): 1 in proportion to the numbers of training
    # examples, a large T uniform; 0: rates as given
    data.source_prefix = ""  # before each source, such as "translate German to English: "
    data.preprocess = "none"  # module:name of a function from Examples to Examples, or of a dataclass with such a call
    data.preprocess_options = ConfigDict()  # of that dataclass
    data.objective = "supervised"  # supervised: pairs as the task has them | span_corruption (T5) | ul2 | bart |
    # prefix_lm: pairs are made of the sources of the task | module:name
    data.objective_options = ConfigDict()  # fields of the objective's class in flaxformer_lite/data/objectives, such as
    # noise_density and mean_span_length of span_corruption
    data.validation_fraction = 0.0  # of training examples, held out for validation where a task has no such split
    data.on_bad_row = "error"  # error | drop: what happens to a row that cannot be used: wrong number of columns,
    # invalid UTF-8, empty or no text (text, hf); keep_empty: as error, but empty texts may be used
    data.source_vocabulary = _vocabulary()
    data.target_vocabulary = _vocabulary()
    data.share_vocabulary = False  # one vocabulary built from source and target text together
    data.source_subword_sampling = 0.0  # of training with SentencePiece, each epoch anew; unigram: exponent of
    # probabilities, such as 0.2 (smaller: more uniform); bpe: dropout of merges, such as 0.1; 0: none
    data.target_subword_sampling = 0.0  # the same of targets
    data.max_source_length = 64  # tokens, the end token included
    data.max_target_length = 64  # tokens, the end token included
    data.overlength = "drop"  # drop | truncate | split: what happens to longer training examples (counted and printed);
    # split: into windows, of texts for an objective other than supervised
    data.window_overlap = 0  # tokens that a window repeats of the one before
    data.split_at_sentences = False  # windows end after . ! ? where possible
    data.num_buckets = 4  # number of padded shapes, each compiled once; chosen to waste the least padding
    data.pack = False  # several examples in each row, as segments that do not attend to one another, not buckets
    data.packed_length = 256  # tokens of a packed row of sources; that of targets follows from their mean lengths
    data.prefetch = 8  # batches made ahead
    return data


def _tasks() -> ConfigDict:
    """The group of keys of each task."""
    data = ConfigDict()
    data.cmudict = ConfigDict(
        {
            "keep_stress": False,  # True: AH0, AH1 and AH2 stay distinct
            "data_dir": "",  # where the prepared data set is kept; "": ~/.cache/flaxformer_lite
        }
    )
    data.text = ConfigDict(
        {  # for each split ("source file", "target file") or the files of a table; each name is a file, a folder, a
            # pattern ("shards/*.tsv.gz") or a URL (gs://, s3://), plain, .gz or .zst
            "train": ("",),  # of the loss
            "validation": ("",),  # of evaluation during training
            "test": ("",),  # of the command `evaluate`
            "format": "auto",  # auto: by extension, see docs/own_data.md | parallel: two files, line i belongs to line
            # i | lines: plain text without targets | tsv | jsonl | parquet
            "source_columns": (),  # of a table: numbers from 0 in a TSV, or names; (): column 0, or the field source
            "target_columns": (),  # (): column 1, or the field target; none for an objective that needs no targets
            "meta_columns": (),  # kept beside the examples, for eval.group_by
            "column_separator": " ",  # between the texts of several source_columns or target_columns
            "header": False,  # True: each TSV begins with a line of column names, which the columns above may name
            "group_references": False,  # True: rows of a table with equal sources are one example with references
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
    data.hf = ConfigDict(
        {
            "name_or_path": "",  # a folder that save_to_disk wrote, or the name of a cached dataset
            "config_name": "",  # such as "de-en"; "": the only one
            "source_field": "",  # such as "translation/de" of nested fields
            "target_field": "",  # such as "translation/en"; unused by objectives that need no targets
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
    return data


def _vocabulary() -> ConfigDict:
    """How text becomes token ids."""
    vocabulary = {
        "kind": "character",  # byte | character | word | sentencepiece | tags (bundles such as V;SBJV;PL as whole tags,
        # all else as characters) | ids (text is integers already) | tokenizer (a tokenizer.json) | saved (that of
        # another work directory or of the command `vocab`) | module:name
        "size": 0,  # entries at most, special ids included, special_tokens and sentinels not; 0: all that the training
        # text has (SentencePiece: 8000)
        "model": "",  # sentencepiece: a .model file; "": train one on the training split; tokenizer: a tokenizer.json;
        # saved: a .vocabulary.json
        "model_type": "unigram",  # unigram | bpe: what SentencePiece trains
        "sample_size": 2_000_000,  # evenly spaced lines that SentencePiece is trained on, of 150 million characters at
        # most; 0: all lines, with 22 bytes of memory per character
        "tag_pattern": "",  # of tags: regular expression of a bundle; "": words that contain the separator
        "tag_separator": ";",  # of tags: what separates the tags of a bundle
        "special_tokens": (),  # tokens of objectives that follow all others, such as ("<mask>",) or the modes of UL2
        "num_sentinels": 0,  # <extra_id_0>, <extra_id_1>, … after these, so that <extra_id_0> has the last id, as in T5
        "options": {},  # of a kind module:name
    }
    return ConfigDict(vocabulary)


def _model() -> ConfigDict:
    """Two stacks of layers, embeddings and the projection to logits."""
    model = ConfigDict()
    model.encoder = _stack()
    model.decoder = _following(model.encoder)
    model.decoder.kind = "transformer"  # kind and options are not the encoder's
    model.decoder.options = ConfigDict()
    model.share_embeddings = "target"  # all: source, target and output | inputs: source and target | target: target
    # and output | none
    model.scale_embeddings = True  # token embeddings are multiplied by √width
    model.vocab_pad_multiple = 1  # embedding tables have a multiple of this many rows, so that devices can shard them
    model.lm_head = ConfigDict(
        {
            "bias": "untied",  # always | never | untied: a bias of the logits where output and target are not shared
            "scale": False,  # the decoder's output is divided by √width (T5 1.0)
            "soft_cap": 0.0,  # logits are soft-capped to this magnitude (Gemma 2); 0: no cap
        }
    )
    model.init = "glorot"  # glorot | fan_in (T5) | normal_0.02: normal with standard deviation 0.02 (BART)
    model.remat = "none"  # activations that are recomputed for the gradient, which trades time for memory:
    # none | dots: all but matrix products | dots_with_no_batch_dims: all but products with weights | full: all
    model.scan_layers = False  # a Transformer's layers are compiled once and scanned over stacked parameters
    return model


def _stack() -> ConfigDict:
    """The encoder; every value of the decoder but kind and options defaults to the encoder's."""
    stack = ConfigDict()
    stack.kind = "transformer"  # transformer | rnn | module:name, a Linen module of your own
    stack.options = ConfigDict()  # fields of that module
    stack.width = 256  # of embeddings and layers; of a recurrent layer's state, in each direction
    stack.num_layers = 3  # Transformer or recurrent layers
    stack.num_heads = 4  # query heads of each attention
    stack.num_kv_heads = 0  # key and value heads, which groups of query heads share; 0: num_heads
    stack.head_dim = 0  # of each head; 0: width / num_heads
    stack.mlp_dim = 1024  # hidden units of the feed-forward sublayers
    stack.dropout = 0.1  # rate, of embeddings and of sublayers' or recurrent layers' outputs
    stack.final_dropout = 0.0  # rate, of the output of a Transformer stack (T5)
    stack.layerdrop = 0.0  # share of a Transformer's layers that a training step skips (M2M-100)
    stack.positions = ConfigDict(
        {
            "kind": "sinusoidal",  # sinusoidal | sinusoidal_concat: sines, then cosines (Marian) | sinusoidal_fairseq:
            # with fairseq's wavelengths (M2M-100) | learned | relative_bias (T5) | rotary | none
            "per_layer": False,  # relative_bias: a table for each layer (UMT5) instead of one for the stack
            "max_length": 0,  # learned: number of positions; 0: the larger of data.max_{source,target}_length
            "offset": 0,  # learned and sinusoidal: number of the first position; 2 in fairseq (BART, M2M-100)
            "scale": True,  # learned: embeddings are multiplied by √width
            "num_buckets": 32,  # relative_bias: buckets of distances
            "max_distance": 128,  # relative_bias: tokens from which on all distances share the last bucket
            "theta": 10_000.0,  # rotary: the longest wavelength in tokens / 2π
        }
    )
    stack.norm = ConfigDict(
        {
            "placement": "pre",  # pre: before each sublayer | post: after its residual sum (Vaswani et al. 2017) |
            # sandwich: before each sublayer and of its output (T5Gemma)
            "kind": "layer",  # layer | rms (T5)
            "unit_offset": False,  # rms: the gain is 1 + the parameter (Gemma)
            "epsilon": 1e-6,  # added to the variance
            "embeddings": False,  # embeddings are normalized too (BART)
            "final": "unless_post",  # always | never | unless_post: the output of the stack is normalized
        }
    )
    stack.attention = ConfigDict(
        {
            "bias": True,  # of the query, key, value and output projections
            "query_pre_attn_scalar": 0.0,  # queries are divided by its square root; 0: head_dim; 1: unscaled (T5)
            "soft_cap": 0.0,  # attention logits are soft-capped to this magnitude (Gemma 2); 0: no cap
            "sliding_window": 0,  # tokens that local layers look back (encoder: to either side)
            "layer_pattern": ("global",),  # global | local for each layer, repeated; ("local", "global") is Gemma 2's
            "dropout": stack.get_oneway_ref("dropout"),  # rate, of the attention weights
        }
    )
    stack.feed_forward = ConfigDict(
        {
            "activation": "relu",  # relu | gelu | gelu_tanh (its approximation) | silu
            "gated": False,  # the activation is multiplied by a second projection (T5 1.1)
            "bias": True,  # of the projections
            "dropout": stack.get_oneway_ref("dropout"),  # rate, of the hidden units
        }
    )
    stack.rnn = _rnn()
    return stack


def _rnn() -> ConfigDict:
    """Settings of stacks of the kind rnn."""
    return ConfigDict(
        {
            "cell": "lstm",  # elman (tanh) | lstm | gru (as in cuDNN and PyTorch) | gru2014 (as published)
            "direction": "both",  # encoder: forward | backward (a reversed source) | both
            "design": "bahdanau",  # decoder: sutskever (initial state only) | cho (a context vector at each step) |
            # bahdanau (attention before each step) | luong (attention after each step)
            "attention": "additive",  # decoder: additive | concat (the same formula) | dot | general
            "input_feeding": False,  # decoder, luong: the cell also reads the previous step's output
            "bridge": "dense",  # decoder: its initial states are the encoder's final ones: copy | dense (tanh layer)
            "embedding_dim": 0,  # of token embeddings; 0: width
            "attention_dim": 0,  # decoder: hidden units of additive and concat attention; 0: width
            "readout_dim": 0,  # decoder: of what the output layer reads; 0: width
            "residual_from": 0,  # layers from this one on (1 is the lowest) have residual connections; 0: none
            "variational_dropout": False,  # one dropout mask for all steps of a sentence, also on the recurrence
        }
    )


def _following(group: ConfigDict) -> ConfigDict:
    """A group whose values default to those of the given one: setting them there sets them here, not vice versa."""

    def value(key: str) -> Any:
        inner = group[key]
        return _following(inner) if isinstance(inner, ConfigDict) else group.get_oneway_ref(key)

    return ConfigDict({key: value(key) for key in group})


def _optim() -> ConfigDict:
    """Optimizer, schedule and the parameters that they apply to."""
    optim = ConfigDict()
    optim.optimizer = "adam"  # adam | adamw | adafactor (T5's) | lion | muon (matrices; adamw for all else) |
    # module:name
    optim.options = ConfigDict()  # options of an optimizer module:name
    optim.learning_rate = 1e-3  # peak, after warm-up; adafactor: relative to the scale of a parameter (T5: 0.01)
    optim.schedule = "inverse_sqrt"  # inverse_sqrt | cosine | linear | constant | wsd | plateau | module:name;
    # cosine and linear end at 0; wsd (warm-up, stable, decay) is constant, then falls to 0; plateau is reduced
    # when the loss stops falling
    optim.schedule_options = ConfigDict()  # options of a schedule module:name
    optim.warmup_steps = 1_000  # steps of linear warm-up
    optim.decay_steps = 0  # wsd only, at least 1: steps of the final decay
    optim.plateau = ConfigDict(
        {  # schedule plateau only
            "factor": 0.5,  # that the learning rate is multiplied by at a plateau
            "patience": 5,  # consecutive windows without a lower mean loss that make a plateau
            "window": 100,  # updates whose mean training loss is compared, warm-up included
        }
    )
    optim.beta1 = 0.9  # decay of the first moment; lion: weight of the momentum in an update; not adafactor
    optim.beta2 = 0.98  # decay of the second moment; lion: of the momentum (0.99 is usual); not adafactor
    optim.epsilon = 1e-9  # added to the root of the second moment; adam, adamw, and the adamw part of muon
    optim.momentum = 0.95  # muon only: decay of the momentum of a matrix
    optim.weight_decay = 0.0  # multiplied by the learning rate; not adam
    optim.no_decay = ()  # parameters without weight decay: regular expressions searched in paths such as
    # decoder/layers_0/self_attention/query_bias; ("bias", "scale") is usual
    optim.lr_multipliers = ()  # "PATTERN=FACTOR": factor of the learning rate; the first match counts
    optim.frozen = ()  # parameters that are not trained, selected likewise; ("embedding",)
    optim.clip_norm = 1.0  # maximum global norm of the gradient, without frozen parameters; 0: no clipping (T5)
    return optim


def _train() -> ConfigDict:
    """Training."""
    train = ConfigDict()
    train.init_from = ""  # work directory with the initial parameters, its best ones (fine-tuning); "": random
    train.steps = 10_000  # total number of updates
    train.batch_size = 128  # rows per step, over all devices: examples, or packed rows of several
    train.tokens_per_batch = 0  # source and target tokens per step, padding included: batches of short examples have
    # more rows; 0: all batches have batch_size rows
    train.rows_multiple = 8  # with tokens_per_batch, rows of a batch are a multiple of this, which devices must divide
    train.grad_accum_steps = 1  # microbatches per step, computed in sequence to save memory
    train.loss = "cross_entropy"  # cross_entropy | kl_divergence: less the entropy of the labels, so 0 is perfect
    train.label_smoothing = 0.1  # probability spread evenly over the vocabulary
    train.z_loss = 0.0  # weight of (log of the softmax normalizer)², which keeps logits near 0; 1e-4 is usual
    train.r_drop = 0.0  # alpha of R-Drop: KL divergence between two passes with different dropout; doubles the work
    train.loss_terms = ()  # module:name of each term that is added to the loss
    train.loss_options = ConfigDict()  # of each of them, by the name of its class
    train.distill = ConfigDict(
        {
            "teachers": (),  # work directories of trained models with the same vocabularies; their mean is the target
            "weight": 0.5,  # weight of the teachers, 0 to 1; the labels have the rest
            "temperature": 1.0,  # that the logits of teachers and student are divided by
        }
    )
    train.ema_decay = 0.0  # decay of a moving average of the parameters, used for evaluation and decoding; 0: none
    train.log_every = 100  # steps
    train.eval_every = 1_000  # steps
    train.save_every = 1_000  # steps; a checkpoint is saved after each evaluation too
    train.keep_latest = 2  # checkpoints
    train.keep_best = 1  # checkpoints, by eval.best_metric
    train.patience = 0  # evaluations without a better eval.best_metric before training stops; 0: never
    train.max_nonfinite_steps = 10  # consecutive updates with a non-finite loss or gradient, which are skipped, before
    # training stops
    train.max_compiles = 0  # maximum number of compiled training steps, one per shape of a batch; 0: no limit
    return train


def _eval() -> ConfigDict:
    """Evaluation, during training and by ``evaluate``."""
    evaluation = ConfigDict()
    evaluation.metrics = ("exact_match",)  # by decoding: exact_match, wer, per, bleu, chrf, module:name
    evaluation.metric_options = ConfigDict()  # of each metric module:name, by the name of its class
    evaluation.best_metric = "loss"  # loss, token_accuracy or one of eval.metrics: the mean over all tasks of a
    # mixture, or that of one of them, such as "de-en/bleu"
    evaluation.max_examples = 1_000  # of the validation split, at each evaluation in training; 0: all
    evaluation.num_samples = 3  # decoded examples shown at each evaluation
    evaluation.group_by = ""  # one of data.text.meta_columns: metrics are also computed for each of its values
    return evaluation


def _decode() -> ConfigDict:
    """Decoding."""
    decode = ConfigDict()
    decode.method = "greedy"  # greedy | beam | sample | mbr (minimum Bayes risk over samples) | module:name
    decode.options = ConfigDict()  # options of a method module:name
    decode.beam_size = 5  # hypotheses per line; beam only
    decode.beam_variant = "google"  # google | hf | fairseq | marian: the system whose length penalty and stopping
    # criterion are used; beam only
    decode.length_penalty = 0.6  # alpha; google: log P / ((5 + length) / 6)**alpha; the others: log P / length**alpha
    decode.early_stopping = "false"  # false | true | never: early_stopping of transformers; hf only
    decode.num_beam_groups = 1  # groups of beams (diverse beam search); divides beam_size
    decode.diversity_penalty = 0.5  # nats off a token for each beam of earlier groups that chose it in the same step
    decode.num_samples = 16  # samples per line; sample (the output is the n_best most likely ones) and mbr
    decode.temperature = 1.0  # divides the logits of sampling: below 1 sharpens, above 1 flattens
    decode.top_k = 0  # sample among this many most likely tokens; 0: all
    decode.top_p = 1.0  # sample among the most likely tokens that together have this probability
    decode.min_p = 0.0  # sample among tokens with at least this fraction of the most likely one's probability
    decode.utility = "chrf"  # chrf | bleu | edit_distance: the utility of mbr
    decode.repetition_penalty = 1.0  # factor on the log-probability of tokens that occurred before; 1: none
    decode.no_repeat_ngram_size = 0  # never repeat n-grams of this size; 0: may repeat
    decode.min_length = 0  # tokens before an output may end; fairseq's own default is 1
    decode.suppress_tokens = ()  # tokens, or sequences of tokens separated by spaces, that are never generated
    decode.end_tokens = ()  # tokens besides the end token that end an output
    decode.logits_processors = ()  # module:name of each, applied in this order after the constraints above
    decode.logits_processor_options = ConfigDict()  # options of each of them, by the name of its class
    decode.renormalize_logits = False  # renormalize the probabilities of tokens that are left by all of these
    decode.forced_bos = True  # force the tokens that begin every target of a pretrained vocabulary, such as a language;
    # they cost nothing
    decode.forced_eos = False  # force the end token where an output reaches its maximum length; it costs nothing
    decode.ensemble = "probability"  # probability | log_probability: what an ensemble averages
    decode.n_best = 1  # hypotheses per line in the output
    decode.batch_size = 64  # lines decoded together
    decode.max_length_ratio = 2.0  # the maximum length of an output is max_length_ratio * (source tokens) +
    # max_length_offset tokens
    decode.max_length_offset = 10  # see max_length_ratio
    return decode


def _rules() -> ConfigDict:
    """For each axis of parameters the axis of the mesh that divides it: none | data | fsdp | tensor."""
    rules = ConfigDict()
    rules.embed = "fsdp"  # width of the model
    rules.heads = "tensor"  # heads of attention
    rules.head_dim = "none"  # width of a head
    rules.mlp = "tensor"  # hidden units of feed-forward sublayers, and of all that is recurrent
    rules.gates = "none"  # gates of a recurrent cell
    rules.vocab = "tensor"  # entries of a vocabulary
    rules.length = "none"  # learned positions
    rules.layers = "none"  # layers, where they are scanned
    return rules
