"""The last block of VGG16 fine-tuned on the real cells, beside the frozen network on the same folds."""

import json
from pathlib import Path

import pytest

from alljax.cli import main

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.long
@pytest.mark.real
def test_the_last_block_learns_on_real_cells(
    tmp_path: Path, cnmc_zip: Path, vgg16_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = [
        f"--config.data.source={cnmc_zip}", "--config.data.allow_partial=true",
        f"--config.weights.path={vgg16_weights}", "--config.preprocessing.image_size=128", "--config.study.seeds=1",
    ]  # fmt: skip
    of_regime = {}
    for mode, config in (("finetune", "finetune.py"), ("frozen", "quickstart.py:cnmc")):
        command = ["train", f"--config={CONFIGS / config}", f"--workdir={tmp_path / mode}", *same]
        assert main(command) == 0
        [cell] = json.loads((tmp_path / mode / "metrics.json").read_text())["trials"].values()
        of_regime[mode] = cell["auc"], cell["intervals"]["auc"]
    with capsys.disabled():
        print(f"\nout-of-fold AUC and 95 % interval over people: {of_regime}")
    splits = {(tmp_path / mode / "split.csv").read_bytes() for mode in of_regime}
    assert len(splits) == 1, "the same folds of people"
    assert of_regime["finetune"][1][1] > of_regime["frozen"][0], "no worse than the frozen network within the noise"
