"""A simulated cluster in virtual time, in which the real controller, rendezvous and agents run unchanged.

Only loop, clock and transports differ from production. Nothing here decides anything about gangs.
"""
