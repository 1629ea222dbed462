"""Every key of the config, changed once: exactly the stages that depend on it are redone."""

import os
import sys
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from pipelines import compare, config, embed, ingest, ladder, lists, report, tune
from pipelines.compare.folds import Fold
from pipelines.config import Config
from pipelines.run import STAGES
from pipelines.runtime.workspace import Workspace

ALL = (*STAGES, lists.STAGE, tune.STAGE, report.STAGE, compare.STAGE, ladder.STAGE)

BASE = (
    "ingest.segments=full",
    "embed.modalities=[metadata, lyrics, audio]",
    "embed.lyrics.encoder=pretrain",
    "recommend.model=genre",
)

# What each key changes by itself; what is made from that follows. Nothing: it only moves the work.
DIRECTLY: dict[str, tuple[object, str]] = {
    "seed": (1, "split label pretrain embed train tune blend report recommend evaluate compare"),
    "workspace": ("elsewhere", ""),
    # The Million Song Dataset's files are read here; what tables depend on is below.
    "source.format": ("tables", "ingest"),
    "source.root": ("elsewhere", "ingest"),
    "source.songs": ("elsewhere", "ingest"),
    "source.artist_terms": ("artist_term.db", "ingest"),
    "source.artist_similarity": ("artist_similarity.db", "ingest"),
    "source.other_songs": ("track_metadata.db", "ingest"),
    "source.lyrics": ("[]", "ingest"),
    "source.plays": ("[other.txt]", "ingest"),
    "source.mismatches": ("null", "ingest"),
    "source.tables.songs.paths": ("[songs.csv]", ""),
    "source.tables.songs.columns": ("{title: name}", ""),
    "source.tables.songs.header": ("[song_id, title]", ""),
    "source.tables.songs.delimiter": (";", ""),
    "source.tables.songs.separator": (";", ""),
    "source.tables.plays.paths": ("[plays.csv]", ""),
    "source.tables.plays.columns": ("{plays: n}", ""),
    "source.tables.plays.header": ("[user_id, song_id]", ""),
    "source.tables.plays.delimiter": (";", ""),
    "source.tables.plays.separator": (";", ""),
    "source.tables.lyrics.paths": ("[lyrics.csv]", ""),
    "source.tables.lyrics.columns": ("{text: verses}", ""),
    "source.tables.lyrics.header": ("[song_id, text]", ""),
    "source.tables.lyrics.delimiter": (";", ""),
    "source.tables.lyrics.separator": (";", ""),
    "source.tables.features": ("{clap: clap.npz}", ""),
    "source.tables.vocabulary": (100, ""),
    "ingest.segments": ("stats", "ingest"),
    "ingest.files_per_shard": (10, "ingest"),
    "ingest.rows_per_shard": (10, "ingest"),
    "ingest.bytes_per_shard": (2048, "ingest"),
    "ingest.max_reject_share": (0.1, ""),
    "split.by": ("artist", "split"),
    "split.folds": (4, "split compare"),
    "split.test_fold": (1, "split"),
    # The split is by song here; what one by time depends on is below.
    "split.cut": ("2020-01-01", ""),
    "split.test_share": (0.3, ""),
    "split.validation": (0.2, "split compare"),
    "split.require_tags": ("true", "split compare"),
    "label.embedding": ("multihot", "label tune report compare"),
    "label.source": ("terms", "label tune report compare"),
    "label.k": (3, "label tune"),
    "label.dimension": (50, "label tune report compare"),
    "label.epochs": (3, "label tune report compare"),
    "label.fit_on": ("all", "label tune report compare"),
    "pretrain.workers": (2, ""),
    "pretrain.num_gpus": (1, ""),
    "pretrain.hidden_size": (64, "pretrain compare"),
    "pretrain.layers": (1, "pretrain compare"),
    "pretrain.heads": (2, "pretrain compare"),
    "pretrain.positions": ("true", "pretrain compare"),
    "pretrain.epochs": (1, "pretrain compare"),
    "pretrain.batch_size": (32, "pretrain compare"),
    "pretrain.learning_rate": (0.01, "pretrain compare"),
    "pretrain.mask_probability": (0.3, "pretrain compare"),
    "pretrain.heldout_share": (0.1, "pretrain compare"),
    "pretrain.dtype": ("float32", "pretrain compare"),
    "pretrain.max_bags": (10, "pretrain compare"),
    "embed.modalities": ("[metadata, lyrics]", "embed compare"),
    "embed.metadata.dimension": (50, "embed compare"),
    "embed.metadata.epochs": (3, "embed compare"),
    "embed.metadata.threads": (2, "embed compare"),  # Word2Vec with several is not reproducible
    "embed.metadata.vectors": ("words.txt", "embed compare"),
    "embed.lyrics.encoder": ("another", "embed compare"),
    "embed.lyrics.long": ("windows", ""),  # of sources with texts alone: test_text_lyrics
    "embed.lyrics.tfidf": ("printed", "pretrain embed compare"),
    "embed.lyrics.words": (64, "pretrain embed compare"),
    "embed.lyrics.pooling": ("mean", "embed compare"),
    "embed.lyrics.dtype": ("float32", "embed compare"),
    "embed.lyrics.token_budget": (512, ""),
    "embed.lyrics.compiled": ("true", ""),
    "embed.lyrics.num_gpus": (1, ""),
    "fuse.modalities": ("[metadata]", "fuse compare"),
    "fuse.variance": (0.9, "fuse compare"),
    "fuse.operator": ("add", "fuse train tune report compare"),
    "fuse.align": ("pad", "train tune report compare"),
    "fuse.width": (64, "train tune report compare"),
    "fuse.missing": ("drop", "fuse train tune report compare"),
    "train.workers": (2, ""),
    "train.threads": (2, ""),
    "train.num_gpus": (1, ""),
    "train.epochs": (10, "train tune report compare"),
    "train.batch_size": (128, "train tune report compare"),
    "train.evaluate_every": (2, "train tune report compare"),
    "train.checkpoint_every": (2, ""),
    "train.eta": (0.01, "train tune report compare"),
    "train.eta_batch": (256, "train tune report compare"),
    "train.p": (0.1, "train tune report compare"),
    "train.modality_dropout": (0.3, "train tune report compare"),
    "train.class_weights": ("false", "train tune report compare"),
    "train.label_smoothing": (0.1, "train tune report compare"),
    "train.weight_decay": (0.1, "train tune report compare"),
    "train.norm_group": ("null", "train tune report compare"),
    "train.schedule": ("cosine", "train tune report compare"),
    "train.patience": (5, "train tune report compare"),
    "train.dtype": ("float64", "train tune report compare"),
    "train.in_memory_mb": (1, ""),
    # Classes are learned here; what the other objectives depend on is below.
    "train.objective": ("ranking", "train recommend lists"),
    "train.wmf.factors": (8, ""),
    "train.wmf.alpha": (2.0, ""),
    "train.wmf.epsilon": (2.0, ""),
    "train.wmf.regularisation": (1.0, ""),
    "train.wmf.iterations": (3, ""),
    "train.towers.loss": ("cosine", ""),
    "train.towers.epochs": (3, ""),
    "train.towers.dimensions": (8, ""),
    "train.towers.pairs": (64, ""),
    "train.towers.negatives": (64, ""),
    "train.towers.history": (5, ""),
    "train.towers.cold": (0.9, ""),
    "tune.space": ("{train.p: [0.1]}", "tune"),
    "tune.trials": (3, "tune"),
    "tune.metric": ("accuracy", "tune"),
    "tune.search": ("optuna", "tune"),
    "tune.scheduler": ("none", "tune"),
    "tune.reports": (3, "tune"),
    "tune.reduction": (2, "tune"),
    "tune.grace": (0.5, "tune"),
    "tune.users": (10, "tune"),
    "tune.num_gpus": (1, ""),
    "tune.concurrent": (1, ""),
    "report.runs": ("[{k: 3}]", "report"),
    "report.elbow_to": (10, "report"),
    "blend.signals": ("[neighbours-terms]", "blend"),
    "blend.context": ("false", "blend"),
    "blend.other_plays": ("false", "blend"),
    "blend.rank": (64, "blend compare"),
    "blend.landmarks": (100, "blend compare"),
    "blend.tune": ("false", "blend compare"),
    "blend.users": (100, "blend compare"),
    "blend.others": (100, "blend compare"),
    "recommend.model": ("blend", "recommend lists"),
    "recommend.protocol": ("oord", "tune recommend"),
    "recommend.top": (10, "tune recommend compare"),
    "recommend.weighting": ("log", "tune recommend lists compare"),
    "recommend.users_per_shard": (10, "recommend"),  # how its parts are cut
    "recommend.block_mb": (1, ""),
    "recommend.num_gpus": (1, ""),
    "evaluate.resamples": (100, "evaluate"),
    "evaluate.level": (0.9, "evaluate compare"),
    "lists.run": ("true", ""),
    "lists.candidates": ("new", "lists"),
    "lists.repeat": ("true", "lists"),
    "lists.top": (10, "lists"),
    "lists.per_artist": (2, "lists"),
    "lists.years": ("[1990, 1999]", "lists"),
    "lists.tags": ("[rock]", "lists"),
    "lists.least": (10, "lists"),
    "lists.formats": ("[csv]", "lists"),
    "lists.users_per_shard": (10, "lists"),  # how its parts are cut
    # An update stands on the workspace's current lists, whatever the config asks for.
    "update.most_new": (0.5, ""),
    "update.chance": (0.1, ""),
    "cluster.address": ("auto", ""),
    "cluster.num_cpus": (1, ""),
    "cluster.object_store_mb": (100, ""),
    "cluster.dashboard": ("true", ""),
    "cluster.patience": (9, ""),
    "cluster.resources": ("{embed: {big: 1}}", ""),
}


