import asyncio
import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from memory_streams import in_virtual_time

from fleetctl.errors import Retry
from fleetctl.rendezvous.identity import BadToken, PodIdentity
from fleetctl.rendezvous.tokens import KeysUnavailable, TokenVerifier

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
ISSUER = "https://kubernetes.default.svc"
POD = {"namespace": "team-a", "pod": {"name": "llm-worker-0", "uid": "u0"}, "serviceaccount": {"name": "x", "uid": "y"}}


class Cluster:
    """Signs tokens and publishes its keys."""

    def __init__(self):
        self.keys = {"key-1": ec.generate_private_key(ec.SECP256R1())}
        self.fetches = 0
        self.down = False
        self.time = NOW
        self.verify = TokenVerifier(self.fetch, self.issuer, clock=self)

    def now(self):
        return self.time

    async def issuer(self):
        return ISSUER

    async def fetch(self):
        self.fetches += 1
        await asyncio.sleep(0.1)
        if self.down:
            raise Retry("the API server does not answer")
        keys = []
        for key_id, key in self.keys.items():
            algorithm = jwt.algorithms.ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else None
            algorithm = algorithm or jwt.algorithms.RSAAlgorithm
            keys.append({**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": key_id, "use": "sig"})
        return json.dumps({"keys": keys}).encode()

    def token(self, *, key_id="key-1", key=None, algorithm="ES256", **changes):
        now = int(NOW.timestamp())
        claims = {"iss": ISSUER, "aud": ["fleetctl"], "nbf": now, "iat": now, "exp": now + 3600, "kubernetes.io": POD}
        claims = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        return jwt.encode(claims, key or self.keys[key_id], algorithm, headers={"kid": key_id})


@in_virtual_time
async def test_a_projected_token_names_its_pod():
    cluster = Cluster()
    assert await cluster.verify(cluster.token()) == PodIdentity("team-a", "llm-worker-0", "u0")
    assert await cluster.verify(cluster.token(aud="fleetctl")) == PodIdentity("team-a", "llm-worker-0", "u0")


@in_virtual_time
async def test_rsa_keys_are_known_too():
    cluster = Cluster()
    cluster.keys["key-1"] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert (await cluster.verify(cluster.token(algorithm="RS256"))).uid == "u0"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"aud": ["https://kubernetes.default.svc"]}, "audience"),
        ({"aud": ["fleetctl", "https://kubernetes.default.svc"]}, "audience"),
        ({"aud": "fleetctl2"}, "audience"),
        ({"aud": None}, "'aud'"),
        ({"exp": None}, "'exp'"),
        ({"nbf": None}, "'nbf'"),
        ({"iss": None}, "'iss'"),
        ({"iss": "https://other.cluster"}, "another cluster"),
        ({"exp": int(NOW.timestamp()) - 3601}, "expired 3601 s ago"),
        ({"exp": "soon"}, "whole seconds"),
        ({"nbf": int(NOW.timestamp()) + 3601}, "not valid yet"),
        ({"kubernetes.io": None}, "bound to no pod"),
        ({"kubernetes.io": {"namespace": "team-a", "serviceaccount": {"name": "x", "uid": "y"}}}, "bound to no pod"),
        ({"kubernetes.io": {"namespace": "team-a", "pod": {"name": "p", "uid": ""}}}, "bound to no pod"),
    ],
)
def test_what_is_wrong_is_said_and_the_token_is_not(changes, reason):
    @in_virtual_time
    async def run():
        cluster = Cluster()
        token = cluster.token(**changes)
        with pytest.raises(BadToken, match=reason) as refusal:
            await cluster.verify(token)
        assert token[:20] not in str(refusal.value)
        assert token.rpartition(".")[2][:20] not in str(refusal.value)

    run()


@in_virtual_time
async def test_an_hour_of_skew_is_forgiven_and_not_more():
    cluster = Cluster()
    token = cluster.token()
    for moment in (NOW - timedelta(seconds=3599), NOW + timedelta(seconds=7199)):
        cluster.time = moment
        await cluster.verify(token)
    cluster.time = NOW + timedelta(seconds=7200)
    with pytest.raises(BadToken, match="expired"):  # although it was verified before
        await cluster.verify(token)


@in_virtual_time
async def test_a_token_that_was_verified_is_not_worth_more_than_its_key():
    cluster = Cluster()
    token = cluster.token()
    await cluster.verify(token)
    cluster.keys = {"key-2": ec.generate_private_key(ec.SECP256R1())}
    await asyncio.sleep(10)
    await cluster.verify(cluster.token(key_id="key-2"))  # which makes us read the keys anew
    with pytest.raises(BadToken, match="does not publish"):
        await cluster.verify(token)


@in_virtual_time
async def test_a_forged_token_does_not_pass():
    cluster = Cluster()
    forged = cluster.token(key=ec.generate_private_key(ec.SECP256R1()))
    none = jwt.encode({"kubernetes.io": POD}, "", "none", headers={"kid": "key-1"})
    symmetric = cluster.token(key="x" * 64, algorithm="HS256")
    for token in (forged, none, symmetric):
        with pytest.raises(BadToken, match="does not verify"):
            await cluster.verify(token)


@pytest.mark.parametrize("token", ["", "a.b.c", "secret", "....", "é.é.é", jwt.encode({}, "x" * 32)])
def test_something_else_than_a_token_is_refused(token):
    @in_virtual_time
    async def run():
        with pytest.raises(BadToken, match="projected ServiceAccount token"):
            await Cluster().verify(token)

    run()


@in_virtual_time
async def test_a_thousand_agents_cost_one_request_and_a_rotated_key_one_more():
    cluster = Cluster()
    token = cluster.token()
    await asyncio.gather(*(cluster.verify(token) for _ in range(100)))
    assert cluster.fetches == 1
    cluster.keys["key-2"] = ec.generate_private_key(ec.SECP256R1())
    rotated = cluster.token(key_id="key-2")
    for _ in range(5):
        with pytest.raises(BadToken, match="does not publish"):
            await cluster.verify(rotated)
    await asyncio.sleep(9)
    with pytest.raises(BadToken, match="does not publish"):
        await cluster.verify(rotated)
    assert cluster.fetches == 1
    await asyncio.sleep(1)
    await asyncio.gather(*(cluster.verify(rotated) for _ in range(100)))
    assert cluster.fetches == 2


@in_virtual_time
async def test_keys_that_cannot_be_read_are_nobodys_fault():
    cluster = Cluster()
    cluster.down = True
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            await cluster.verify(cluster.token())
    assert cluster.fetches == 1
    cluster.down = False
    await asyncio.sleep(1)
    await cluster.verify(cluster.token())
