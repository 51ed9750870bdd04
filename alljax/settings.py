"""Every setting once: its default, its type and one line of explanation."""

from dataclasses import dataclass
from typing import Any

# The largest numbers where a setting states no limit: sums of two are still int32 or nearly float32.
MAXIMA = {int: 1e9, float: 3e38}
HEADS = "mlp", "linear", "lstm"  # classifiers that are trained in epochs
TYPE_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "text", tuple: "a list (a,b)"}


@dataclass(frozen=True)
class Setting:
    """A setting, whose type is that of its default, and its valid values."""

    default: bool | int | float | str | tuple
    help: str
    choices: tuple[str, ...] = ()  # for a text, or each text of a list; empty: any
    minimum: float = 0  # a number is its default, or at least this,
    maximum: float = 0  # and at most this (0: that of `MAXIMA`),
    below: float = 0  # or less than this
    entry: tuple["Setting", ...] = ()  # a list has rows of these values, at least two of each; empty: different texts

    @property
    def range(self) -> str:
        """The valid numbers as text, such as ``at least 0 and below 1``; empty for other types."""
        if not (maximum := self.maximum or MAXIMA.get(type(self.default), 0)):
            return ""
        highest = f"below {self.below:g}" if self.below else f"at most {maximum:g}"
        return f"{'0, or ' if self.minimum and not self.default else ''}at least {self.minimum:g} and {highest}"

    def problem(self, value: Any) -> str:
        """Returns what is wrong with a value, to be read after ``key=value``; empty if it is valid."""
        wanted = type(self.default)
        correct = isinstance(value, int | float) if wanted is float else isinstance(value, wanted)
        if not correct or (isinstance(value, bool) and wanted is not bool):
            return f"has the wrong type; it takes {TYPE_NAMES[wanted]} ({self.help})"
        if wanted is tuple:
            return self._problem_of_list(value)
        if self.choices and value not in self.choices:
            return f"is not one of the choices {', '.join(map(repr, self.choices))}"
        if self.range and value != self.default:
            small = value < self.below if self.below else value <= (self.maximum or MAXIMA[wanted])
            return "" if small and value >= self.minimum else f"is out of range; it must be {self.range}"
        return ""

    def _problem_of_list(self, values: tuple) -> str:
        for number, value in enumerate(values):
            if value in values[:number]:
                return f"contains {value!r} twice; list it once"
            if self.choices and value not in self.choices:
                return f"contains {value!r}; the choices are {', '.join(self.choices)}"
            if self.entry and not (isinstance(value, tuple | list) and 2 <= len(value) <= len(self.entry)):
                return f"contains {value!r}; entries are {self.help}"
            for part, cell in zip(self.entry, value if self.entry else (), strict=False):
                if problem := part.problem(cell):
                    return f"contains {value!r}, whose {part.help} {cell!r} {problem}"
        return ""


def _choice(help: str, *choices: str) -> Setting:
    return Setting(choices[0], help, choices)


