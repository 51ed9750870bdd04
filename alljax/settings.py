"""Every knob: its default, its type and what it means, once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Knob:
    """One setting.

    Attributes:
        default: the value when nobody sets it; its type is the knob's type.
        meaning: one line for ``--help`` and for readers.
        choices: the only values allowed, if not empty.
        at_least: the smallest number allowed, if not None.
    """

    default: bool | int | float | str | tuple
    meaning: str
    choices: tuple[str, ...] = ()
    at_least: float | None = None


KNOBS: dict[str, Knob] = {
    "seed": Knob(0, "draws folds, head parameters and batch order", at_least=0),
    "data.source": Knob(
        "synthetic", "folder, zip, CSV, .npz or prepared set of labelled images, or 'synthetic' for generated cells"
    ),
    "data.split": Knob("train", "the part of the source that is used: train, prelim, test, ..."),
    "data.classes": Knob((), "class names in label order, the positive one second; empty: as the source has them"),
    "data.name_pattern": Knob("", "for folders: regular expression over file names with groups subject, field, cell"),
    "data.allow_partial": Knob(False, "use a copy of C-NMC 2019 from which files are missing"),
    "data.on_error": Knob(
        "raise", "what an unreadable image does: stop, or be left out and named", choices=("raise", "skip")
    ),
    "data.cache": Knob(
        "auto",
        "where decoded images stay that are read again: nowhere, host memory, device memory; auto: where they fit",
        choices=("auto", "none", "host", "device"),
    ),
    "data.workers": Knob(0, "worker processes that read and decode; 0: threads of this process", at_least=0),
    "data.synthetic.images": Knob(600, "how many cells are generated", at_least=8),
    "data.synthetic.subjects": Knob(24, "from how many people they come", at_least=4),
    "data.synthetic.image_size": Knob(224, "their height and width in pixels", at_least=32),
    "data.synthetic.seed": Knob(0, "draws the generated people and cells, apart from the run's seed", at_least=0),
    "data.synthetic.manifest": Knob("", "a list of the real set's files: its names and subjects, generated images"),
    "model.backbone": Knob("efficientnet_lite0", "the frozen network, by its name in models/catalog.py"),
    "model.stage": Knob("", "the stage whose activations are the features; empty: the last"),
    "model.pool": Knob("average", "activations to one feature vector", choices=("average", "max", "flatten")),
    "model.hidden": Knob(512, "width of the head's hidden layer", at_least=1),
    "model.dropout": Knob(0.0, "share of the head's hidden units that rest in each step", at_least=0.0),
    "weights.path": Knob(
        "", "a weight file, or a folder of them, one of which is the backbone's; empty: look it up by name"
    ),
    "weights.name": Knob("", "a source in third_party/; empty: any that fits the backbone"),
    "preprocessing.name": Knob("", "torch, caffe, rescale or lite; empty: what the weights were trained with"),
    "preprocessing.image_size": Knob(0, "pixels a side given to the backbone; 0: what the weights expect", at_least=0),
    "split.protocol": Knob(
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
    "split.folds": Knob(5, "folds of subject_kfold", at_least=2),
    "split.repeats": Knob(1, "how often the folds (or the random split) are drawn anew", at_least=1),
    "split.test_fraction": Knob(
        0.2, "share of the cells tested by protocols paper and subject_holdout, between 0 and 1", at_least=0.0
    ),
    "split.stratified": Knob(True, "protocol paper: the same share of each class on both sides"),
    "split.test_part": Knob("prelim", "protocol prelim: the part of the source that is tested"),
    "split.validation": Knob(
        0.0, "share of the training cells set aside, by whole people, for the validation curves", at_least=0.0
    ),
    "split.train_people": Knob(
        0, "people learned from in each split, for a learning curve (cells where nobody is known); 0: all", at_least=0
    ),
    "train.regime": Knob(
        "frozen",
        "features once and heads on them, or the network itself on images (finetune)",
        choices=("frozen", "finetune"),
    ),
    "train.optimizer": Knob(
        "adam", "Adam and RMSprop as in Keras, and others", choices=("adam", "rmsprop", "adamw", "sgd", "lamb")
    ),
    "train.momentum": Knob(0.9, "momentum of sgd", at_least=0.0),
    "train.weight_decay": Knob(0.0, "share of each parameter taken off a step, times the learning rate", at_least=0.0),
    "train.clip_norm": Knob(0.0, "longest gradient, over all trained parameters; 0: any", at_least=0.0),
    "train.schedule": Knob(
        "exponential",
        "the learning rate over the steps",
        choices=("exponential", "cosine", "piecewise", "constant"),
    ),
    "train.warmup_steps": Knob(0, "steps over which the learning rate rises first", at_least=0),
    "train.boundaries": Knob((), "schedule piecewise: pairs (step, factor on the learning rate from there)"),
    "train.learning_rate": Knob(1e-4, "learning rate at step 0", at_least=0.0),
    "train.decay_steps": Knob(900, "exponential: steps after which the rate was multiplied by decay_rate", at_least=1),
    "train.decay_rate": Knob(0.95, "factor of the exponential decay; 1 for none", at_least=1e-6),
    "train.staircase": Knob(False, "decay in jumps every decay_steps instead of continuously"),
    "train.epochs": Knob(20, "passes over the training cells", at_least=1),
    "train.batch_size": Knob(32, "cells a step; the last, short batch of an epoch counts too", at_least=1),
    "train.class_weights": Knob(
        "none", "weigh each cell by 1 / its class's share (balanced) or not", choices=("none", "balanced")
    ),
    "train.sampling": Knob(
        "each",
        "an epoch's cells: each one once, or as many draws with all classes equally often (balanced)",
        choices=("each", "balanced"),
    ),
    "train.loss": Knob("cross_entropy", "what is minimised", choices=("cross_entropy", "focal")),
    "train.focal_gamma": Knob(2.0, "loss focal: how little the easy cells weigh", at_least=0.0),
    "train.label_smoothing": Knob(0.0, "share of each label that is spread over all classes", at_least=0.0),
    "train.groups": Knob((), "finetune: (pattern, rate[, decay[, from_epoch]]) each, see training/groups.py"),
    "train.accumulate": Knob(1, "finetune: parts in which a batch is computed, to save memory", at_least=1),
    "train.average": Knob(0.0, "finetune: decay of an average of the parameters, used in tests; 0: none", at_least=0.0),
    "train.compute": Knob(
        "float32", "finetune: the backbone's arithmetic; parameters stay float32", choices=("float32", "bfloat16")
    ),
    "train.statistics_momentum": Knob(
        0.0, "finetune: share of unfrozen layers' stored statistics that a step keeps; 0: the backbone's", at_least=0.0
    ),
    "train.rematerialise": Knob(False, "finetune: compute stages again in the backward pass, to save memory"),
    "train.patience": Knob(0, "finetune: epochs without a lower validation loss until it ends; 0: all", at_least=0),
    "train.checkpoint_steps": Knob(200, "finetune: steps between checkpoints", at_least=1),
    "train.keep_latest": Knob(2, "finetune: newest checkpoints kept", at_least=1),
    "train.keep_best": Knob(1, "finetune: checkpoints of the lowest validation loss kept", at_least=0),
    "train.log_steps": Knob(10, "finetune: steps between lines of metrics.jsonl", at_least=1),
    "train.loggers": Knob(("tensorboard",), "finetune: besides metrics.jsonl: tensorboard, wandb, mlflow"),
    "augment.flips": Knob(False, "finetune: mirror images in both directions"),
    "augment.quarter_turns": Knob(False, "finetune: turn images by quarters"),
    "augment.rotation": Knob(0.0, "finetune: largest turn to either side, in degrees", at_least=0.0),
    "augment.shift": Knob(0.0, "finetune: largest displacement, as a share of the side", at_least=0.0),
    "augment.zoom": Knob(0.0, "finetune: largest enlargement or reduction, from 1/(1+zoom) to 1+zoom", at_least=0.0),
    "augment.crop": Knob(0.0, "finetune: largest share of the side that is cut away", at_least=0.0),
    "augment.brightness": Knob(0.0, "finetune: largest relative change of all intensities", at_least=0.0),
    "augment.contrast": Knob(0.0, "finetune: largest relative change of the contrast", at_least=0.0),
    "augment.stain": Knob(0.0, "finetune: largest change of the amount of each stain", at_least=0.0),
    "augment.blur": Knob(0.0, "finetune: largest standard deviation of the blur, in pixels", at_least=0.0),
    "augment.cutout": Knob(0.0, "finetune: side of a square that is blackened, as a share of the side", at_least=0.0),
    "augment.mixup": Knob(0.0, "finetune: alpha of MixUp; 0: none", at_least=0.0),
    "parallel": Knob("jit", "finetune: how a batch is spread over the devices", choices=("jit", "pmap")),
    "mesh.fsdp": Knob(1, "finetune: devices that share one copy of large parameters and optimizer state", at_least=1),
    "profile": Knob(0, "finetune: steps written as a profiler trace; 0: none", at_least=0),
    "features.batch_size": Knob(16, "images through the backbone at once", at_least=1),
    "features.views": Knob(
        "one", "features of each image as it is, or of its eight turned and mirrored views", choices=("one", "dihedral")
    ),
    "features.memory": Knob(
        "auto",
        "where heads read features: from the device's memory, or from disk; auto: from disk where they do not fit",
        choices=("auto", "device", "disk"),
    ),
    "study.vary": Knob(
        (), "pairs (key, values), or lists (keys, rows of a value each); the study's cells are their product"
    ),
    "study.budgets": Knob(
        "prefix",
        "frozen cells that differ in train.epochs alone: beginnings of one run, or runs of their own",
        choices=("prefix", "separate"),
    ),
    "study.compare": Knob(
        "",
        "sets the cells beside the published tables: the first two networks as the paper's, or variants ranked",
        choices=("", "paper", "variants"),
    ),
    "study.checkpoints": Knob(True, "keep each cell's parameters, which `alljax predict` needs"),
    "study.seeds": Knob(1, "heads a cell and fold, from seed, seed + 1, ..., trained in one compiled call", at_least=1),
    "evaluation.resamples": Knob(2000, "bootstrap resamples behind every interval", at_least=100),
    "evaluation.level": Knob(0.95, "share of the resamples inside an interval", at_least=0.5),
}

# A study keeps its cells comparable: all of them see the same images.
VARIABLE = ("model.", "weights.", "preprocessing.", "split.", "train.", "augment.", "features.views")
