"""The routes ask for the API's password."""

from __future__ import annotations

import pytest
from harness.client import Client
from harness.server import WebUI
from harness.servers import AUTH

pytestmark = pytest.mark.server("panel")


@pytest.mark.parametrize(("password", "status"), [(AUTH[1], 200), ("else", 401)])
def test_the_routes_ask_for_the_apis_password(webui: WebUI, password: str, status: int):
    client = Client(webui.url, (AUTH[0], password))
    assert [client.get(path).status for path in ("/ditail/v1/schema", "/ditail/v1/cache")] == [status, status]
    assert client.post("/ditail/v1/cache/clear").status == status
