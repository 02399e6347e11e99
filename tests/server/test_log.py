"""Log lines: one a record, with the request's id, in either form."""

import json
import logging
import sys

import pytest

from server.log import JsonFormatter, PlainFormatter, configure_logging, request_id_var


def record(message: str = "hello", **extra: object) -> logging.LogRecord:
    made = logging.getLogger("server.test").makeRecord(
        "server.test", logging.INFO, __file__, 1, message, (), None, extra=extra
    )
    made.request_id = "req_1"
    return made


def test_json_line():
    line = json.loads(JsonFormatter().format(record("line\nbreak \ud800", status=200, nothing=None)))
    assert line["message"] == "line\nbreak \ud800"
    assert (line["request_id"], line["status"], line["level"]) == ("req_1", 200, "info")
    assert "nothing" not in line


def test_plain_line_is_one_line():
    line = PlainFormatter().format(record("a\r\nforged line", status=200))
    assert "\n" not in line
    assert line.endswith("INFO server.test: a\\r\\nforged line status=200 [req_1]")


def test_exceptions_are_whole():
    try:
        raise KeyError("cause")
    except KeyError:
        failing = record()
        failing.exc_info = sys.exc_info()
    assert "KeyError: 'cause'" in PlainFormatter().format(failing)
    assert "KeyError: 'cause'" in json.loads(JsonFormatter().format(failing))["exception"]


def test_configured_lines_carry_the_request_id(capsys: pytest.CaptureFixture[str]):
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    token = request_id_var.set("req_2")
    try:
        configure_logging("info", "json")
        logging.getLogger("server.test").info("seen")
        logging.getLogger("server.test").debug("unseen")
        line = json.loads(capsys.readouterr().err)
        assert (line["message"], line["request_id"]) == ("seen", "req_2")
    finally:
        request_id_var.reset(token)
        root.setLevel(level)
        root.handlers[:] = handlers