SETTINGS: dict[str, Setting] = {
    "seed": Setting(0, "random seed of splits, parameters and batch order"),
    "data.source": Setting("synthetic", "folder, zip, CSV, .npz, prepared data, package.module:function; or synthetic"),
    "data.sources": Setting(
        (),
        "several sources instead of data.source: tuples (name, path[, classes as OTHER=OWN,...]), OWN in data.classes",
        entry=(Setting("", "name"), Setting("", "path"), Setting("", "classes")),
    ),
    "data.subset": Setting("train", "subset of the data to use: train, val, test, prelim, ..."),
    "data.classes": Setting((), "class names in label order, the positive class second; empty: those of the data"),
    "data.name_pattern": Setting("", "regular expression with groups subject, field, cell: of names; with /: of paths"),
    "data.allow_partial": Setting(False, "accept an incomplete copy of C-NMC 2019"),
    "data.on_error": _choice("on an unreadable image: raise or skip", "raise", "skip"),
    "data.cache": _choice("finetune: keep decoded images in memory; auto: if they fit", "auto", "none"),
    "data.synthetic.images": Setting(600, "number of generated images", minimum=8, maximum=1e6),
    "data.synthetic.subjects": Setting(24, "number of subjects", minimum=4),
    "data.synthetic.image_size": Setting(224, "size of generated images in pixels", minimum=32, maximum=4096),
    "data.synthetic.seed": Setting(0, "random seed of the generated images"),
    "model.backbone": Setting("efficientnet_lite0", "network for the features: help lists all; or package.module:Name"),
    "model.stage": Setting("", "backbone stage whose output is used; empty: the last stage"),
    "model.pool": _choice("pooling; empty: the backbone's", "", "average", "max", "flatten", "cls", "cls_mean"),
    "model.hidden": Setting(512, "number of hidden units of mlp and lstm", minimum=1, maximum=1e6),
    "model.dropout": Setting(0.0, "dropout rate before the last layer", below=1),
    "model.label": Setting("", "name of a trial in tables; trials of one label also have the settings that differ"),
    "weights.path": Setting("", "weight file, folder of them, or work folder of a fine-tuned network; empty: by name"),
    "weights.name": Setting("", "source (`alljax weights list`); random: initial weights; empty: any that fits"),
    "preprocessing.name": _choice("pixel scaling; empty: that of the weights", "", "torch", "caffe", "rescale", "lite"),
    "preprocessing.cell": _choice("masked: gray cells, a baseline, never the best model", "keep", "masked"),
    "preprocessing.image_size": Setting(0, "input size in pixels; 0: that of the weights", minimum=32, maximum=4096),
    "split.protocol": _choice(
        "division into training and test images; paper, official_folds_by_name: with leaks",
        "subject_kfold",
        "subject_holdout",
        "leave_one_subject_out",
        "official_folds",
        "official_folds_by_name",
        "prelim",
        "leave_one_source_out",
        "source_pairs",
        "paper",
    ),
    "split.folds": Setting(5, "subject_kfold: number of folds", minimum=2),
    "split.repeats": Setting(1, "number of repetitions of a random split", minimum=1, maximum=10_000),
    "split.test_fraction": Setting(0.2, "paper, subject_holdout: fraction of test images", minimum=1e-6, below=1),
    "split.stratified": Setting(True, "paper: stratify the random split by class"),
    "split.test_subset": Setting("prelim", "prelim: subset to test"),
    "split.validation": Setting(0.0, "fraction of the training images, by subject, for validation", below=1),
    "split.train_subjects": Setting(0, "training subjects (or images of unknown subjects) per fold; 0: all"),
    "split.train_images": Setting(0, "training images per class and fold, drawn over subjects; 0: all"),
    "train.mode": _choice("frozen: train heads on features; finetune: train on images", "frozen", "finetune"),
    "train.optimizer": _choice("adam, rmsprop, sgd: as in Keras", "adam", "rmsprop", "adamw", "sgd"),
    "train.momentum": Setting(0.9, "sgd: momentum", below=1),
    "train.weight_decay": Setting(0.0, "decoupled weight decay, multiplied by the learning rate", below=1),
    "train.clip_norm": Setting(0.0, "maximum global gradient norm; 0 disables clipping"),
    "train.schedule": _choice("learning-rate schedule", "exponential", "cosine", "constant"),
    "train.warmup_steps": Setting(0, "number of steps of linear warmup"),
    "train.learning_rate": Setting(1e-4, "initial learning rate"),
    "train.decay_steps": Setting(900, "exponential: number of steps per decay by decay_rate", minimum=1),
    "train.decay_rate": Setting(0.95, "exponential: decay factor; 1 disables the decay", minimum=1e-6, maximum=1),
    "train.staircase": Setting(False, "exponential: decay only after every decay_steps steps"),
    "train.epochs": Setting(20, "number of epochs", minimum=1, maximum=1e6),
    "train.batch_size": Setting(32, "batch size; the last batch of an epoch may be smaller", minimum=1, maximum=1e6),
    "train.class_weights": _choice("class weights in the loss; balanced: inverse frequency", "none", "balanced"),
    "train.sampling": _choice("each image once per epoch, or draws balanced by class", "each", "balanced"),
    "train.loss": _choice("loss function", "cross_entropy", "focal"),
    "train.focal_gamma": Setting(2.0, "focal: focusing parameter gamma", maximum=100),
    "train.label_smoothing": Setting(0.0, "label smoothing", below=1),
    "train.groups": Setting(
        (),
        "tuples (pattern, learning-rate factor[, decay[, first epoch]]), one per parameter group, for finetune",
        entry=(Setting("", "pattern"), Setting(1.0, "factor"), Setting(1.0, "decay"), Setting(0, "first epoch")),
    ),
    "train.accumulation_steps": Setting(1, "number of gradient accumulation steps per batch", minimum=1),
    "train.ema_decay": Setting(0.0, "decay of the parameters' moving average, which is evaluated; 0: none", below=1),
    "train.compute": _choice("finetune: data type of the backbone's computations", "float32", "bfloat16"),
    "train.bn_momentum": Setting(0.0, "finetune: momentum of trained batch norms; 0: that of the backbone", below=1),
    "train.remat": Setting(False, "finetune: recompute activations in the backward pass to save memory"),
    "train.patience": Setting(0, "finetune: epochs without a lower validation loss until the end; 0: no limit"),
    "train.checkpoint_steps": Setting(200, "finetune: number of steps between checkpoints", minimum=1),
    "train.keep_latest": Setting(2, "finetune: number of latest checkpoints to keep", minimum=1),
    "train.keep_best": Setting(1, "finetune: number of checkpoints with the lowest validation loss to keep"),
    "train.log_steps": Setting(10, "finetune: steps between logged metrics, where several processes stop", minimum=1),
    "train.loggers": Setting((), "finetune: more than metrics.jsonl", ("tensorboard", "wandb", "mlflow")),
    "augment.flips": Setting(False, "finetune: random horizontal and vertical flips"),
    "augment.quarter_turns": Setting(False, "finetune: random rotations by multiples of 90 degrees"),
    "augment.rotation": Setting(0.0, "finetune: maximum rotation in degrees", maximum=180),
    "augment.shift": Setting(0.0, "finetune: maximum shift as a fraction of the image size", below=1),
    "augment.zoom": Setting(0.0, "finetune: maximum zoom, from 1 / (1 + zoom) to 1 + zoom", maximum=10),
    "augment.crop": Setting(0.0, "finetune: maximum fraction of the image size removed by a random crop", below=1),
    "augment.brightness": Setting(0.0, "finetune: maximum relative change of brightness", below=1),
    "augment.contrast": Setting(0.0, "finetune: maximum relative change of contrast", below=1),
    "augment.stain": Setting(0.0, "finetune: maximum relative change of each stain's amount", below=1),
    "augment.blur": Setting(0.0, "finetune: maximum standard deviation of Gaussian blur in pixels", maximum=1000),
    "parallel": _choice("finetune: data parallelism by jit over a mesh or by pmap", "jit", "pmap"),
    "mesh.fsdp": Setting(1, "finetune: number of devices that shard parameters and optimizer state", minimum=1),
    "profile": Setting(0, "finetune: number of steps in a profiler trace; 0: no trace"),
    "features.extractor": Setting(("backbone",), "frozen: sources of features", ("backbone", "texture", "dct")),
    "features.select_scope": _choice("images for the selection; all: also those tested, a leak", "train", "all"),
    "features.select": Setting(
        (), "steps of selection, in order", ("standardize", "anova", "correlation", "pca", "salp_swarm", "random")
    ),
    "features.keep": Setting(1000, "anova, random: number of features to keep", minimum=1),
    "features.max_correlation": Setting(0.95, "correlation: largest magnitude between two kept features", below=1),
    "features.variance": Setting(0.95, "pca: fraction of the variance to keep", minimum=1e-6, below=1),
    "features.salps": Setting(10, "salp_swarm: number of salps", minimum=1, maximum=10_000),
    "features.iterations": Setting(50, "salp_swarm: number of iterations", minimum=1, maximum=1e6),
    "features.batch_size": Setting(16, "batch size of feature extraction", minimum=1),
    "features.memory": _choice("where heads read features; auto: the device if they fit", "auto", "device", "disk"),
    "texture.region": _choice("texture: region; cell: all pixels that are not black", "nucleus", "cell"),
    "texture.clusters": Setting(2, "texture: clusters of color; the darkest is the nucleus", minimum=2, maximum=8),
    "texture.levels": Setting(16, "texture: gray levels", minimum=2, maximum=256),
    "texture.shape": Setting(False, "texture: add area, perimeter, eccentricity, solidity and form factor"),
    "classifier.name": _choice("head or scikit-learn's", *HEADS, "logistic", "svm", "knn", "random_forest"),
    "classifier.C": Setting(1.0, "logistic, svm: inverse regularization; 0: features · classes / 100, as DinoBloom"),
    "classifier.kernel": _choice("svm: kernel", "rbf", "linear", "poly", "sigmoid"),
    "classifier.gamma": Setting(0.0, "svm: gamma of the kernel; 0: 1 / (features · variance)", minimum=1e-12),
    "classifier.n_neighbors": Setting(5, "knn: number of neighbors", minimum=1),
    "classifier.n_estimators": Setting(100, "random_forest: number of trees", minimum=1, maximum=1e5),
    "classifier.max_iter": Setting(100, "logistic: maximum number of iterations", minimum=1),
    "study.sweep": Setting((), "pairs (setting, values) or (settings, rows of values); the trials are their product"),
    "study.design": _choice("the trials are rows of an orthogonal array instead", "", "L4", "L8", "L9", "L18", "L27"),
    "study.combine": Setting(
        (),
        "tuples (name, rule, pattern of trial names as *vgg16*): each adds a trial that combines those of one split",
        entry=(Setting("", "name"), _choice("rule", "vote", "mean", "weighted"), Setting("", "pattern")),
    ),
    "study.select": _choice("how a fold's best trial is chosen: by other or inner folds", "other_folds", "nested"),
    "study.compare": _choice("beside the paper: its own tables, or methods that it cites", "", "paper", "table7"),
    "study.checkpoints": Setting(True, "store the parameters of each trial, which `alljax predict` needs"),
    "study.missing_weights": _choice("trials without weights on this machine; skip: no downloads", "raise", "skip"),
    "study.seeds": Setting(1, "number of seeds per trial and fold: seed, seed + 1, ...", minimum=1, maximum=10_000),
    "evaluation.resamples": Setting(2000, "bootstrap resamples for comparing several models", minimum=100, maximum=1e6),
    "evaluation.inner_folds": Setting(3, "frozen: folds of training subjects; below 2: no thresholds", maximum=100),
    "evaluation.subgroups": Setting((), "columns of a CSV source by whose values results are divided, too"),
    "evaluation.metrics": Setting((), "more metrics: package.module:function of labels and probabilities (N, C)"),
    "evaluation.level": Setting(0.95, "confidence level of intervals", minimum=0.5, below=1),
    "report.images": Setting(True, "show misclassified images"),
    "report.subjects": _choice("names of subjects and files, or hashes of them, for sharing", "names", "hashed"),
}

# Settings that `study.sweep` may contain; the images are the same in all trials of a study.
SWEEPABLE = (
    "model.", "weights.", "preprocessing.", "split.", "train.", "augment.", "features.", "texture.", "classifier.",
)  # fmt: skip


def describe() -> str:
    """Returns the text of ``--settings``: key, default, explanation and valid values of each setting."""
    lines = []
    for key, setting in SETTINGS.items():
        valid = ", ".join(setting.choices) or setting.range
        lines.append(f"  --config.{key}={setting.default!r}\n      {setting.help}{f' [{valid}]' if valid else ''}")
    return "\n".join(lines)
