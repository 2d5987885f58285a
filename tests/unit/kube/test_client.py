"""Requests, answers and errors of the client."""

import asyncio
import socket
from typing import Any

import pytest

from fleetctl.errors import GiveUp, Retry
from fleetctl.kube import connect as connecting
from fleetctl.kube import errors
from fleetctl.kube.auth import Endpoint
from fleetctl.kube.client import KubeClient, WatchEvent
from fleetctl.kube.connect import connect
from fleetctl.kube.objects import CONFIG_MAPS, NODES, PODS, Raw, Resource

from .conftest import Longest
from .fake_api import (
    CUT,
    HANG,
    FakeApi,
    added,
    bookmark,
    busy,
    deleted,
    error_event,
    hang_up,
    listing,
    load_balancer_page,
    modified,
    node,
    ok,
    refusal,
    silence,
    stream,
    text,
)

NODE_A = "GET /api/v1/nodes/a"
LIST, WATCH = "GET /api/v1/nodes", "WATCH /api/v1/nodes"
POD = "/api/v1/namespaces/ml/pods/llm-0"
CREATE_POD = "POST /api/v1/namespaces/ml/pods"


def now() -> float:
    return asyncio.get_running_loop().time()


async def watched(client: KubeClient, **options: Any) -> list[WatchEvent[Any]]:
    return [event async for event in client.watch(NODES, resource_version="10", **options)]


# --- reading ---


async def test_an_object_decodes_into_its_struct_and_unknown_fields_are_skipped(api: FakeApi, client: KubeClient):
    api.says(
        f"GET {POD}",
        ok(
            {
                "metadata": {"name": "llm-0", "namespace": "ml", "uid": "u", "managedFields": [{"x": 1}]},
                "spec": {"nodeName": "node-3", "initContainers": [{"name": "agent", "restartPolicy": "Always"}]},
                "status": {
                    "podIP": "10.0.0.7",
                    "containerStatuses": [
                        {
                            "name": "trainer",
                            "containerID": "containerd://1",
                            "restartCount": 2,
                            "state": {"running": {"startedAt": "2026-11-21T06:13:47Z"}},
                            "lastState": {"terminated": {"exitCode": 139, "signal": 11, "startedAt": None}},
                        }
                    ],
                },
            }
        ),
    )
    pod = await client.get(PODS, "ml", "llm-0")
    trainer = pod.status.container_statuses[0]
    assert (pod.metadata.uid, pod.spec.node_name, pod.status.pod_ip) == ("u", "node-3", "10.0.0.7")
    assert pod.spec.init_containers[0].restart_policy == "Always"
    assert trainer.last_state.terminated is not None
    assert (trainer.container_id, trainer.last_state.terminated.exit_code) == ("containerd://1", 139)


async def test_an_object_without_a_struct_keeps_its_body_and_can_be_written_back(api: FakeApi, client: KubeClient):
    path = "/api/v1/namespaces/ml/configmaps/ca"
    stored = {"metadata": {"name": "ca", "namespace": "ml", "resourceVersion": "3"}, "data": {"ca.crt": "PEM"}}
    api.says(f"GET {path}", ok(stored))
    api.says(f"PUT {path}", ok(stored))
    found = await client.get(CONFIG_MAPS, "ml", "ca")
    assert isinstance(found, Raw)
    assert found.metadata.resource_version == "3"
    await client.replace(CONFIG_MAPS, found)
    assert api.last(f"PUT {path}").body == {"apiVersion": "v1", "kind": "ConfigMap", **stored}


async def test_a_list_reads_all_pages_of_one_moment(api: FakeApi, client: KubeClient):
    api.says(LIST, listing(node("a"), more="page two + more"), listing(node("b"), version="10"))
    found = await client.list(NODES, label_selector="pool in (gpu, cpu)")
    assert [item.metadata.name for item in found.items] == ["a", "b"]
    assert found.resource_version == "10"
    first, second = (seen.query for seen in api.asked(LIST))
    assert first == {"limit": "500", "labelSelector": "pool in (gpu, cpu)"}
    assert second == {**first, "continue": "page two + more"}


