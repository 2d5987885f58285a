"""Agents' ServiceAccount tokens, verified here and not by a TokenReview: a thousand agents may come back at once.

Knows the cluster's keys and what a projected token looks like; nothing of gangs (`admit` decides who is a member).
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import jwt

from fleetctl.clock import Clock, SystemClock
from fleetctl.errors import FleetctlError, Retry
from fleetctl.rendezvous.identity import BadToken, PodIdentity
from fleetctl.stamps import rfc3339

REFETCH_S = 10.0  # an unknown key id costs us one request in this time, however many strangers invent one
RETRY_FETCH_S = 1.0
LEEWAY_S = 3600.0  # clocks may differ, and a token is worth nothing without its pod, which `admit` looks for
VERIFIED_KEPT = 20_000
_ALGORITHMS = ["RS256", "ES256"]


class KeysUnavailable(Retry):
    """The cluster's keys cannot be read now."""


class TokenVerifier:
    """Call it with a token; it answers with the pod, or raises BadToken or KeysUnavailable."""

    def __init__(
        self,
        fetch_jwks: Callable[[], Awaitable[bytes]],
        issuer: str | Callable[[], Awaitable[str]],
        audience: str = "fleetctl",
        clock: Clock | None = None,
    ) -> None:
        self._fetch_jwks = fetch_jwks
        self._issuer = issuer
        self._audience = audience
        self._clock = clock or SystemClock()
        self._expected_issuer = ""
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetching = asyncio.Lock()
        self._fetch_again_at = float("-inf")
        self._verified: dict[bytes, dict[str, Any]] = {}

    async def __call__(self, token: str) -> PodIdentity:
        # A thousand agents that restart in place come back with the tokens that we have verified before.
        digest = hashlib.sha256(token.encode()).digest()
        if (claims := self._verified.get(digest)) is None:
            claims = await self._verify(token)
            if len(self._verified) >= VERIFIED_KEPT:
                self._verified.clear()
            self._verified[digest] = claims
        self._check_times(claims)
        return _pod(claims)

    async def _verify(self, token: str) -> dict[str, Any]:
        """What a genuine token of this cluster for us says; of when it is valid, only that it tells."""
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, RecursionError) as error:
            raise BadToken("not a JSON web token: mount a projected ServiceAccount token") from error
        key = await self._key(key_id)
        # Times and audience are checked below: by our clock, exactly, and with a reason that says what to do.
        options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
        options["require"] = ["exp", "nbf", "iss", "aud"]
        try:
            claims = jwt.decode(token, key, algorithms=_ALGORITHMS, issuer=self._expected_issuer, options=options)
        except jwt.MissingRequiredClaimError as error:
            raise BadToken(
                f"the token lacks the claim {error.claim!r}: mount a projected ServiceAccount token"
            ) from error
        except jwt.InvalidIssuerError as error:
            raise BadToken("the token was issued by another cluster") from error
        except jwt.PyJWTError as error:
            raise BadToken(f"the token does not verify against the cluster's keys ({type(error).__name__})") from error
        if claims["aud"] not in (self._audience, [self._audience]):
            raise BadToken(
                f"the token's audience is not {self._audience!r} alone: set it in the pod's projected volume"
            )
        _pod(claims)
        return claims

    def _check_times(self, claims: dict[str, Any]) -> None:
        expires, valid_from = claims["exp"], claims["nbf"]
        if type(expires) is not int or type(valid_from) is not int:
            raise BadToken("the token's times are not whole seconds")
        clock = self._clock.now()
        now = clock.timestamp()
        if expires + LEEWAY_S <= now:
            raise BadToken(f"the token expired {now - expires:.0f} s ago: does the kubelet renew it, are clocks right?")
        if valid_from - LEEWAY_S > now:
            raise BadToken(
                f"the token is not valid yet at {rfc3339(clock)}: compare the controller's clock with the API server's"
            )

    async def _key(self, key_id: object) -> jwt.PyJWK:
        if not isinstance(key_id, str):
            raise BadToken("the token names no key: mount a projected ServiceAccount token")
        if key_id not in self._keys:
            async with self._fetching:  # a thousand agents wait for one request
                if key_id not in self._keys:
                    await self._fetch()
        if key_id not in self._keys:
            raise BadToken(
                "the token is signed by a key that the API server does not publish: is it another cluster's?"
            )
        return self._keys[key_id]

    async def _fetch(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._fetch_again_at:
            if not self._keys:
                raise KeysUnavailable("the cluster's token keys could not be read a moment ago")
            return
        self._fetch_again_at = now + RETRY_FETCH_S
        try:
            self._expected_issuer = self._issuer if isinstance(self._issuer, str) else await self._issuer()
            keys = jwt.PyJWKSet.from_json((await self._fetch_jwks()).decode()).keys
        except (jwt.PyJWTError, FleetctlError, ValueError, OSError) as error:
            raise KeysUnavailable(f"the cluster's token keys cannot be read: {error}") from error
        self._keys = {key.key_id: key for key in keys if key.key_id}
        self._verified.clear()  # a key may be gone
        self._fetch_again_at = now + REFETCH_S


def _pod(claims: dict[str, Any]) -> PodIdentity:
    match claims.get("kubernetes.io"):
        case {"namespace": str(namespace), "pod": {"name": str(name), "uid": str(uid)}} if namespace and name and uid:
            return PodIdentity(namespace, name, uid)
    raise BadToken("the token is bound to no pod: use the one projected into the agent's own pod")
