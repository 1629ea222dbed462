"""Blend: the signals' factors of all songs and users, in one pair of matrices.

A task computes the signals again on inner folds of the songs that are not hidden, learns from them
what each is worth, computes them on all of these songs, and writes V and F, whose products are the
scores: 4 bytes a song or user and dimension (.5 GB for a million of them and 128 dimensions), and
what explains them, eight times as much a song. What it may learn from, under each protocol, is said
in :mod:`pipelines.blend.inputs`.

And it writes what makes the same of songs that it was not fitted on, `unseen`
(:mod:`fusionrec.signals.unseen`). Of 3,000 songs of `benchmarks/blend_scale.py`, all signals with
a weight, that was 20 MB: 13 of landmarks, of which there are no more with more songs; 2.2 kB a song
with plays, if *factors of the artist* has a weight, .9 of them its audio and .7 the encoder's
vector, which a quarter of the songs has; and 2.6 kB an artist. So it will be some .8 GB for the
million songs of the data set, 300,000 of which have plays to learn from, and .15 without that
signal. What makes users that it was not fitted on is beside that one number a song and factor:
.2 GB for a million songs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusionrec.errors import ConfigError, DataError
from fusionrec.ranking.on_cpu import compiled_code
from fusionrec.ranking.split import kept_together
from fusionrec.report.text import as_csv
from fusionrec.signals.blend import Blend, fit_blend
from fusionrec.signals.registry import names, spec
from fusionrec.signals.settings import BlendSettings
from fusionrec.signals.signal import Fold
from fusionrec.signals.taste import BLOCK
from pipelines import embed, ingest, split
from pipelines.blend.blocks import InTasks
from pipelines.blend.inputs import Inputs, read_inputs, vectors_of
from pipelines.blend.vectors import write_blend
from pipelines.config import BlendRun, Config
from pipelines.config.features import BUILT_IN
from pipelines.runtime import tasks
from pipelines.runtime.stage import Counts, Stage
from pipelines.runtime.workspace import StageRun, Workspace


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Fit and write the blend in one task.

    Where another CPU is idle, what ranks by it is compiled there: ten seconds, once a machine.
    """
    parts = [tasks.submit(run, _write, config, run), tasks.submit(run, _compile)]
    counts: Counts = tasks.gather(parts)[0]
    return counts


def fit(
    config: Config,
    workspace: Workspace,
    chosen: BlendRun,
    seed: int,
    run: StageRun | None = None,
    *,
    unseen: bool = False,
) -> tuple[Blend, Inputs]:
    """A blend of the songs of a workspace, by the config's split, and what it was made from.

    Matrix factorisation of more plays than a block has is that of tasks of `run`, if it is given.
    With `unseen` the blend also has what makes rows of songs that it is not fitted on.
    """
    by = kept_together(config.split.by)
    inputs = read_inputs(
        workspace, vectors_of(config.embed.modalities), by, other_plays=chosen.other_plays
    )
    settings = settings_of(config)
    many = inputs.histories.counts.nnz > BLOCK
    sweeper = InTasks(run) if run is not None and many else None
    fold = Fold(inputs.songs, inputs.histories, inputs.hidden, by, settings, seed, sweeper)
    some = signal_names(chosen, config.embed.modalities)
    return fit_blend(fold, some, unseen=unseen), inputs


def settings_of(config: Config) -> BlendSettings:
    """What is learned with; whatever else there is, inner folds choose, or the method fixes."""
    blend = config.blend
    return BlendSettings(
        landmarks=blend.landmarks,
        rank=blend.rank,
        tune=blend.tune,
        users=blend.users,
        others=blend.others,
    )


def signal_names(chosen: BlendRun, modalities: Sequence[str] = ()) -> tuple[str, ...]:
    """The signals of a blend of songs with these modalities, in their order."""
    if chosen.signals is None:
        return names(chosen.context, _further(modalities))
    return tuple(name for name in names(True, _further(modalities)) if name in chosen.signals)


def _further(modalities: Sequence[str]) -> list[str]:
    return [name for name in modalities if name not in BUILT_IN]


def check_run(chosen: BlendRun, key: str, modalities: Sequence[str] = ()) -> None:
    """Raise a ConfigError for signals that there are not, or that need what is switched off.

    Parameters
    ----------
    key
        Where the blend is configured.
    modalities
        Those that are embedded: one's own bring signals of their own.
    """
    known = names(True, _further(modalities))
    for name in chosen.signals or ():
        if name not in known:
            raise ConfigError(
                f"{key} names the signal {name!r}: there are {', '.join(map(repr, known))}"
            )
        if spec(name).context and not chosen.context:
            raise ConfigError(
                f"{key} names the signal {name!r}, which is of the context: set its `context`, or "
                "leave it out"
            )


def key_settings(config: Config) -> dict[str, Any]:
    """What of the config a blend depends on, whatever it is made of.

    The modalities and what the split keeps together are in what it is made from.
    """
    return config.blend.model_dump(mode="json", exclude=set(BlendRun.model_fields))


def _compile() -> None:
    compiled_code()


def _write(config: Config, run: StageRun) -> Counts:
    try:
        blend, inputs = fit(config, run.workspace, config.blend, config.seed, run, unseen=True)
    except DataError as error:
        instead = "the classes alone: recommend.model genre"
        if config.train.objective != "genre":
            instead = "the network alone: recommend.model network"
        raise DataError(f"{error}; or rank by {instead}") from error
    own, slices = inputs.songs.own, blend.layout.slices
    write_blend(run, blend, inputs.histories, own)
    rows: list[dict[str, object]] = [
        {
            "signal": name,
            "kind": blend.kinds[name],
            "modality": blend.modalities[name],
            "weight": float(weight),
            "dimensions": slices[name].stop - slices[name].start if name in slices else 0,
        }
        for name, weight in zip(blend.names, blend.weights, strict=True)
    ]
    run.write_bytes(as_csv(rows), "weights.csv")
    return {
        "signals": len(rows),
        "signals_with_weight": int((blend.weights > 0).sum()),
        "weights": {str(row["signal"]): row["weight"] for row in rows if row["weight"]},
        "dimensions": blend.F.shape[1],
        "kept": blend.kept,
        "l2": blend.l2,
        "songs": own,
        "songs_learned_from": int((~inputs.hidden[:own]).sum()),
        "other_songs": int((~inputs.hidden[own:]).sum()),
        "other_songs_hidden": int(inputs.hidden[own:].sum()),
        "users": len(blend.V),
        "users_with_history": int((inputs.histories.sizes > 0).sum()),
    }


STAGE = Stage(
    name="blend",
    needs=lambda config: (ingest.STAGE, split.STAGE, embed.STAGE),
    settings=lambda config: {
        "blend": config.blend.model_dump(mode="json"),
        "seed": config.seed,
    },
    work=work,
    version=8,
    check=lambda config: check_run(config.blend, "blend.signals", config.embed.modalities),
    published=("weights.csv",),
)
