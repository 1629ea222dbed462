"""Update: songs and plays that came since the last run, ingested, made vectors of and ranked.

Nothing is fitted: new songs get their vectors by the models that the workspace's lists for everyone
were made by. It stands on these lists, whatever has been updated before: an update has all that
came since, and a later one, after more files came, is another result. What it reads of the run is,
beside the lists and the vectors of their users, the songs' vectors, and plays of users who have new
ones.

The lists are those that the run would have made of all songs and plays by the same models, to
rounding. For who is known to the model by nothing, popularity counts the new plays; under `blend`
what the plays of all users have told of each of them (popularity, factors) stays as it is, and of
new users is made of their plays of songs that the blend learned from.
"""

from __future__ import annotations

from typing import Any

from pipelines.config import Config
from pipelines.ingest import stage as ingest
from pipelines.opened.new_by_blend import require_unseen
from pipelines.recommend.stage import GPUS
from pipelines.runtime import tasks
from pipelines.runtime.shards import shards_of_rows
from pipelines.runtime.stage import Counts, Stage, processor_lines
from pipelines.runtime.workspace import StageRun, Workspace
from pipelines.update import base, numbering, songs, sources, users
from pipelines.update.base import LISTS
from pipelines.update.lists import submit_offered, update_lists
from pipelines.update.reading import STAGING, counts_of, read_new
from pipelines.update.report import REPORT, write_report
from pipelines.update.sources import NewTables

# Which songs played are not in the corpus, the new files alone do not say.
REJECTS = (*(each for each in ingest.REJECTS if each != "play_unmatched"), *numbering.REJECTS)


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Read, number, make vectors, bring plays together, rank; and tell how far it is."""
    new = tasks.run_task(run, NewTables.of, config, workspace, run.content["source"])
    read = read_new(config, workspace, run, new)
    numbers = numbering.number(workspace, run, read)
    centre = tasks.submit(run, songs.find_centre, workspace)
    made = songs.make_vectors(config, workspace, run, read, centre)
    width = workspace.require("lists")["content"]["settings"]["lists"]["users_per_shard"]
    shards = shards_of_rows(numbers.all_users, width)
    sent = numbering.send_plays(workspace, run, numbers, width, len(shards))
    played = users.bring_plays_together(workspace, run, numbers, shards)
    stored = submit_offered(config, workspace, run, numbers)
    known = users.known_by(config, workspace, run, stored, numbers)
    lists = update_lists(config, workspace, run, numbers, stored, known, shards)
    rejects = tasks.run_task(run, ingest.merge_rejects, run, REJECTS)
    counted = {
        "new_songs": numbers.added,
        "new_songs_with_vector": sum(each.present for each in made),
        "songs_of_the_run": numbers.known,
        "songs_known_by_plays_before": numbers.adopted,
        "new_plays": sum(each.plays for each in sent),
        "new_plays_of_other_songs": sum(each.other + each.unknown for each in sent),
        "new_users": numbers.added_users,
        "users_with_new_plays": sum(each.users for each in played),
        "lists": sum(each.users for each in lists),
        "lists_merged": sum(each.merged for each in lists),
        "lists_ranked_anew": sum(each.anew for each in lists),
        "lists_with_new_songs": sum(each.with_new for each in lists),
        "fallback": sum(each.fallback for each in lists),
        **rejects,
    }
    report = write_report(config, workspace, run, numbers, sent, made, centre, counted)
    return {**report, "read": counts_of(read), "ranker": processor_lines(lists)}


def anything_new(config: Config) -> bool:
    """Whether the source has a file that the lists' run did not read.

    Raises
    ------
    ConfigError, SourceError, WorkspaceError
        As the stage does before it begins.
    """
    _check(config)
    return bool(sources.new_state(config, base.standing(config)))


def withdraw(config: Config) -> bool:
    """Let the lists of the run be those that are shown again, as where nothing is new.

    False, and nothing changes, if no update is current. Its result stays, for when its files are
    there again.
    """
    workspace = Workspace(config.workspace)
    if STAGE.name not in workspace.current():
        return False
    workspace.point_to_none(STAGE.name)
    workspace.publish(STAGE.name, STAGE.published)
    return True


def _check(config: Config) -> None:
    base.check(config)
    if config.recommend.model == "blend":
        require_unseen(base.standing(config))


def _settings(config: Config) -> dict[str, Any]:
    """All else is what the lists are of, and the files."""
    return {
        "update": config.update.model_dump(mode="json"),
        "ingest": config.ingest.model_dump(include={"rows_per_shard", "bytes_per_shard"}),
    }


STAGE = Stage(
    name="update",
    needs=lambda config: (LISTS,),
    settings=_settings,
    source=sources.state,
    source_after=sources.same_state,
    check=_check,
    work=work,
    gpus=GPUS,
    staging=(
        *STAGING,
        *numbering.STAGING,
        *ingest.REJECTS,
        *numbering.REJECTS,
        songs.MEASURES,
    ),
    published=(REPORT,),
)
