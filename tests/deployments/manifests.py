"""The overlays as `kubectl kustomize` renders them, and what is looked for in them."""

import functools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = ROOT / "deployments"
LOCAL = [f"kubernetes/overlays/{name}" for name in ("cpu", "edge")]
RAY = [f"kuberay/overlays/{name}" for name in ("cpu", "gpu", "coral")]


@functools.cache
def rendered(overlay: str) -> tuple[dict[str, Any], ...]:
    """Every resource of an overlay; skips where kubectl is missing."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed, which renders the overlays")
    text = subprocess.run(
        [kubectl, "kustomize", str(DEPLOYMENTS / overlay)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return tuple(yaml.safe_load_all(text))


def all_of_kind(overlay: str, kind: str) -> list[dict[str, Any]]:
    return [one for one in rendered(overlay) if one["kind"] == kind]


def of_kind(overlay: str, kind: str) -> dict[str, Any]:
    (found,) = all_of_kind(overlay, kind)
    return found


def within(node: object, key: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every value of that key at any depth, with what it stands in."""
    if isinstance(node, dict):
        if key in node:
            yield node, node[key]
        for child in node.values():
            yield from within(child, key)
    elif isinstance(node, list):
        for child in node:
            yield from within(child, key)


def pods(node: object) -> Iterator[dict[str, Any]]:
    """Every pod specification within a manifest."""
    return (pod for pod, _ in within(node, "containers"))


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """All of a pod, those that prepare it included."""
    found: list[dict[str, Any]] = pod["containers"] + pod.get("initContainers", [])
    return found


def environment_of_image() -> dict[str, str]:
    """What the Dockerfile sets for every image."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    runtime = text.partition(" AS runtime\n")[2].partition("\nFROM ")[0]
    (line,) = (line for line in runtime.splitlines() if line.startswith("ENV "))
    return dict(pair.split("=", 1) for pair in line.split()[1:])
