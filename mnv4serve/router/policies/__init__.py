"""The policies by name; one is made anew for every pool."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mnv4serve.domain import Arm
from mnv4serve.errors import BadConfig
from mnv4serve.router.policies.clockwork import Clockwork
from mnv4serve.router.policies.greedy import LateBinding, QueueAware, QueueBlind
from mnv4serve.router.policies.infaas import Infaas
from mnv4serve.router.policies.model_switching import ModelSwitching
from mnv4serve.router.policies.priced import Priced
from mnv4serve.router.policies.ramsis import Ramsis
from mnv4serve.router.policies.slackfit import SlackFit
from mnv4serve.router.policies.static import Static
from mnv4serve.router.policy import Policy
from mnv4serve.router.predict import Predictor


@dataclass(frozen=True, slots=True)
class Setting:
    """What a policy may know beforehand of the pool that it will decide for."""

    arms: tuple[Arm, ...]
    predictor: Predictor
    slots: int


MakePolicy = Callable[[Setting], Policy]

POLICIES: Mapping[str, MakePolicy] = {
    "priced": lambda _: Priced(),
    "static": lambda setting: Static(_middle(setting.arms)),
    "clockwork": lambda setting: Clockwork(_middle(setting.arms), batches=_batches(setting)),
    "queue-blind": lambda _: QueueBlind(),
    "queue-aware": lambda _: QueueAware(),
    "late-binding": lambda _: LateBinding(),
    "infaas": lambda _: Infaas(),
    "model-switching": lambda _: ModelSwitching(),
    "slackfit": lambda setting: SlackFit(batches=_batches(setting)),
    "ramsis": lambda _: Ramsis(),
}
"""Those that take parameters have them as they did well over the loads, not for any of them."""


def make_policy(name: str, setting: Setting) -> Policy:
    """Raises BadConfig, naming those there are, where the name is none of them."""
    make = POLICIES.get(name)
    if make is None:
        raise BadConfig(f"unknown policy {name!r}; there are {', '.join(POLICIES)}")
    return make(setting)


def _middle(arms: Sequence[Arm]) -> str:
    """The arm in the middle by accuracy, the less accurate of two: what one would guess."""
    ranked = sorted(arms, key=lambda arm: (arm.accuracy or 0.0, arm.id))
    return ranked[(len(ranked) - 1) // 2].id


def _batches(setting: Setting) -> tuple[int, ...]:
    return 1, *setting.predictor.batch_sizes
