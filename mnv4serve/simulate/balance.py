"""Which node a request goes to: the one with the shorter wait of two that chance picks."""

from collections.abc import Sequence

import numpy as np

from mnv4serve.simulate.devices import Group
from mnv4serve.simulate.scenario import Scenario, Stream


class Balancer:
    """Two random choices, nodes weighed by what they can carry; knows which nodes are up."""

    def __init__(self, scenario: Scenario, groups: Sequence[Group]) -> None:
        self._groups = groups
        self._pairs: list[list[int]] = []
        if len(groups) > 1:
            carried = [
                sum(kind.capacity_per_s() for kind in node.devices)
                for node in scenario.cluster.nodes
            ]
            weights = np.array(carried) / sum(carried)
            rng = scenario.rng(Stream.BALANCE)
            self._pairs = rng.choice(len(groups), (scenario.requests, 2), p=weights).tolist()

    def pick(self, request: int, now_ms: float, deadline_ms: float) -> Group:
        """The node for a request; a node without a device only where there is no other."""
        if not self._pairs:
            return self._groups[0]
        pair = [self._groups[place] for place in self._pairs[request]]
        usable = [group for group in pair if group.pools]
        if not usable:
            return next((group for group in self._groups if group.pools), pair[0])
        if len(usable) == 1 or usable[0] is usable[1]:
            return usable[0]
        return min(usable, key=lambda group: group.wait_ms(now_ms, deadline_ms))
