"""While nothing fails, nobody needs the controller: it may be away, and its network too."""

import time

from fleet import WORKERS, Gang, agents_out_of_reach, controller_ready, kubectl


def test_without_a_fault_a_minute_without_controller_or_network_is_not_noticed(gang: Gang) -> None:
    before, attempt = gang.seen(), gang.attempt()
    kubectl("-n", "fleetctl-system", "scale", "deployment/fleetctl-controller", "--replicas=0")
    time.sleep(60)
    kubectl("-n", "fleetctl-system", "scale", "deployment/fleetctl-controller", "--replicas=1")
    controller_ready()
    with agents_out_of_reach(WORKERS):
        time.sleep(60)
    assert gang.seen() == before
    gang.tell(1, "exit 1")  # and everybody is back: the next fault is recovered from
    gang.running(attempt["released"] + 1)