async def test_a_list_whose_pages_expired_starts_over(api: FakeApi, client: KubeClient):
    api.says(
        LIST,
        listing(node("a"), more="two"),
        refusal(410, "Expired"),
        listing(node("a"), more="two"),
        listing(node("b"), version="20"),
    )
    found = await client.list(NODES)
    assert ([item.metadata.name for item in found.items], found.resource_version) == (["a", "b"], "20")


async def test_a_list_that_expires_again_and_again_is_given_up(api: FakeApi, client: KubeClient):
    api.says(LIST, refusal(410, "Expired"))
    with pytest.raises(errors.Gone):
        await client.list(NODES)
    assert len(api.asked(LIST)) == 4


async def test_an_empty_list_may_say_null(api: FakeApi, client: KubeClient):
    api.says(LIST, ok({"metadata": {"resourceVersion": "1"}, "items": None}))
    assert (await client.list(NODES)).items == []


async def test_other_tasks_run_while_a_big_list_is_decoded(api: FakeApi, client: KubeClient):
    api.says(LIST, listing(*(node(f"n{i}") for i in range(2000))))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def never_suspending(*_: Any, **__: Any) -> bytes:
        return body

    body = await client.raw_get("/api/v1/nodes")
    client._call = never_suspending  # type: ignore[method-assign]
    counter = asyncio.create_task(count_turns())
    await client.list(NODES)
    counter.cancel()
    assert turns >= 3


async def test_a_raw_get_returns_the_bytes_whatever_their_type(api: FakeApi, client: KubeClient):
    api.says("GET /openid/v1/jwks", text(b'{"keys":[]}', "application/jwk-set+json"))
    assert await client.raw_get("/openid/v1/jwks") == b'{"keys":[]}'


async def test_the_server_learns_who_is_asking(api: FakeApi, client: KubeClient):
    api.says(LIST, listing())
    await client.list(NODES)
    agent = api.last(LIST).headers["User-Agent"]
    assert agent.startswith("fleetctl/")
    assert agent.endswith(") test")


# --- watching ---


async def test_a_watch_yields_typed_events_until_the_server_ends_it(api: FakeApi, client: KubeClient):
    api.says(WATCH, stream(added(node("a", "11")), modified(node("a", "12")), deleted(node("a", "13")), bookmark("19")))
    events = await watched(client, timeout_seconds=321)
    assert [(event.type, event.resource_version) for event in events] == [
        ("ADDED", "11"),
        ("MODIFIED", "12"),
        ("DELETED", "13"),
        ("BOOKMARK", "19"),
    ]
    assert [event.object and event.object.metadata.name for event in events] == ["a", "a", "a", None]
    query = api.last(WATCH).query
    assert query == {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "10", "timeoutSeconds": "321"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(stream(error_event(410, "Expired")), errors.Gone, id="an ERROR event 410"),
        pytest.param(stream(error_event(0, "Expired")), errors.Gone, id="an ERROR event that only says Expired"),
        pytest.param(refusal(410, "Expired"), errors.Gone, id="410 as status"),
        pytest.param(
            refusal(504, "Timeout", causes=[{"reason": "ResourceVersionTooLarge"}]), errors.Gone, id="a lost future"
        ),
        pytest.param(stream(error_event(500, "InternalError")), errors.Unavailable, id="another ERROR event"),
        pytest.param(stream({"type": "ERROR", "object": {}}), errors.Unavailable, id="an ERROR event without Status"),
        pytest.param(load_balancer_page(), errors.Unavailable, id="503 with HTML"),
        pytest.param(load_balancer_page(200), errors.Unavailable, id="200 with HTML"),
        pytest.param(stream(b"not json"), errors.Unavailable, id="a line that is not JSON"),
        pytest.param(stream(b"[1]"), errors.Unavailable, id="a line that is not an object"),
        pytest.param(stream(b'{"type":"ADDED"}'), errors.Unavailable, id="a line without object"),
        pytest.param(stream({"type": "NEWS", "object": {}}), errors.Unavailable, id="an unknown type"),
        pytest.param(stream(b"x" * 5_000_000), errors.Unavailable, id="an endless line"),
        pytest.param(stream(then=CUT), errors.Unavailable, id="a cut connection"),
        pytest.param(stream(then=HANG), errors.Unavailable, id="a server that went silent"),
        pytest.param(silence, errors.Unavailable, id="a server that never answers"),
        pytest.param(refusal(401, "Unauthorized"), errors.Unauthorized, id="401"),
        pytest.param(busy(retry_after=3), errors.Throttled, id="429"),
    ],
)
async def test_a_watch_that_goes_wrong_ends_in_our_own_error(api: FakeApi, client: KubeClient, answer, expected):
    api.says(WATCH, answer)
    with pytest.raises(errors.ApiError) as raised:
        await watched(client)
    assert type(raised.value) is expected
    assert "hunter2" not in str(raised.value)
    assert len(api.asked(WATCH)) == 1


