"""Whose steps count."""

from fleetctl.controller.progress import steps
from fleetctl.gang.state import Life, Member, Steps


def member(rank: int, attempt: int | None) -> Member:
    life = None if attempt is None else Life(uid=f"u{rank}", life_id="x", started_at=1, attempt=attempt)
    return Member(rank=rank, pod_name=f"llm-worker-{rank}", trainer="trainer", life=life)


def test_only_of_ranks_that_run_the_attempt_and_tell() -> None:
    told = {f"u{rank}": Steps(step=rank, at=1.0) for rank in range(6) if rank != 4}
    members = [member(0, 2), member(1, 1), member(2, 0), member(3, None), member(4, 2), member(5, 2)]
    assert steps(members, told.get, 2) == {0: told["u0"], 5: told["u5"]}
