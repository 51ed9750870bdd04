"""Processes that do slices of work in turn, so that other work on a shared machine affects all of them equally."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}


class Worker:
    """A process that answers each line of JSON on its standard input with one; it ends when this process ends."""

    def __init__(self, command: Sequence[Any], **environment: str) -> None:
        pipe = subprocess.PIPE
        environment = os.environ | QUIET | environment
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def ask(self, *question: Any) -> Any:
        """Returns the answer of `serve` in the process."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline() or sys.exit(f"{self._process.args} has ended; see above"))


def serve(work: Callable[..., Any]) -> None:
    """Answers each line of input with the result of `work`."""
    for line in sys.stdin:
        print(json.dumps(work(*json.loads(line))), flush=True)
