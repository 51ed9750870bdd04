"""The last block of VGG16 fine-tuned on the real C-NMC images, compared with the frozen network on the same folds."""

import json
from pathlib import Path

import pytest

from alljax.cli import main

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.long
@pytest.mark.real
def test_fine_tuning_is_not_worse_than_the_frozen_network(tmp_path: Path, cnmc_zip: Path, vgg16_weights: Path) -> None:
    same = [
        f"--config.data.source={cnmc_zip}", "--config.data.allow_partial=true",
        f"--config.weights.path={vgg16_weights}", "--config.preprocessing.image_size=128", "--config.study.seeds=1",
    ]  # fmt: skip
    trials = {}
    for mode, config in (("finetune", "finetune.py"), ("frozen", "quickstart.py:cnmc")):
        command = ["train", f"--config={CONFIGS / config}", f"--workdir={tmp_path / mode}", *same]
        assert main(command) == 0
        (trials[mode],) = json.loads((tmp_path / mode / "metrics.json").read_text())["trials"].values()
    splits = {(tmp_path / mode / "split.csv").read_bytes() for mode in trials}
    assert len(splits) == 1, "the same folds"
    upper = trials["finetune"]["intervals"]["auc"][1]
    assert upper > trials["frozen"]["auc"], "within the 95 % interval over subjects"
