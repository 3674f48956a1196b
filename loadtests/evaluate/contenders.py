"""The policies in the comparison, each with the settings it may be tuned over."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.evaluate import additions
from loadtests.evaluate.ablations import ABLATIONS
from mnv4serve.router.policies import MakePolicy, Setting
from mnv4serve.router.policies.clockwork import Clockwork
from mnv4serve.router.policies.greedy import LateBinding, QueueAware, QueueBlind
from mnv4serve.router.policies.infaas import Infaas
from mnv4serve.router.policies.model_switching import ModelSwitching
from mnv4serve.router.policies.priced import Priced
from mnv4serve.router.policies.ramsis import Ramsis
from mnv4serve.router.policies.slackfit import SlackFit
from mnv4serve.router.policies.static import Static
from mnv4serve.router.policy import Policy

OURS = "priced"
MAKERS: Mapping[str, Callable[..., Policy]] = {
    OURS: Priced,
    "static": Static,
    "clockwork": Clockwork,
    "queue-blind": QueueBlind,
    "queue-aware": QueueAware,
    "late-binding": LateBinding,
    "infaas": Infaas,
    "model-switching": ModelSwitching,
    "slackfit": SlackFit,
    "ramsis": Ramsis,
    **ABLATIONS,
    **additions.POLICIES,
}
BATCHING = ("clockwork", "slackfit")


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy with its settings; a plain value, so that it may be sent to another process."""

    name: str
    settings: tuple[tuple[str, Any], ...] = ()

    def make(self, setting: Setting) -> Policy:
        """Anew for every pool; those that form batches are told which sizes were measured."""
        settings = dict(self.settings)
        if self.name in BATCHING:
            settings["batches"] = (1, *setting.predictor.batch_sizes)
        return MAKERS[self.name](**settings)

    @property
    def maker(self) -> MakePolicy:
        return self.make

    @property
    def label(self) -> str:
        """A fixed arm is a policy of its own: the best one is picked in hindsight."""
        return f"static:{dict(self.settings)['arm_id']}" if self.name == "static" else self.name

    @property
    def described(self) -> str:
        return ", ".join(f"{name}={_short(value)}" for name, value in self.settings)


def statics(arm_ids: Sequence[str]) -> list[Contender]:
    """Every fixed arm."""
    return [Contender("static", (("arm_id", arm_id),)) for arm_id in arm_ids]


def settings_to_try(
    arm_ids: Sequence[str],
    *,
    switching_table: Sequence[tuple[float, str]],
    budgets_ms: Sequence[float],
) -> dict[str, list[Contender]]:
    """Per rival, the settings of which tuning picks one.

    The table of Model-Switching comes from the fixed arms' runs at other seeds; RAMSIS is told the
    budgets that it has to expect.
    """
    targets = (0.5, 0.8, 0.95, 0.99)
    return {
        "clockwork": _grid("clockwork", arm_id=arm_ids),
        "queue-blind": _grid("queue-blind", target=targets),
        "queue-aware": _grid("queue-aware", target=targets),
        "late-binding": _grid("late-binding", target=targets),
        "infaas": _grid("infaas", overload_ratio=(1.5, 2.5, 5.0), share=(1.0, 0.5, 0.2)),
        "model-switching": _grid(
            "model-switching", table=(tuple(switching_table),), window_ms=(100.0, 500.0, 2000.0)
        ),
        "slackfit": _grid("slackfit", buckets=(16, 64), margin=(1.0, 1.2, 1.5, 2.0)),
        "ramsis": _grid(
            "ramsis",
            budgets_ms=(tuple(budgets_ms),),
            window_ms=(200.0, 1000.0),
            load_factor=(1.0, 1.5, 2.0),
        ),
    }


def _grid(name: str, **values: Sequence[Any]) -> list[Contender]:
    return [
        Contender(name, tuple(zip(values, combination, strict=True)))
        for combination in itertools.product(*values.values())
    ]


def _short(value: object) -> str:
    if isinstance(value, tuple) and len(value) > 3:  # noqa: PLR2004  # more would not be read
        return f"{len(value)} entries"
    return str(value)
