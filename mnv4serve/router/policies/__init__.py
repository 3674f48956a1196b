"""The policies by name; one is made anew for every pool."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mnv4serve.domain import Arm
from mnv4serve.errors import BadConfig
from mnv4serve.router.policies.priced import Priced
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
}


def make_policy(name: str, setting: Setting) -> Policy:
    """Raises BadConfig, naming those there are, where the name is none of them."""
    make = POLICIES.get(name)
    if make is None:
        raise BadConfig(f"unknown policy {name!r}; there are {', '.join(POLICIES)}")
    return make(setting)
