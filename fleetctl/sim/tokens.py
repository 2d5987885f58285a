"""The cluster's key, and the ServiceAccount tokens it signs for agents: real ones, verified by production code."""

from collections.abc import Callable

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from fleetctl.sim.journal import Key

ISSUER = "https://kubernetes.default.svc"
LASTS_S = 3600
RENEWED_AFTER_S = 2400


class Tokens:
    """`unix_time` is the API server's clock."""

    def __init__(self, unix_time: Callable[[], float]) -> None:
        self._unix_time = unix_time
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._tokens: dict[str, tuple[str, float]] = {}

    def token(self, pod: Key, uid: str) -> str:
        """What the kubelet keeps in the pod's projected volume."""
        now = self._unix_time()
        known = self._tokens.get(uid)
        if known and now < known[1] + RENEWED_AFTER_S:
            return known[0]
        claims = {
            "iss": ISSUER,
            "aud": ["fleetctl"],
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + LASTS_S,
            "kubernetes.io": {"namespace": pod[0], "pod": {"name": pod[1], "uid": uid}},
        }
        token = jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": "sim"})
        self._tokens[uid] = token, now
        return token

    def published(self) -> dict[str, bytes]:
        """What the API server answers at its paths for token keys."""
        key = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True) | {"kid": "sim", "use": "sig", "alg": "ES256"}
        return {
            "/openid/v1/jwks": msgspec.json.encode({"keys": [key]}),
            "/.well-known/openid-configuration": msgspec.json.encode({"issuer": ISSUER}),
        }
