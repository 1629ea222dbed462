"""Every exception fusionrec raises on purpose.

Each message names what is wrong, where, and what to do about it. The command
line prints it on one line and exits with :attr:`FusionrecError.exit_code`.
"""

from __future__ import annotations


class FusionrecError(Exception):
    """Base of all fusionrec's errors; `exit_code` is what the command returns."""

    exit_code = 1


class InputError(FusionrecError):
    """The user's input is at fault (exit code 2)."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration key or value is wrong."""


class SourceError(InputError):
    """A source file is missing, unreadable, or not in the format its name promises."""


class UnavailableError(FusionrecError):
    """The machine, a disk or the network fails to give a source, again and again; none of it is
    the file's fault, so nothing is rejected for it."""


class TooManyRejectsError(InputError):
    """More rows of a source were rejected than `ingest.max_reject_share` allows."""


class EncoderError(InputError):
    """A lyrics encoder cannot be loaded from where the config says it is."""


class WorkspaceError(InputError):
    """A workspace is unusable, or lacks what a stage or a query needs."""


class BusyError(WorkspaceError):
    """Another run is at work on the same result."""


class SchemaVersionError(WorkspaceError):
    """A workspace was written with a schema version this release does not know."""


class NotFoundError(InputError):
    """A user or a song named in a query is not in the workspace."""


class DataError(InputError):
    """The data leave a stage nothing to work on (no tagged songs, fewer tag lists than k, ...)."""


class MethodError(InputError):
    """A method of one's own fails, or returns what cannot be ranked (`compare.methods`)."""


class StageError(FusionrecError):
    """A stage failed in a worker for a reason that is not the user's input."""


class ResourceError(FusionrecError):
    """CPUs, GPUs or other resources of the cluster did not become free in time."""
