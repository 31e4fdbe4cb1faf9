"""Routes: one canonical form, and nothing that another server could read as a guarded route."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.errors import WireError
from guardproxy.wire.routes import ROUTES, canonical, match

GUARDED = [route for route in ROUTES if not route.pass_through]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_found_by_its_path(route: object) -> None:
    assert isinstance(route, type(ROUTES[0]))
    path = route.path.replace("{id}", "resp_123")
    assert match(route.method, canonical(path)) is route
    assert match(route.method, canonical(f"{path}?stream=true&x=/../")) is route
    assert match("DELETE", path) is None
    assert (route.dialect is None) is route.pass_through


def test_what_is_guarded_on_each() -> None:
    def flags(method: str, path: str) -> tuple[bool, bool, bool]:
        route = match(method, path)
        assert route is not None
        return route.guards_request, route.guards_response, route.refusable

    assert flags("POST", "/v1/chat/completions") == (True, True, True)
    assert flags("POST", "/v1/embeddings") == (True, False, False)
    assert flags("GET", "/v1/responses/resp_1") == (False, True, True)
    assert flags("GET", "/v1/chat/completions/c_1") == (False, True, True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/responses/resp_1"),
        ("GET", "/v1/responses/resp_1/input_items"),
        ("GET", "/v1/responses/"),
        ("POST", "/v1/audio/speech"),
        ("POST", "/chat/completions"),
        ("post", "/v1/chat/completions"),
        ("GET", "/"),
    ],
)
def test_what_is_no_route_of_ours(method: str, path: str) -> None:
    assert match(method, path) is None


@pytest.mark.parametrize("model", ["m", "org/model", "org%2Fmodel", "ft:gpt:a::b", "a%20b", "m@1"])
def test_names_of_models(model: str) -> None:
    route = match("GET", canonical(f"/v1/models/{model}"))
    assert route is not None
    assert route.pass_through


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completion%73",
        "/v1/chat%2Fcompletions",
        "/v1/chat%2fcompletions",
        "/v1//chat/completions",
        "//v1/chat/completions",
        "/v1/./chat/completions",
        "/v1/x/../chat/completions",
        "/v1/%2e%2e/v1/chat/completions",
        "/v1/chat/completions/",
        "/v1/chat/completions/.",
        "/V1/chat/completions",
        "/v1/Chat/Completions",
        "/v1/CHAT/completions",
        "/v1/Responses/resp_1",
        "/V1/models/m",
        "/v1\\chat\\completions",
        "/v1/chat%5Ccompletions",
        "/v1/chat/completions\t",
        "/v1/chat/completions%00",
        "/v1/chat/completions%0A",
        "/v1/chat/completions%7F",
        "/v1/chat/completions;x=1",
        "/v1/chat/completions%3Bx",
        "/v1/chat/completions%3Fx",
        "/v1/chat/completions%23",
        "/v1/chat/completions#x",
        "/v1/chat/completions%",
        "/v1/chat/completions%zz",
        "/v1/chat/completions%252F",
        "/v1/chat/completion\u017f",
        "/v1/models/../chat/completions",
        "/v1/models/x%2F..%2F..%2Fchat%2Fcompletions",
        "/v1/models/x%2F%2F",
        "/v1/models/",
        "/v1/models/m%2F",
        "v1/chat/completions",
        "http://e.com/v1/chat/completions",
        "",
        "*",
    ],
)
def test_paths_that_another_server_might_read_otherwise_are_refused(path: str) -> None:
    with pytest.raises(WireError) as caught:
        canonical(path)
    assert caught.value.status in {400, 404}


def _as_others_might(path: str) -> str:
    """A path after everything that servers are known to do to one."""
    for _ in range(3):
        path = unquote(path)
    path = path.replace("\\", "/").split(";")[0].split("#")[0].split("?")[0]
    path = "".join(each for each in path if each.isprintable()).strip()
    return posixpath.normpath(f"/{path}").replace("//", "/").lower()


PIECES = ["/v1", "/chat", "/completions", "/", "//", "/.", "/..", "%2F", "%2e", "/V1", "/x", "%63hat", ";a", "\\", "s"]


@given(st.lists(st.sampled_from(PIECES), max_size=7).map("".join))
def test_a_path_that_is_let_through_means_the_same_everywhere(path: str) -> None:
    try:
        taken = canonical(path)
    except WireError:
        return
    for route in GUARDED:
        if "{" not in route.path and _as_others_might(taken) == route.path:
            assert match(route.method, taken) is route