async def test_events_before_a_cut_are_delivered(api: FakeApi, client: KubeClient):
    api.says(WATCH, stream(added(node("a", "11")), then=CUT, after=1.0))
    events = client.watch(NODES, resource_version="10")
    assert (await anext(events)).resource_version == "11"
    with pytest.raises(errors.Unavailable):
        await anext(events)


async def test_silence_on_a_watch_ends_it_after_the_agreed_time(api: FakeApi, client: KubeClient):
    api.says(WATCH, stream(bookmark("11"), then=HANG))
    began = now()
    with pytest.raises(errors.Unavailable, match="silent"):
        await watched(client, silence=130)
    assert 130 <= now() - began < 132


async def test_an_object_that_does_not_fit_its_struct_is_named_not_quoted(api: FakeApi, client: KubeClient):
    api.says(NODE_A, ok({"metadata": {"name": {"secret": "hunter2"}}}))
    with pytest.raises(errors.Unavailable, match=r"not a Node.*\$\.metadata\.name") as raised:
        await client.get(NODES, None, "a")
    assert "hunter2" not in str(raised.value)


# --- writing ---


async def test_a_create_can_be_a_strict_dry_run(api: FakeApi, client: KubeClient):
    api.says(CREATE_POD, ok({"metadata": {"name": "llm-0"}}, status=201))
    await client.create(PODS, "ml", {"metadata": {"name": "llm-0"}}, dry_run=True, strict=True)
    await client.create(PODS, "ml", {"metadata": {"name": "llm-0"}})
    strict, plain = api.asked(CREATE_POD)
    assert strict.query == {"fieldManager": "fleetctl", "dryRun": "All", "fieldValidation": "Strict"}
    assert plain.query == {"fieldManager": "fleetctl"}
    assert plain.body == {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "llm-0"}}


async def test_a_status_is_replaced_by_compare_and_swap(api: FakeApi, client: KubeClient):
    gangs = Resource(group="fleetctl.dev", version="v1alpha1", plural="gangs", kind="Gang", type=Raw)
    path = "/apis/fleetctl.dev/v1alpha1/namespaces/ml/gangs/llm/status"
    gang: dict[str, Any] = {"metadata": {"name": "llm", "namespace": "ml", "resourceVersion": "41"}, "status": {}}
    api.says(f"PUT {path}", refusal(409, "Conflict", "the object has been modified"))
    with pytest.raises(errors.Conflict):
        await client.replace_status(gangs, gang)
    assert api.last(f"PUT {path}").body["metadata"]["resourceVersion"] == "41"
    assert len(api.asked(f"PUT {path}")) == 1


