"""The `fusionrec` command: `main` puts the commands together, one module each.

`stages` has those of the stages, `results` their tables, `options` what several commands share;
`jobs` talks to a cluster's Jobs API for `submit`, and `upload` measures what that sends;
`stored` is a model as a list needs it, `why` its reasons, `catalogue` songs and users by id;
`guesses`, `looks`, `named_tables` and `drafts` are the parts of `init`;
`headlines` and `remarks` are what `status` and `run` say of stages' counts.
"""
