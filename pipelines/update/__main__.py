from pipelines.runtime.command import as_command

as_command("update")
