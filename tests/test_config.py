"""config: where settings come from, which wins, and what is said of wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.config import MIB, Settings, flag_name, options, shown
from guardproxy.errors import ConfigError

NONE: Mapping[str, Any] = {}


def complaint(flags: Mapping[str, Any] = NONE, environ: Mapping[str, str] = NONE) -> str:
    with pytest.raises(ConfigError) as raised:
        Settings.load(flags, environ)
    return str(raised.value)


def test_the_defaults() -> None:
    plain = Settings.load({}, {})
    assert plain == Settings()
    assert (plain.upstream, plain.host, plain.port, plain.admin_port, plain.workers) == ("", "127.0.0.1", 8080, 8081, 1)
    assert (plain.max_body, plain.shutdown_timeout, plain.policy, plain.backend) == (32 * MIB, 30.0, "", "onnx")
    assert (plain.decision_log, plain.log_allowed) == ("-", False)
    assert plain.uvloop is True


def test_flags_win_over_variables_and_variables_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "guardproxy.yaml"
    file.write_text("port: 1001\nworkers: 2\nmax_body: 1MiB\nuvloop: no\n")
    environ = {"GUARDPROXY_PORT": "1002", "GUARDPROXY_WORKERS": "3", "GUARDPROXY_CONFIG": str(file), "HOME": "/"}
    found = Settings.load({"port": "1003"}, environ)
    assert (found.port, found.workers, found.max_body, found.uvloop) == (1003, 3, MIB, False)


def test_the_file_of_the_flag_wins_over_that_of_the_variable(tmp_path: Path) -> None:
    for name, port in (("a.yaml", 1001), ("b.toml", 1002)):
        (tmp_path / name).write_text(f"port{':' if name == 'a.yaml' else ' ='} {port}\n")
    environ = {"GUARDPROXY_CONFIG": str(tmp_path / "a.yaml")}
    assert Settings.load({}, environ).port == 1001
    assert Settings.load({"config": str(tmp_path / "b.toml")}, environ).port == 1002


def test_sizes_and_times_as_people_write_them() -> None:
    found = Settings.load({"max_held": "512KiB"}, {"GUARDPROXY_UPSTREAM_TIMEOUT": "5m"})
    assert (found.max_held, found.upstream_timeout) == (512 * 1024, 300.0)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        (" http://127.0.0.1:9000/openai/v1 ", "http://127.0.0.1:9000/openai/v1"),
        ("http://[::1]:9000/v1", "http://[::1]:9000/v1"),
    ],
)
def test_upstreams(url: str, base: str) -> None:
    assert Settings.load({"upstream": url}, {}).upstream == base


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://api.openai.com", "mostly ends in /v1: https://api.openai.com/v1"),
        ("https://api.openai.com/", "mostly ends in /v1: https://api.openai.com/v1"),
        ("api.openai.com/v1", "did you mean https://api.openai.com/v1?"),
        ("ftp://x/v1", "starts with http:// or https://"),
        ("https:///v1", "starts with http:// or https://"),
        ("https://x:0/v1", "starts with http:// or https://"),
        ("https://x:99999/v1", "not a URL"),
        ("https://[::1/v1", "not a URL"),
        ("https://x/v1?a=b", "nothing after its path"),
        ("https://x/v1#", "nothing after its path"),
        ("", "starts with http:// or https://"),
    ],
)
def test_what_is_no_upstream(url: str, words: str) -> None:
    found = complaint({"upstream": url})
    assert found.startswith("--upstream: ")
    assert words in found


@pytest.mark.parametrize(
    "url", ["https://user:hunter2@x/v1", "https://hunter2@x/v1", "user:hunter2@x", "x/v1?k=hunter2"]
)
def test_a_password_in_the_upstream_is_refused_and_not_repeated(url: str) -> None:
    assert "hunter2" not in complaint({"upstream": url})
    assert "hunter2" not in complaint({}, {"GUARDPROXY_UPSTREAM": url})


def test_wrong_values_name_their_source_and_setting_all_at_once(tmp_path: Path) -> None:
    file = tmp_path / "g.yaml"
    file.write_text("max_body: big\nlog_level: loud\nprt: 3\nhost:\n")
    found = complaint({"config": str(file), "port": "99999"}, {"GUARDPROXY_WORKERS": "many"})
    assert set(found.split("\n")) == {
        f"{file}:1:11: `max_body`: expected a size such as 32MiB, 512KiB or a number of bytes",
        f"{file}:2:12: `log_level`: expected one of debug, info, warning, error, not `loud`",
        f"{file}:3:1: unknown setting `prt`; did you mean `port`?",
        f"{file}:4:6: `host`: expected text, not nothing",
        "--port: expected a whole number from 0 to 65535",
        "GUARDPROXY_WORKERS: expected a whole number from 1 to 256",
    }


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("g.yaml", "a: [", "not readable as YAML"),
        ("g.yaml", "port: 1\nport: 2\n", ":2:1: the key `port` is written twice"),
        ("g.yaml", "- port\n", ":1:1: expected settings, such as `port: 8080`, not a list"),
        ("g.toml", "port = = 1", ":1:8: not readable as TOML"),
        ("g.toml", "[server]\nport = 1\n", "unknown setting `server`"),
        ("g.toml", "port = [1]\n", "`port`: expected"),
        ("g.toml", "prot = 1\n", "did you mean `port`?"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, name: str, text: str, words: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    found = complaint({"config": str(file)})
    assert found.startswith(str(file))
    assert words in found


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    for name in ("g.yaml", "g.toml"):
        (tmp_path / name).write_text("")
        assert Settings.load({"config": str(tmp_path / name)}, {}) == Settings()


def test_a_file_that_is_not_there_is_named_by_who_asked_for_it() -> None:
    assert complaint({"config": "/nonexistent"}) == "--config: the file cannot be read: No such file or directory"
    assert complaint({}, {"GUARDPROXY_CONFIG": "/nonexistent"}).startswith("GUARDPROXY_CONFIG: ")


def test_a_misspelt_variable_is_an_error() -> None:
    found = complaint({}, {"GUARDPROXY_UPSTRAEM": "https://x/v1"})
    assert found == "GUARDPROXY_UPSTRAEM: no setting has this variable; did you mean `GUARDPROXY_UPSTREAM`?"
    assert "no setting" in complaint({}, {"GUARDPROXY_port": "1"})


def test_what_kubernetes_and_keys_put_there_is_left_alone() -> None:
    environ = {
        "GUARDPROXY_PORT": "tcp://10.0.0.1:80",
        "GUARDPROXY_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "GUARDPROXY_PORT_8080_TCP_ADDR": "10.0.0.1",
        "GUARDPROXY_SERVICE_HOST": "10.0.0.1",
        "GUARDPROXY_SERVICE_PORT_HTTP": "80",
        "GUARDPROXY_ADMIN_PORT": "tcp://10.0.0.2:81",
        "GUARDPROXY_ADMIN_SERVICE_HOST": "10.0.0.2",
        "GUARDPROXY_HASH_KEY": "anything",
    }
    assert Settings.load({}, environ) == Settings()


def test_the_key_itself_is_no_name_of_a_variable_and_is_not_repeated() -> None:
    key = "-".join(["sk", "abcdef"])
    assert key not in complaint({"hash_key_env": key})


def test_every_setting_has_its_words_and_a_default_that_reads_back() -> None:
    for name, option, default in options():
        assert option.help
        assert option.help[-1] != "."
        assert shown(name, option, default)
        if not option.show:
            assert getattr(Settings.load({name: shown(name, option, default)}, {}), name) == default
    assert flag_name("max_body") == "--max-body"


names = st.sampled_from([each.name for each in fields(Settings)])


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(names, st.text(max_size=20), max_size=4))
def test_whatever_is_given_is_settings_or_a_config_error(given_flags: dict[str, str]) -> None:
    environ = {f"GUARDPROXY_{name.upper()}": value for name, value in given_flags.items()}
    try:
        found = Settings.load({}, environ)
    except ConfigError as error:
        assert str(error).count("\n") < len(environ)  # noqa: PT017 - one line for each mistake
    else:
        assert 0 <= found.port <= 65535
