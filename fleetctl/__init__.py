"""fleetctl: brings a Kubernetes training gang back in seconds.

Kept empty on purpose: the agent starts in every pod of a gang, and whatever is imported here costs it memory and time.
"""
