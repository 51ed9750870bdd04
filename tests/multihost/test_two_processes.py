"""`alljax study` as two processes of two devices each, against one process of four."""

import signal
import subprocess
from pathlib import Path

import pandas
from multihost.conftest import PATIENCE, Start, assert_same_network, free_port, wait_for, wait_for_checkpoint

from alljax.study import workdir


def begin(start: Start, folder: Path, *words: str, **more: str) -> "list[subprocess.Popen[str]]":
    port = free_port()
    flags = [[f"--coordinator=localhost:{port}", "--processes=2", f"--process={index}"] for index in (0, 1)]
    return [start(folder, *words, *own, **more) for own in flags]


def test_two_processes_learn_what_one_does(start: Start, single: Path, tmp_path: Path) -> None:
    """One of them gets a signal: both stop after the same step, and resume."""
    first, second = begin(start, tmp_path, ALLJAX_STOP_CODE="75")
    wait_for_checkpoint(tmp_path, first, second)
    second.send_signal(signal.SIGUSR1)
    errors = [process.communicate(timeout=PATIENCE)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [75, 75], errors
    assert errors[0].splitlines()[-1] == errors[1].splitlines()[-1]
    assert "stopped after step" in errors[0]

    processes = begin(start, tmp_path)
    outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "2 processes with 4 cpu devices" in outputs[0][1]
    assert "resuming after step" in outputs[0][1]
    assert "report:" in outputs[0][0]
    assert "report:" not in outputs[1][0], "only the primary process prints results"
    assert_same_network(single, tmp_path)


def test_dead_process_is_reported(start: Start, tmp_path: Path) -> None:
    first, second = begin(start, tmp_path, "--config.train.epochs=500")
    wait_for_checkpoint(tmp_path, first, second)
    second.kill()
    error = first.communicate(timeout=PATIENCE)[1]
    assert first.returncode != 0
    assert "another task died" in error or "alljax: this process ends" in error, error


def test_processes_share_frozen_trials(start: Start, tmp_path: Path) -> None:
    """Each process trains every second head; one of them gets a signal; the results are those of one process."""
    rates = [0.001 * step for step in range(1, 11)]
    words = [
        "--config.train.mode=frozen", "--config.train.groups=()", "--config.model.stage=stem",
        f"--config.study.sweep=(('train.learning_rate', {rates}),)",
    ]  # fmt: skip
    processes = begin(start, tmp_path / "two", *words, ALLJAX_STOP_CODE="75")
    wait_for(lambda: any((tmp_path / "two").glob("trials/*/metrics.json")), *processes)
    processes[1].send_signal(signal.SIGTERM)
    errors = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    assert [process.returncode for process in processes] == [75, 75], errors
    assert "finished trials are kept" in errors[0]

    processes = [*begin(start, tmp_path / "two", *words), start(tmp_path / "one", *words)]
    outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    found, expected = (sorted((tmp_path / name).glob("trials/*/predictions.csv")) for name in ("two", "one"))
    assert len(found) == len(expected) == len(rates)
    for first, second in zip(found, expected, strict=True):
        pandas.testing.assert_frame_equal(pandas.read_csv(first), pandas.read_csv(second), atol=1e-4)
    assert workdir.verify_all(tmp_path / "two") == 3 * len(rates)
