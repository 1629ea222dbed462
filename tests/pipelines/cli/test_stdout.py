"""Standard output belongs to results."""

import threading

from pipelines.cli.stdout import stdout_for_results


def test_what_rays_threads_print_is_no_result(capsys) -> None:
    """As its driver does with what a node has to say of memory that is short."""
    with stdout_for_results():
        thread = threading.Thread(target=print, args=("memory is short",))
        thread.start()
        thread.join()
        print("a result")
    print("another")
    assert capsys.readouterr().out == "a result\nanother\n"
