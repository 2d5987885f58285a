"""One gang: decide whenever something changed or a deadline passed.

Level, not edge: each turn looks at the whole gang as it is now, so a missed event can do no harm. The loop is kept too
small to be wrong; what to do is plan.py's, how to do it executor.py's.
"""

import asyncio
import logging
import random
from collections.abc import Callable

from fleetctl.clock import Clock
from fleetctl.controller import admission, progress, views
from fleetctl.controller.cache import Cache
from fleetctl.controller.executor import Executor, NameTaken
from fleetctl.controller.resources import GangObject
from fleetctl.errors import FleetctlError, GiveUp
from fleetctl.gang.actions import Action, Notice, Ping, Plan, Prove, Release, Reset, WriteStatus
from fleetctl.gang.identity import Gang
from fleetctl.gang.plan import RECHECK_S, plan
from fleetctl.gang.snapshot import Acceptance, Memory, Snapshot
from fleetctl.gang.state import Life, Node, Steps, Zombie
from fleetctl.kube.client import KubeClient
from fleetctl.kube.reflector import Key

log = logging.getLogger(__name__)

DEBOUNCE_S = 0.01
"""Messages of many agents arrive together; one look at the gang serves them all."""
DEBOUNCE_S_PER_RANK, LONGEST_DEBOUNCE_S = 0.0002, 0.25
"""A look at a large gang takes longer, and more of its agents speak within the time."""
AGAIN_AFTER_ERROR_S = 1.0
AGAIN_AFTER_REFUSAL_S = 5.0
REFUSED_BEFORE_TOLD_S = 3.0
"""What the API server refuses for so long, the gang's status says; the object of an earlier gang is gone by then."""
QUIET_S = 1.0
"""Between two lines of the log that report only progress."""
MESSAGES = {Ping, Prove, Release, Reset}
"""To agents; sent again to those that have not answered."""


