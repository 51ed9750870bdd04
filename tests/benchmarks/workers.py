"""Processes that do slices of work in turn, so that other load on the machine affects all of them equally.

    python tests/benchmarks/workers.py LIBRARY SIZES CORES FOLDER

uses the given cores only, and answers each line of JSON on its standard input, such as ``["features", "vgg16"]``, with
seconds of wall and of processor time per unit of work and with the peak memory.  It runs in the Python that has the
library.  Outputs go to FOLDER.
"""

import functools
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}


class Clock:
    """Wall time and processor time of this process and its children since `start`, in seconds."""

    def __init__(self) -> None:
        self.start()

    def start(self, less: tuple[float, float] = (0.0, 0.0)) -> None:
        """Starts at 0, or at minus the times `less`, those of a part of the work that is not counted."""
        self._begin = tuple(now + seconds for now, seconds in zip(self._now(), less, strict=True))

    def read(self) -> tuple[float, float]:
        wall, cpu = self._now()
        return wall - self._begin[0], cpu - self._begin[1]

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time() + sum(map(_cpu_seconds, children()))


Run = Callable[[Clock], tuple[int, Any]]
"""Does a slice of work and returns the number of units and the outputs, and may restart the clock."""


class Worker:
    """A process that is asked for slices of work; it ends when this process ends."""

    def __init__(self, python: Path, library: str, sizes: Any, cores: Iterable[int], folder: Path) -> None:
        cores = sorted(cores)
        command = [python, __file__, library, json.dumps(asdict(sizes)), json.dumps(cores), folder]
        environment = os.environ | QUIET | {"OMP_NUM_THREADS": str(len(cores))}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def ask(self, question: Iterable[Any]) -> dict[str, Any]:
        """Returns ``wall`` and ``cpu`` in seconds per unit, ``memory`` in bytes, and the ``outputs`` file, if any."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(list(question)) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline() or sys.exit(f"{self._process.args} has ended; see above"))

    def close(self) -> None:
        self._process.communicate()


def serve(prepare: Callable[..., Run], folder: Path) -> None:
    """Answers each line of input with a slice of the work that `prepare` makes from it."""
    answers, clock = sys.stdout, Clock()
    sys.stdout = sys.stderr  # libraries print progress
    prepare = functools.lru_cache(maxsize=1)(prepare)  # memory of the work before is freed
    for line in sys.stdin:
        question = json.loads(line)
        run = prepare(*question)
        clock.start()
        units, outputs = run(clock)
        wall, cpu = clock.read()
        answer = {"wall": wall / units, "cpu": cpu / units, "memory": peak_memory()}
        if outputs is not None:
            import numpy as np

            answer["outputs"] = str(folder / f"{os.getpid()}.npy")
            np.save(answer["outputs"], outputs)
        print(json.dumps(answer), file=answers, flush=True)


def children() -> list[str]:
    """Returns the numbers of the running children of the main thread."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def _cpu_seconds(process: str) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # user and system time


def peak_memory() -> int:
    """Returns bytes: the most this process has held, and the most that each of its running children has."""
    lines = [line for child in children() for line in Path(f"/proc/{child}/status").read_text().splitlines()]
    return 1024 * (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        + sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    )


def main() -> None:
    library, sizes, cores, folder = sys.argv[1:]
    os.sched_setaffinity(0, json.loads(cores))  # before the libraries count the cores
    import workload

    if library == "alljax":
        import ours

        works = ours.WORKS
    else:
        import peers

        works = peers.WORKS[library]
    serve(lambda kind, *details: works[kind](workload.Sizes(**json.loads(sizes)), *details), Path(folder))


if __name__ == "__main__":
    main()
