"""What every stage stands on: Ray, the workspace, and what a run says of itself.

`session` starts Ray, `resources` is what the cluster has; `tasks` and `sharding` put work into
workers, a `shards` module's shard at a time, and `distributed` into Ray Train's; `failures` brings
their exceptions back. `workspace`
holds artifacts and `stage` decides what is up to date. `progress`, `metrics`, `logs` and `run_id`
tell people and machines; `command` lets a stage be run as a module.
"""
