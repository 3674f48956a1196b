"""A real Prometheus on a real run: every panel and every rule has to have something to go by.

    python -m loadtests.monitoring --engine ray

Needs `prometheus` on PATH (Debian: apt install prometheus).
"""

import json
import re
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from loadtests import report
from loadtests.asks import Ask, photos
from loadtests.blocking import HttpClient
from loadtests.flags import command_line, positive
from loadtests.servers import HOST, free_port, our_server

MONITORING = Path(__file__).parents[1] / "deployments" / "monitoring"
RULES = MONITORING / "rules.yaml"
DASHBOARD = MONITORING / "grafana" / "mnv4serve.json"
SCRAPE_S = 1
RATE_INTERVAL = "25s"  # nodes of Ray pass on what they were told every 10 s
THRESHOLD = re.compile(r"\s(?:[<>]|==)\s.*")


def configuration(folder: Path, targets: dict[str, int]) -> Path:
    """The shipped scrape configuration and rules, pointed at these ports."""
    config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    config["rule_files"] = [str(RULES)]
    config["scrape_configs"][0]["static_configs"] = [
        {"targets": [f"{HOST}:{port}"], "labels": {"engine": engine}}
        for engine, port in targets.items()
    ]
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@contextmanager
def prometheus(targets: dict[str, int]) -> Iterator[str]:
    """The address of a server that scrapes."""
    binary = shutil.which("prometheus")
    if binary is None:
        raise SystemExit("prometheus is not on PATH (Debian: apt install prometheus)")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            binary,
            f"--config.file={configuration(Path(folder), targets)}",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={HOST}:{port}",
            "--log.level=error",
        ]
        with subprocess.Popen(command) as process:
            try:
                yield f"http://{HOST}:{port}"
            finally:
                process.terminate()


def ask(address: str, query: str) -> list[Any]:
    """The series that a query finds now."""
    url = f"{address}/api/v1/query?query={urllib.parse.quote(query)}"
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
        found: list[Any] = json.load(answer)["data"]["result"]
    return found


def load(port: int, stop: threading.Event) -> None:
    """Requests that end in every ordinary way: on time, late, refused, malformed."""
    images = photos(None)
    asks = (Ask(50.0), Ask(5.0), Ask(0.5), Ask(0.2, on_miss="refuse"))
    with HttpClient(HOST, port) as client:
        while not stop.is_set():
            for one in asks:
                client.classify(images[0], one)
            client.classify(b"no picture", asks[0])


def rules() -> dict[str, str]:
    """What each rule records, and what each alert holds against its threshold."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    found = {}
    for rule in (rule for group in groups for rule in group["rules"]):
        for part in rule["expr"].split(" and ") if "alert" in rule else [rule["record"]]:
            found[f"{rule.get('alert', 'rule')}: {THRESHOLD.sub('', part)}"] = THRESHOLD.sub(
                "", part
            )
    return found


def queries() -> dict[str, str]:
    """Every panel's queries, with the interval that Grafana would put in."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return {
        f"{panel['title']} {target['refId']}": target["expr"].replace(
            "$__rate_interval", RATE_INTERVAL
        )
        for panel in panels
        for target in panel["targets"]
    }


def main() -> None:
    flags = command_line("loadtests.monitoring", __doc__)
    flags.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="default %(default)s"
    )
    flags.add_argument(
        "--seconds", type=positive, default=40.0, help="under load; default %(default)s"
    )
    options = flags.parse_args()
    exporter = free_port()
    settings = {
        "MNV4SERVE_ENGINE": options.engine,
        "MNV4SERVE_RAY": f"{{metrics_port: {exporter}}}",
    }
    stop = threading.Event()
    with our_server(settings) as server:
        scraped = server.port if options.engine == "local" else exporter
        caller = threading.Thread(target=load, args=(server.port, stop))
        with prometheus({options.engine: scraped}) as address:
            caller.start()
            time.sleep(options.seconds)
            found = {name: ask(address, query) for name, query in (queries() | rules()).items()}
            alerts = ask(address, "ALERTS")
            stop.set()
            caller.join()
    rows = [
        (name, len(series), str(series[0]["value"][1])[:8] if series else "")
        for name, series in found.items()
    ]
    report.table("What there is to show", ("panel or rule", "series", "first"), rows)
    report.console.print(f"{len(alerts)} alerts pending or firing")
    empty = [name for name, series in found.items() if not series]
    if empty:
        raise SystemExit(f"these show nothing: {', '.join(empty)}")


if __name__ == "__main__":
    main()
