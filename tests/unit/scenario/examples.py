"""Two scenarios: one that says as little as it may, and one with every part of the format."""

TINY = """\
version: 1
name: tiny
why: The smallest one.
world:
  gang: {ranks: 8}
expect:
- running: {}
"""

WHOLE = """\
version: 1
name: whole
why: Every part of the format, once.
backends: [sim]
seed: 7
world:
  nodes: 20
  nodes_per_rack: 4
  gang: {name: llm, ranks: 128, spec: {coordinator: {index: 3}}}
  trainer: {runs_for: 10m, stops_in: 3s, checkpointEvery: 2m}
  latency: {api: 1ms..5ms}
policy: {inPlaceDeadlineSeconds: 60, rules: [{match: {exitCodes: [3]}, action: FailGang}]}
kind: {ranks: 8, workers: 4}
timeline:
- at: 30s
  fault: container_exit
  select: {ranks: "3,17-19"}
  spread: 10s
  with: {signal: SIGSEGV}
- when: {restarting: 17, occurrence: 2}
  after: 500ms
  fault: node_dark
  select: {rack: 3, count: 2}
  for: 60s
- when: {fault: node_dark}
  fault: gang_edited
  with: {spec: {recovery: {paused: true}, suspend: null}}
expect:
- running: {attempt: 3, within: 60s}
- quiet: {for: 30s}
- never: {condition: Held}
- sometime: {condition: Recovering, message: SIGSEGV}
- same_pods: {ranks: 0-7}
- new_pods: {ranks: none}
- figures: {pods_recreated: 8, detect_s: {max: 2}}
- not_judged: {invariant: S4, because: the test says so}
- cause: {rule: fatal-signal, scope: Container, rank: 3}
- cause: {rule: node-dead}
"""
