"""What is asked for by a call or a command, before any work is done."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from sepconvert import cli
from sepconvert.workflows.request import Request


class Asked(Exception):
    """Carries the request that was made."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request


def request_of(call: Callable[[], object]) -> Request:
    """The request that a call makes; what the record keeps of the typed words is left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Request, "__post_init__", _interrupt)
        with pytest.raises(Asked) as caught:
            call()
    request = caught.value.request
    return replace(request, outputs=replace(request.outputs, arguments=()))


def typed(line: str) -> Request:
    """The request that a command makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", shlex.split(line))
        return request_of(cli.main)


_check = Request.__post_init__


def _interrupt(request: Request) -> None:
    _check(request)
    raise Asked(request)
