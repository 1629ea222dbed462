"""Fuse: standard scaling, concatenation and PCA (paper 3.2, 5.3), fitted on training songs.

Two passes over the features, as map-reduce: moments of each modality over the songs that
have it, then the covariance of the scaled, concatenated rows. What is reduced are D x D
sums in float64 (9 MB for D = 1,073), from at most `_GROUPS` tasks; their number is fixed,
so that rounding does not depend on the cluster.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from fusionrec import schemas
from fusionrec.config import Config
from fusionrec.errors import DataError
from fusionrec.features.moments import PCA, Covariance, Moments, Scaler
from pipelines import cluster
from pipelines.stage import Counts, Stage, resumable
from pipelines.tables import matrix, vectors
from pipelines.workspace import StageRun, Workspace, part_name

_GROUPS = 16