def leaves(section: BaseModel, before: str = "") -> Iterator[str]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{before}{name}.")
        else:
            yield before + name


TOGETHER = {
    "train.objective": ("recommend.model=network",),
    "source.format": ("embed.modalities=[metadata, lyrics]",),  # tables have no audio
}
"""What else a key needs."""


def load(*overrides: str) -> Config:
    return config.load(None, [*BASE, *overrides])


def keys(chosen: Config, workspace: Workspace) -> dict[str, str]:
    return {stage.name: stage.plan(chosen, workspace).key for stage in ALL}


# A comparison depends on all of its own section, whose parts its methods tell apart.
KEYS = [name for name in leaves(load()) if not name.startswith(("compare.", "ladder."))]


def test_no_key_is_forgotten_here() -> None:
    assert sorted(DIRECTLY) == sorted(KEYS)


def _with_ladder(direct: str) -> set[str]:
    """A ladder is a comparison: whatever one depends on, the other does."""
    expected = set(direct.split())
    return expected | {"ladder"} if "compare" in expected else expected


@pytest.mark.parametrize("name", KEYS)
def test_a_changed_key_redoes_what_depends_on_it(name, tmp_path) -> None:
    workspace = Workspace(str(tmp_path))
    value, direct = DIRECTLY[name]
    plans = {stage.name: stage.plan(load(), workspace) for stage in ALL}
    before = {stage: plan.key for stage, plan in plans.items()}
    after = keys(load(f"{name}={value}", *TOGETHER.get(name, ())), workspace)
    expected = _with_ladder(direct)
    expected |= {stage for stage, plan in plans.items() if expected & set(plan.lineage)}
    assert {stage for stage in before if before[stage] != after[stage]} == expected


