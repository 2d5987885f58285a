"""The rendezvous' own certificate authority: agents trust it and nothing else.

Pure functions of `now`; where the authority is stored (a Secret), how agents get the bundle (a ConfigMap) and when to
rotate are the controller's business.

Rotation without a gap: a new authority enters the bundle half a year before the newest ends, and leaves are signed by
the oldest that can still carry one. An agent that mounted the bundle months ago therefore still knows the signer.
"""

import ipaddress
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleetctl.errors import GiveUp

AUTHORITY_LIFE = timedelta(days=730)
ADD_NEXT_BEFORE = timedelta(days=180)
SIGN_UNTIL = timedelta(days=30)
LEAF_LIFE = timedelta(days=90)
_BACKDATE = timedelta(hours=1)  # nodes' clocks are not ours
_CERTIFICATES, _KEYS = "ca.crt", "ca.key"
_PEM_END = b"-----END PRIVATE KEY-----\n"


class BadAuthority(GiveUp):
    """The stored authority cannot be read."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A server's certificate and key, PEM."""

    certificate: bytes
    key: bytes
    not_after: datetime


@dataclass(frozen=True, slots=True)
class _Root:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def remaining(self, now: datetime) -> timedelta:
        return self.certificate.not_valid_after_utc - now


@dataclass(frozen=True, slots=True)
class Authority:
    """All authorities whose leaves agents may meet, newest first."""

    roots: tuple[_Root, ...]

    @classmethod
    def create(cls, now: datetime) -> "Authority":
        return cls((_new_root(now),))

    @classmethod
    def load(cls, data: Mapping[str, bytes]) -> "Authority":
        """From a Secret's data."""
        try:
            certificates = x509.load_pem_x509_certificates(data[_CERTIFICATES])
            blocks = [block + _PEM_END for block in data[_KEYS].split(_PEM_END) if block.strip()]
            keys = [load_pem_private_key(block, None) for block in blocks]
        except (KeyError, ValueError) as error:
            raise BadAuthority(
                f"the authority's Secret cannot be read ({error}): delete it to get a new one"
            ) from error
        roots = []
        for certificate in certificates:
            mine = [key for key in keys if key.public_key() == certificate.public_key()]
            if not mine or not isinstance(mine[0], ec.EllipticCurvePrivateKey):
                raise BadAuthority(
                    "the authority's Secret has a certificate without its key: delete it to get a new one"
                )
            roots.append(_Root(certificate, mine[0]))
        return cls(tuple(sorted(roots, key=lambda root: root.certificate.not_valid_after_utc, reverse=True)))

    @property
    def data(self) -> dict[str, bytes]:
        """For a Secret."""
        return {_CERTIFICATES: self.bundle, _KEYS: b"".join(_key_pem(root.key) for root in self.roots)}

    @property
    def bundle(self) -> bytes:
        """What agents trust."""
        return b"".join(root.certificate.public_bytes(Encoding.PEM) for root in self.roots)

    def rotated(self, now: datetime) -> "Authority":
        """What it should be now; itself if nothing is due."""
        alive = tuple(root for root in self.roots if root.remaining(now) > timedelta(0))
        if not alive or alive[0].remaining(now) < ADD_NEXT_BEFORE:
            alive = (_new_root(now), *alive)
        return self if alive == self.roots else Authority(alive)

    def issue(self, server_names: Sequence[str], now: datetime) -> Leaf:
        able = [root for root in self.roots if root.remaining(now) > SIGN_UNTIL]
        root = able[-1] if able else self.roots[0]
        key = ec.generate_private_key(ec.SECP256R1())
        not_after = min(now + LEAF_LIFE, root.certificate.not_valid_after_utc)
        builder = (
            _builder(server_names[0], root.certificate.subject, key, root.key, now, not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_name(name) for name in server_names]), critical=False)
        )
        certificate = builder.sign(root.key, hashes.SHA256())
        return Leaf(certificate.public_bytes(Encoding.PEM), _key_pem(key), not_after)


def server_context(leaf: Leaf) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = 0  # agents never resume, and each ticket costs the handshake a write
    load_leaf(context, leaf)
    return context


def load_leaf(context: ssl.SSLContext, leaf: Leaf) -> None:
    """Serve this leaf from now on; a listening context may be given a new one."""
    with tempfile.NamedTemporaryFile() as file:  # ssl reads keys from files only; this one is ours alone (mode 0600)
        file.write(leaf.key + leaf.certificate)
        file.flush()
        context.load_cert_chain(file.name)


def _new_root(now: datetime) -> _Root:
    key = ec.generate_private_key(ec.SECP256R1())
    # Each has its own name: a verifier that finds two issuers of one name may try only the first.
    name = f"fleetctl rendezvous {now:%Y-%m-%d} {x509.random_serial_number():x}"[:64]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(name, subject, key, key, now, now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True), critical=True)
    )
    return _Root(builder.sign(key, hashes.SHA256()), key)


def _builder(
    name: str,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    now: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )


def _name(name: str) -> x509.GeneralName:
    """A controller outside the cluster may be reached by its address."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
