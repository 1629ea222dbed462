from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from fusionrec.errors import ConfigError
from fusionrec.features.pretraining.settings import MlmSettings
from fusionrec.models.settings import FusionSettings, Settings
from pipelines import compare, config, recommend, train, tune
from pipelines.config.features import FuseConfig, PretrainConfig
from pipelines.config.learning import TrainConfig
from pipelines.pretrain import settings_of
from pipelines.train.examples import fusion_settings

CONFIGS = sorted((Path(__file__).parents[2] / "pipelines" / "configs").glob("*.yaml"))
assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_shipped_configs_are_valid_and_survive_a_round_trip(path, tmp_path) -> None:
    resolved = config.load(path)
    again = tmp_path / "resolved.yaml"
    again.write_text(config.to_yaml(resolved))
    assert config.load(again) == resolved


def test_lists_are_the_blends_but_for_the_papers() -> None:
    ranked_by = {path.stem: config.load(path).recommend.model for path in CONFIGS}
    assert ranked_by == {"msd": "blend", "paper": "genre", "sample": "blend"}


def test_what_would_help_is_what_there_is() -> None:
    """Where nobody can be evaluated: a split by time has one protocol and no folds."""
    by_time = ["split.by=time", "recommend.protocol=oord"]
    for overrides, help in (
        ([], "or a larger test part (split.folds), or another recommend.protocol"),
        (by_time, "or a larger test part (split.test_share)"),
        ([*by_time, "split.cut=2020-01-01"], "or a larger test part (split.cut)"),
    ):
        chosen = config.load(None, overrides)
        message = str(recommend.stage._nobody_ranked(chosen, 7, {"no song in profile": 7}))
        assert message.endswith(f"needs plays of test songs: use more plays, {help}")


def test_every_key_is_documented() -> None:
    for name, _, doc in config.describe():
        assert len(doc) > 8, name


