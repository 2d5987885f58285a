"""What a controller tells of itself at /metrics, in Prometheus' format.

Gathered when somebody asks: the parts count for themselves, in plain numbers, and know nothing of metrics. Imported
only by a controller that serves them: the library costs it 60 ms and 5 MiB.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fleetctl.controller.turns import Durations

Writes = Mapping[tuple[str, str], int]
"""By verb and resource, as in the API server's audit log."""


class Metrics(Collector):
    """`writes`: of each client; `agents`: streams that are open; `releases`: by rung; `signals`: see Executor."""

    def __init__(
        self,
        *,
        blocked: Durations,
        signals: Durations,
        writes: Callable[[], list[Writes]],
        agents: Callable[[], int],
        releases: Callable[[], Mapping[str, int]],
    ) -> None:
        self._blocked = blocked
        self._signals = signals
        self._writes = writes
        self._agents = agents
        self._releases = releases
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """As the library wants it."""
        yield GaugeMetricFamily(
            "fleetctl_loop_blocked_seconds_max",
            "The longest that the event loop was blocked",
            value=self._blocked.longest_s,
        )
        yield _histogram(
            "fleetctl_loop_blocked_seconds", "How late a timer fires because the event loop is blocked", self._blocked
        )
        yield _histogram(
            "fleetctl_signal_seconds", "From the raised target until the resets of all ranks are sent", self._signals
        )
        yield GaugeMetricFamily(
            "fleetctl_agents_connected",
            "Streams of agents that are open, but for those that stay with a standby",
            value=self._agents(),
        )
        releases = CounterMetricFamily(
            "fleetctl_releases", "Attempts that were released, by how the ranks came into them", labels=["rung"]
        )
        for rung, count in sorted(self._releases().items()):
            releases.add_metric([rung], count)
        yield releases
        total: Counter[tuple[str, str]] = Counter()
        for each in self._writes():
            total.update(each)
        writes = CounterMetricFamily(
            "fleetctl_api_writes", "Requests to the API server that change something", labels=["verb", "resource"]
        )
        for labels, count in sorted(total.items()):
            writes.add_metric(list(labels), count)
        yield writes


def _histogram(name: str, says: str, of: Durations) -> HistogramMetricFamily:
    bounds = [*(str(bound) for bound in of.BOUNDS_S), "+Inf"]
    buckets = list(zip(bounds, accumulate(of.counts), strict=True))
    return HistogramMetricFamily(name, says, buckets=buckets, sum_value=of.sum_s)