TABLES = (
    "embed.modalities=[metadata, lyrics]",
    "source.format=tables",
    "source.tables={songs: {paths: s.csv}, plays: {paths: p.csv}, lyrics: {paths: l.csv}}",
    "source.tables.features={clap: {paths: c.csv}}",
)


def test_tables_depend_on_what_is_read_of_them(tmp_path) -> None:
    """And on no key of the Million Song Dataset's files, however deep each lies."""
    workspace = Workspace(str(tmp_path))
    before = keys(load(*TABLES), workspace)["ingest"]
    sections = ("source.", "ingest.")
    named = {n: DIRECTLY[n][0] for n in KEYS if n.startswith(sections)}
    named["source.format"] = "recbole"
    named["source.tables.features.clap.ids"] = "ids.txt"
    named["source.tables.features.clap.columns"] = "{vector: v}"
    changed = {
        name
        for name, value in named.items()
        if keys(load(*TABLES, f"{name}={value}"), workspace)["ingest"] != before
    }
    own = {name for name in named if name.startswith("source.tables.")}
    shards = {"ingest.rows_per_shard", "ingest.bytes_per_shard"}
    assert changed == {"source.format", "source.root", *shards, *own}


LAYOUT = ("embed.modalities=[metadata]",)
TIMED = ("split.by=time", "recommend.protocol=oord")


@pytest.mark.parametrize("choice", ["lfm-2b", "music4all-onion"])
def test_times_of_a_layout_are_read_where_any_split_is_by_them(choice, tmp_path) -> None:
    """By all folds of a comparison alike, which stand on one ingest; of a layout's own plays."""
    workspace = Workspace(str(tmp_path))

    def key(of: Config) -> str:
        return ingest.STAGE.plan(of, workspace).key

    base = (*LAYOUT, f"source.format={choice}")
    compared = load(*base, "compare.splits=[song, time]")
    folds = [Fold("song", 0).config(compared), Fold("song", 1).config(compared)]
    folds.append(Fold("time", 0).config(compared))
    assert {key(of) for of in (compared, *folds)} == {key(load(*base, *TIMED))}
    assert key(compared) != key(load(*base))
    own = (*base, "source.tables.plays.paths=[p.csv]")
    assert key(load(*own)) == key(load(*own, *TIMED))


