"""Scenarios on a real kind cluster: the same files, faults by Docker and kubectl, judged by what really happened."""
