"""Who is who in a gang: the gang itself, and the slot of each rank. Names and numbers only, nothing of the world."""

from dataclasses import dataclass
from functools import cached_property

from fleetctl.gang.spec import GangSpec, Group


@dataclass(frozen=True, kw_only=True)
class Slot:
    """The place of one rank. `rank` counts over all groups in their order; `index` within its group."""

    rank: int
    index: int
    group: Group
    pod_name: str

    @property
    def trainer(self) -> str:
        """Name of the container that trains."""
        return self.group.trainer or _first_container(self.group)


@dataclass(frozen=True, kw_only=True)
class Gang:
    """A gang by name, uid and spec."""

    namespace: str
    name: str
    uid: str
    spec: GangSpec

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """All ranks, in order."""
        out: list[Slot] = []
        for group in self.spec.groups:
            for index in range(group.size):
                name = f"{self.name}-{group.name}-{index}"
                out.append(Slot(rank=len(out), index=index, group=group, pod_name=name))
        return tuple(out)

    @cached_property
    def ranks(self) -> dict[str, int]:
        """Rank by name of its pod."""
        return {slot.pod_name: slot.rank for slot in self.slots}

    @property
    def has_spares(self) -> bool:
        return any(group.spares for group in self.spec.groups)

    @cached_property
    def coordinator(self) -> Slot:
        """The rank that the others connect to."""
        wanted = self.spec.coordinator
        group = wanted.group or self.spec.groups[0].name
        return next(s for s in self.slots if s.group.name == group and s.index == wanted.index)


def _first_container(group: Group) -> str:
    containers = group.template.get("spec", {}).get("containers") or [{}]
    name = containers[0].get("name", "")
    return name if isinstance(name, str) else ""