@pytest.mark.parametrize(
    "layout", ["tables", "recbole", "lfm-1b", "yambda", "spotify-mpd", "lastfm-360k"]
)
def test_where_there_is_one_file_of_plays_it_is_read_once(layout, tmp_path) -> None:
    workspace, base = Workspace(str(tmp_path)), (*LAYOUT, f"source.format={layout}")
    compared = load(*base, "compare.splits=[song, time]")
    each = (load(*base), load(*base, *TIMED), compared, Fold("time", 0).config(compared))
    assert len({ingest.STAGE.plan(of, workspace).key for of in each}) == 1


UNREAD = {
    "factors": {"class_weights", "label_smoothing"}
    | {
        f"towers.{name}"
        for name in ("epochs", "dimensions", "pairs", "negatives", "history", "cold")
    },
    "ranking": {
        *("class_weights", "label_smoothing", "epochs"),
        *("batch_size", "eta_batch", "towers.loss"),
    },
}
"""Keys of `train` that an objective does not read, beside those that only move the work."""


@pytest.mark.parametrize("objective", UNREAD)
def test_training_on_taste_depends_on_what_it_reads(objective, tmp_path) -> None:
    workspace = Workspace(str(tmp_path))
    base = ("recommend.model=network", f"train.objective={objective}")
    before = keys(load(*base), workspace)
    moving = {name for name, (_, direct) in DIRECTLY.items() if not direct}
    for name in (name for name in KEYS if name.startswith("train.") and name != "train.objective"):
        short = name.removeprefix("train.")
        after = keys(load(*base, f"{name}={DIRECTLY[name][0]}"), workspace)
        read = short not in UNREAD[objective] and (
            name not in moving or short.startswith(("wmf.", "towers."))
        )
        changed = {stage for stage in before if before[stage] != after[stage]}
        assert ("train" in changed) == read, name
        assert {"recommend", "evaluate"} <= changed or not read
    labels = keys(load(*base, "label.k=3"), workspace)
    assert labels["train"] == before["train"] != keys(load(), workspace)["train"]


def test_a_split_by_time_depends_on_its_cut(tmp_path) -> None:
    """However it is written; not on the share that another cut would have, nor on the seed."""
    workspace = Workspace(str(tmp_path))
    base = ("split.by=time", "recommend.protocol=oord")

    def key(*more: str) -> str:
        return keys(load(*base, *more), workspace)["split"]

    by_share, by_cut = key(), key("split.cut=2020-01-01")
    assert by_share == key("seed=1") != by_cut
    assert by_cut == key("split.cut=1577836800", "split.test_share=0.3")
    changed = ("split.test_share=0.3", "split.validation=0.2", "split.require_tags=true")
    assert len({by_share, by_cut, *(key(more) for more in changed)}) == 5
    compared = ("compare.splits=[song, time]",)
    stages = [keys(load(*compared, *more), workspace) for more in ((), ("split.cut=2020-01-01",))]
    assert {s for s in stages[0] if stages[0][s] != stages[1][s]} == {"compare", "ladder"}


def test_a_key_does_not_depend_on_the_order_of_an_overrides_list(tmp_path) -> None:
    workspace = Workspace(str(tmp_path))
    one = keys(load("train.eta=0.01", "train.p=0.1"), workspace)
    assert one == keys(load("train.p=0.1", "train.eta=0.01"), workspace)


VERSIONS = {
    "split": "split label pretrain embed fuse train tune report blend recommend evaluate lists "
    "compare",
    "label": "label train tune report recommend evaluate lists compare",
    "pretrain": "pretrain embed fuse train tune report blend recommend evaluate lists compare",
    "embed": "embed fuse train tune report blend recommend evaluate lists compare",
    "fuse": "fuse train tune report recommend evaluate lists compare",
    "train": "train tune report recommend evaluate lists compare",
    "blend": "blend compare",
    "lists": "lists",
    "compare": "compare",
}


@pytest.mark.parametrize("name", VERSIONS)
def test_a_new_version_redoes_whatever_runs_that_code(name, tmp_path, monkeypatch) -> None:
    """A search, a report and a comparison run it for configs of their own."""
    workspace = Workspace(str(tmp_path))
    before = keys(load(), workspace)
    (stage,) = (stage for stage in ALL if stage.name == name)
    monkeypatch.setitem(vars(stage), "version", stage.version + 1)
    after = keys(load(), workspace)
    assert {s for s in before if before[s] != after[s]} == _with_ladder(VERSIONS[name])


