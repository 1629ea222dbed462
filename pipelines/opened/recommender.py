"""A finished workspace as an object: lists for anybody, songs like one, reasons, new songs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.errors import ConfigError, NotFoundError, WorkspaceError
from fusionrec.ranking.users import Weighting
from fusionrec.tables import vectors
from pipelines.config.results import RecommendConfig
from pipelines.opened import updates
from pipelines.opened.explained import of_plays, of_user, reason
from pipelines.opened.lists import lists_of
from pipelines.opened.new_songs import NewSongs
from pipelines.opened.plays import GivenPlays, Plays
from pipelines.opened.ranked import VECTORS, Candidates, Ranked
from pipelines.opened.reasons import Reason
from pipelines.opened.stored import model_of, most_like, on_taste
from pipelines.runtime.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.opened.new_by_blend import NewByBlend

Model = Literal["genre", "network", "blend"]


class Recommender:
    """A finished workspace, opened: no Ray, no cluster, and nothing is written.

    What is asked for is read when it is first needed, and kept: of a million songs, the vectors are
    some hundred MB. It ranks by what `fusionrec recommend` ranks by, with the same results.

    Examples
    --------
    >>> from pipelines.opened import Recommender
    >>> recommender = Recommender.open("demo/workspace")
    >>> recommender.search("love", top=3)[["song_id", "title"]]
    >>> plays = {"me": {"SOAXGDH12A8C13F8A1": 3, "SOBONKR12A58A7A7E0": 1}}
    >>> recommender.recommend(plays, top=10).to_pandas()
    >>> recommender.similar("SOAXGDH12A8C13F8A1", top=5).to_pandas()
    >>> recommender.explain(plays["me"], "SOFRQTD12A81C233C0").kinds

    Attributes
    ----------
    workspace
        With the results that belong together.
    model
        genre, network or blend.
    ranked
        What lists are ranked by: songs' vectors, and what makes users'.
    """

    def __init__(self, workspace: Workspace, model: Model, weighting: Weighting) -> None:
        """See :meth:`open`; `workspace` has the results that belong together."""
        self.workspace = workspace
        self.model: Model = model
        self.ranked = Ranked(workspace, model, weighting)

    @staticmethod
    def open(workspace: str | PathLike[str], model: Model | None = None) -> Recommender:
        """Open a workspace.

        Parameters
        ----------
        workspace
            A folder, or a URI such as ``s3://bucket/prefix``.
        model
            `genre` (class probabilities), `network` (a training on taste) or `blend`, as
            `recommend.model`; that of the workspace's lists, if none is given, or of its training
            if there are no lists.

        Raises
        ------
        ConfigError
            There is no model of this name.
        WorkspaceError
            The workspace has no finished result of this model.
        """
        base = Workspace(str(workspace))
        if model is not None and model not in VECTORS:
            raise ConfigError(f"model: {model!r} is none of {', '.join(VECTORS)}")
        found = {
            stage: manifest["content"]["settings"]
            for stage in ("recommend", "lists")
            if (manifest := base.manifest(stage)) is not None
        }
        models = {
            stage: model_of(base) if stage == "recommend" else settings["model"]
            for stage, settings in found.items()
        }
        chosen = cast(Model, model or next(iter(models.values()), model_of(base)))
        weighting: Weighting = RecommendConfig().weighting
        for stage, of in models.items():
            if of == chosen:
                settings = found[stage]
                weighting = settings.get("recommend", settings).get("weighting", weighting)
                seen = updates.beside(base, base.of(stage), VECTORS[chosen][0])
                return Recommender(seen, chosen, weighting)
        seen = base.of(VECTORS[chosen][0])
        if chosen != "blend" and on_taste(seen) != (chosen == "network"):
            learned = "taste" if on_taste(seen) else "classes"
            raise WorkspaceError(
                f"{base.uri}: has no model {chosen!r}: its training is on {learned}, which is "
                f"opened by model={'network' if on_taste(seen) else 'genre'!r}"
            )
        return Recommender(seen, chosen, weighting)

    def __repr__(self) -> str:
        return f"Recommender({self.workspace.uri!r}, model={self.model!r})"

    # --- songs by name -------------------------------------------------------------------

    def song(self, song_id: str) -> dict[str, str]:
        """What a song is called: `song_id`, `artist_name`, `title` and `release`.

        Raises
        ------
        NotFoundError
            The workspace does not have it.
        """
        self._row(song_id)
        named = self.ranked.catalogue.names([song_id])[song_id]
        texts = (song_id, named.artist, named.title, named.release)
        return dict(zip(schemas.SONG_NAMES, texts, strict=True))

    def search(self, text: str, top: int = 20) -> pa.Table:
        """Songs in whose artist and title all words of a text occur, in the catalogue's order.

        Returns
        -------
        pa.Table
            Columns `song_id`, `artist_name`, `title` and `release`.

        Raises
        ------
        ConfigError
            `top` is below 1.
        """
        _check_top(top)
        kept = pa.scalar(True)
        for word in text.lower().split():
            kept = pc.and_(pc.match_substring(self._lowered, word), kept)
        if isinstance(kept, pa.Scalar):
            return self._names.slice(0, top)
        return self._names.filter(kept).slice(0, top)

    @cached_property
    def _names(self) -> pa.Table:
        columns = list(schemas.SONG_NAMES)
        old = self.workspace.read("ingest", "songs", columns)
        return pa.concat_tables([old, updates.songs_added(self.workspace, columns)])

    @cached_property
    def _lowered(self) -> pa.ChunkedArray:
        parts = (pc.fill_null(self._names[name], "") for name in ("artist_name", "title"))
        return pc.utf8_lower(pc.binary_join_element_wise(*parts, " "))

    def _row(self, song_id: str) -> int:
        """The number of a song of the catalogue."""
        row = int(self.ranked.catalogue.rows([song_id])[0])
        known = 0 <= row < self.workspace.require("ingest")["counts"]["songs"]
        if not known and not (updates.has(self.workspace) and row >= updates.first(self.workspace)):
            raise NotFoundError(
                f"song {song_id}: is not in the catalogue of {self.workspace.uri}; `search` finds "
                "songs by artist and title"
            )
        return row

    # --- lists ---------------------------------------------------------------------------

    def recommend(
        self,
        plays: Plays,
        top: int = 500,
        candidates: Candidates = "all",
        exclude_heard: bool = True,
    ) -> pa.Table:
        """Lists for any users, by what they played: exact, by the kernel that the stages rank by.

        A user's vector is what the model makes of the plays: the mean of the songs' class
        probabilities weighted by plays (`genre`), the network's user tower (`network`), the sum of
        what the songs add by all signals (`blend`). What is no sum over songs (popularity,
        factors), a blend has learned of its own users, who are known by their ids. Of anybody else,
        and of a user none of whose plays it was to see, it is made of the given plays as the fit
        made it of its users', with nothing fitted again; plays of songs of which the blend learned
        none do not count for it, and who has no others has that of a user without plays. So lists
        by all plays of the workspace's users are those of `fusionrec recommend --for everyone`, and
        who played what the blend learned of a user gets that user's list, to rounding.

        Parameters
        ----------
        plays
            A pyarrow Table or pandas data frame with columns `user_id`, `song_id` and, if not
            all are 1, `plays`; or a mapping {user: {song: plays}} or {user: [song, ...]}. Rows of
            the same user and song are added up.
        top
            Songs of a list, at most.
        candidates
            Songs to choose from: `all`, `new` (those that nobody of the workspace played), `train`,
            `validation`, `test`, as `lists.candidates`; song ids; or a table or data frame with
            `song_id` and `vector`, such as :meth:`song_vectors` returns of new songs. Of these, a
            row without a vector is left out, and counted in the log.
        exclude_heard
            A song that a user played is not on that user's list.

        Returns
        -------
        pa.Table
            A row a user, in the order in which they are given, schema
            :data:`pipelines.opened.lists.RECOMMENDED`: `user_id`, `song_ids` (best first),
            `scores`, `fallback`, and of the songs that each user played how many were `used`,
            `unused` and `unknown`. Unknown ids are also named in a warning of the log `fusionrec`.

        Raises
        ------
        ConfigError
            `top` or the name of the candidates is wrong.
        DataError
            The plays or candidates cannot be read, or no candidate has a vector.
        """
        _check_top(top)
        offered = self.ranked.candidates(candidates)
        return lists_of(self.ranked, GivenPlays.of(plays), offered, top, exclude_heard)

    def vectors(self, candidates: Candidates = "all") -> pa.Table:
        """F of songs of the catalogue, in the form of :meth:`song_vectors`: those with a vector.

        Two such tables, concatenated, are candidates of :meth:`recommend`.
        """
        offered = self.ranked.candidates(candidates)
        rows = offered.packed.rows
        columns = [offered.ids, vectors(rows), pa.array(np.ones(len(rows), bool))]
        return pa.Table.from_arrays(columns, schema=schemas.features(rows.shape[1]))

    # --- like one, and why ---------------------------------------------------------------

    def similar(self, song_id: str, top: int = 20) -> pa.Table:
        """The songs that are best for whoever played one song, as `fusionrec recommend --like`.

        By class probabilities these are the songs whose probabilities have the largest product
        with its own; by a blend, all signals have a say but popularity and those whose users are no
        sums over histories; by a network trained on taste, the songs for a user who played it
        alone, but for what makes a song one for everybody.

        Returns
        -------
        pa.Table
            Columns `song_id`, `score`, `artist_name`, `title` and `release`, best first, without
            the song itself.

        Raises
        ------
        NotFoundError
            The workspace does not have the song, or the model knows nothing of it.
        ConfigError
            `top` is below 1.
        """
        _check_top(top)
        self._row(song_id)
        like = most_like(self.workspace, song_id, self.model, top)
        if like is None:
            raise NotFoundError(f"song {song_id}: has no features, so that no song is like it")
        _, ids, scores = like
        names = self.ranked.catalogue.names(ids)
        return pa.table(
            {
                "song_id": pa.array(ids, pa.string()),
                "score": pa.array(scores, pa.float32()),
                "artist_name": pa.array([names[song].artist for song in ids], pa.string()),
                "title": pa.array([names[song].title for song in ids], pa.string()),
                "release": pa.array([names[song].release for song in ids], pa.string()),
            }
        )

    def explain(self, user: str | Mapping[str, int], song_id: str) -> Reason:
        """What a song's score is made of, as `fusionrec recommend --why` has it.

        Parameters
        ----------
        user
            The id of a user of the workspace who has a list, which is explained; or what somebody
            played, {song: plays}.
        song_id
            Any song of the catalogue that has a vector, whether it is on the list or not.

        Returns
        -------
        Reason
            `score`, and its parts by `signals`, by `modalities` and by `kinds` (content, context,
            popularity), each of which adds up to it; `songs` are those of the history that add
            most, pairs of an id and what it adds.

        Raises
        ------
        NotFoundError
            There is no such user or song, or the model knows nothing of it.
        ConfigError
            The workspace's lists are of another model than the one that is opened.
        """
        row = self._row(song_id)
        if not self.ranked.songs.known[row]:
            raise NotFoundError(f"song {song_id}: has no vector, so that it has no score")
        if isinstance(user, str):
            return reason(self.ranked, of_user(self.ranked, user), song_id, row)
        return reason(self.ranked, of_plays(self.ranked, user), song_id, row)

    # --- new songs -----------------------------------------------------------------------

    def song_vectors(self, songs: Any, segments: pa.Table | None = None) -> pa.Table:
        """F(s) of songs that nobody has seen, by what is fitted: the network, or the blend.

        For a network the songs go the way of the stages `embed`, `fuse` and `train`: songs of the
        corpus, with their lyrics and segments, get the vectors that these wrote (to rounding). For
        a blend each signal compares them with the songs that it has kept for it, and by its artist
        and album: songs that nobody had played at the fit get their vectors again. Of an artist
        that the blend knows a new song has the similar artists, and where it gives none the
        hotttnesss and familiarity.

        Parameters
        ----------
        songs
            A pyarrow Table or pandas data frame. `song_id`, each once, and any of the columns of
            :data:`fusionrec.schemas.SONGS`, null where unknown. Lyrics are `words`, lists of words,
            with `counts`, or `text`, which is read as the corpus's lyrics were: as it stands, or by
            its words, of which those that the corpus does not have are left out and counted in the
            log (musiXmatch's are stems). A modality of one's own is a column of its name,
            lists of numbers.
        segments
            For the modality audio, schema :data:`fusionrec.schemas.SEGMENTS` or that of
            :func:`fusionrec.schemas.segment_statistics`; joined by `track_id`, which of a song
            that has none is its `song_id`.

        Returns
        -------
        pa.Table
            `song_id`, `vector` (zeros where it is not present) and `present`: whether the song has
            what the network needs, as `fuse.missing` has it, or of a blend, whether any signal
            knows something of it. Such a table may be the candidates of :meth:`recommend`. A blend
            ranks songs of its own of which nothing is known, all alike; new ones it leaves out.

        Raises
        ------
        DataError
            The songs cannot be read.
        WorkspaceError
            The blend is of an earlier version, which kept nothing that makes vectors of new songs.
        """
        return self._new_songs.make(songs, segments).table()

    @cached_property
    def _new_songs(self) -> NewSongs | NewByBlend:
        if self.model != "blend":
            return NewSongs(self.workspace)
        from pipelines.opened.new_by_blend import NewByBlend  # brings linear algebra with it

        return NewByBlend(self.workspace)


def _check_top(top: int) -> None:
    """Raise a ConfigError for less than one song."""
    if top < 1:
        raise ConfigError(f"top: is {top}: ask for one song or more")
