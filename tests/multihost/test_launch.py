"""The scripts of launch/: their syntax, the commands they start, and the published schemas of Kubernetes."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeflow_trainer_api import models
from processes import ROOT, environment

LAUNCH = ROOT / "launch"
JOBSETS: dict[str, Any] = {
    each["metadata"]["labels"]["variant"]: each for each in yaml.safe_load_all((LAUNCH / "gke_jobset.yaml").read_text())
}


@pytest.mark.parametrize("script", sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")]), ids=lambda path: path.name)
def test_script_is_clean(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("only the syntax was tested: no shellcheck")
    subprocess.run(["shellcheck", script], check=True)


@pytest.fixture
def fake(tmp_path: Path) -> Mapping[str, str]:
    """An environment in which `alljax` records its arguments and ends, or with WAIT ends with 75 on SIGTERM."""
    program = tmp_path / "bin/alljax"
    program.parent.mkdir()
    program.write_text(
        "#!/usr/bin/env bash\n"
        f"cd {tmp_path}\n"
        'printf "%s\\n" "$CUDA_VISIBLE_DEVICES$JAX_LOCAL_DEVICE_IDS" "$@" > $$.part && mv $$.part $$.called\n'
        'if [[ $WAIT ]]; then trap "exit 75" TERM; while true; do sleep 0.1; done; fi\n'
        "[[ $* != *$FAIL ]] || exit 4\n"
    )
    program.chmod(0o755)
    (tmp_path / "bin/nvidia-smi").write_text('#!/bin/sh\nprintf "GPU 0\\nGPU 1\\nGPU 2\\nGPU 3\\n"\n')
    (tmp_path / "bin/nvidia-smi").chmod(0o755)
    clean = environment()
    unset = dict.fromkeys(("WAIT", "JAX_LOCAL_DEVICE_IDS", "CUDA_VISIBLE_DEVICES"), "")
    return clean | unset | {"PATH": f"{program.parent}:{clean['PATH']}", "FAIL": "none"}


def calls(folder: Path) -> list[list[str]]:
    """Returns the devices and arguments of each call of `alljax`."""
    return sorted((path.read_text().splitlines() for path in folder.glob("*.called")), key=lambda words: words[-1])


def test_local_starts_one_process_or_several(tmp_path: Path, fake: Mapping[str, str]) -> None:
    script = LAUNCH / "local.sh"
    subprocess.run([script, "--config=c.py", "--workdir=my runs"], env=fake, check=True)
    assert calls(tmp_path) == [["", "study", "--config=c.py", "--workdir=my runs"]]
    next(tmp_path.glob("*.called")).unlink()
    several = {**fake, "PROCESSES": "2", "PORT": "4711"}
    subprocess.run([script, "--config=c.py"], env=several, check=True)
    common = ["study", "--config=c.py", "--coordinator=localhost:4711", "--processes=2"]
    assert calls(tmp_path) == [["0,1", *common, "--process=0"], ["2,3", *common, "--process=1"]]
    assert subprocess.run([script], env={**several, "FAIL": "--process=1"}).returncode == 4
    assert subprocess.run([script], env={**several, "PROCESSES": "3"}, capture_output=True).returncode == 2


def test_local_gives_each_device_a_shard(tmp_path: Path, fake: Mapping[str, str]) -> None:
    command, words = [LAUNCH / "local.sh", "--per_device", "--config=c.py"], ["study", "--config=c.py"]
    subprocess.run(command, env=fake, check=True)
    shards = [[str(gpu), *words, f"--shard={gpu}/4"] for gpu in range(4)]
    assert calls(tmp_path) == [["", *words], *shards], "the last call, without a shard, joins the results"
    for path in tmp_path.glob("*.called"):
        path.unlink()
    failing = subprocess.run(command, env={**fake, "CUDA_VISIBLE_DEVICES": "2,GPU-a/b", "FAIL": "--shard=0/2"})
    assert failing.returncode == 4
    assert calls(tmp_path) == [["2", *words, "--shard=0/2"], ["GPU-a/b", *words, "--shard=1/2"]]
    (tmp_path / "bin/nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    refused = subprocess.run(command, env=fake, capture_output=True, text=True)
    assert (refused.returncode, "CUDA_VISIBLE_DEVICES" in refused.stderr) == (2, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("words", [[], ["--per_device"]])
def test_local_stops_all_processes(
    words: list[str], number: signal.Signals, tmp_path: Path, fake: Mapping[str, str]
) -> None:
    variables = {**fake, "PROCESSES": "2", "CUDA_VISIBLE_DEVICES": "0,1", "WAIT": "yes"}
    with subprocess.Popen([LAUNCH / "local.sh", *words], env=variables) as script:
        while len(calls(tmp_path)) < 2:
            assert script.poll() is None
            time.sleep(0.05)
        time.sleep(0.2)  # until they have set their traps
        script.send_signal(number)
        assert script.wait(timeout=20) == 75


def test_tpu_vm_dry_run_prints_its_commands() -> None:
    variables = environment(NAME="leukemia", ZONE="us-west4-a", DRY_RUN="1", SPOT="1")
    command = [LAUNCH / "tpu_vm.sh", "--config=configs/finetune.py", "--workdir=/mnt/shared/my runs"]
    output = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
    create, archive, copy, install, study = (line.split() for line in output.splitlines())
    vm = ["gcloud", "compute", "tpus", "tpu-vm"]
    assert create[:7] == [*vm, "create", "--zone=us-west4-a", "leukemia"]
    assert "--spot" in create
    assert archive[:2] == ["git", "archive"]
    assert copy[-2:] == ["leukemia:alljax.tar.gz", "--worker=all"]
    for ssh in (install, study):
        assert ssh[:8] == [*vm, "ssh", "--zone=us-west4-a", "leukemia", "--worker=all"]
    # Arguments pass two shells: ours and that of the workers.
    typed = subprocess.run(["bash", "-c", f'printf "%s\\n" {output.splitlines()[-1]}'], capture_output=True, text=True)
    remote = typed.stdout.splitlines()[-1].removeprefix("--command=").replace(".venv/bin/alljax", 'printf "%s\\n"')
    words = subprocess.run(["bash", "-c", remote.partition("&& ")[2]], capture_output=True, text=True).stdout
    assert words.splitlines() == ["study", "--config=configs/finetune.py", "--workdir=/mnt/shared/my runs"]


def test_gpu_benchmark_runs_without_gpu_and_torch() -> None:
    variables = environment(devices=1, PYTHON=sys.executable, PEERS="/none", JAX_PLATFORMS="cpu")
    command = [LAUNCH / "bench_gpu.sh", "--quick"]
    printed = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [line.split("|")[1:4] for line in printed.splitlines() if "images/s" in line]
    assert [row[0].split(", ")[1:3] for row in rows] == [
        [mode, compute] for mode in ("features", "step") for compute in ("float32", "bfloat16")
    ]
    assert all(float(row[1].replace(",", "")) > 0 for row in rows)
    assert "32 trainings of the paper from decoded images: {'alljax'" in printed


@pytest.mark.parametrize("variant", ["gpu", "tpu"])
def test_jobset_fits_the_published_schemas(variant: str) -> None:
    """The models are generated from the OpenAPI schemas of Kubernetes and JobSet and drop unknown keys."""
    assert models.JobsetV1alpha2JobSet.from_dict(JOBSETS[variant]).to_dict() == JOBSETS[variant]


@pytest.mark.parametrize("variant", ["gpu", "tpu"])
def test_jobset_starts_one_study_on_all_hosts(variant: str) -> None:
    spec = JOBSETS[variant]["spec"]
    [replicated] = spec["replicatedJobs"]
    job = replicated["template"]["spec"]
    [container] = job["template"]["spec"]["containers"]
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert container["command"][:2] == ["alljax", "study"]
    assert job["completions"] == job["parallelism"]
    exit_codes = job["podFailurePolicy"]["rules"][0]["onExitCodes"]
    assert int(variables["ALLJAX_STOP_CODE"]) in exit_codes["values"]
    assert exit_codes["containerName"] == container["name"]
    if variant == "gpu":  # GKE sets the addresses of TPU pods
        assert spec["coordinator"]["replicatedJob"] == replicated["name"]
        assert variables["JAX_NUM_PROCESSES"] == str(job["completions"])
        assert variables["JAX_COORDINATOR_ADDRESS"] == "$(COORDINATOR):12765"