@pytest.mark.parametrize(
    ("section", "settings", "others"),
    [
        (TrainConfig, Settings, {"seed"}),
        (PretrainConfig, MlmSettings, {"intermediate_size", "max_tokens"}),
        (FuseConfig, FusionSettings, {"blocks", "absent"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_section_takes_what_the_methods_settings_take(section, settings, others) -> None:
    types = get_type_hints(settings)
    for name in set(types) - others:
        assert section.model_fields[name].annotation == types[name], name
    defaults = {field.name: field.default for field in fields(settings)}
    for name in set(types) - others:  # one default, whether the method is configured or not
        assert section.model_fields[name].default == defaults[name], name
    filled = section().fill(settings, **dict.fromkeys(others, 510))
    assert all(getattr(filled, name) == getattr(section(), name) for name in set(types) - others)


def test_the_default_config_is_the_methods_defaults() -> None:
    default = config.Config()
    assert default.train.fill(Settings, seed=default.seed) == Settings()
    assert settings_of(default) == MlmSettings()
    assert fusion_settings(default, (3, 2)) == FusionSettings((3, 2))


def test_a_field_that_no_key_fills_is_an_error() -> None:
    with pytest.raises(AttributeError, match="seed"):
        TrainConfig().fill(Settings)
    with pytest.raises(TypeError, match="sede"):
        TrainConfig().fill(Settings, seed=1, sede=1)


def test_overrides_reach_nested_keys_and_parse_numbers() -> None:
    resolved = config.load(None, ["train.eta=1e-4", "embed.lyrics.words=7", "label.k=3"])
    assert resolved.train.eta == 1e-4
    assert resolved.embed.lyrics.words == 7
    assert resolved.label.k == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.etta=1", "unknown key 'train.etta'; did you mean 'train.eta'"),
        ("trian.eta=1", "unknown key 'trian'; did you mean 'train'"),
        ("train.eta=7", "train.eta is 7: Input should be less than or equal to 1"),
        ("train.eta=fast", "train.eta is 'fast'"),
        ("label.k=1", "label.k is 1: Input should be greater than or equal to 2"),
        ("split.test_fold=5", "split.test_fold is 5, but with split.folds 5 it must be below 5"),
        ("embed.modalities=[audio]", "needs ingest.segments: stats"),
        ("recommend.protocol=paper", "set label.fit_on: all"),
        ("train.objective=ranks", "Input should be 'genre', 'factors' or 'ranking'"),
        ("recommend.model=network", "but it is genre: set train.objective, or recommend.model:"),
        ("train.eta", "write it as section.key=value"),
        ("cluster.resources={ingst: {a: 1}}", "no such stage; did you mean 'ingest'"),
        ("cluster.resources={ingest: {GPU: 1}}", "is no custom resource"),
        ("cluster.resources={ingest: {a: 0}}", "greater than 0"),
        ("embed.lyrics.dtype=int8", "8-bit integers are not offered"),
        ("seed.x=1", "seed is {'x': 1}"),
    ],
)
def test_a_wrong_key_or_value_is_named(override, message) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: [", "is not valid YAML"),
        ("- 1", "must be a mapping"),
        (None, "no such config file"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, message) -> None:
    path = tmp_path / "bad.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        config.load(path)
    assert str(path) in str(caught.value)


def test_one_value_is_a_list_of_one() -> None:
    settings = ["source.plays=x.txt", "source.lyrics=y.txt", "compare.test_folds=1"]
    loaded = config.load(None, [*settings, "compare.splits=song"])
    assert loaded.source.plays == ("x.txt",)
    assert loaded.source.lyrics == ("y.txt",)
    assert loaded.compare.test_folds == (1,)
    assert loaded.compare.splits == ("song",)
    with pytest.raises(ConfigError, match=r"source.plays is .* must be a list, as \[a, b\]"):
        config.load(None, ["source.plays={a: 1}"])


def test_classes_that_nobody_learns_are_not_ranked_by() -> None:
    both = ["train.objective=factors", "recommend.model=genre"]
    with pytest.raises(ConfigError, match=r"set recommend.model: network .or blend., or train"):
        config.load(None, both)
    for fitting in ("network", "blend"):
        found = config.load(None, [both[0], f"recommend.model={fitting}"])
        assert found.recommend.model == fitting


def test_blends_of_one_name_are_refused() -> None:
    """The context of named signals changes nothing: two such blends would share a row."""
    entry = "{{signals: [taste], context: {}, other_plays: {}}}"
    blends = "compare.blends=[" + ", ".join(entry.format(x, "true") for x in ("true", "false"))
    with pytest.raises(ConfigError, match="blends has 'blend taste, other plays' twice"):
        config.load(overrides=[blends + "]"])
    two = [entry.format("true", x) for x in ("true", "false")]
    found = config.load(overrides=[f"compare.blends=[{', '.join(two)}]"])
    assert [run.name for run in found.compare.blends] == ["blend taste, other plays", "blend taste"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("blend.signals", "[]"),
        ("compare.blends", "[{signals: []}]"),
        ("ladder.rungs", "[{method: fusion, fusion: {}}, {method: blend, blend: {signals: []}}]"),
        ("blend.others", "1"),
        ("blend.landmarks", "16385"),
    ],
)
def test_a_blend_of_nothing_and_settings_out_of_bounds_are_refused(key, value) -> None:
    with pytest.raises(ConfigError, match=key.split(".")[1]):
        config.load(overrides=[f"{key}={value}"])


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        (tune.STAGE, ()),
        (tune.STAGE, ("tune.space={fuse.operator: [gated, concatenate]}",)),
        (compare.STAGE, ("compare.methods=[fusion]", "fuse.operator=gated")),
        (compare.STAGE, ("compare.methods=[fusion-ranking]", "fuse.operator=gated")),
    ],
)
def test_no_row_or_trial_leaves_out_what_its_inputs_mix(stage, more) -> None:
    with pytest.raises(ConfigError, match="mixes by one"):
        stage.check(config.load(None, ["train.modality_dropout=0.3", *more]))
    stage.check(config.load(None, ["train.modality_dropout=0.3", "fuse.missing=learned", *more]))


def test_modalities_that_one_pca_mixes_cannot_be_left_out() -> None:
    with pytest.raises(ConfigError, match=r"fuse\.missing: neutral mixes .* set fuse\.missing"):
        train.STAGE.check(config.load(None, ["train.modality_dropout=0.3"]))
    for other in ("fuse.missing=learned", "fuse.operator=gated", "train.modality_dropout=0"):
        train.STAGE.check(config.load(None, ["train.modality_dropout=0.3", other]))
