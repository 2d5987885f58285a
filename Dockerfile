# fleetctl: controller and agent. The build itself needs no network; the wheels are collected before, for the Python of BASE:
#
#   python -m pip wheel --no-deps -w build/wheels .
#   python -m pip download -d build/wheels/locked -r requirements.lock \
#     --only-binary :all: --python-version 3.13 --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64
#   docker build -t fleetctl .
#
# `make image` does just that. The cluster tests (tests/kind/images) do it with a BASE of their own, made without a registry:
# any image that has python3 (3.11 or newer), pip and /bin/sh serves.
ARG BASE=python:3.13-slim

FROM ${BASE} AS dependencies
COPY build/wheels/locked /wheels
RUN python3 -m pip install --no-index --no-deps --no-compile --target /opt/dependencies /wheels/*.whl \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/dependencies

FROM ${BASE} AS fleetctl
COPY build/wheels/fleetctl-*.whl /wheels/
RUN python3 -m pip install --no-index --no-deps --no-compile --target /opt/fleetctl /wheels/*.whl \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/fleetctl

FROM ${BASE}
# The agent is the first thing a pod waits for, and on its read-only root nothing can be compiled later.
RUN python3 -m compileall -q "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
ENV PATH=/opt/fleetctl/bin:$PATH PYTHONPATH=/opt/fleetctl:/opt/dependencies PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["fleetctl"]
# Two layers: a node that has the dependencies needs only the small one for the next version.
COPY --from=dependencies /opt/dependencies /opt/dependencies
COPY --from=fleetctl /opt/fleetctl /opt/fleetctl
