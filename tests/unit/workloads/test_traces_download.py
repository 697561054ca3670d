"""Downloads from a server of this machine: whole and right, or nothing."""

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from grainwise.domain.errors import ArtifactError, ConfigurationError, GrainwiseError, PlatformError
from grainwise.workloads.traces.catalogue import CATALOGUE, PublicTrace
from grainwise.workloads.traces.download import find_public, get_trace

DATA = b"t_ms\n" + b"1\n" * 300_000
SHA256 = hashlib.sha256(DATA).hexdigest()
BLOB = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()


class Publisher(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path == "/truncated":
            self.send_header("Content-Length", str(len(DATA) + 1))
        elif self.path != "/unsaid":
            self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def url():
    with published() as base:
        yield base


@contextmanager
def published():
    with ThreadingHTTPServer(("127.0.0.1", 0), Publisher) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def public(url, sha256=SHA256, blob=None):
    return PublicTrace("t", "t.csv", url, sha256, "free", "nobody", "a test", blob)


def get(entry, folder, **limits):
    return get_trace(entry, folder, lambda received, total: None, **limits)


def test_a_trace_is_downloaded_and_checked_and_then_only_checked(url, tmp_path):
    seen = []
    folder = tmp_path / "new"
    found = get_trace(public(f"{url}/t"), folder, lambda received, total: seen.append((received, total)))
    assert (found.path.read_bytes(), found.sha256, found.trust, found.is_new) == (DATA, SHA256, "published", True)
    assert seen[-1] == (len(DATA), len(DATA))
    again = get(public("http://127.0.0.1:1/"), folder)
    assert (again.trust, again.is_new) == ("published", False)
    assert [path.name for path in folder.iterdir()] == ["t.csv"]


def test_a_length_that_the_server_does_not_say_is_no_matter(url, tmp_path):
    assert get(public(f"{url}/unsaid"), tmp_path).sha256 == SHA256


@pytest.mark.parametrize("entry", [{"sha256": "0" * 64}, {"sha256": None, "blob": "0" * 40}])
def test_a_wrong_hash_leaves_nothing_behind(url, tmp_path, entry):
    with pytest.raises(ArtifactError, match=r"t has the hash .* where 0000.* was expected, and was deleted"):
        get(public(f"{url}/t", **entry), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("path", "said"), [("missing", "answered 404 Not Found"), ("truncated", "broke off before its end")])
def test_what_does_not_come_whole_leaves_nothing_behind(url, tmp_path, path, said):
    with pytest.raises(PlatformError, match=said):
        get(public(f"{url}/{path}"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["t", "unsaid"])
def test_what_is_too_large_is_given_up(url, tmp_path, path):
    with pytest.raises(PlatformError, match="larger than 1,000 bytes"):
        get(public(f"{url}/{path}"), tmp_path, max_bytes=1000)
    assert list(tmp_path.iterdir()) == []


def test_a_publisher_who_is_not_there_is_named(tmp_path):
    with pytest.raises(PlatformError, match=r"http://127.0.0.1:1/ cannot be reached"):
        get(public("http://127.0.0.1:1/"), tmp_path)


def test_the_git_hash_of_the_repository_is_a_check_too(url, tmp_path):
    assert get(public(f"{url}/t", None, BLOB), tmp_path).trust == "repository"


def test_without_a_published_hash_the_first_download_is_trusted_and_later_ones_are_held_to_it(url, tmp_path):
    entry = public(f"{url}/t", None)
    assert get(entry, tmp_path).trust == "first"
    record = tmp_path / "t.csv.sha256"
    assert record.read_text() == f"{SHA256}  t.csv\n"
    assert get(entry, tmp_path).trust == "recorded"
    (tmp_path / "t.csv").write_bytes(b"other")
    with pytest.raises(ArtifactError, match="delete it to download it again"):
        get(entry, tmp_path)
    (tmp_path / "t.csv").unlink()
    assert get(entry, tmp_path).trust == "recorded"
    record.write_text("nonsense")
    with pytest.raises(GrainwiseError, match="holds no sha256"):
        get(entry, tmp_path)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"file cannot hold t.csv"):
        get(public("http://127.0.0.1:1/"), tmp_path / "file")


def test_the_catalogue_says_where_from_and_under_which_terms():
    assert len({entry.name for entry in CATALOGUE}) == len({entry.file for entry in CATALOGUE}) == len(CATALOGUE)
    for entry in CATALOGUE:
        assert entry.url.startswith("https://")
        assert entry.licence
        assert entry.citation
        assert entry.sha256 is None or len(entry.sha256) == 64
    with pytest.raises(ConfigurationError, match="no public trace 'x' in the catalogue; known: azure_llm_2023_code"):
        find_public("x")
