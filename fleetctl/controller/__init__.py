"""The loop: watch → snapshot → plan → execute. IO at the rim, thin; what should happen is decided in `gang/`."""
