"""What deployments/README.md tells others to use does what it says."""

import asyncio
import json
import re

import grpc.aio

from mnv4serve.domain import Transport
from mnv4serve.errors import Cancelled
from mnv4serve.v1 import classifier_pb2 as pb
from mnv4serve.v1 import classifier_pb2_grpc
from tests.deployments.manifests import DEPLOYMENTS
from tests.fakes import ARM, FakeGateway
from tests.servers import cabled, serving


def retrying() -> str:
    """The service config that is shown there."""
    (shown,) = re.findall(
        "```json\n(.*?)```", (DEPLOYMENTS / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    return json.dumps(json.loads(shown))


async def test_any_grpc_client_sends_a_broken_request_once_more() -> None:
    """With the service config of the README, a replica that goes away costs no answer."""
    gateway = FakeGateway(blocks=True)
    options = [("grpc.service_config", retrying())]

    async with serving(Transport.GRPC, gateway) as address, cabled(address) as cable:
        target = cable.address.removeprefix("grpc://")
        async with grpc.aio.insecure_channel(target, options) as channel:
            stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
            asking = stub.Classify(pb.ClassifyRequest(image=b"\xff\xd8", budget_ms=10_000))
            await gateway.started.wait()
            gateway.blocks = False
            cable.cut()
            reply = await asyncio.wait_for(asking, timeout=10)

    assert reply.arm.variant == ARM.variant
    assert len(gateway.calls) == 2


async def test_any_grpc_client_sends_a_call_once_more_that_a_proxy_cut_off() -> None:
    """With the same service config; HAProxy ends such calls as cancelled."""
    gateway = FakeGateway(fails=Cancelled("cut off"), failures_left=1)
    options = [("grpc.service_config", retrying())]

    async with serving(Transport.GRPC, gateway) as address:
        target = address.removeprefix("grpc://")
        async with grpc.aio.insecure_channel(target, options) as channel:
            stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
            reply = await stub.Classify(pb.ClassifyRequest(image=b"\xff\xd8", budget_ms=10_000))

    assert reply.arm.variant == ARM.variant
    assert len(gateway.calls) == 2
