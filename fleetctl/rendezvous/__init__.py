"""Where agents meet their controller, and the barrier it keeps.

Kept empty on purpose: the agent imports `messages` through here, and must not pay for the server.
"""