async def test_a_replace_without_a_version_is_not_even_sent(api: FakeApi, client: KubeClient):
    with pytest.raises(ValueError, match="resourceVersion"):
        await client.replace(PODS, {"metadata": {"name": "llm-0", "namespace": "ml"}})
    assert api.seen == []


@pytest.mark.parametrize(("namespace", "name"), [("ml", ""), ("ml", ".."), ("", "llm-0"), (None, "llm-0")])
async def test_a_delete_that_would_address_a_collection_is_not_even_sent(api: FakeApi, client, namespace, name):
    with pytest.raises(ValueError, match=r"name"):
        await client.delete(PODS, namespace, name)
    assert api.seen == []


async def test_a_patch_says_what_kind_it_is(api: FakeApi, client: KubeClient):
    api.says("PATCH /api/v1/nodes/a", ok(node("a")))
    await client.patch(NODES, None, "a", {"metadata": {"annotations": {"x": None}}})
    await client.patch(NODES, None, "a", {"metadata": {}}, kind="apply")
    merge, apply = api.asked("PATCH /api/v1/nodes/a")
    assert merge.headers["Content-Type"] == "application/merge-patch+json"
    assert merge.body == {"metadata": {"annotations": {"x": None}}}
    assert (apply.headers["Content-Type"], apply.query["force"]) == ("application/apply-patch+yaml", "true")


async def test_a_delete_sends_its_preconditions(api: FakeApi, client: KubeClient):
    api.says(f"DELETE {POD}", ok({"kind": "Pod"}))
    assert await client.delete(PODS, "ml", "llm-0", uid="u-1", resource_version="7", grace_seconds=0)
    assert api.last(f"DELETE {POD}").body == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": "u-1", "resourceVersion": "7"},
        "gracePeriodSeconds": 0,
    }


async def test_a_delete_without_conditions_sends_none(api: FakeApi, client: KubeClient):
    api.says(f"DELETE {POD}", ok({"kind": "Pod"}))
    await client.delete(PODS, "ml", "llm-0")
    assert api.last(f"DELETE {POD}").body == {"apiVersion": "v1", "kind": "DeleteOptions"}


async def test_deleting_what_is_not_there_is_success_and_says_so(api: FakeApi, client: KubeClient):
    api.says(f"DELETE {POD}", refusal(404, "NotFound"))
    assert not await client.delete(PODS, "ml", "llm-0", uid="u-1")


async def test_deleting_the_successor_of_the_pod_we_meant_is_a_conflict(api: FakeApi, client: KubeClient):
    api.says(f"DELETE {POD}", refusal(409, "Conflict", "the UID in the precondition does not match"))
    with pytest.raises(errors.Conflict):
        await client.delete(PODS, "ml", "llm-0", uid="u-1")


# --- errors ---

NO_ROLE = 'pods is forbidden: User "system:serviceaccount:x:y" cannot create resource "pods" in API group ""'
NO_QUOTA = 'pods "llm-0" is forbidden: exceeded quota: gpus'


@pytest.mark.parametrize(
    ("answer", "expected", "then"),
    [
        (refusal(409, "Conflict"), errors.Conflict, Retry),
        (refusal(409, "AlreadyExists"), errors.AlreadyExists, GiveUp),
        (refusal(400, "BadRequest"), errors.Refused, GiveUp),
        (refusal(422, "Invalid"), errors.Refused, GiveUp),
        (refusal(403, "Forbidden", NO_QUOTA), errors.Refused, GiveUp),
        (refusal(403, "Forbidden", NO_ROLE), errors.Forbidden, GiveUp),
        (refusal(401, "Unauthorized"), errors.Unauthorized, GiveUp),
        (refusal(404, "NotFound"), errors.NotFound, GiveUp),
        (refusal(500, "InternalError"), errors.Unavailable, Retry),
        (load_balancer_page(502), errors.Unavailable, Retry),
        (load_balancer_page(200), errors.Unavailable, Retry),
        (load_balancer_page(302), errors.Unavailable, Retry),
        (hang_up, errors.Unavailable, Retry),
    ],
)
async def test_every_answer_has_its_error_and_its_consequence(api: FakeApi, client, answer, expected, then):
    api.says(CREATE_POD, answer)
    with pytest.raises(errors.ApiError) as raised:
        await client.create(PODS, "ml", {})
    assert type(raised.value) is expected
    assert isinstance(raised.value, then)
    assert "hunter2" not in str(raised.value)
    assert str(raised.value).startswith("POST /api/v1/namespaces/ml/pods: ")


