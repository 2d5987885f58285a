import asyncio
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from fleetctl.rendezvous.certificates import Authority, BadAuthority, load_leaf, server_context

NOW = datetime(2026, 11, 21, tzinfo=UTC)
NAMES = ["fleetctl.fleetctl-system.svc", "fleetctl"]


def verifies(leaf, bundle, at):
    policy = PolicyBuilder().store(Store(x509.load_pem_x509_certificates(bundle))).time(at)
    policy.build_server_verifier(x509.DNSName(NAMES[0])).verify(x509.load_pem_x509_certificate(leaf.certificate), [])


def days(number):
    return timedelta(days=number)


def test_an_authority_survives_its_secret():
    authority = Authority.create(NOW).rotated(NOW + days(600))
    again = Authority.load(authority.data)
    assert again.data == authority.data
    assert again.bundle == authority.bundle
    assert set(authority.data) == {"ca.crt", "ca.key"}


def test_a_leaf_is_for_ninety_days():
    authority = Authority.create(NOW)
    leaf = authority.issue(NAMES, NOW)
    assert leaf.not_after == NOW + days(90)
    verifies(leaf, authority.bundle, NOW)


@pytest.mark.parametrize("address", ["10.0.0.7", "fd00::7"])
def test_a_controller_outside_the_cluster_may_be_known_by_its_address(address):
    authority = Authority.create(NOW)
    leaf = x509.load_pem_x509_certificate(authority.issue([address], NOW).certificate)
    policy = PolicyBuilder().store(Store(x509.load_pem_x509_certificates(authority.bundle))).time(NOW)
    policy.build_server_verifier(x509.IPAddress(ipaddress.ip_address(address))).verify(leaf, [])


@pytest.mark.parametrize("damage", [{"ca.crt": b""}, {"ca.key": b""}, {"ca.crt": b"x"}, {"ca.key": b"x"}])
def test_a_damaged_secret_says_what_to_do(damage):
    with pytest.raises(BadAuthority, match="delete it"):
        Authority.load({**Authority.create(NOW).data, **damage})


def test_nothing_rotates_before_its_time():
    authority = Authority.create(NOW)
    assert authority.rotated(NOW + days(549)) is authority
    assert len(authority.rotated(NOW + days(551)).roots) == 2


def test_an_agent_with_a_bundle_140_days_old_never_meets_an_unknown_signer():
    """Ten years, looked at every week; the agent's bundle is always 140 days old."""
    authority = Authority.create(NOW)
    bundles = [(NOW - days(140), authority.bundle)]
    for week in range(520):
        now = NOW + days(7 * week)
        authority = authority.rotated(now)
        bundles.append((now, authority.bundle))
        old = max(entry for entry in bundles if entry[0] <= now - days(140)) if week > 20 else bundles[0]
        leaf = authority.issue(NAMES, now)
        verifies(leaf, old[1], now)
        verifies(leaf, authority.bundle, leaf.not_after)
        assert leaf.not_after - now > days(30)
        assert len(authority.roots) <= 2


def test_after_a_long_sleep_it_starts_anew():
    authority = Authority.create(NOW).rotated(NOW + days(5000))
    assert len(authority.roots) == 1
    verifies(authority.issue(NAMES, NOW + days(5000)), authority.bundle, NOW + days(5000))


async def test_openssl_agrees_and_a_listening_context_takes_a_new_leaf(tmp_path):
    now = datetime.now(UTC)
    authority = Authority.create(now - days(560)).rotated(now)
    first, second = authority.issue(NAMES, now), authority.issue(NAMES, now)
    context = server_context(first)
    assert context.num_tickets == 0
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.verify_flags |= ssl.VERIFY_X509_STRICT
    trust.load_verify_locations(cadata=authority.bundle.decode())
    for leaf in (first, second):
        load_leaf(context, leaf)
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=trust, server_hostname=NAMES[0]
        )
        assert writer.get_extra_info("ssl_object").getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(
            leaf.certificate.decode()
        )
        await reader.read()
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()
