"""A simulated device: the real pool of the router, and what its slots are doing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mnv4serve.router.estimate import Spent
from mnv4serve.router.jobs import Job, Run
from mnv4serve.router.planner import Pool
from mnv4serve.router.policies import MakePolicy, Setting
from mnv4serve.router.predict import Predictor
from mnv4serve.router.schedule import Ledger
from mnv4serve.simulate.faults import Timeline, misprofiled, slowdown_of
from mnv4serve.simulate.hardware import Kind, Loop
from mnv4serve.simulate.scenario import Scenario, Stream


@dataclass(slots=True, eq=False)
class Running:
    """A run that has a slot."""

    run: Run
    spent: Spent
    """What it will really have taken."""
    end_ms: float

    def delay(self, by_ms: float) -> None:
        """Something else has its core for a while, at any moment of it."""
        spent = self.spent
        longer = 1.0 + by_ms / spent.run_ms
        self.spent = Spent(
            spent.decode_ms * longer, spent.service_ms * longer, spent.run_ms + by_ms
        )
        self.end_ms += by_ms


@dataclass(slots=True)
class Device:
    """One device of the cluster."""

    index: int
    kind: Kind
    """As the cluster has it: what run times are looked up by."""
    pool: Pool
    slowdown: Timeline | None
    places: Mapping[str, int]
    """Of its arms among those of its kind, by id."""
    first_column: int
    """Where the arms of its kind begin in tables over the arms of all kinds."""
    up: bool = True
    waiting: dict[int, Job] = field(default_factory=dict)
    running: dict[int, Running] = field(default_factory=dict)
    """By run id."""
    busy_ms: float = 0.0


class EventLoop:
    """One thread that every request of a node passes twice, on the cores of the slots.

    The kernel lets a thread that mostly sleeps run at once: the loop waits for nothing but itself,
    and while every slot is busy one of them, in turn, waits for the loop.
    """

    def __init__(self, cost: Loop, devices: Sequence[Device]) -> None:
        self.cost = cost
        self._devices = devices
        self._slots = sum(device.kind.slots for device in devices)
        self._idle_ms = 0.0
        self._turn = 0

    def work(self, now_ms: float, duration_ms: float) -> float:
        """When something is done that comes up now."""
        if duration_ms == 0.0:
            return now_ms
        self._idle_ms = max(now_ms, self._idle_ms) + duration_ms
        running = [run for device in self._devices for run in device.running.values()]
        if len(running) == self._slots:
            self._turn += 1
            running[self._turn % self._slots].delay(duration_ms)
        return self._idle_ms


@dataclass(slots=True)
class Group:
    """The devices of one node, which one router decides over."""

    devices: tuple[Device, ...]
    loop: EventLoop
    pools: tuple[Pool, ...] = ()
    """Those that are up."""
    by_name: dict[str, Device] = field(default_factory=dict)

    def refresh(self) -> None:
        """Take note of which devices are up."""
        self.pools = tuple(device.pool for device in self.devices if device.up)
        self.by_name = {device.pool.device: device for device in self.devices}

    def wait_ms(self, now_ms: float, deadline_ms: float) -> float:
        """What a balancer goes by: the shortest wait on any device that is up."""
        return min(pool.ledger.wait_ms(now_ms, deadline_ms) for pool in self.pools)


def build_groups(
    scenario: Scenario,
    make_policy: MakePolicy,
    *,
    horizon_ms: float,
    first_columns: dict[int, int],
) -> tuple[Group, ...]:
    """Fresh devices, each with a policy of its own, one group a node."""
    groups = []
    index = 0
    for node in scenario.cluster.nodes:
        devices = []
        for kind, named in zip(node.devices, node.named_devices(), strict=True):
            devices.append(
                Device(
                    index=index,
                    kind=kind,
                    pool=_pool(scenario, named, index, make_policy),
                    slowdown=slowdown_of(
                        scenario.faults,
                        index,
                        horizon_ms=horizon_ms,
                        rng=scenario.rng(Stream.FAULTS, index),
                    ),
                    places=named.columns,
                    first_column=first_columns[id(kind)],
                )
            )
            index += 1
        group = Group(tuple(devices), EventLoop(node.loop, devices))
        group.refresh()
        groups.append(group)
    return tuple(groups)


def could_be_on_time(
    device: Device,
    deadline_ms: float,
    now_ms: float,
    run_ms: Sequence[float],
    waiting_ms: Callable[[Job], float],
) -> bool:
    """Whether some arm would really have made it behind the work that is due earlier.

    Judged as somebody would who knows how long everything really takes; the waiting work takes the
    arms that are reserved for it.
    """
    free = sorted(running.end_ms for running in device.running.values())
    free = [now_ms] * (device.kind.slots - len(free)) + free
    ahead = [job for job in device.waiting.values() if now_ms < job.deadline_ms <= deadline_ms]
    for job in sorted(ahead, key=lambda job: job.deadline_ms):
        free[0] += waiting_ms(job)
        free.sort()
    return free[0] + min(run_ms) + device.kind.reply_ms <= deadline_ms


def _pool(scenario: Scenario, kind: Kind, index: int, make_policy: MakePolicy) -> Pool:
    timings = {
        arm.id: {
            size: misprofiled(timing, scenario.faults, index, column)
            for size, timing in (kind.told or kind.timings)[arm.id].items()
        }
        for column, arm in enumerate(kind.arms)
    }
    predictor = Predictor(timings=timings, decode=kind.decode, reply_ms=kind.reply_ms)
    ledger = Ledger(slots=kind.slots, max_queue=scenario.max_queue)
    policy = make_policy(Setting(kind.arms, predictor, kind.slots))
    return Pool(kind.arms[0].device, kind.arms, predictor, ledger, policy)
