"""Sources: HTTPS only, quick to give up, and one clear line from every registry client that fails."""

import email
import http.client
import importlib.util
import io
import os
import stat
import sys
import time
import urllib.request
import urllib.response
from pathlib import Path

import pytest

from kvformer.data import sources
from kvformer.data.sources import Debian, Download, Npm, PyPI, Rule, UserFiles
from kvformer.errors import DataError


def command(folder: Path, name: str, script: str) -> None:
    """Put a shell script called `name` into `folder`."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose programs hide those of the machine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


def test_user_files_are_a_folder_or_a_zip_file(tmp_path: Path) -> None:
    source = UserFiles("pets", "images")
    assert source.missing(tmp_path) == f"nothing in {tmp_path / 'pets'}"
    with pytest.raises(DataError, match="nothing in"):
        source.obtain(tmp_path, tmp_path)
    (tmp_path / "pets").mkdir()
    assert source.missing(tmp_path) is not None
    (tmp_path / "pets" / "a").touch()
    assert source.missing(tmp_path) is None
    assert source.obtain(tmp_path, tmp_path).location == tmp_path / "pets"
    (tmp_path / "pets.zip").touch()
    assert source.obtain(tmp_path, tmp_path).location == tmp_path / "pets.zip"


def test_only_https_is_fetched(tmp_path: Path) -> None:
    source = Download(("http://example.org/a",))
    with pytest.raises(DataError, match=r"http://example.org/a is not an HTTPS address"):
        source.obtain(tmp_path, tmp_path)
    assert "http://example.org/a is not an HTTPS address" in (source.missing(tmp_path) or "")


@pytest.mark.parametrize("target", ["https://example.org/b", "http://example.org/b", "ftp://example.org/b"])
def test_redirects_lead_to_https_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """The server at /a redirects to `target`; every other address of it answers "abc"."""

    def answer(handler: object, request: urllib.request.Request) -> urllib.response.addinfourl:
        redirected = request.selector == "/a"
        headers = email.message_from_string(f"Location: {target}\n" if redirected else "")
        found = urllib.response.addinfourl(io.BytesIO(b"abc"), headers, request.full_url, 302 if redirected else 200)
        found.msg = "found"
        return found

    monkeypatch.setattr(urllib.request.HTTPSHandler, "https_open", answer)
    for name in ("http_open", "ftp_open"):
        for handler in (urllib.request.HTTPHandler, urllib.request.FTPHandler):
            monkeypatch.setattr(handler, name, lambda *_: pytest.fail("connected"), raising=False)
    source = Download(("https://example.org/a",))
    if target.startswith("https:"):
        assert source.obtain(tmp_path, tmp_path / "scratch").read("a") == b"abc"
    else:
        with pytest.raises(DataError, match=f"^https://example.org/a: {target} is not an HTTPS address$"):
            source.obtain(tmp_path, tmp_path / "scratch")


def test_a_connection_that_breaks_off_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Torn(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise http.client.IncompleteRead(b"abc")

    def answer(handler: object, request: urllib.request.Request) -> urllib.response.addinfourl:
        found = urllib.response.addinfourl(Torn(), email.message_from_string(""), request.full_url, 200)
        found.msg = "found"
        return found

    monkeypatch.setattr(urllib.request.HTTPSHandler, "https_open", answer)
    with pytest.raises(DataError, match=r"^https://example.org/a: IncompleteRead"):
        Download(("https://example.org/a",)).obtain(tmp_path, tmp_path)


def test_an_unreachable_address_is_given_up_quickly(tmp_path: Path) -> None:
    source = Download(("https://kvformer.invalid/a.gz",))
    start = time.monotonic()
    with pytest.raises(DataError, match=r"https://kvformer.invalid/a.gz: "):
        source.obtain(tmp_path, tmp_path)
    assert "kvformer.invalid" in (source.missing(tmp_path) or "")
    assert time.monotonic() - start < 2 * sources.CONNECT_SECONDS + 2


def test_a_download_lands_in_the_scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = tmp_path / "content"
    content.write_bytes(b"abc")
    monkeypatch.setattr(sources, "_open", lambda url, method="GET": content.open("rb"))
    raw = Download(("https://example.org/x/labels",)).obtain(tmp_path, tmp_path / "scratch")
    assert raw.read("labels") == b"abc"
    assert raw.source == "download example.org"


def test_npm_package(tmp_path: Path, clients: Path) -> None:
    command(
        clients, "npm",
        '[ "$1 $2" = "pack sample@1.2" ] || exit 9\n'
        "mkdir -p package/data && echo abc > package/data/labels && tar czf sample-1.2.tgz package && rm -r package",
    )  # fmt: skip
    raw = Npm("sample", "1.2").obtain(tmp_path, tmp_path / "scratch")
    assert raw.read("labels") == b"abc\n"
    assert raw.source == "npm sample 1.2"


def test_a_failing_client_is_reported_with_its_last_line_of_output(tmp_path: Path, clients: Path) -> None:
    command(clients, "npm", "echo 'npm error code E404' >&2; echo >&2; echo 'npm error not found' >&2; exit 1")
    with pytest.raises(DataError, match=r"^npm failed: npm error not found$"):
        Npm("sample", "1.2").obtain(tmp_path, tmp_path / "scratch")
    command(clients, "npm", "exit 3")
    with pytest.raises(DataError, match=r"^npm failed: exit code 3$"):
        Npm("sample", "1.2").obtain(tmp_path, tmp_path / "scratch")


def test_a_client_that_hangs_is_given_up(tmp_path: Path, clients: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(clients, "npm", "exec sleep 60")
    monkeypatch.setattr(sources, "CLIENT_SECONDS", 0.2)
    with pytest.raises(DataError, match=r"npm did not finish within 0.2 s"):
        Npm("sample", "1.2").obtain(tmp_path, tmp_path / "scratch")


def test_missing_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for source, name in ((Npm("sample", "1"), "npm"), (Debian("sample"), "apt-get")):
        assert source.missing(tmp_path) == f"{name} is not on this machine"
        with pytest.raises(DataError, match=f"{name} is not on this machine"):
            source.obtain(tmp_path, tmp_path / "scratch")


def test_planning_sees_an_environment_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PyPI("sample", "1.0").missing(tmp_path) is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert PyPI("sample", "1.0").missing(tmp_path) == "pip is not in this Python environment"


def test_an_environment_without_pip(tmp_path: Path, clients: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(clients, "python", 'echo "$0: No module named pip" >&2; exit 1')
    monkeypatch.setattr(sys, "executable", str(clients / "python"))
    with pytest.raises(DataError, match=r"^pip failed: .*No module named pip$"):
        PyPI("sample", "1.0").obtain(tmp_path, tmp_path / "scratch")


def test_debian_fetches_lists_of_its_own_when_the_machine_has_none(tmp_path: Path, clients: Path) -> None:
    command(
        clients, "apt-get",
        'echo "$@" >> calls\n'
        'case "$*" in\n'
        "  *update) touch updated;;\n"
        '  *download*) [ -e updated ] || { echo "E: Unable to locate package sample" >&2; exit 100; }\n'
        "     mkdir -p files/usr/share && echo abc > files/usr/share/labels && touch sample_2.0-1_all.deb;;\n"
        "esac",
    )  # fmt: skip
    command(clients, "dpkg-deb", 'cp -r files/. "$3"')
    raw = Debian("sample").obtain(tmp_path, tmp_path / "scratch")
    assert raw.read("labels") == b"abc\n"
    assert raw.source == "Debian sample 2.0-1"
    first, update, second = (tmp_path / "scratch" / "debian" / "calls").read_text().splitlines()
    assert first == "download sample"
    assert "Dir::State::Lists=" in update
    assert "Dir::State::Lists=" in second


def test_a_rule_needs_nothing(tmp_path: Path) -> None:
    assert Rule("generated by rule").missing(tmp_path) is None
    assert Rule("generated by rule").obtain(tmp_path, tmp_path).source == "generated by rule"
