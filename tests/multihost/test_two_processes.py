"""`alljax study` as two processes of two devices each, against one process of four."""

import signal
from pathlib import Path

import pandas
from multihost.conftest import SGD, assert_same_network, wait_for_checkpoint
from processes import Process, Start, finish, free_port, wait_for

from alljax.study import workdir


def begin(start: Start, folder: Path, *words: str, **more: str) -> list[Process]:
    port = free_port()
    flags = [[f"--coordinator=localhost:{port}", "--processes=2", f"--process={index}"] for index in (0, 1)]
    return [start(folder, *words, *own, devices=2, **more) for own in flags]


def test_two_processes_learn_what_one_does(start: Start, single: Path, tmp_path: Path) -> None:
    """One of them gets a signal: both stop after the same step, and resume."""
    processes = begin(start, tmp_path, *SGD, ALLJAX_STOP_CODE="75")
    wait_for_checkpoint(tmp_path, *processes)
    processes[1].send_signal(signal.SIGUSR1)
    lines = [finish(process, code=75).splitlines()[-1] for process in processes]
    assert lines[0] == lines[1]
    assert "stopped after step" in lines[0]

    first, second = [finish(process) for process in begin(start, tmp_path, *SGD)]
    assert "2 processes with 4 cpu devices" in first
    assert "resuming after step" in first
    assert "report:" in first
    assert "report:" not in second, "only the primary process prints results"
    assert_same_network(single, tmp_path)


def test_dead_process_is_reported(start: Start, tmp_path: Path) -> None:
    first, second = begin(start, tmp_path, *SGD, "--config.train.epochs=500")
    wait_for_checkpoint(tmp_path, first, second)
    second.kill()
    first.wait()
    assert first.returncode != 0
    output = finish(first, code=first.returncode)
    assert "another task died" in output or "alljax: this process ends" in output, output


def test_processes_share_frozen_trials(start: Start, tmp_path: Path) -> None:
    """Each process trains every second head; one of them gets a signal; the results are those of one process."""
    rates = [0.001 * step for step in range(1, 11)]
    words = [
        *SGD, "--config.train.mode=frozen", "--config.train.groups=()", "--config.model.stage=stem",
        f"--config.study.sweep=(('train.learning_rate', {rates}),)",
    ]  # fmt: skip
    processes = begin(start, tmp_path / "two", *words, ALLJAX_STOP_CODE="75")
    wait_for(lambda: any((tmp_path / "two").glob("trials/*/metrics.json")), *processes)
    processes[1].send_signal(signal.SIGTERM)
    assert all("the same command resumes" in finish(process, code=75) for process in processes)

    processes = [*begin(start, tmp_path / "two", *words), start(tmp_path / "one", *words)]
    assert [bool(finish(process)) for process in processes]
    found, expected = (sorted((tmp_path / name).glob("trials/*/predictions.csv")) for name in ("two", "one"))
    assert len(found) == len(expected) == len(rates)
    for first, second in zip(found, expected, strict=True):
        pandas.testing.assert_frame_equal(pandas.read_csv(first), pandas.read_csv(second), atol=1e-4)
    assert workdir.verify_all(tmp_path / "two") == 3 * len(rates)
