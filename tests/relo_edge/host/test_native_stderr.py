"""What libraries write is kept off stderr, which comes back, whoever asked."""

import os
import threading

from relo_edge.host.native_stderr import silence_native_stderr


def test_stderr_comes_back(capfd):
    with silence_native_stderr():
        os.write(2, b"chatter")
    os.write(2, b"ours")
    assert capfd.readouterr().err == "ours"


def test_two_threads_leave_stderr_as_it_was(capfd):
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def begin_first():
        with silence_native_stderr():
            first_in.set()
            second_in.wait(10)
        first_out.set()

    other = threading.Thread(target=begin_first)
    other.start()
    first_in.wait(10)
    with silence_native_stderr():
        second_in.set()
        first_out.wait(10)
        os.write(2, b"chatter")
    other.join()
    os.write(2, b"ours")
    assert capfd.readouterr().err == "ours"


def test_what_was_written_can_be_read(capfd):
    for text in ("first", "second"):
        with silence_native_stderr() as read_messages:
            assert read_messages() == ""
            os.write(2, text.encode())
            assert read_messages() == text
    assert capfd.readouterr().err == ""
