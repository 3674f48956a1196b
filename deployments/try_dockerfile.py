"""Run the steps of a Dockerfile's target once, where there is no Docker.

    sudo python deployments/try_dockerfile.py cpu [--keep FOLDER] [-- COMMAND...]

Each stage gets an overlay over this machine's own root, so that nothing is written outside of the
work folder, which lies in memory; then COMMAND runs in the finished image. This machine has to have
the Python that the image starts from. It shows that every instruction works, not what an image
weighs.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
METADATA = {"LABEL", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


@dataclass(slots=True)
class Stage:
    """A stage while it is being made."""

    name: str
    lower: list[Path]
    upper: Path
    env: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])
    user: str = "0"


def instructions(text: str) -> list[tuple[str, str]]:
    """Instruction and argument of each line, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    pairs = (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    return [(word.upper(), rest.strip()) for word, _, rest in pairs]


def needed(steps: list[tuple[str, str]], target: str) -> set[str]:
    """The stages that a target is made of."""
    uses: dict[str, set[str]] = {}
    current = ""
    for word, rest in steps:
        if word == "FROM":
            base, _, current = rest.partition(" AS ")
            uses[current] = {base}
        elif word == "COPY" and (found := re.search(r"--from=(\S+)", rest)):
            uses[current].add(found[1])
    if target not in uses:
        raise SystemExit(f"there is no target {target}; there are {', '.join(uses)}")
    wanted, queue = set(), [target]
    while queue:
        name = queue.pop()
        if name in uses and name not in wanted:
            wanted.add(name)
            queue.extend(uses[name])
    return wanted


def enter(stage: Stage, command: list[str], *, user: str) -> None:
    """Run a command in a stage's root, in namespaces of its own."""
    mount = stage.upper.parent / f"{stage.name}.root"
    work = stage.upper.parent / f"{stage.name}.work"
    for folder in (mount, work):
        folder.mkdir(exist_ok=True)
    lower = ":".join(map(str, [*stage.lower, Path("/")]))
    layers = f"lowerdir={lower},upperdir={stage.upper},workdir={work}"
    inside = [
        f"mount -t overlay overlay -o {layers} {mount}",
        f"mount -t proc proc {mount}/proc",
        f"mount --bind /dev {mount}/dev",
        f"mount -t tmpfs tmpfs {mount}/tmp",
        f"exec chroot --userspec={user} {mount} /usr/bin/env -i "
        + shlex.join([*(f"{key}={value}" for key, value in stage.env.items())])
        + f" /bin/sh -c {shlex.quote(f'cd {stage.folder} && exec ' + shlex.join(command))}",
    ]
    subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "sh", "-ec", "\n".join(inside)], check=True
    )


def copy(stage: Stage, rest: str, stages: dict[str, Stage]) -> None:
    """COPY of a context or of another stage."""
    *sources, destination = [word for word in rest.split() if not word.startswith("--")]
    origin = re.search(r"--from=(\S+)", rest)
    owner = re.search(r"--chown=(\S+)", rest)
    place = Path(destination) if destination.startswith("/") else Path(stage.folder, destination)
    target = stage.upper / str(place).lstrip("/")
    for source in sources:
        base = stages[origin[1]].upper if origin else None
        if base is None:
            archive = subprocess.run(
                ["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True
            )
            target.mkdir(parents=True, exist_ok=True)
            subprocess.run(["tar", "-x", "-C", str(target)], input=archive.stdout, check=True)
        else:
            shutil.copytree(base / source.lstrip("/"), target, symlinks=True, dirs_exist_ok=True)
    if owner:
        subprocess.run(["chown", "-R", "10001", str(target)], check=True)


def step(stage: Stage, word: str, rest: str, stages: dict[str, Stage]) -> None:
    """One instruction."""
    match word:
        case "COPY":
            copy(stage, rest, stages)
        case "RUN":
            enter(stage, [*stage.shell, rest], user="0")
        case _ if word not in METADATA:
            setting(stage, word, rest)


def setting(stage: Stage, word: str, rest: str) -> None:
    """One instruction that changes how the next ones are run."""
    match word:
        case "ENV":
            for name, value in (pair.split("=", 1) for pair in shlex.split(rest)):
                stage.env[name] = value.replace("$PATH", stage.env["PATH"])
        case "ARG":
            name, _, value = rest.partition("=")
            stage.env.setdefault(name, value)
        case "WORKDIR":
            stage.folder = rest
            (stage.upper / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case "SHELL":
            stage.shell = json.loads(rest)
        case "USER":
            stage.user = rest
        case _:
            raise SystemExit(f"{word} is not known here")


def begun(rest: str, stages: dict[str, Stage], folder: Path) -> Stage:
    """The stage that a FROM begins: on another, or on this machine's own root."""
    base, _, name = rest.partition(" AS ")
    upper = folder / name
    upper.mkdir()
    below = stages.get(base)
    if below is None:
        return Stage(name, [], upper, {"PATH": os.environ["PATH"], "HOME": "/root"})
    lower = [below.upper, *below.lower]
    return replace(below, name=name, lower=lower, upper=upper, env=dict(below.env))


def make(target: str, folder: Path) -> Stage:
    """Every stage that the target needs, in the file's order."""
    steps = instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    wanted = needed(steps, target)
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for word, rest in steps:
        if word == "FROM":
            name = rest.partition(" AS ")[2]
            stage = begun(rest, stages, folder) if name in wanted else None
            if stage is not None:
                stages[name] = stage
        elif stage is not None:
            sys.stderr.write(f"[{stage.name}] {word} {rest[:100]}\n")
            step(stage, word, rest, stages)
    return stages[target]


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("target")
    flags.add_argument("--keep", type=Path, help="work in this folder and leave it")
    own, _, command = " ".join(map(shlex.quote, sys.argv[1:])).partition(" -- ")
    options = flags.parse_args(shlex.split(own))
    folder = options.keep or Path(tempfile.mkdtemp(prefix="dockerfile-"))
    folder.mkdir(parents=True, exist_ok=True)
    # of its own, because an overlay may not lie within what it is laid over
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12g", "tmpfs", str(folder)], check=True)
    image = make(options.target, folder)
    if command:
        # this machine's Python may lie in a folder that only root enters
        above = [str(folder) for folder in Path(sys.executable).resolve().parents]
        enter(image, ["chmod", "o+x", *above], user="0")
        enter(image, shlex.split(command), user=f"{image.user}:{image.user}")
    if not options.keep:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


if __name__ == "__main__":
    main()
