# shellcheck shell=bash disable=SC2034
# Source me (bash): points kubectl, kind and docker at the test cluster. ./enter does it for one command.
# Without a Docker engine of the user's own the cluster lives in a network namespace ($FLEETCTL_KIND_NETNS): docker works
# from outside, the API server answers only inside.
if [ "$(id -u)" = 0 ]; then
  FLEETCTL_KIND_RUN=/run/fleetctl-kind # short: it holds sockets
else
  FLEETCTL_KIND_RUN=${XDG_RUNTIME_DIR:-/tmp}/fleetctl-kind
fi
export FLEETCTL_KIND_CLUSTER=fleetctl KIND_CLUSTER_NAME=fleetctl
export KUBECONFIG=$FLEETCTL_KIND_RUN/kubeconfig
export FLEETCTL_KIND_AUDIT_LOG=$FLEETCTL_KIND_RUN/audit/audit.log
export FLEETCTL_KIND_RECORDS=$FLEETCTL_KIND_RUN/records
FLEETCTL_KIND_NETNS=
if [ -d "$FLEETCTL_KIND_RUN/engine" ]; then
  export DOCKER_HOST=unix://$FLEETCTL_KIND_RUN/engine/docker.sock
  FLEETCTL_KIND_NETNS=$FLEETCTL_KIND_RUN/engine/netns
fi
case :$PATH: in
  *":$FLEETCTL_KIND_RUN/bin:"*) ;;
  *) export PATH=$FLEETCTL_KIND_RUN/bin:$PATH ;;
esac
