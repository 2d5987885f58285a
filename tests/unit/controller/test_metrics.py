"""What a controller tells at /metrics."""

from collections import Counter

import aiohttp

from fleetctl.controller.health import Health
from fleetctl.controller.metrics import Metrics
from fleetctl.controller.turns import Durations, Lateness


def told() -> tuple[Lateness, Metrics]:
    late = Lateness()
    writes = [
        Counter({("update", "gangs/status"): 2, ("create", "pods"): 8}),
        Counter({("update", "leases"): 5, ("create", "pods"): 1}),
    ]
    signals = Durations()
    signals.note(0.04)
    return late, Metrics(
        blocked=late,
        signals=signals,
        writes=lambda: list(writes),
        agents=lambda: 7,
        releases=lambda: {"Start": 1, "InPlace": 2},
    )


def test_numbers_are_told_as_they_are_now() -> None:
    late, metrics = told()
    for seconds in (0.001, 0.2):
        late.note(seconds)
    lines = metrics.text().decode().splitlines()
    for line in (
        "fleetctl_loop_blocked_seconds_max 0.2",
        'fleetctl_loop_blocked_seconds_bucket{le="0.1"} 1.0',
        'fleetctl_loop_blocked_seconds_bucket{le="0.25"} 2.0',
        'fleetctl_loop_blocked_seconds_bucket{le="+Inf"} 2.0',
        "fleetctl_loop_blocked_seconds_count 2.0",
        'fleetctl_signal_seconds_bucket{le="0.05"} 1.0',
        "fleetctl_signal_seconds_sum 0.04",
        "fleetctl_agents_connected 7.0",
        'fleetctl_releases_total{rung="InPlace"} 2.0',
        'fleetctl_api_writes_total{resource="pods",verb="create"} 9.0',
        'fleetctl_api_writes_total{resource="leases",verb="update"} 5.0',
    ):
        assert line in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)
    assert any(line.startswith("process_cpu_seconds_total ") for line in lines)
    late.note(3.0)
    assert "fleetctl_loop_blocked_seconds_max 3.0" in metrics.text().decode()


async def test_they_are_served_beside_the_probes(unused_tcp_port: int) -> None:
    health = Health()
    async with health.answering(unused_tcp_port), aiohttp.ClientSession() as session:
        address = f"http://127.0.0.1:{unused_tcp_port}/metrics"
        async with session.get(address) as answer:
            assert (answer.status, await answer.text()) == (200, "")
        health.metrics = told()[1].text
        async with session.get(address) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert "fleetctl_agents_connected 7.0" in await answer.text()