async def test_a_refused_object_comes_with_the_servers_words_and_causes(api: FakeApi, client: KubeClient):
    causes = [{"reason": "FieldValueInvalid", "message": "must be positive", "field": "spec.size"}]
    api.says(CREATE_POD, refusal(422, "Invalid", "Pod is invalid: " + "x" * 5000, causes=causes))
    with pytest.raises(errors.Refused) as raised:
        await client.create(PODS, "ml", {})
    assert raised.value.causes == (("spec.size", "FieldValueInvalid", "must be positive"),)
    assert raised.value.message.startswith("Pod is invalid: ")
    assert len(raised.value.message) == errors.LONGEST_QUOTE


# --- trying again ---


async def test_a_throttled_read_waits_as_long_as_the_server_asks(api: FakeApi, client: KubeClient):
    api.says(NODE_A, busy(retry_after=7), ok(node("a")))
    await client.get(NODES, None, "a")
    assert api.pauses(NODE_A) == pytest.approx([7.2])


async def test_a_status_may_carry_the_wait_as_well(api: FakeApi, client: KubeClient):
    api.says(NODE_A, refusal(429, "TooManyRequests", retryAfterSeconds=5), ok(node("a")))
    await client.get(NODES, None, "a")
    assert api.pauses(NODE_A) == pytest.approx([5.2])


async def test_a_read_is_repeated_with_growing_pauses_until_time_is_up(api: FakeApi, client: KubeClient):
    api.says(NODE_A, load_balancer_page())
    with pytest.raises(errors.Unavailable, match="HTTP 503 with 42 bytes of text/html"):
        await client.get(NODES, None, "a", timeout=10)
    assert api.pauses(NODE_A) == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2])


async def test_a_wait_beyond_the_deadline_is_not_begun(api: FakeApi, client: KubeClient):
    api.says(NODE_A, busy(retry_after=60))
    began = now()
    with pytest.raises(errors.Throttled) as raised:
        await client.get(NODES, None, "a")
    assert (raised.value.retry_after, now() - began) == (60, pytest.approx(0))


async def test_a_server_that_hangs_is_unavailable_after_the_timeout(api: FakeApi, client: KubeClient):
    api.says(NODE_A, silence)
    began = now()
    with pytest.raises(errors.Unavailable, match="no answer within 4 s"):
        await client.get(NODES, None, "a", timeout=4)
    assert now() - began == pytest.approx(4)


@pytest.mark.parametrize("not_done", [busy(retry_after=1), busy(retry_after=1, code=503)])
async def test_a_write_that_was_certainly_not_done_is_repeated(api: FakeApi, client: KubeClient, not_done):
    api.says(CREATE_POD, not_done, ok(node("llm-0")))
    await client.create(PODS, "ml", {"metadata": {"name": "llm-0"}})
    assert len(api.asked(CREATE_POD)) == 2


@pytest.mark.parametrize("lost", [hang_up, load_balancer_page(503), refusal(504, "Timeout"), load_balancer_page(200)])
@pytest.mark.parametrize("warm", [False, True], ids=["new connection", "reused connection"])
async def test_a_write_whose_answer_was_lost_is_not_repeated(api: FakeApi, client: KubeClient, lost, warm):
    api.says(f"DELETE {POD}", lost)
    if warm:
        api.says(LIST, listing())
        await client.list(NODES)
    with pytest.raises(errors.Unavailable) as raised:
        await client.delete(PODS, "ml", "llm-0", uid="u")
    assert len(api.asked(f"DELETE {POD}")) == 1
    assert not raised.value.unsent


