# shellcheck shell=bash disable=SC2034
# What up, down, images and their helpers share. The cache is keyed by content: a key is a hash of everything that goes in.
KIND_DIR=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
REPO=$(realpath "$KIND_DIR/../..")
. "$KIND_DIR/env.sh"

RUN=$FLEETCTL_KIND_RUN
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/fleetctl/kind
LOG=$RUN/log
SUITE=bookworm
CGROUP=fleetctl-kind
KINDEST_NODE=kindest/node:v1.36.4 # only where the user's Docker can get it; elsewhere ./node-image makes the node
mkdir -p "$CACHE"

# One of up, down and images at a time. Daemons must not inherit descriptor 9.
one_at_a_time() {
  exec 9>"$CACHE/lock"
  flock -n 9 || { echo "waiting for another tests/kind script"; flock 9; }
}

step() { printf '%4ds  %s\n' "$SECONDS" "$*"; }

fail() {
  echo "tests/kind: $*" >&2
  exit 1
}

# The output of a step goes to a log, which is shown only if the step fails. (Not by "||": that would switch off set -e
# inside the step.)
CURRENT_LOG=
exec 8>&2
logged() { # NAME COMMAND...
  CURRENT_LOG=$LOG/$1.log
  shift
  "$@" >"$CURRENT_LOG" 2>&1 8>&- 9>&-
  CURRENT_LOG=
}
show_log_of_failed_step() {
  if [ $? != 0 ] && [ -n "$CURRENT_LOG" ]; then
    { tail -n 30 "$CURRENT_LOG" && echo "tests/kind: failed; all of it: $CURRENT_LOG"; } >&8
  fi
}
trap show_log_of_failed_step EXIT

wait_for() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { echo "gave up waiting for: $*" >&2; return 1; }
    sleep 0.2
  done
}

# A key of the names and contents of files and folders (relative to the repository) and of further words.
key() { # FILE-OR-FOLDER... [-- WORD...]
  local files=()
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    files+=("$1")
    shift
  done
  (
    cd "$REPO" || exit
    find "${files[@]}" -type f -not -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    echo "$@"
  ) | sha256sum | cut -c1-12
}

own_engine() { [ -n "$FLEETCTL_KIND_NETNS" ]; }

in_netns() {
  if own_engine; then
    nsenter --net="$FLEETCTL_KIND_NETNS" "$@"
  else
    "$@"
  fi
}

nodes() { # [OPTION OF docker ps...]
  docker ps --filter "label=io.x-k8s.kind.cluster=$FLEETCTL_KIND_CLUSTER" "$@" --format '{{.Names}}' | sort
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# Removes the images that have an older key as their tag, so that the cache does not grow with every change.
keep_only() { # NAME KEY
  local tag
  docker images --format '{{.Tag}}' "$1" | while read -r tag; do
    if [[ $tag =~ ^[0-9a-f]{12}$ && $tag != "$2" ]]; then
      docker rmi "$1:$tag" >/dev/null || true # still in use: the next run takes it
    fi
  done
}

# Where the Go programs of a module are, once ./programs has built them.
programs_dir() { # MODULE
  echo "$CACHE/programs/$1-$(key "tests/kind/gomod/$1" tests/kind/programs)"
}

kubernetes_version() { awk '$1 == "require" && $2 == "k8s.io/kubernetes" { print $3 }' "$KIND_DIR/gomod/kubernetes/go.mod"; }

debian_image() { # FLAVOUR: see ./debian-image
  echo "fleetctl-kind/debian-$1:$(key tests/kind/debian-image -- "$1" $SUITE)"
}

# Removes the nodes and, where it is ours, the Docker engine: processes, mounts, network namespace, cgroups.
take_down() {
  remove_nodes || true
  if own_engine; then
    stop dockerd
    stop containerd
    stop_leftovers
    umount "$FLEETCTL_KIND_NETNS" 2>/dev/null || true
    find /sys/fs/cgroup -depth -type d -path "*/$CGROUP*" -exec rmdir {} + 2>/dev/null || true
  fi
  rm -rf "$RUN"
}

remove_nodes() { nodes --all 2>/dev/null | xargs -r -P 8 -n 1 docker rm -f -v >/dev/null; }

stop() { # NAME
  local pid
  pid=$(cat "$RUN/engine/$1.pid" 2>/dev/null) || return 0
  # the pid of a daemon that died may be somebody else's by now
  if grep -qas "$RUN/engine" "/proc/$pid/cmdline"; then
    kill "$pid"
    wait_for 20 gone "$pid"
  fi
}

gone() { ! kill -0 "$1" || grep -q '^State:.Z' "/proc/$1/status"; }

# After a daemon died: what is still in its mount namespace (shims) or in the nodes' cgroups.
stop_leftovers() {
  local namespace pid
  namespace=$(cat "$RUN/engine/mount-namespace" 2>/dev/null) || return 0
  for pid in $(find /sys/fs/cgroup -path "*/$CGROUP*" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u); do
    kill -KILL "$pid" 2>/dev/null || true
  done
  for pid in /proc/[0-9]*; do
    if [ "$(readlink "$pid/ns/mnt" 2>/dev/null)" = "$namespace" ]; then
      kill -KILL "${pid#/proc/}" 2>/dev/null || true
    fi
  done
}
