r"""The methods behind Table 7 on the same images, split by image and with subjects held out.

    alljax study --config=table7 --workdir=runs/table7 --config.data.source=C-NMC_Leukemia.zip

All methods of ``table7/`` under the protocols paper and subject_kfold: 62 trials.  "Table 7 under one
protocol" in the report has both numbers, their difference, the printed number and what its source says.  It was not
run on all of C-NMC; the methods that fine-tune networks need a GPU there.

    alljax study --config=table7:toy --workdir=runs/table7_toy

Generated cells of 64 × 64 pixels, first stages, random weights, as each row says: 62 trials in four minutes on two CPU
cores.
"""

from ml_collections import ConfigDict

from alljax import config as configs
from alljax import config_files
from alljax.settings import SETTINGS, SWEEPABLE
from alljax.study import sweep
from configs.common import check_argument


def get_config(argument: str = "") -> ConfigDict:
    """Returns the trials of all methods as one study; settings of splits are those of this study."""
    check_argument(__file__, argument, "toy")
    methods = [configs.load(f"{name}:{argument}") for name in config_files.shipped() if name.startswith("table7/")]
    trials = [
        configs.flatten(trial.config) for method in methods for trial in sweep.expand(method) if not trial.members
    ]
    varied = [key for key in SETTINGS if key.startswith(SWEEPABLE) and len({str(of[key]) for of in trials}) > 1]
    rows = tuple(tuple(of_trial[key] for key in varied) for of_trial in trials)
    config = methods[0]
    config.study.design = ""
    config.study.sweep = ((tuple(varied), rows), ("split.protocol", ("paper", "subject_kfold")))
    config.study.combine = tuple(entry for method in methods for entry in method.study.combine)
    return config
