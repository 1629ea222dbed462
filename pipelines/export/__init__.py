"""Export: what a finished workspace ranks by, as files that other systems read. Without Ray.

`write` makes a folder of them, whole or not at all (`folder`): the `vectors` of songs and users as
Parquet, a search `index` over the songs, the trained network as ONNX (`network`), and a manifest
that says how each is to be `used`.
"""

from pipelines.export.write import Asked, export

__all__ = ["Asked", "export"]
