"""launch/*.sbatch under a real Slurm: two nodes, both this machine, in namespaces of their own."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from multihost.conftest import SGD, assert_same_network, wait_for_checkpoint
from processes import ROOT, environment, free_port, wait_for

DAEMONS = """set -e
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

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = environment(2, SLURM_CONF=str(folder / "slurm.conf"))

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == 0 or not check, (command, done.stderr)
        return done.stdout.strip()

    def wait(self, condition: Callable[[], bool]) -> None:
        wait_for(condition, context=lambda: {path: path.read_text()[-3000:] for path in self.folder.glob("*.[lo]*")})


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if missing := [name for name in ("slurmctld", "slurmd", "munged", "unshare") if shutil.which(name) is None]:
        pytest.skip(f"Slurm not tested: no {', '.join(missing)} (apt install slurm-wlm munge)")
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]
    if os.geteuid() or subprocess.run([*namespaces, "true"], capture_output=True).returncode:
        pytest.skip("Slurm not tested: needs root and namespaces")
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "state").mkdir()
    host, ports = socket.gethostname().partition(".")[0], [free_port() for _ in range(3)]
    (folder / "slurm.conf").write_text(CONFIG.format(host=host, ports=ports, folder=folder))
    slurm = Cluster(folder)
    with (folder / "daemons.log").open("w") as log:
        daemons = subprocess.Popen(
            [*namespaces, "bash", "-c", DAEMONS],
            cwd=folder,
            env=os.environ | {"SLURM_CONF": str(folder / "slurm.conf")},
            stdout=log,
            stderr=log,
        )
    try:
        slurm.wait(lambda: slurm.run("sinfo", "--noheader", "--format=%t %D", check=False) == "idle 2")
        yield slurm
    finally:
        daemons.kill()
        daemons.wait()


def test_study_on_two_nodes_is_requeued_and_resumes(cluster: Cluster, single: Path, tmp_path: Path) -> None:
    output = cluster.folder / "job.out"
    command = ["sbatch", "--parsable", "--time=60", f"--output={output}", str(ROOT / "launch/slurm.sbatch")]
    job = cluster.run(*command, *SGD, f"--workdir={tmp_path}")
    wait_for_checkpoint(tmp_path)
    cluster.run("scancel", "--signal=USR1", job)  # as --signal does before the time limit
    cluster.wait(lambda: {"JobState=COMPLETED", "Restarts=1"} <= {*cluster.run("scontrol", "show", "job", job).split()})
    text = output.read_text()
    assert text.count("2 processes with 4 cpu devices") == 2, text
    assert "stopped after step" in text
    assert "resuming after step" in text
    assert_same_network(single, tmp_path)
