"""The pure core: what a gang is, and what should happen next.

No event loop, no network, no clock, no chance, no log (import-linter holds this): everything runs in a REPL.
"""
