"""A study from its config to its folder: images, folds, features, heads or networks, metrics."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import jax
from absl import logging
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from alljax import config as configs
from alljax import interrupts, progress
from alljax.errors import ConfigError, Problems, Stopped, UserError, WorkdirError, first_few, plural
from alljax.study import assessment, estimate, identity, outputs, results, sweep, workdir
from alljax.study.experiment import Experiment, open_experiment
from alljax.study.results import Study
from alljax.study.sweep import Job, Trial
from alljax.study.trials import remove_checkpoints, train_job
from alljax.training import distributed


def run_study(
    config: ConfigDict,
    folder: Path,
    shard: tuple[int, int] = (0, 1),
    force: bool = False,
    finish: Callable[[Study], None] = lambda study: None,
    problems: Problems | None = None,
) -> Study | None:
    """Does what `alljax.run_study` says; calls `finish` with the study before failed trials raise an error."""
    distributed.check_shared(folder)
    trials, experiment = open_study(config, folder, shard, force, problems or Problems(), download=True)
    distributed.check_together()
    with identity.exclusive(folder, shard) if distributed.is_primary() else contextlib.nullcontext():
        if distributed.is_primary():
            resolved = configs.flatten(configs.vary(config, {"data.classes": experiment.dataset.classes}))
            identity.claim(folder, resolved, trials, experiment.fingerprints(), results.source_state(config))
            workdir.discard_damaged(folder, [trial.name for trial in trials])
            outputs.write_experiment(folder, experiment)
        finished = _finished(trials, folder)
        for name in finished:
            here = workdir.trial_folder(folder, name)
            logging.info(f"{name}: finished (remove {here} to train it again)")
            remove_checkpoints(here)
        jobs = sweep.jobs(trials, shard, [*finished, *experiment.skipped])
        _run_jobs(jobs, experiment, folder)
        multihost_utils.sync_global_devices("all trials are finished")
        if not distributed.is_primary():
            return None
        for name in (name for name in experiment.skipped if name not in finished):
            outputs.write_failure(folder, name, experiment.skipped[name], skipped=True)
        outputs.write_combined(folder, trials, experiment)
        summary = results.summarize_study(folder, experiment.description)
        if missing := summary["missing"]:
            logging.info(f"{plural(len(missing), 'trial')} of other shards missing: {first_few(missing)}")
        study = assessment.evaluate_study(folder) if summary["trials"] and not missing else None
        if study:
            finish(study)
    tried = [trial.name for job in jobs for trial in job.trials]
    if failed := [f"{name}: {reason}" for name, reason in summary["failed"].items() if name in tried]:
        raise ConfigError(f"{plural(len(failed), 'trial')} of {len(trials)} failed: {first_few(failed)}")
    return study


def dry_run(config: ConfigDict, folder: Path, shard: tuple[int, int], force: bool, problems: Problems) -> None:
    """Prints what `run_study` would do, with the time measured on this machine; writes and downloads nothing."""
    trials, experiment = open_study(config, folder, shard, force, problems, download=False)
    left_out = [*_finished(trials, folder), *experiment.skipped]
    trained = [trial for trial in trials if not trial.members]
    estimate.print_plan(trained, sweep.jobs(trained, shard, left_out), experiment)


def open_study(
    config: ConfigDict, folder: Path, shard: tuple[int, int], force: bool, problems: Problems, download: bool
) -> tuple[list[Trial], Experiment]:
    """Opens all inputs of a study; reports together, before an image is read, what is wrong with it (`run_study`)."""
    trials: list[Trial] = []
    with problems.collect():
        trials = sweep.expand(config)
        identity.check(folder, identity.settings(trials), force)
        if distributed.is_primary() and any(folder.glob(".lock*")):  # else nothing is created here
            with identity.exclusive(folder, shard):
                pass
    with problems.collect():
        networks = {(trial.config.model.backbone, trial.config.model.stage) for trial in trials}
        if trials and config.study.compare == "paper" and len(networks) < 2:
            ways = "vary model.backbone (or model.stage), or leave study.compare empty"
            raise ConfigError(f"study.compare=paper compares two networks with the paper's, this study has one; {ways}")
    return trials, open_experiment(config, [trial for trial in trials if not trial.members], problems, download)


def _finished(trials: list[Trial], folder: Path) -> list[str]:
    """Returns the names of the finished trials, the same in all processes."""
    return [trial.name for trial in trials if distributed.any_process(workdir.is_finished(folder, trial.name))]


def _run_jobs(jobs: list[Job], experiment: Experiment, folder: Path) -> None:
    """Runs this process's share of the frozen jobs, then the others, which all processes train jointly."""
    frozen, joint = ([job for job in jobs if job.frozen is kind] for kind in (True, False))
    if jax.process_count() > 1:
        for job in frozen:
            experiment.features(job.trials[0])  # computed by all processes
    own = frozen[jax.process_index() :: jax.process_count()]
    update = progress.study(sum(job.cost for job in own + joint), sum(len(job.trials) for job in own + joint))

    def run(jobs: list[Job], collective: bool) -> None:
        for job in jobs:
            interrupts.check(collective)
            _run_job(job, experiment, folder)
            update(job.cost, len(job.trials))

    with contextlib.suppress(Stopped):
        run(own, collective=False)
    distributed.check_together()  # none of them may wait for another one in the joint work below
    run(joint, collective=True)


def _run_job(job: Job, experiment: Experiment, folder: Path) -> None:
    """Trains the trials of a job and writes each when it is finished, or why it failed."""
    writes = job.frozen or distributed.is_primary()  # no other process trains a frozen job
    failed: dict[str, str] = {}
    try:
        for trial, outcome in train_job(job, experiment, folder):
            if isinstance(outcome, ConfigError):
                failed[trial.name] = str(outcome)
            elif writes:
                outputs.write_trial(folder, trial, experiment, outcome)
                remove_checkpoints(workdir.trial_folder(folder, trial.name))
    except (UserError, jax.errors.JaxRuntimeError) as error:
        lost = isinstance(error, jax.errors.JaxRuntimeError) and jax.process_count() > 1
        if lost or isinstance(error, WorkdirError):
            raise  # a lost process or a full disk stops all of them
        reason = str(error) if isinstance(error, UserError) else "device error: " + str(error).partition("\n")[0][:200]
        names = [trial.name for trial in job.trials if not workdir.is_finished(folder, trial.name)]
        failed = dict.fromkeys(names, reason) | failed
    if writes:
        for name, reason in failed.items():
            outputs.write_failure(folder, name, reason)
