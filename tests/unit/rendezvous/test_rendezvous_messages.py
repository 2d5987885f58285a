import json

import pytest

from fleetctl.rendezvous import messages
from fleetctl.rendezvous.messages import (
    LINE_LIMIT,
    Beat,
    BeatAck,
    Bye,
    Hardware,
    Hello,
    NotLeader,
    Ping,
    Pong,
    Promised,
    ProtocolError,
    Prove,
    Proved,
    Refused,
    Release,
    Released,
    Reset,
    TryAgain,
    Welcome,
    decode,
    encode,
)

EVERY_MESSAGE = [
    Hello("a.b.c", "life-1", 1.5, 0, None),
    Hello("a.b.c", "life-1", 1.5, 3, Promised(3, "t")),
    Beat(), Beat(0), Beat(12345), Beat(7, 1.82), Beat(7, 0.0, True), Beat(7, None, True),
    Hardware("xid-79", "GPU-3", "has fallen off the bus", 1732233600.5), Hardware("a", "", "", 0.0),
    Pong(1, "t"), Released(1), Proved("life-1"), Bye(),
    Welcome(5.0), BeatAck(), Ping(1, "t"), Release(1, "t"), Reset(2), Prove("life-1"),
    NotLeader(""), NotLeader("[fd00::1]:8443"), TryAgain("nicht so schnell – später"), Refused("no"),
]  # fmt: skip


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=repr)
def test_every_message_survives_the_wire(message):
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert repr(decode(line)) == repr(message)


def test_every_type_is_tried_above():
    assert {type(message) for message in EVERY_MESSAGE} == {*messages.FROM_AGENT, *messages.FROM_CONTROLLER}


def test_what_a_newer_peer_adds_is_ignored():
    assert decode(b'{"type":"teleport","to":"mars"}\n') is None
    assert repr(decode(b'{"type":"reset","attempt":2,"politely":true}\n')) == repr(Reset(2))


def test_a_beat_of_an_older_agent_has_no_step():
    assert repr(decode(b'{"type":"beat"}\n')) == repr(Beat(None))
    assert repr(decode(b'{"type":"beat","step":7}\n')) == repr(Beat(7, None, False))


@pytest.mark.parametrize(
    "line",
    [
        b"\n", b"hello\n", b"[]\n", b"{}\n", b'{"type":7}\n', b"\xff\xfe\n", b"[" * 9000 + b"\n",
        b'{"type":"reset"}\n', b'{"type":"reset","attempt":true}\n', b'{"type":"reset","attempt":-1}\n',
        b'{"type":"reset","attempt":1.0}\n', b'{"type":"reset","attempt":9007199254740992}\n',
        b'{"type":"welcome","beat_s":1e999}\n', b'{"type":"welcome","beat_s":NaN}\n',
        b'{"type":"welcome","beat_s":"5"}\n',
        b'{"type":"beat","step":-1}\n', b'{"type":"beat","step":1.5}\n', b'{"type":"beat","step":"7"}\n',
        b'{"type":"beat","work_s":-1}\n', b'{"type":"beat","work_s":"1"}\n', b'{"type":"beat","work_s":1e999}\n',
        b'{"type":"beat","work_s":true}\n', b'{"type":"beat","paused":1}\n', b'{"type":"beat","paused":null}\n',
        b'{"type":"hardware","code":"a","device":"","at":0}\n',
        b'{"type":"hardware","code":"a\\u0000","device":"","text":"","at":0}\n',
        b'{"type":"hardware","code":"a","device":"","text":"","at":"now"}\n',
        b'{"type":"prove"}\n', b'{"type":"proved","life_id":null}\n',
        b'{"type":"ping","attempt":1,"ticket":"\\ud800"}\n', b'{"type":"ping","attempt":1,"ticket":"a\\u0000"}\n',
        b'{"type":"hello","token":"t","life_id":"l","started_at":1,"attempt":0,"promise":[1,"t"]}\n',
        b'{"type":"hello","token":"t","life_id":"l","started_at":1,"attempt":0,"promise":{"attempt":1}}\n',
        encode(Refused("x" * LINE_LIMIT)),
    ],
    ids=lambda line: repr(line[:60]),
)  # fmt: skip
def test_a_malformed_line_is_a_protocol_error(line):
    with pytest.raises(ProtocolError):
        decode(line)


def test_a_promise_is_an_object_on_the_wire():
    line = json.loads(encode(Hello("t", "l", 1.0, 0, Promised(2, "x"))))
    assert line["promise"] == {"attempt": 2, "ticket": "x"}
