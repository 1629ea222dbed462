"""What every stage stands on: Ray, the workspace, and what a run says of itself.

`session` starts Ray, `resources` is what the cluster has, `gpus` what a stage takes of its GPUs;
`tasks` and `sharding` put work into workers, a `shards` module's shard at a time, `stream` puts
them past `operators` that work beside each other, and `distributed` into Ray Train's; `resume`
knows what an interrupted run has finished; `failures` brings their exceptions back, and `watchdog`
says what a stage waits for. `workspace` holds results by what they depend on, `stage` decides what
is up to date and `differences` says why not, `lease` gives each result one writer, and `cleaning`
finds what nothing needs; `storage` reads and writes files, and `rows` those of which rows are read.
`progress`, `metrics`, `logs` and `run_id` tell people and machines; `interrupts` ends a command;
`command` lets a stage be run as a module.
"""
