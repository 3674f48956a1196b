"""Run the steps of a Dockerfile's target once, where there is no Docker.

    sudo python deployments/try_dockerfile.py cpu ray [--check] [--keep FOLDER] [-- COMMAND...]

Each stage gets an overlay over this machine's own root, so that nothing is written outside of the
work folder, a file system in a file; then COMMAND runs in the finished image. This machine has to
have the Python that the image starts from. `--check` starts the image as it would be in production:
not as root, nothing writable but /tmp and the state folder, until its own HEALTHCHECK is content.
It shows that every instruction works and what stages add, not what they start from.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from stand_ins import stand_ins

ROOT = Path(__file__).parents[1]
METADATA = {"LABEL", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
DOCKERFILE = ROOT / "Dockerfile"
CORAL = "edgetpu"
STATE = "/var/lib/mnv4serve"
CHECK = Path(__file__).with_name("check_image.sh")
EXAMPLE = ROOT / "models" / "examples" / "golf_ball.jpg"


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
    about: dict[str, str] = field(default_factory=dict)  # instructions that change nothing


def instructions(text: str) -> list[tuple[str, str]]:
    """Instruction and argument of each line, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    pairs = (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    return [(word.upper(), rest.strip()) for word, _, rest in pairs]


def needed(steps: list[tuple[str, str]], targets: Sequence[str]) -> set[str]:
    """The stages that targets are made of."""
    uses: dict[str, set[str]] = {}
    current = ""
    for word, rest in steps:
        if word == "FROM":
            base, _, current = rest.partition(" AS ")
            uses[current] = {base}
        elif word == "COPY" and (found := re.search(r"--from=(\S+)", rest)):
            uses[current].add(found[1])
    for target in targets:
        if target not in uses:
            raise SystemExit(f"there is no target {target}; there are {', '.join(uses)}")
    wanted, queue = set(), list(targets)
    while queue:
        name = queue.pop()
        if name in uses and name not in wanted:
            wanted.add(name)
            queue.extend(uses[name])
    return wanted


def mounts(stage: Stage, *, writable: bool) -> tuple[Path, list[str]]:
    """Where a stage's root appears, and the commands that bring it there in a namespace."""
    mount = stage.upper.parent / f"{stage.name}.root"
    work = stage.upper.parent / f"{stage.name}.work"
    for folder in (mount, work):
        folder.mkdir(exist_ok=True)
    lower = [*stage.lower, Path("/")]
    if writable:
        layers = f"lowerdir={':'.join(map(str, lower))},upperdir={stage.upper},workdir={work}"
    else:
        layers = f"ro,lowerdir={':'.join(map(str, [stage.upper, *lower]))}"
    return mount, [
        f"mount -t overlay overlay -o {layers} {mount}",
        f"mount -t proc proc {mount}/proc",
        f"mount --bind /dev {mount}/dev",
        f"mount -t tmpfs tmpfs {mount}/tmp",
    ]


def inside(stage: Stage, mount: Path, *, user: str) -> list[str]:
    """What goes before a command to run it in a stage's root with its environment."""
    environment = [f"{key}={value}" for key, value in stage.env.items()]
    folder = f'cd {stage.folder} && exec "$@"'
    chroot = ["chroot", f"--userspec={user}", str(mount), "/usr/bin/env", "-i", *environment]
    return [*chroot, "/bin/sh", "-c", folder, "sh"]


def namespace(commands: Sequence[str], *extra: str, env: Mapping[str, str] | None = None) -> None:
    subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", *extra, "sh", "-ec", "\n".join(commands)],
        check=True,
        env=os.environ | dict(env or {}),
    )


def enter(stage: Stage, command: Sequence[str], *, user: str) -> None:
    """Run a command in a stage's root, in namespaces of its own."""
    mount, before = mounts(stage, writable=True)
    namespace([*before, "exec " + shlex.join([*inside(stage, mount, user=user), *command])])


def check(image: Stage) -> None:
    """Start a finished image as in production; it has its own network, so its ports are free."""
    mount, before = mounts(image, writable=False)
    state = image.upper.parent / f"{image.name}.volume"
    shutil.copytree(image.upper / STATE.lstrip("/"), state)
    subprocess.run(["chown", "-R", f"{image.user}:{image.user}", str(state)], check=True)
    enter_script = image.upper.parent / f"{image.name}.enter"
    prefix = shlex.join(inside(image, mount, user=f"{image.user}:{image.user}"))
    enter_script.write_text(f'#!/bin/sh\nexec {prefix} "$@"\n', encoding="utf-8")
    enter_script.chmod(0o755)
    words = {
        "ENTER": str(enter_script),
        "START": shlex.join(json.loads(image.about["ENTRYPOINT"]) + json.loads(image.about["CMD"])),
        "HEALTH": shlex.join(json.loads(image.about["HEALTHCHECK"].partition("CMD")[2])),
        "PICTURE": str(EXAMPLE),
    }
    writable = [
        f"mount --bind {state} {mount}{STATE}",
        f"mount -t tmpfs tmpfs {mount}/dev/shm",
    ]
    namespace([*before, *writable, f"exec sh {CHECK}"], "--net", env=words)


