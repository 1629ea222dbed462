"""The `fusionrec` command: `main` has the commands, `query` reads finished workspaces, and `jobs`
submits a command to a Ray cluster."""
