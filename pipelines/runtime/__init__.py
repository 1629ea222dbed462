"""What every stage stands on: Ray, the workspace, and what a run says of itself.

`cluster` starts Ray and maps work over shards and tasks, `distributed` runs Ray Train; `workspace`
holds artifacts and `stage` decides what is up to date; `progress`, `metrics`, `logs` and `run_id`
tell people and machines.
"""
