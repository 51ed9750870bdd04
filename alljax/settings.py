"""Every setting: its default, its type and what it means, once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        default: the value when nobody sets it; its type is the setting's type.
        help: one line of explanation.
        choices: the only values allowed, if not empty.
        minimum: the smallest number allowed, if not None.
    """

    default: bool | int | float | str | tuple
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None


SETTINGS: dict[str, Setting] = {
    "seed": Setting(0, "draws folds, head parameters and batch order", minimum=0),
    "data.source": Setting(
        "synthetic", "folder, zip, CSV, .npz or prepared set of labeled images, or 'synthetic' for generated cells"
    ),
    "data.subset": Setting("train", "subset of the data to use: train, prelim, test, ..."),
    "data.classes": Setting((), "class names in label order, the positive one second; empty: as the source has them"),
    "data.name_pattern": Setting(
        "", "for folders: regular expression over file names with groups subject, field, cell"
    ),
    "data.allow_partial": Setting(False, "use a copy of C-NMC 2019 from which files are missing"),
    "data.on_error": Setting(
        "raise", "what an unreadable image does: stop, or be left out and named", choices=("raise", "skip")
    ),
    "data.cache": Setting(
        "auto",
        "where decoded images stay that are read again: nowhere, host memory, device memory; auto: where they fit",
        choices=("auto", "none", "host", "device"),
    ),
    "data.workers": Setting(0, "worker processes that read and decode; 0: threads of this process", minimum=0),
    "data.synthetic.images": Setting(600, "how many cells are generated", minimum=8),
    "data.synthetic.subjects": Setting(24, "from how many people they come", minimum=4),
    "data.synthetic.image_size": Setting(224, "their height and width in pixels", minimum=32),
    "data.synthetic.seed": Setting(0, "draws the generated people and cells, apart from the run's seed", minimum=0),
    "data.synthetic.manifest": Setting("", "a list of the real set's files: its names and subjects, generated images"),
    "model.backbone": Setting("efficientnet_lite0", "the frozen network, by its name in models/catalog.py"),
    "model.stage": Setting("", "the stage whose activations are the features; empty: the last"),
    "model.pool": Setting("average", "activations to one feature vector", choices=("average", "max", "flatten")),
    "model.hidden": Setting(512, "width of the head's hidden layer", minimum=1),
    "model.dropout": Setting(0.0, "share of the head's hidden units that rest in each step", minimum=0.0),
    "weights.path": Setting(
        "", "a weight file, or a folder of them, one of which is the backbone's; empty: look it up by name"
    ),
    "weights.name": Setting("", "a source in third_party/; empty: any that fits the backbone"),
    "preprocessing.name": Setting("", "torch, caffe, rescale or lite; empty: what the weights were trained with"),
    "preprocessing.image_size": Setting(
        0, "pixels a side given to the backbone; 0: what the weights expect", minimum=0
    ),
    "split.protocol": Setting(
        "subject_kfold",
        "who is tested, see data/splits.py; paper and official_folds_by_name are known to leak",
        choices=(
            "subject_kfold",
            "subject_holdout",
            "leave_one_subject_out",
            "official_folds",
            "official_folds_by_name",
            "prelim",
            "paper",
        ),
    ),
    "split.folds": Setting(5, "folds of subject_kfold", minimum=2),
    "split.repeats": Setting(1, "how often the folds (or the random split) are drawn anew", minimum=1),
    "split.test_fraction": Setting(
        0.2, "share of the cells tested by protocols paper and subject_holdout, between 0 and 1", minimum=0.0
    ),
    "split.stratified": Setting(True, "protocol paper: the same share of each class on both sides"),
    "split.test_subset": Setting("prelim", "protocol prelim: subset to test"),
    "split.validation": Setting(
        0.0, "share of the training cells set aside, by whole people, for the validation curves", minimum=0.0
    ),
    "split.train_subjects": Setting(
        0, "people learned from in each split, for a learning curve (cells where nobody is known); 0: all", minimum=0
    ),
    "train.mode": Setting(
        "frozen",
        "features once and heads on them, or the network itself on images (finetune)",
        choices=("frozen", "finetune"),
    ),
    "train.optimizer": Setting(
        "adam", "Adam and RMSprop as in Keras, and others", choices=("adam", "rmsprop", "adamw", "sgd", "lamb")
    ),
    "train.momentum": Setting(0.9, "momentum of sgd", minimum=0.0),
    "train.weight_decay": Setting(
        0.0, "share of each parameter taken off a step, times the learning rate", minimum=0.0
    ),
    "train.clip_norm": Setting(0.0, "longest gradient, over all trained parameters; 0: any", minimum=0.0),
    "train.schedule": Setting(
        "exponential",
        "the learning rate over the steps",
        choices=("exponential", "cosine", "piecewise", "constant"),
    ),
    "train.warmup_steps": Setting(0, "steps over which the learning rate rises first", minimum=0),
    "train.boundaries": Setting((), "schedule piecewise: pairs (step, factor on the learning rate from there)"),
    "train.learning_rate": Setting(1e-4, "learning rate at step 0", minimum=0.0),
    "train.decay_steps": Setting(
        900, "exponential: steps after which the rate was multiplied by decay_rate", minimum=1
    ),
    "train.decay_rate": Setting(0.95, "factor of the exponential decay; 1 for none", minimum=1e-6),
    "train.staircase": Setting(False, "decay in jumps every decay_steps instead of continuously"),
    "train.epochs": Setting(20, "passes over the training cells", minimum=1),
    "train.batch_size": Setting(32, "cells a step; the last, short batch of an epoch counts too", minimum=1),
    "train.class_weights": Setting(
        "none", "weigh each cell by 1 / its class's share (balanced) or not", choices=("none", "balanced")
    ),
    "train.sampling": Setting(
        "each",
        "an epoch's cells: each one once, or as many draws with all classes equally often (balanced)",
        choices=("each", "balanced"),
    ),
    "train.loss": Setting("cross_entropy", "what is minimized", choices=("cross_entropy", "focal")),
    "train.focal_gamma": Setting(2.0, "loss focal: how little the easy cells weigh", minimum=0.0),
    "train.label_smoothing": Setting(0.0, "share of each label that is spread over all classes", minimum=0.0),
    "train.groups": Setting((), "finetune: (pattern, rate[, decay[, from_epoch]]) each, see training/groups.py"),
    "train.accumulation_steps": Setting(1, "finetune: parts in which a batch is computed, to save memory", minimum=1),
    "train.ema_decay": Setting(
        0.0, "finetune: decay of an average of the parameters, used in tests; 0: none", minimum=0.0
    ),
    "train.compute": Setting(
        "float32", "finetune: the backbone's arithmetic; parameters stay float32", choices=("float32", "bfloat16")
    ),
    "train.bn_momentum": Setting(
        0.0, "finetune: share of unfrozen layers' stored statistics that a step keeps; 0: the backbone's", minimum=0.0
    ),
    "train.remat": Setting(False, "finetune: compute stages again in the backward pass, to save memory"),
    "train.patience": Setting(0, "finetune: epochs without a lower validation loss until it ends; 0: all", minimum=0),
    "train.checkpoint_steps": Setting(200, "finetune: steps between checkpoints", minimum=1),
    "train.keep_latest": Setting(2, "finetune: newest checkpoints kept", minimum=1),
    "train.keep_best": Setting(1, "finetune: checkpoints of the lowest validation loss kept", minimum=0),
    "train.log_steps": Setting(10, "finetune: steps between lines of metrics.jsonl", minimum=1),
    "train.loggers": Setting(("tensorboard",), "finetune: besides metrics.jsonl: tensorboard, wandb, mlflow"),
    "augment.flips": Setting(False, "finetune: mirror images in both directions"),
    "augment.quarter_turns": Setting(False, "finetune: turn images by quarters"),
    "augment.rotation": Setting(0.0, "finetune: largest turn to either side, in degrees", minimum=0.0),
    "augment.shift": Setting(0.0, "finetune: largest displacement, as a share of the side", minimum=0.0),
    "augment.zoom": Setting(0.0, "finetune: largest enlargement or reduction, from 1/(1+zoom) to 1+zoom", minimum=0.0),
    "augment.crop": Setting(0.0, "finetune: largest share of the side that is cut away", minimum=0.0),
    "augment.brightness": Setting(0.0, "finetune: largest relative change of all intensities", minimum=0.0),
    "augment.contrast": Setting(0.0, "finetune: largest relative change of the contrast", minimum=0.0),
    "augment.stain": Setting(0.0, "finetune: largest change of the amount of each stain", minimum=0.0),
    "augment.blur": Setting(0.0, "finetune: largest standard deviation of the blur, in pixels", minimum=0.0),
    "augment.cutout": Setting(0.0, "finetune: side of a square that is blackened, as a share of the side", minimum=0.0),
    "augment.mixup": Setting(0.0, "finetune: alpha of MixUp; 0: none", minimum=0.0),
    "parallel": Setting("jit", "finetune: how a batch is spread over the devices", choices=("jit", "pmap")),
    "mesh.fsdp": Setting(1, "finetune: devices that share one copy of large parameters and optimizer state", minimum=1),
    "profile": Setting(0, "finetune: steps written as a profiler trace; 0: none", minimum=0),
    "features.batch_size": Setting(16, "images through the backbone at once", minimum=1),
    "features.augment": Setting(
        "none", "features of each image, or also of its seven rotated and mirrored copies", choices=("none", "dihedral")
    ),
    "features.memory": Setting(
        "auto",
        "where heads read features: from the device's memory, or from disk; auto: from disk where they do not fit",
        choices=("auto", "device", "disk"),
    ),
    "study.sweep": Setting(
        (), "pairs (key, values), or lists (keys, rows of a value each); the study's cells are their product"
    ),
    "study.budgets": Setting(
        "prefix",
        "frozen cells that differ in train.epochs alone: beginnings of one run, or runs of their own",
        choices=("prefix", "separate"),
    ),
    "study.compare": Setting(
        "",
        "sets the cells beside the published tables: the first two networks as the paper's, or variants ranked",
        choices=("", "paper", "variants"),
    ),
    "study.checkpoints": Setting(True, "keep each cell's parameters, which `alljax predict` needs"),
    "study.seeds": Setting(
        1, "heads a cell and fold, from seed, seed + 1, ..., trained in one compiled call", minimum=1
    ),
    "evaluation.resamples": Setting(2000, "bootstrap resamples behind every interval", minimum=100),
    "evaluation.level": Setting(0.95, "share of the resamples inside an interval", minimum=0.5),
}

# A study keeps its cells comparable: all of them see the same images.
VARIABLE = ("model.", "weights.", "preprocessing.", "split.", "train.", "augment.", "features.augment")
