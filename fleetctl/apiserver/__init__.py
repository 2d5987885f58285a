"""Scenarios on a real API server: the simulator's kubelets, scheduler and nodes in real time, the controllers as
programs of their own."""