def sizes(image: Stage) -> Iterator[str]:
    """What each stage of an image adds to what it starts from."""
    for layer in (*reversed(image.lower), image.upper):
        counted = subprocess.run(
            ["du", "-sm", str(layer)], check=True, capture_output=True, text=True
        ).stdout
        yield f"{layer.name}: {counted.split()[0]} MB"
        places = [layer / place for place in ("opt/mnv4serve", STATE.lstrip("/"))]
        for place in filter(Path.is_dir, places):
            counted = subprocess.run(
                ["du", "-sm", str(place)], check=True, capture_output=True, text=True
            ).stdout
            yield f"  of it /{place.relative_to(layer)}: {counted.split()[0]} MB"


def copy(stage: Stage, rest: str, stages: dict[str, Stage]) -> None:
    """COPY of a context or of another stage."""
    *sources, destination = [word for word in rest.split() if not word.startswith("--")]
    origin = re.search(r"--from=(\S+)", rest)
    owner = re.search(r"--chown=(\S+)", rest)
    place = Path(destination) if destination.startswith("/") else Path(stage.folder, destination)
    target = stage.upper / str(place).lstrip("/")
    for source in sources:
        if origin is None:
            archive = subprocess.run(
                ["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True
            )
            target.mkdir(parents=True, exist_ok=True)
            subprocess.run(["tar", "-x", "-C", str(target)], input=archive.stdout, check=True)
            continue
        made = stages[origin[1]]
        layers = [layer / source.lstrip("/") for layer in (*reversed(made.lower), made.upper)]
        for layer in filter(Path.exists, layers):
            shutil.copytree(layer, target, symlinks=True, dirs_exist_ok=True)
    if owner:
        subprocess.run(["chown", "-R", "10001", str(target)], check=True)


def step(stage: Stage, word: str, rest: str, stages: dict[str, Stage]) -> None:
    """One instruction."""
    match word:
        case "COPY":
            copy(stage, rest, stages)
        case "RUN":
            enter(stage, [*stage.shell, rest], user="0")
        case _ if word in METADATA:
            stage.about[word] = rest
        case _:
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


def make(targets: Sequence[str], folder: Path, arguments: Mapping[str, str]) -> list[Stage]:
    """Every stage that the targets need, once and in the file's order."""
    steps = instructions(DOCKERFILE.read_text(encoding="utf-8"))
    wanted = needed(steps, targets)
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
            if word == "ARG" and (name := rest.partition("=")[0]) in arguments:
                stage.env[name] = arguments[name]
    return [stages[target] for target in targets]


@contextmanager
def work_folder(keep: Path | None) -> Iterator[Path]:
    """A file system of its own, because an overlay may not lie within what it is laid over."""
    folder = keep or Path(tempfile.mkdtemp(prefix="dockerfile-"))
    folder.mkdir(parents=True, exist_ok=True)
    disk = folder.with_suffix(".ext4")
    subprocess.run(["truncate", "--size=40G", str(disk)], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    subprocess.run(["mount", "-o", "loop", str(disk), str(folder)], check=True)
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        if not keep:
            subprocess.run(["umount", str(folder)], check=True)
            disk.unlink()
            folder.rmdir()


def try_image(image: Stage, *, command: Sequence[str], checked: bool) -> None:
    """Say what an image weighs, and run what is asked for."""
    for line in sizes(image):
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    if command or checked:
        # this machine's Python may lie in a folder that only root enters
        above = [str(folder) for folder in Path(sys.executable).resolve().parents]
        enter(image, ["chmod", "o+x", *above], user="0")
    if checked:
        check(image)
    if command:
        enter(image, command, user=f"{image.user}:{image.user}")


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("targets", nargs="+")
    flags.add_argument("--check", action="store_true", help="start each as in production")
    flags.add_argument("--keep", type=Path, help="work in this folder and leave it")
    own, _, command = " ".join(map(shlex.quote, sys.argv[1:])).partition(" -- ")
    options = flags.parse_args(shlex.split(own))
    with ExitStack() as stack:
        folder = stack.enter_context(work_folder(options.keep))
        arguments: dict[str, str] = {}
        if CORAL in options.targets:
            sys.stderr.write("Google's compiler and libedgetpu: stand-ins, see stand_ins.py\n")
            arguments = stack.enter_context(stand_ins(folder / "stand-ins"))
        for image in make(options.targets, folder, arguments):
            try_image(image, command=shlex.split(command), checked=options.check)


if __name__ == "__main__":
    main()
