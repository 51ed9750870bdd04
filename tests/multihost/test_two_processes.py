"""`alljax study` as two processes of two devices each, against one process of four."""

import os
import signal
import subprocess
from pathlib import Path

from multihost.several import (
    CELL,
    STUDY,
    TOY,
    Several,
    assert_same_network,
    finish,
    flags,
    free_port,
    wait_for_checkpoint,
)

Both = tuple[subprocess.Popen[str], subprocess.Popen[str]]


def begin(several: Several, folder: Path, *more: str, **environment: str) -> Both:
    port = free_port()
    command = [*STUDY, *TOY, f"--workdir={folder}", *more]
    first, second = (several.start([*command, *flags(port, 2, index)], **environment) for index in range(2))
    return first, second


def test_two_processes_learn_what_one_does(
    several: Several, alone: Path, tmp_path: Path, compiled: dict[str, str]
) -> None:
    """And on the way one of them is told to stop: both do, saved after the same step, and go on from there."""
    first, second = begin(several, tmp_path, ALLJAX_STOP_CODE="75", **compiled)
    wait_for_checkpoint(tmp_path, first, second)
    second.send_signal(signal.SIGUSR1)
    ends = finish(first, second)
    assert [code for code, _, _ in ends] == [75, 75], ends
    for _, _, err in ends:
        assert "stopped after step" in err.splitlines()[-1]

    ends = finish(*begin(several, tmp_path, **compiled))
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert "goes on after step" in ends[0][1]
    assert ends[1][1] == "", "the second process prints nothing"
    assert_same_network(alone, tmp_path)
    names = {path.relative_to(alone) for path in alone.rglob("*.csv")} | {Path("report.html"), Path("metrics.json")}
    assert Path(CELL, "predictions.csv") in names
    assert all((tmp_path / name).is_file() for name in names)


def test_a_process_that_dies_takes_the_run_with_it(several: Several, tmp_path: Path, compiled: dict[str, str]) -> None:
    first, second = begin(several, tmp_path, "--config.train.epochs=500", **compiled)
    wait_for_checkpoint(tmp_path, first, second)
    os.kill(second.pid, signal.SIGKILL)
    [(code, _, err)] = finish(first, timeout=60)
    assert code == 1
    assert err.splitlines()[-1].startswith("alljax: process 1 died or cannot be reached any more"), err
