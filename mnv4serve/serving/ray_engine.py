"""`mnv4serve serve --engine ray`: on a cluster of this machine or a running one, until SIGTERM."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from mnv4serve.config import ServiceConfig
from mnv4serve.errors import BackendUnavailable, BadConfig, MnvError
from mnv4serve.profiler import cpu_grant
from mnv4serve.serving.cluster import (
    CPU,
    SERVICER_FUNCTIONS,
    check_room,
    check_servable,
    demand,
    named_resources,
    proxy_ports,
    set_flags,
    set_token,
)
from mnv4serve.serving.local import check_addresses
from mnv4serve.serving.ports import check_apart, check_free

logger = logging.getLogger(__name__)

APPLICATION = "mnv4serve"
NAMESPACE = "mnv4serve"
JOINING_S = 30.0
"""How long the workers of a cluster that was there may take to join it."""
POLL_S = 0.2


def serve_on_ray(config: ServiceConfig, *, announce: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises BackendUnavailable where Ray is not installed or Serve runs there already, AddressTaken
    where a port is, BadConfig where the environment contradicts the switches or the machine has
    too little for the replicas.
    """
    set_flags(os.environ, max_body_bytes=config.max_body_bytes)
    check_setup(config)
    if config.ray.address is None:
        set_token(os.environ)
    try:
        import ray  # noqa: PLC0415  # the switches have to stand in the environment first
        from ray import serve  # noqa: PLC0415
    except ImportError as error:
        raise BackendUnavailable("ray", "install it: pip install 'mnv4serve[ray]'") from error
    _start(ray, config)
    try:
        _await_room(ray.cluster_resources, config)
        check_alone(serve.status())
        _serve_until_told(serve, config, announce)
    finally:
        ray.shutdown()


def _serve_until_told(serve: Any, config: ServiceConfig, announce: Callable[[], None]) -> None:  # noqa: ANN401  # the module
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):  # after Ray has set its own
        signal.signal(signum, lambda _signum, _frame: stop.set())
    try:
        _run(serve, config)
        announce()
        stop.wait()
        logger.info("draining")
    finally:
        serve.shutdown()


def check_setup(config: ServiceConfig) -> None:
    """What can be known before minutes of building: ports, and cores where Ray is started here.

    Raises AddressTaken or BadConfig.
    """
    check_servable(config)
    if config.ray.address is None:
        check_room(config, {CPU: float(cpu_grant())})
    check_ports(config)


def check_alone(status: Any) -> None:  # noqa: ANN401  # Serve's
    """Raises BackendUnavailable where Serve runs already: its ports and options are another's."""
    if status.proxies or status.applications:
        raise BackendUnavailable(
            "ray",
            "Serve runs on this cluster already: add the service to it with "
            "`serve deploy deployments/ray-serve.yaml`, or end it with `serve shutdown`",
        )


def check_ports(config: ServiceConfig) -> None:
    """Raises AddressTaken where a port cannot be had.

    A running cluster has those of its own already; one that is started here needs them.
    """
    if config.ray.address is None:  # first: what was left behind has the service's own as well
        further = {"ray.metrics_port": config.ray.metrics_port} | proxy_ports(os.environ)
        check_apart({"--port": config.port, "--grpc-port": config.grpc_port} | further)
        check_free(further)
    check_addresses(config)


def _start(ray: Any, config: ServiceConfig) -> None:  # noqa: ANN401  # the module
    try:
        if config.ray.address is None:
            _start_here(ray, config)
        else:
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
            ray.init(address=config.ray.address, namespace=NAMESPACE, log_to_driver=False)
    except MnvError:
        raise
    except Exception as error:  # whatever Ray raises when it cannot start or join
        raise BackendUnavailable("ray", _why(error)) from error


def _why(error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0]
    if not isinstance(error, ConnectionError):
        return f"it did not start: {reason}"
    return (
        f"{reason}: see that it runs there, and where it wants a token that RAY_AUTH_MODE=token "
        "and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH are set as on its head"
    )


def _start_here(ray: Any, config: ServiceConfig) -> None:  # noqa: ANN401  # the module
    ray.init(
        address="local",  # or a Ray that runs here would be joined, whatever its switches are
        num_cpus=cpu_grant(),
        resources=named_resources(config),  # one node: what it lacks, the pools find out
        object_store_memory=config.ray.object_store_bytes,
        include_dashboard=False,
        log_to_driver=False,
        namespace=NAMESPACE,
        _metrics_export_port=config.ray.metrics_port,
    )


def _await_room(
    resources: Callable[[], Mapping[str, float]],
    config: ServiceConfig,
    *,
    patience_s: float = JOINING_S,
) -> None:
    """Raises BadConfig where a cluster offers too little, its workers having had time to join."""
    kinds = {kind for wanted in demand(config).values() for kind in wanted}
    give_up = time.monotonic() + patience_s
    while True:
        offered = resources()
        try:
            check_room(config, {kind: offered.get(kind, 0.0) for kind in sorted(kinds)})
        except BadConfig:
            if time.monotonic() >= give_up:
                raise
            time.sleep(POLL_S)
        else:
            return


def _run(serve: Any, config: ServiceConfig) -> None:  # noqa: ANN401  # the module
    from ray.serve.config import HTTPOptions, gRPCOptions  # noqa: PLC0415

    from mnv4serve.serving.app import build_app  # noqa: PLC0415

    http = HTTPOptions(host=config.host, port=config.port)
    functions = list(SERVICER_FUNCTIONS)
    grpc = gRPCOptions(port=config.grpc_port, grpc_servicer_functions=functions)
    logging_config = {"enable_access_log": False, "log_level": "WARNING"}
    try:
        serve.start("EveryNode", http, grpc_options=grpc, logging_config=logging_config)
    except Exception as error:  # whatever its proxies raise when they do not come up
        raise BackendUnavailable(
            "ray", f"its proxy did not start: {reason_in(str(error))}"
        ) from error
    try:
        serve.run(build_app(config), name=APPLICATION, route_prefix="/")
    except RuntimeError as error:
        raise BackendUnavailable("ray", reason_in(_told(serve) or str(error))) from error


def _told(serve: Any) -> str:  # noqa: ANN401  # the module
    """What the deployments say of their state: Serve's own error leaves the reason out."""
    application = serve.status().applications.get(APPLICATION)
    found = application.deployments.values() if application else ()
    return "\n".join(one.message for one in found if one.message)


def reason_in(told: str) -> str:
    """The error of ours that a traceback of Ray's ends with, or its last line."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("mnv4serve.errors.")]
    return ours[-1].partition(": ")[2] if ours else (lines or ["it gave no reason"])[-1]