def test_a_run_of_the_blend_does_without_what_it_does_not_read(tmp_path) -> None:
    """Only the network's figures in its results are of the training."""
    workspace, chosen = Workspace(str(tmp_path)), "recommend.model=blend"
    assert (
        keys(load(chosen), workspace)["recommend"]
        == keys(load(chosen, "train.eta=0.01", "recommend.weighting=log"), workspace)["recommend"]
    )
    lineages = [
        {s.name: s.plan(load(*model), workspace).lineage for s in ALL} for model in ([], [chosen])
    ]
    assert ["blend" in lineage["recommend"] for lineage in lineages] == [False, True]


def test_a_ladder_depends_on_its_rungs(tmp_path) -> None:
    workspace = Workspace(str(tmp_path))
    rungs = "ladder.rungs=[{method: random}, {method: wmf}]"
    before, after = (keys(load(*more), workspace) for more in ([], [rungs]))
    assert [stage for stage in before if before[stage] != after[stage]] == ["ladder"]


def test_a_comparison_depends_on_code_and_lists_from_outside(tmp_path, monkeypatch) -> None:
    """By content; a ladder, which has neither, does not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    module, lists = tmp_path / "keyed_here.py", tmp_path / "lists.csv"
    module.write_text("def method(given): ...\n")
    lists.write_text("user_id,song_id,rank\nu,s,1\n")
    names = ("compare.methods=[random, 'keyed_here:method']", f"compare.external={{x: {lists}}}")
    workspace, chosen = Workspace(str(tmp_path / "w")), load(*names)

    def both() -> list[str]:
        stages = (compare.STAGE, ladder.STAGE)
        return [stage.plan(chosen, workspace, look=True).key for stage in stages]

    before = both()
    assert both() == before
    assert before[1] == ladder.STAGE.plan(load(), workspace, look=True).key
    found = {before[0]}
    for file in (module, lists):
        file.write_text(file.read_text() + " ")
        after = both()
        assert after[0] not in found
        assert after[1] == before[1]
        found.add(after[0])
    without = compare.STAGE.plan(load(), workspace, look=True)
    assert without.key not in found
    for name in names:  # what a comparison depends on by its settings alone
        assert compare.STAGE.plan(load(name), workspace).key != without.key


@pytest.mark.parametrize("name", ["encoder/config.json", "encoder/model.safetensors", "words.txt"])
def test_vectors_depend_on_the_files_that_they_are_made_with(tmp_path, name) -> None:
    """By content: another of the same size and time is another."""
    for each in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / "encoder").mkdir(exist_ok=True)
        (tmp_path / "encoder" / each).write_text("1")
    (tmp_path / "words.txt").write_text("1")
    outside = (
        f"embed.lyrics.encoder={tmp_path}/encoder",
        f"embed.metadata.vectors={tmp_path}/words.txt",
    )
    workspace, chosen = Workspace(str(tmp_path / "w")), load(*outside)
    before = embed.STAGE.plan(chosen, workspace, look=True).key
    assert embed.STAGE.plan(chosen, workspace, look=True).key == before
    file = tmp_path / name
    times = file.stat()
    file.write_text("2")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert embed.STAGE.plan(chosen, workspace, look=True).key != before


def test_lists_of_a_file_depend_on_the_ids_in_it(tmp_path) -> None:
    """And not on where it lies."""
    workspace = Workspace(str(tmp_path / "w"))

    def key(name: str, content: str) -> str:
        (tmp_path / name).write_text(content)
        chosen = load(f"lists.candidates={tmp_path / name}")
        return lists.STAGE.plan(chosen, workspace, look=True).key

    assert key("one.txt", "SO1\n") == key("two.txt", "SO1\n") != key("one.txt", "SO2\n")


def test_a_comparison_depends_on_the_files_of_its_encoder(tmp_path, monkeypatch) -> None:
    files = ["first"]
    monkeypatch.setattr("pipelines.embed.stage.encoder_fingerprint", lambda name: files[0])
    workspace, chosen = Workspace(str(tmp_path)), load("embed.lyrics.encoder=folder")
    before = compare.STAGE.plan(chosen, workspace, look=True).key
    files[0] = "second"
    assert compare.STAGE.plan(chosen, workspace, look=True).key != before
