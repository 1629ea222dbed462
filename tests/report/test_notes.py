"""What is said of lists made elsewhere: nothing that was not found is told as a row of zeros."""

from typing import Any

from fusionrec.report.comparison import external_notes


def notes(**found: int) -> list[str]:
    nothing = dict.fromkeys(("unknown_users", "unknown_songs", "without_list"), 0)
    of_file = {"lists": 2000, **nothing, "without_candidate": 0, **found}
    summary: Any = {"folds": {"users": 1900}, "external": {"theirs": of_file}}
    return external_notes(summary)


def test_where_all_is_found_it_is_said_so() -> None:
    assert notes() == [
        "theirs: 2,000 lists, whose users and songs the corpus has; each of 1,900 rankings has one"
    ]


def test_what_is_not_found_is_counted() -> None:
    assert notes(unknown_songs=7, without_list=3) == [
        "theirs: 2,000 lists, 0 of unknown users, with 7 unknown songs in all; of 1,900 rankings 3 "
        "have no list and 0 no candidate in it: these score 0"
    ]
