"""The pages that docs/hooks.py makes, a module each.

`config_keys` and `commands` are the references of the configuration and of the command, `api`
has a page for each public module, in whose docstrings `roles` makes links of names. `notebooks`
are shown as pages, and `links` between files of the repository become those of the site.
"""