class GangLoop:
    """Brings one gang to where it should be.

    `life`: what the agent of the pod with that uid says. `steps`: how far the trainer in it is. `node`: a machine by
    name. `zombies`: whose agents speak of this gang's ranks although their pods are gone. `writer`: who we lead as,
    None while we do not. `rng` draws tickets.
    """

    def __init__(
        self,
        key: Key,
        client: KubeClient,
        cache: Cache,
        executor: Executor,
        clock: Clock,
        *,
        life: Callable[[str], Life | None],
        steps: Callable[[str], Steps | None],
        node: Callable[[str], Node],
        zombies: Callable[[Gang], tuple[Zombie, ...]],
        writer: Callable[[], str | None],
        rng: random.Random,
    ) -> None:
        self._key = key
        self._client = client
        self._cache = cache
        self._executor = executor
        self._clock = clock
        self._life = life
        self._steps = steps
        self._node = node
        self._zombies = zombies
        self._writer = writer
        self._rng = rng
        self._changed = asyncio.Event()
        self._memory = Memory()
        self._memory_of = ("", "")
        self._acceptance: tuple[str, int, float, Acceptance] | None = None
        self._said: tuple[str, ...] = ()
        self._said_at = 0.0
        self._did: set[type[Action]] = set()
        self._refused: tuple[str, float] | None = None
        self._gang: tuple[tuple[str, int], Gang] | None = None
        self._members = views.Members()
        self._debounce_s = DEBOUNCE_S
        self._looked_at = 0.0
        self._steps_on = False  # the record has just said what is to be done

    def changed(self) -> None:
        """Something about the gang is not as it was."""
        self._changed.set()

    async def run(self) -> None:
        """Decide until the gang is gone or we are cancelled."""
        wake_in: float | None = 0.0
        while self._cache.gang(self._key) is not None:
            await self._wait(wake_in)
            wake_in = await self._turn()

    async def _wait(self, wake_in: float | None) -> None:
        if self._steps_on:  # a thousand ranks stand still: nobody is waited for
            self._steps_on = False
            self._changed.clear()
            return
        if self._refused:  # what was refused a moment ago is not worth trying at every change
            await asyncio.sleep(AGAIN_AFTER_ERROR_S)
        try:
            async with asyncio.timeout(wake_in):
                await self._changed.wait()
            now = asyncio.get_running_loop().time()
            await asyncio.sleep(max(DEBOUNCE_S, self._looked_at + self._debounce_s - now))
        except TimeoutError:
            pass
        self._changed.clear()

    async def _turn(self) -> float | None:
        """One look, one plan, carried out. Returns the seconds until the next look, None to wait for a change."""
        seen, writer = self._cache.gang(self._key), self._writer()
        if seen is None or writer is None:
            return None
        gang = self._view(seen)
        self._looked_at = asyncio.get_running_loop().time()
        try:
            decided = await self._decide(seen, gang, writer)
            self._say(seen, decided)
            self._memory = decided.memory or self._memory
            await self._executor.carry_out(decided, seen, gang)
            self._steps_on = any(_raises_or_releases(action, seen) for action in decided.actions)
        except (GiveUp, NameTaken) as error:
            await self._complain(seen, str(error))
            return AGAIN_AFTER_REFUSAL_S
        except FleetctlError as error:
            log.warning("%s", error, extra=self._about(seen))
            return AGAIN_AFTER_ERROR_S
        except Exception:  # a mistake of ours about one gang must not stop the others
            log.exception("a mistake in fleetctl; nothing is done for this gang", extra=self._about(seen))
            return AGAIN_AFTER_REFUSAL_S
        self._refused = None
        return decided.wake_in

    def _view(self, seen: GangObject) -> Gang:
        """The same object for as long as nobody edits the gang."""
        key = (seen.metadata.uid, seen.metadata.generation)
        if self._gang is None or self._gang[0] != key:
            self._gang = key, views.gang_view(seen)
            self._debounce_s = min(DEBOUNCE_S + DEBOUNCE_S_PER_RANK * seen.spec.size, LONGEST_DEBOUNCE_S)
        return self._gang[1]

    async def _decide(self, seen: GangObject, gang: Gang, writer: str) -> Plan:
        if self._memory_of != (gang.uid, writer):  # another gang of that name, or another term of ours
            self._memory, self._memory_of = Memory(), (gang.uid, writer)
        acceptance, monotonic = await self._accept(seen, gang), asyncio.get_running_loop().time()
        refused, since = self._refused or ("", monotonic)
        pods = self._cache.pods(self._key)
        members = await self._members.looked_at(gang, pods, self._life, self._node)
        snapshot = Snapshot(
            gang=gang,
            generation=seen.metadata.generation,
            status=seen.status,
            members=members,
            spares=views.spares(gang, pods, self._node) if gang.has_spares or len(pods) > len(members) else (),
            steps=progress.steps(members, self._steps, seen.status.attempt.released),
            zombies=self._zombies(gang),
            refused=refused if monotonic >= since + REFUSED_BEFORE_TOLD_S else "",
            monotonic=monotonic,
            now=self._clock.now(),
            writer=writer,
            fresh_ticket=self._rng.randbytes(16).hex(),
            acceptance=acceptance,
            deleting=seen.metadata.deletion_timestamp is not None,
        )
        return plan(snapshot, self._memory)

    async def _accept(self, seen: GangObject, gang: Gang) -> Acceptance | None:
        """The check of the template, made again after a while if it refused; not asked once the gang has started."""
        if seen.status.attempt.target > 0 or seen.metadata.deletion_timestamp:
            return None
        now, generation = asyncio.get_running_loop().time(), seen.metadata.generation
        if self._acceptance:
            uid, of_generation, at, found = self._acceptance
            if (uid, of_generation) == (gang.uid, generation) and (not found.problems or now < at + RECHECK_S):
                return found
        found = await admission.check(self._client, gang, lambda slot: self._executor.pod_body(gang, slot, 1))
        self._acceptance = (gang.uid, generation, now, found)
        return found

    async def _complain(self, seen: GangObject, message: str) -> None:
        """Tell the gang's owner what keeps us from acting, once: the wording may change with every try."""
        if self._refused is None:
            log.error("%s", message, extra=self._about(seen))
            self._refused = message, asyncio.get_running_loop().time()
            await self._executor.notify(seen, Notice("CannotAct", message, "Retry", "Warning"))

    def _say(self, seen: GangObject, decided: Plan) -> None:
        now, does = asyncio.get_running_loop().time(), {type(action) for action in decided.actions}
        only_goes_on = not does or (does == self._did and does <= MESSAGES)
        if decided.reasons == self._said or (only_goes_on and now < self._said_at + QUIET_S):
            return  # a thousand ranks that arrive, or answer, one by one are not a thousand lines
        self._said, self._said_at, self._did = decided.reasons, now, does
        log.info("; ".join(decided.reasons), extra=self._about(seen))

    def _about(self, seen: GangObject) -> dict[str, object]:
        attempt = seen.status.attempt
        return {"gang": "/".join(self._key), "target": attempt.target, "released": attempt.released}


def _raises_or_releases(action: Action, seen: GangObject) -> bool:
    if not isinstance(action, WriteStatus):
        return False
    before, after = seen.status.attempt, action.status.attempt
    return (before.target, before.released) != (after.target, after.released)
