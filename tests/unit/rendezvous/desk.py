"""A rendezvous whose controller is the test."""

import asyncio

from memory_streams import Peer, connected_pair, settle

from fleetctl.errors import Retry
from fleetctl.gang.state import Life
from fleetctl.rendezvous.identity import Admission, BadToken, PodIdentity
from fleetctl.rendezvous.messages import Hello, Promised, Welcome
from fleetctl.rendezvous.server import Rendezvous


class Desk:
    """Tokens are `uid`, `bad`, `unavailable`; or `uid after N` for one that takes N seconds to verify."""

    def __init__(self, **options):
        self.leads = True
        self.lapsed = False
        self.address = "10.0.0.9:8443"
        self.admission = Admission.MEMBER
        self.changes: list[str] = []
        self.rendezvous = Rendezvous(
            authenticate=self.authenticate,
            admit=self.admit,
            leading=lambda: self.leads,
            attending=lambda: self.leads or self.lapsed,
            leader_address=lambda: self.address,
            on_change=lambda identity: self.changes.append(identity.uid),
            **options,
        )

    async def authenticate(self, token):
        token, _, delay = token.partition(" after ")
        await asyncio.sleep(float(delay or 0))
        if token == "bad":
            raise BadToken("the token is\nbad")
        if token == "unavailable":
            raise Retry("keys cannot be read")
        return PodIdentity("team-a", f"pod-{token}", token)

    async def admit(self, identity):
        return self.admission

    def connect(self):
        ours, theirs = connected_pair()
        asyncio.get_running_loop().create_task(self.rendezvous.serve(*theirs)).add_done_callback(
            lambda task: task.cancelled() or task.result()
        )
        return ours

    def stranger(self):
        return Peer(self.connect())

    async def agent(self, uid="u0", life="life-1", attempt=0, promise=None):
        peer = Peer(self.connect())
        peer.say(hello(uid, life, attempt, promise))
        await peer.hears(Welcome(5.0))
        await settle()
        return peer

    def life(self, uid="u0") -> Life:
        life = self.rendezvous.life(uid)
        assert life is not None
        return life


def hello(token="u0", life="life-1", attempt=0, promise=None):
    return Hello(token, life, 7.0, attempt, Promised(*promise) if promise else None)
