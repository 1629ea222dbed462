"""Methods of one's own: found and checked on the driver, imported and called in workers.

The driver resolves each name before the comparison begins. A result's key has a hash of the code:
of the module's file or, where that is in a package, of all .py files of its outermost package. What
the code imports from elsewhere (another module, a library, a data file) is not seen: after a change
there, change the file as well.
"""

from __future__ import annotations

import traceback
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from scipy.sparse import csr_array

from fusionrec.errors import ConfigError, DataError, MethodError
from fusionrec.methods import ColdStart, Features, called
from fusionrec.tables import matrix
from pipelines.compare import content, own_code
from pipelines.compare.context import Context, Own, Scores
from pipelines.compare.folds import features_workspace
from pipelines.ingest.by_user import user_ids_of
from pipelines.runtime.workspace import Workspace

_NOT_OF_PLAYS = ("song_hotttnesss",)
"""Columns of the songs that tell how much a test song is played."""


def find(name: str) -> Own:
    """Import a method here, and say what is called and from which code.

    A module may lie in the folder that the command is started in, on PYTHONPATH, or be installed.

    Raises
    ------
    ConfigError
        There is no such module or name, it cannot be imported, or cannot be called.
    """
    here = str(Path.cwd())
    module, _, _ = name.partition(":")
    code = own_code.code_of(name, module, here)
    own = Own(name, own_code.hash_of(name, code), code.folder)
    method = own_code.imported(own, code)
    return Own(name, own.code, own.folder, bool(getattr(method, "seeded", True)))


def fingerprint(name: str) -> str:
    """The hash of a method's code as it is now; raises as :func:`find`.

    The module is not imported, but the packages that it lies in are: their `__init__.py` runs.
    """
    return own_code.hash_of(name, own_code.code_of(name, name.partition(":")[0], str(Path.cwd())))


def scores(context: Context) -> Scores:
    """Call the method.

    Raises
    ------
    MethodError
        It fails, returns what cannot be ranked, or is of other code than the driver's; the message
        names method, fold and seed.
    DataError
        It has nothing to learn from.
    """
    own, split = context.own, context.config.split
    assert own is not None
    where = f"{own.name} on fold {split.test_fold} of the split by {split.by}, seed {context.seed}"
    given = _given(context)
    try:
        method = own_code.imported(
            own, own_code.code_of(own.name, own.name.partition(":")[0], own.folder)
        )
        found = called(method, given)
    except DataError:
        raise
    except (MethodError, ConfigError) as error:
        raise MethodError(f"{where}: {error}") from error
    except (Exception, SystemExit) as error:  # after an exit, Ray would begin anew
        if _is_of_ray(error):
            raise
        raise MethodError(f"{where}: {own_code.in_a_line(error)}") from error
    unknown = int((~found.F.any(axis=1)).sum())
    return Scores(found.F, found.V, without_input=unknown)


def _is_of_ray(error: BaseException) -> bool:
    """Whether it is the exit of a worker that is told to end."""
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, SystemExit) and "/ray/" in frames[-1].filename


def _given(context: Context) -> ColdStart:
    """The fold, without a play of a test song."""
    evaluation, ingested = context.evaluation, context.workspace.require("ingest")["counts"]
    users, songs, counts = context.plays(("train", "validation"))
    shape = (ingested["users"], len(evaluation.part))
    table = context.workspace.read("ingest", "songs").drop_columns(list(_NOT_OF_PLAYS))
    where = features_workspace(context.config, context.workspace, context.config.embed.modalities)
    fused = content.fused_inputs(context)
    return ColdStart(
        songs=table.combine_chunks(),
        features={
            name: _features(where, name, context) for name in context.config.embed.modalities
        },
        fused=Features(fused.x, fused.known),
        plays=csr_array((counts.astype(np.float32), (users, songs)), shape=shape),
        user_ids=user_ids_of(context.workspace, 0, ingested["users"]),
        train=np.flatnonzero(evaluation.part == "train"),
        validation=np.flatnonzero(evaluation.part == "validation"),
        candidates=evaluation.candidates.astype(np.int64),
        users=evaluation.users.astype(np.int64),
        seed=context.seed,
    )


def _features(where: Workspace, modality: str, context: Context) -> Features:
    table = where.read("embed", modality)
    found, rows = matrix(table["vector"]), context.rows(table["song_id"])
    has = pc.fill_null(table["present"], False).to_numpy().astype(bool)
    x = np.zeros((len(context.song_ids), found.shape[1]), np.float32)
    present = np.zeros(len(x), bool)
    x[rows[has]], present[rows[has]] = found[has], True
    return Features(x, present)
