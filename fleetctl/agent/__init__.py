"""The sidecar in every pod of a gang: holds the trainer at the barrier, speaks for its pod, restarts it when told.

Standard library only; of fleetctl it imports nothing but the messages (import-linter holds this): it starts a thousand
times in every recovery, often on a few hundredths of a CPU.
"""
