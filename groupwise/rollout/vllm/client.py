"""One question to a vLLM server, one answer, one deadline; whatever goes wrong is one line for the user."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from textwrap import shorten
from typing import Any

from groupwise.types import UserError

OTHER_WEIGHTS = 409


class OtherWeightsError(Exception):
    """The server does not hold the weights that were asked for: they are newer, or it was started anew."""


class Client:
    """Asks the server at `address` (host:port); `remedy` says what helps where it is gone."""

    def __init__(self, address: str, deadline: float, remedy: str) -> None:
        self.address, self.deadline, self._remedy = address, deadline, remedy

    def ask(self, path: str, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """GET `path`, or POST the request there. Raises UserError, or OtherWeightsError."""
        try:
            status, answer = self._exchange(path, request)
        except TimeoutError:
            raise UserError(
                f"vLLM at {self.address} gave no answer within {self.deadline:g} s; a longer rollout.vllm.deadline or "
                f"fewer rollouts an update may help; {self._remedy}"
            ) from None
        except (OSError, HTTPException, ValueError) as error:  # ValueError: what answers is no server of ours
            why = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"nothing of ours answers at {self.address} ({why}); {self._remedy}") from None
        if status == OTHER_WEIGHTS:
            raise OtherWeightsError(answer["error"])
        if status != 200:
            why = shorten(str(answer.get("error")), 300, placeholder=" ...")
            raise UserError(f"vLLM at {self.address} failed: {why}; {self._remedy}")
        return answer

    def _exchange(self, path: str, request: Mapping[str, Any] | None) -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection(self.address, timeout=self.deadline)
        try:
            body = None if request is None else json.dumps(request)
            connection.request("GET" if body is None else "POST", path, body)
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if not isinstance(answer, dict):
            raise ValueError("its answer is no JSON object")
        return response.status, answer