async def test_a_write_to_a_server_that_is_starting_gets_through_later():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = "http://{}:{}".format(*reserved.getsockname())
    async with connect(Endpoint(server=url), "test", rng=Longest()) as client:
        began = now()
        with pytest.raises(errors.Unavailable, match="no connection") as raised:
            await client.create(PODS, "ml", {}, timeout=5)
        assert raised.value.unsent
        assert now() - began == pytest.approx(0.2 + 0.4 + 0.8 + 1.6)


# --- credentials ---


class Tokens:
    """Every fresh token has the next number."""

    def __init__(self) -> None:
        self.number = 1

    async def authorization(self, *, fresh: bool) -> str | None:
        self.number += fresh
        return f"Bearer {self.number}"


async def test_an_expired_token_is_renewed_once_for_all_who_were_turned_away(api: FakeApi):
    async def only_the_second_token(request):
        good = request.headers["Authorization"] == "Bearer 2"
        return await (ok(node("a")) if good else refusal(401, "Unauthorized"))(request)

    api.says(NODE_A, only_the_second_token)
    tokens = Tokens()
    async with connect(Endpoint(server=api.url, credentials=tokens), "test") as client:
        await asyncio.gather(*(client.get(NODES, None, "a") for _ in range(10)))
    assert tokens.number == 2
    assert len(api.asked(NODE_A)) == 20


async def test_a_token_that_stays_refused_is_tried_twice_and_no_more(api: FakeApi):
    api.says(NODE_A, refusal(401, "Unauthorized"))
    async with connect(Endpoint(server=api.url, credentials=Tokens()), "test") as client:
        with pytest.raises(errors.Unauthorized):
            await client.get(NODES, None, "a")
    assert [seen.headers["Authorization"] for seen in api.asked(NODE_A)] == ["Bearer 1", "Bearer 2"]


# --- sockets ---


def test_a_socket_notices_a_dead_peer_within_half_a_minute():
    address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))
    with connecting.watchful_socket(address) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        options = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        values = [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, option)) for option in options]
    assert values == [15, 5, 3, 30_000]


def test_a_connection_that_closes_between_two_reads_is_an_end_like_any_other() -> None:
    with pytest.raises(errors.Unavailable, match="the connection was closed"), errors.only_ours("GET /x (watch)"):
        raise RuntimeError("Connection closed.")  # aiohttp's StreamReader
    with pytest.raises(RuntimeError, match="a mistake"), errors.only_ours("GET /x (watch)"):
        raise RuntimeError("a mistake")


async def test_requests_that_change_something_are_counted_as_the_audit_log_has_them(api: FakeApi, client: KubeClient):
    api.says(NODE_A, ok(node("a")))
    api.says("PATCH /api/v1/nodes/a", ok(node("a")))
    api.says("PATCH /api/v1/nodes/a/status", ok(node("a")))
    api.says("PUT /api/v1/nodes/a/status", ok(node("a")))
    api.says(CREATE_POD, busy(retry_after=1), ok(node("llm-0")))
    api.says(f"DELETE {POD}", ok({}))
    found = await client.get(NODES, None, "a")
    await client.patch(NODES, None, "a", {})
    await client.patch(NODES, None, "a", {}, subresource="status")
    await client.replace_status(NODES, found)
    await client.create(PODS, "ml", {"metadata": {"name": "llm-0"}})
    await client.delete(PODS, "ml", "llm-0")
    assert client.writes == {
        ("patch", "nodes"): 1,
        ("patch", "nodes/status"): 1,
        ("update", "nodes/status"): 1,
        ("create", "pods"): 2,  # the server counts a refused one too
        ("delete", "pods"): 1,
    }
