"""The scripts of launch/ under a real Slurm: two nodes, both this machine.

It runs in namespaces of its own, so that it leaves no process and no host name behind.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from multihost.several import (
    REPOSITORY,
    STUDY,
    TOY,
    Several,
    assert_same_network,
    checkpointed,
    finish,
    free_port,
    surroundings,
)

SMALL = [
    f"--config={REPOSITORY / 'configs/quickstart.py'}",  # two models: Adam and RMSprop
    "--config.data.synthetic.images=80",
    "--config.data.synthetic.subjects=8",
    "--config.data.synthetic.image_size=64",
    "--config.preprocessing.image_size=64",
    "--config.split.folds=2",
    "--config.study.seeds=1",
    "--config.evaluation.resamples=100",
]
UP = """set -e
cp /etc/hosts hosts && echo "127.0.0.1 n1 n2" >> hosts && mount --bind hosts /etc/hosts
head -c 32 /dev/urandom > key && chmod 600 key
munged --foreground --force --key-file="$PWD/key" --socket="$PWD/munge" --pid-file="$PWD/munged.pid" \
  --log-file="$PWD/munged.log" --seed-file="$PWD/seed" &
until [ -S munge ]; do sleep 0.1; done
slurmctld -D -c -L slurmctld.log &
slurmd -D -N n1 -L n1.log &
slurmd -D -N n2 -L n2.log &
wait
"""
CONFIG = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=10
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=60 State=UP
"""


class Cluster:
    """Slurm's commands, in the environment that its jobs inherit."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self._environment = surroundings(2, SLURM_CONF=str(folder / "slurm.conf"), **environment)

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == 0 or not check, (command, done.stderr)
        return done.stdout.strip()

    def submit(self, script: str, *arguments: str, options: Sequence[str] = ()) -> str:
        output = f"--output={self.folder}/%j.out"
        script = str(REPOSITORY / "launch" / script)
        return self.run("sbatch", "--parsable", "--time=10", output, *options, script, *arguments)

    def tasks(self, job: str) -> list[tuple[str, int]]:
        """Returns state and number of restarts of a job's tasks."""
        shown = self.run("scontrol", "show", "job", job)
        states, restarts = re.findall(r"JobState=(\w+)", shown), re.findall(r"Restarts=(\d+)", shown)
        return list(zip(states, map(int, restarts), strict=True))

    def wait(self, ready: Callable[[], bool], seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < end, self.logs()
            time.sleep(0.3)

    def logs(self) -> str:
        written = [*self.folder.glob("*.log"), *self.folder.glob("*.out")]
        return "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in written)

    def wait_for_end(self, job: str) -> list[tuple[str, int]]:
        under_way = {"PENDING", "RUNNING", "COMPLETING", "REQUEUED", "CONFIGURING", "SUSPENDED"}
        self.wait(lambda: not under_way & {state for state, _ in self.tasks(job)})
        return self.tasks(job)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, compiled: dict[str, str]) -> Iterator[Cluster]:
    if missing := [name for name in ("slurmctld", "slurmd", "munged", "unshare") if shutil.which(name) is None]:
        pytest.skip(f"Slurm not checked: no {', '.join(missing)} (apt install slurm-wlm munge)")
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]
    if os.geteuid() or subprocess.run([*namespaces, "true"], capture_output=True).returncode:
        pytest.skip("Slurm not checked: it takes root, and leave to make namespaces")
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "state").mkdir()
    ports = [free_port() for _ in range(3)]
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(CONFIG.format(host=host, ports=ports, folder=folder))
    slurm = Cluster(folder, **compiled)
    with (folder / "up.log").open("w") as log:
        daemons = subprocess.Popen(
            [*namespaces, "bash", "-c", UP],
            cwd=folder,
            env=os.environ | {"SLURM_CONF": str(folder / "slurm.conf")},
            stdout=log,
            stderr=log,
        )
    try:
        slurm.wait(lambda: slurm.run("sinfo", "--noheader", "--format=%t %D", check=False) == "idle 2", 30)
        yield slurm
    finally:
        daemons.kill()
        daemons.wait()


def test_a_study_on_two_nodes_stops_requeues_and_goes_on(cluster: Cluster, alone: Path, tmp_path: Path) -> None:
    job = cluster.submit("slurm.sbatch", *TOY, f"--workdir={tmp_path}")
    cluster.wait(lambda: checkpointed(tmp_path))
    cluster.run("scancel", "--signal=USR1", job)  # what --signal sends ahead of the end
    assert cluster.wait_for_end(job) == [("COMPLETED", 1)]
    out = (cluster.folder / f"{job}.out").read_text()
    assert out.count("2 processes with 4 cpu devices") == 2, out
    assert "stopped after step" in out
    assert "goes on after step" in out
    assert_same_network(alone, tmp_path)


def test_a_study_as_an_array_equals_a_local_one(cluster: Cluster, several: Several, tmp_path: Path) -> None:
    spread, local = tmp_path / "spread", tmp_path / "local"
    job = cluster.submit("slurm_array.sbatch", *SMALL, f"--workdir={spread}", options=["--array=0-1"])
    cluster.wait(lambda: [state for state, _ in cluster.tasks(job)] == ["RUNNING", "RUNNING"])
    cluster.run("scontrol", "requeue", f"{job}_1")  # as if it were preempted
    assert sorted(cluster.wait_for_end(job)) == [("COMPLETED", 0), ("COMPLETED", 1)]

    [(code, _, err)] = finish(several.start([*STUDY, *SMALL, f"--workdir={local}"]))
    assert code == 0, err
    names = sorted(path.relative_to(local) for path in local.glob("trials/*/predictions.csv"))
    assert len(names) == 2
    for name in names:
        assert (spread / name).read_bytes() == (local / name).read_bytes()
    cells = [json.loads((folder / "metrics.json").read_text())["trials"] for folder in (spread, local)]
    assert cells[0].keys() == cells[1].keys()
    assert (spread / "report.html").is_file()
