#!/usr/bin/python3 -IS
"""runc for a root user without CAP_SYS_RESOURCE: docker asks for things that only this capability allows,
so take them out of the container's config.json (create, run) or process.json (exec) and call the real runc."""

import json
import os
import resource
import sys
from pathlib import Path

RUNC = "/usr/sbin/runc"
SYS_RESOURCE = 24  # number of the capability


def may_raise_limits():
    status = Path("/proc/self/status").read_text().splitlines()
    effective = next(line for line in status if line.startswith("CapEff:"))
    return int(effective.split()[1], 16) >> SYS_RESOURCE & 1


def lower(process):
    for names in (process.get("capabilities") or {}).values():
        if "CAP_SYS_RESOURCE" in names:
            names.remove("CAP_SYS_RESOURCE")
    process["oomScoreAdj"] = max(0, process.get("oomScoreAdj") or 0)
    for limit in process.get("rlimits") or []:
        hard = resource.getrlimit(getattr(resource, limit["type"]))[1]
        if hard != resource.RLIM_INFINITY:
            limit["hard"] = min(limit["hard"], hard)
            limit["soft"] = min(limit["soft"], hard)


def rewrite(path, change):
    data = json.loads(path.read_text())
    change(data)
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(data))
    new.rename(path)


def option(args, *names):
    for i, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if name in names:
            return value if equals else args[i + 1]
    return None


def main():
    args = sys.argv[1:]
    if not may_raise_limits():
        if "create" in args or "run" in args:
            bundle = Path(option(args, "--bundle", "-b") or ".")
            rewrite(bundle / "config.json", lambda config: lower(config["process"]))
        elif "exec" in args and option(args, "--process", "-p"):
            rewrite(Path(option(args, "--process", "-p")), lower)
    os.execv(RUNC, [RUNC, *args])


main()
