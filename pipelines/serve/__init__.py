"""A finished workspace over HTTP: `fusionrec serve`.

`app` is the service as an ASGI application, with `forms` for what goes in and out, `problems` for
what goes wrong and `guard` before all of it: who may ask, how much and how long. `engine` ranks
requests in batches by a `snapshot` of the workspace, with all songs' `names`, which it replaces
when there is a newer result, and counts in `metrics`. `settings` has the limits. `alone` runs the
application in this process, by `connections` that may not be slow; `ray_app` makes it one of Ray
Serve, which `on_ray` runs.

The folder `page` is the page at `/`, which `page_files` gives out as it is. What it asks for beside
lists is in `pages`, with `page_forms`, and made once a snapshot by `shown`: `genres`, `song_map`
and `reports`.

Nothing imports it but the command, when it is asked to serve: it needs the extra `serve`.
"""
