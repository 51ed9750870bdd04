"""The workflows of .github/ and launch/Dockerfile: what can be checked without GitHub and Docker."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_workflows_fit_the_schema_of_github() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema=vendor.github-workflows", *WORKFLOWS]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_workflows_use_make_and_the_supported_versions() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    [workflow] = [yaml.safe_load(path.read_text()) for path in WORKFLOWS]
    jobs = workflow["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    used = {command.removeprefix("make ") for command in commands if command.startswith("make ")}
    assert used == {"lint", "test", "docs"} <= targets
    versions = jobs["test"]["strategy"]["matrix"]["python"]
    assert [f"Programming Language :: Python :: {version}" for version in versions] == [
        line for line in PROJECT["classifiers"] if "Python ::" in line
    ]


def test_dockerfile_copies_what_the_wheel_is_built_from() -> None:
    text = (ROOT / "launch/Dockerfile").read_text()
    copied = {name for names in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE) for name in names.split()}
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*build["packages"], *build["force-include"], *PROJECT["license-files"], PROJECT["readme"]}
    assert copied == needed | {"pyproject.toml"}
    assert all((ROOT / name).exists() for name in copied)
    extras = re.findall(r"EXTRAS=([\w,]+)", text)
    assert {extra for names in extras for extra in names.split(",")} <= PROJECT["optional-dependencies"].keys()
