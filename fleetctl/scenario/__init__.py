"""Scenario files: what is tried on a gang, and how it must end.

`load.py` reads a file and refuses it with everything that is wrong; `model.py` is what the file says then, typed and
resolved. Knows nothing of how a fault is done (the backends) or whether an expectation holds (the judge).
"""
