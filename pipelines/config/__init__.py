"""The configuration: one typed tree from YAML and overrides.

Every key has a type, a default, a line of documentation and bounds. The sections are in
`sources`, `features`, `learning`, `taste`, `blend`, `results`, `lists`, `compare` and `cluster`;
`tree` holds them all, and `stages` names the stages.
`loading` reads YAML, applies ``--set section.key=value``, and writes the resolved tree, which is
kept with every run; an unknown key is an error that suggests the nearest one.
"""

from pipelines.config.blend import BlendConfig, BlendRun
from pipelines.config.cluster import ClusterConfig
from pipelines.config.compare import CompareConfig, FusionRun
from pipelines.config.features import LyricsConfig
from pipelines.config.learning import SEARCHABLE, Objective, Range, TrainConfig
from pipelines.config.loading import describe, from_dict, load, replaced, to_yaml
from pipelines.config.results import TableRun
from pipelines.config.stages import STAGES
from pipelines.config.tree import Config

__all__ = [
    "SEARCHABLE",
    "STAGES",
    "BlendConfig",
    "BlendRun",
    "ClusterConfig",
    "CompareConfig",
    "Config",
    "FusionRun",
    "LyricsConfig",
    "Objective",
    "Range",
    "TableRun",
    "TrainConfig",
    "describe",
    "from_dict",
    "load",
    "replaced",
    "to_yaml",
]
