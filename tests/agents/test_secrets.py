from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allready.agents.secrets import Redactor, is_secret_name, secret_values


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY", "GITHUB_TOKEN", "githubToken", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID",
        "DB_PASSWORD", "PGPASSWORD", "MYSQL_PWD", "SMTP_PASS", "VAULT_TOKEN_2", "TOKEN2", "npm_config__auth",
        "AZURE_CREDENTIALS", "BASIC-AUTH", "KEY", "APIKEY", "client.secret", "SSH_PASSPHRASE",
    ],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "KEYBOARD", "XKB_KEYMAP", "MONKEY", "HOTKEYS", "PATH", "PWD", "OLDPWD", "HOME", "SSH_AUTH_SOCK",
        "SSH_ASKPASS", "TOKENIZERS_PARALLELISM", "XAUTHORITY", "TOKEN_URL", "AUTH_TYPE", "COMPASS",
        "SECRETARY", "GIT_AUTHOR_NAME", "PRIVATE_KEY_FILE", "ALLREADY_IDEMPOTENCY_KEY", "", "_",
    ],
)  # fmt: skip
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_name(name)


def test_values_are_long_enough_known_once_and_no_paths_of_files(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.touch()
    environ = {
        "A_TOKEN": "abcdefgh",
        "B_TOKEN": "abcdefgh\n",
        "C_TOKEN": "abcdefg",
        "GOOGLE_APPLICATION_CREDENTIALS": str(file),
        "D_KEY": "/no/such/file/but/base64",
        "EDITOR": "not a secret",
        "DATABASE_URL": "postgresql://user:pass%40word@host/db",
        "PROXY": "http://user:short@host/",
    }
    assert secret_values(environ) == ("abcdefgh", "/no/such/file/but/base64", "pass%40word")


def test_text_blanks_all_places() -> None:
    assert Redactor(["hunter22"]).text("a hunter22 b hunter22hunter22") == "a [secret] b [secret][secret]"


def test_overlapping_secrets_leave_nothing() -> None:
    redactor = Redactor(["abcdefgh", "efghijkl", "abcdefghijklmnop"])
    assert redactor.text("xabcdefghijklx") == "x[secret]x"
    assert redactor.text("xabcdefghijklmnopx") == "x[secret]x"


def test_no_values_change_nothing() -> None:
    assert Redactor().text("as it was") == "as it was"
    assert Redactor().stream().feed(b"as it was") == b"as it was"


def test_secrets_of_several_lines() -> None:
    line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"
    pem = f"-----BEGIN PRIVATE KEY-----\n{line}\nshort\n-----END PRIVATE KEY-----"
    redactor = Redactor([pem])
    assert redactor.text(f"<{pem}>") == "<[secret]>"
    assert redactor.text("<" + pem.replace("\n", "\r\n") + ">") == "<[secret]>"
    assert redactor.text(json.dumps({"key": pem})) == '{"key": "[secret]"}'
    assert redactor.text(f"  {line}  ") == "  [secret]  "
    assert redactor.text("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"


def test_escaped_forms() -> None:
    redactor = Redactor(['pass"wörd\\1 &'])
    assert redactor.text(json.dumps(['pass"wörd\\1 &'])) == '["[secret]"]'
    assert redactor.text(json.dumps(['pass"wörd\\1 &'], ensure_ascii=False)) == '["[secret]"]'
    assert redactor.text("?p=pass%22w%C3%B6rd%5C1%20%26&x") == "?p=[secret]&x"


def test_json_blanks_strings_and_keys() -> None:
    value = {"a hunter22": ["hunter22", 1, None, True, {"b": ("hunter22!",)}]}
    assert Redactor(["hunter22"]).json(value) == {
        "a [secret]": ["[secret]", 1, None, True, {"b": ["[secret]!"]}]
    }


def test_stream_holds_back_only_what_may_be_the_start_of_a_secret() -> None:
    stream = Redactor(["hunter22"]).stream()
    assert stream.feed(b"password: hunt") == b"password: "
    assert stream.feed(b"ing is fun h") == b"hunting is fun "
    assert stream.feed(b"unter2") == b""
    assert stream.feed(b"2, hunter2") == b"[secret], "
    assert stream.flush() == b"hunter2"


def test_stream_memory_does_not_grow_on_self_similar_secrets() -> None:
    stream = Redactor(["x" * 20]).stream()
    given_out = b"".join(stream.feed(b"x" * 1000) for _ in range(20)) + stream.flush()
    assert given_out == b"[secret]"
    assert stream.feed(b"y") == b"y"


def test_values_that_are_not_utf8_are_blanked_in_bytes() -> None:
    value = b"p\xffssword!".decode("utf-8", "surrogateescape")
    assert Redactor([value]).stream().feed(b"<p\xffssword!>") == b"<[secret]>"


small = st.text("abc", max_size=40)


@given(st.lists(st.text("abc", min_size=1, max_size=6), max_size=4), small, st.lists(st.integers(0, 40)))
def test_a_stream_gives_the_same_as_the_whole_however_it_is_split(
    secrets: list[str], text: str, cuts: list[int]
) -> None:
    redactor = Redactor(secrets)
    stream = redactor.stream()
    places = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [text[start:stop].encode() for start, stop in pairwise(places)]
    streamed = b"".join(map(stream.feed, pieces)) + stream.flush()
    assert streamed.decode() == redactor.text(text)


@given(st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=4), small)
def test_no_secret_survives(secrets: list[str], text: str) -> None:
    shown = Redactor(secrets).text(text).replace("[secret]", "|")
    assert not any(secret in shown for secret in secrets)
