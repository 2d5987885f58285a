"""Which failed requests may be sent again, when, and until when.

A read may always be repeated. A write may be repeated only if the server cannot have carried it out: it never got the
request, or it said "too much to do, come back" (429, or 503 with Retry-After). A write whose answer was lost surfaces
as `Unavailable`; only its sender can tell, by reading, whether it happened.

Knows nothing of HTTP. Credentials that ran out are the client's affair: that is not a question of time.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from fleetctl.kube.errors import ApiError, Throttled, Unavailable

R = TypeVar("R")
Seconds = float

JITTER = random.Random()  # noqa: S311 - spreads load, guards nothing
FIRST_PAUSE: Seconds = 0.2
LONGEST_PAUSE: Seconds = 10.0


def full_jitter(failures: int, first: Seconds, longest: Seconds, rng: random.Random) -> Seconds:
    """Between nothing and a limit that doubles with each failure, so that clients do not come back together."""
    return rng.random() * min(longest, first * 2.0 ** min(failures, 32))


def may_repeat(error: BaseException, *, write: bool) -> bool:
    """True if sending the request again cannot do harm."""
    if isinstance(error, Throttled):
        return True
    if not isinstance(error, Unavailable):
        return False
    told_to_wait = error.status == 503 and error.retry_after is not None
    return not write or error.unsent or told_to_wait


async def repeat(once: Callable[[], Awaitable[R]], *, what: str, write: bool, within: Seconds, rng: random.Random) -> R:
    """The result of `once`, tried until it succeeds or `within` seconds have passed, pauses included.

    Raises what the last try raised; `Unavailable` if it was still under way when time ran out.
    """
    now = asyncio.get_running_loop().time
    deadline = now() + within

    def pause(state: RetryCallState) -> Seconds:
        jitter = full_jitter(state.attempt_number - 1, FIRST_PAUSE, LONGEST_PAUSE, rng)
        error = state.outcome and state.outcome.exception()
        asked = error.retry_after if isinstance(error, ApiError) else None
        return (asked or 0.0) + jitter

    retrying = AsyncRetrying(
        sleep=asyncio.sleep,
        retry=retry_if_exception(lambda error: may_repeat(error, write=write)),
        wait=pause,
        stop=lambda state: now() + state.upcoming_sleep >= deadline,
        reraise=True,
    )
    try:
        async with asyncio.timeout_at(deadline):
            return await retrying(once)
    except TimeoutError:
        raise Unavailable(what, f"no answer within {within:g} s") from None
