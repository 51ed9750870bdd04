"""`alljax study` as two processes of two devices each, against one process of four."""

import signal
import subprocess
from pathlib import Path

import pandas
import pytest
from multihost.conftest import SGD, assert_same_network, wait_for_checkpoint
from processes import ROOT, TOY, Process, Start, environment, finish, free_port, start_study, wait_for

from alljax.study import workdir


def flags(index: int, port: int) -> list[str]:
    return [f"--coordinator=localhost:{port}", "--processes=2", f"--process={index}"]


def begin(start: Start, folder: Path, *words: str, **more: str) -> list[Process]:
    port = free_port()
    return [start(folder, *words, *flags(index, port), devices=2, **more) for index in (0, 1)]


def test_missing_processes_are_named(start: Start, tmp_path: Path) -> None:
    ports = free_port(), free_port()
    processes = [start(tmp_path, *TOY, *flags(index, port), "--timeout=17") for index, port in enumerate(ports)]
    for process, who in zip(processes, ("the other processes at", "process 0 at"), strict=True):
        lines = finish(process, code=2).splitlines()
        assert [line.partition(" localhost")[0] for line in lines] == [
            *[f"waiting for {who}"] * 2, f"alljax: waited 17 s for {who}"
        ], lines  # fmt: skip


def test_a_waiting_process_can_be_stopped(start: Start, tmp_path: Path) -> None:
    for index in (0, 1):
        process = start(tmp_path, *TOY, *flags(index, free_port()), ALLJAX_STOP_CODE="75")
        assert process.stdout is not None
        assert process.stdout.readline().startswith("waiting for ")
        process.send_signal(signal.SIGTERM)
        lines = finish(process, code=75).splitlines()
        assert [line.partition(";")[0] for line in lines][-1] == "alljax: stopped by SIGTERM", lines
    assert not list(tmp_path.iterdir())


def test_work_folder_must_be_shared(start: Start, tmp_path: Path) -> None:
    port = free_port()
    folders = [tmp_path / name for name in ("one", "two")]
    for process in [start(folder, *TOY, *flags(index, port)) for index, folder in enumerate(folders)]:
        assert "is not the same folder in all processes" in finish(process, code=2).splitlines()[-1]
    assert not list(tmp_path.iterdir())


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


RATES = [0.001 * step for step in range(1, 11)]
FROZEN = (
    *SGD, "--config.train.mode=frozen", "--config.train.groups=()", "--config.model.stage=stem",
    f"--config.study.sweep=(('train.learning_rate', {RATES}),)",
)  # fmt: skip


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten heads, trained by one process."""
    folder = tmp_path_factory.mktemp("frozen")
    finish(start_study(folder, *FROZEN))
    return folder


def assert_same_trials(folder: Path, expected: Path) -> None:
    tables = [sorted(each.glob("trials/*/predictions.csv")) for each in (folder, expected)]
    assert len(tables[0]) == len(tables[1]) == len(RATES)
    for first, second in zip(*tables, strict=True):
        pandas.testing.assert_frame_equal(pandas.read_csv(first), pandas.read_csv(second), atol=1e-4)
    assert workdir.verify_all(folder) == 8 + 5 * len(RATES), "files of the study and of each trial"


def test_processes_share_frozen_trials(start: Start, frozen: Path, tmp_path: Path) -> None:
    """Each process trains every second head; one of them gets a signal; the results are those of one process."""
    processes = begin(start, tmp_path, *FROZEN, ALLJAX_STOP_CODE="75")
    wait_for(lambda: any(tmp_path.glob("trials/*/metrics.json")), *processes)
    processes[1].send_signal(signal.SIGTERM)
    assert all("the same command resumes" in finish(process, code=75) for process in processes)
    assert [bool(finish(process)) for process in begin(start, tmp_path, *FROZEN)]
    assert_same_trials(tmp_path, frozen)


def test_devices_of_a_host_share_the_trials(frozen: Path, tmp_path: Path) -> None:
    """`launch/local.sh --per_device` on two devices, stopped once; the results are those of one process."""
    command = [ROOT / "launch/local.sh", "--per_device", *FROZEN, f"--workdir={tmp_path}"]
    variables = environment(1, CUDA_VISIBLE_DEVICES="0,1", ALLJAX_STOP_CODE="75")

    def run() -> Process:
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=variables, stdout=pipe, stderr=subprocess.STDOUT, text=True)

    stopped = run()
    wait_for(lambda: any(tmp_path.glob("trials/*/checksums.json")), stopped)
    stopped.send_signal(signal.SIGTERM)
    output = finish(stopped, code=75)
    assert all(f"device {device}: alljax: SIGTERM: stops" in output for device in (0, 1)), output
    assert "report:" not in output
    assert finish(run()).count(f"report: {tmp_path / 'report.html'}") == 1
    assert (tmp_path / "report.html").is_file()
    assert_same_trials(tmp_path, frozen)
