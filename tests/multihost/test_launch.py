"""The scripts of launch/: what they would start, and whether the systems they are for can read them."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeflow_trainer_api import models
from multihost.several import REPOSITORY, surroundings

LAUNCH = REPOSITORY / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])

# What the published schemas leave to their text: https://jobset.sigs.k8s.io/docs/reference/jobset.v1alpha2/ and
# https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/.
ACTIONS = {"FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"}
REASONS = {"BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_clean(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("scripts not checked beyond their syntax: no shellcheck")
    subprocess.run(["shellcheck", script], check=True)


@pytest.fixture
def pretended(tmp_path: Path) -> Mapping[str, str]:
    """An environment in which `alljax` writes its arguments and ends, or waits for SIGTERM and ends with 75."""
    program = tmp_path / "bin/alljax"
    program.parent.mkdir()
    program.write_text(
        "#!/usr/bin/env bash\n"
        f"cd {tmp_path}\n"
        'printf "%s\\n" "$JAX_LOCAL_DEVICE_IDS" "$@" > $$.part && mv $$.part $$.told\n'
        'if [[ $WAIT ]]; then trap "exit 75" TERM; while true; do sleep 0.1; done; fi\n'
        '[[ $* != *--process=$FAIL ]] || exit 3\n'
    )  # fmt: skip
    program.chmod(0o755)
    clean = surroundings()
    return clean | {"PATH": f"{program.parent}:{clean['PATH']}", "WAIT": "", "FAIL": "none", "JAX_LOCAL_DEVICE_IDS": ""}


def told(folder: Path) -> list[list[str]]:
    """Returns what each `alljax` was given: its devices, then its arguments."""
    return sorted((path.read_text().splitlines() for path in folder.glob("*.told")), key=lambda words: words[-1])


def test_local_is_one_process(tmp_path: Path, pretended: Mapping[str, str]) -> None:
    subprocess.run([LAUNCH / "local.sh", "--config=c.py", "--workdir=my runs"], env=pretended, check=True)
    assert told(tmp_path) == [["", "study", "--config=c.py", "--workdir=my runs"]]


def test_local_is_several_processes(tmp_path: Path, pretended: Mapping[str, str]) -> None:
    environment = {**pretended, "PROCESSES": "2", "PORT": "4711"}
    (tmp_path / "bin/nvidia-smi").write_text('#!/bin/sh\nprintf "GPU 0\\nGPU 1\\nGPU 2\\nGPU 3\\n"\n')
    (tmp_path / "bin/nvidia-smi").chmod(0o755)
    subprocess.run([LAUNCH / "local.sh", "--config=c.py"], env=environment, check=True)
    common = ["study", "--config=c.py", "--coordinator=localhost:4711", "--processes=2"]
    assert told(tmp_path) == [["0,1", *common, "--process=0"], ["2,3", *common, "--process=1"]]

    failed = subprocess.run([LAUNCH / "local.sh"], env={**environment, "FAIL": "1"}, check=False)
    assert failed.returncode == 3
    uneven = subprocess.run(
        [LAUNCH / "local.sh"], env={**environment, "PROCESSES": "3"}, capture_output=True, text=True
    )
    assert uneven.returncode == 2
    assert "PROCESSES=3 does not divide the 4 GPUs" in uneven.stderr


def test_local_hands_on_sigterm(tmp_path: Path, pretended: Mapping[str, str]) -> None:
    with subprocess.Popen([LAUNCH / "local.sh"], env={**pretended, "PROCESSES": "2", "WAIT": "yes"}) as script:
        while len(told(tmp_path)) < 2:
            assert script.poll() is None
            time.sleep(0.05)
        time.sleep(0.2)  # they set their traps
        script.send_signal(signal.SIGTERM)
        assert script.wait(timeout=20) == 75


def test_tpu_vm_says_what_it_would_do() -> None:
    environment = surroundings(NAME="trials", ZONE="us-west4-a", DRY_RUN="1", SPOT="1")
    command = [LAUNCH / "tpu_vm.sh", "--config=configs/finetune.py", "--workdir=/mnt/shared/my runs"]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    create, archive, copy, install, study = (line.split() for line in out.splitlines())
    vm = ["gcloud", "compute", "tpus", "tpu-vm"]
    assert create[:7] == [*vm, "create", "--zone=us-west4-a", "trials"]
    assert "--spot" in create
    assert archive[:2] == ["git", "archive"]
    assert copy[-2:] == ["cells:alljax.tar.gz", "--worker=all"]
    for ssh in (install, study):
        assert ssh[:8] == [*vm, "ssh", "--zone=us-west4-a", "trials", "--worker=all"]
    # Once for our shell, once for the workers'.
    typed = subprocess.run(["bash", "-c", f'printf "%s\\n" {out.splitlines()[-1]}'], capture_output=True, text=True)
    remote = typed.stdout.splitlines()[-1].removeprefix("--command=").replace(".venv/bin/alljax", 'printf "%s\\n"')
    arguments = subprocess.run(["bash", "-c", remote.partition("&& ")[2]], capture_output=True, text=True).stdout
    assert arguments.splitlines() == ["study", "--config=configs/finetune.py", "--workdir=/mnt/shared/my runs"]


def test_tpu_vm_wants_a_name() -> None:
    done = subprocess.run([LAUNCH / "tpu_vm.sh"], env=surroundings(ZONE="z"), capture_output=True, text=True)
    assert done.returncode != 0
    assert "NAME: is the name of the TPU VM" in done.stderr


JOBSETS: dict[str, Any] = {
    each["metadata"]["labels"]["variant"]: each for each in yaml.safe_load_all((LAUNCH / "gke_jobset.yaml").read_text())
}


@pytest.mark.parametrize("variant", ["gpu", "tpu"])
def test_jobset_fits_the_published_schemas(variant: str) -> None:
    """The models are generated from the OpenAPI schemas of Kubernetes and JobSet; a key they do not know is lost."""
    jobset = JOBSETS[variant]
    assert models.JobsetV1alpha2JobSet.from_dict(jobset).to_dict() == jobset
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    broken = json.loads(json.dumps(jobset).replace('"restartPolicy"', '"restartpolicy"'))
    assert models.JobsetV1alpha2JobSet.from_dict(broken).to_dict() != broken

    for rule in jobset["spec"]["failurePolicy"]["rules"]:
        assert rule["action"] in ACTIONS
        assert set(rule["onJobFailureReasons"]) <= REASONS
    assert job["completionMode"] == "Indexed"
    assert job["template"]["spec"]["restartPolicy"] == "Never", "a podFailurePolicy allows nothing else"
    assert {rule["action"] for rule in job["podFailurePolicy"]["rules"]} == {"FailJob"}


@pytest.mark.parametrize("variant", ["gpu", "tpu"])
def test_jobset_starts_one_study_on_all_hosts(variant: str) -> None:
    spec = JOBSETS[variant]["spec"]
    [replicated] = spec["replicatedJobs"]
    job = replicated["template"]["spec"]
    [container] = job["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert container["command"][:2] == ["alljax", "study"]
    assert job["completions"] == job["parallelism"]
    stopped = environment["ALLJAX_STOP_CODE"]
    assert int(stopped) in job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["containerName"] == container["name"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in job["template"]["spec"]["volumes"]
    }
    if variant == "gpu":  # GKE itself tells TPU pods of each other
        assert spec["coordinator"]["replicatedJob"] == replicated["name"]
        assert environment["JAX_NUM_PROCESSES"] == str(job["completions"])
        assert environment["JAX_COORDINATOR_ADDRESS"] == "$(COORDINATOR):12765"
