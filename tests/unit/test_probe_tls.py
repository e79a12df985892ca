"""What HTTPS checks trust: files that are read once, and again when they are others."""

from __future__ import annotations

import errno
import os
import ssl
from pathlib import Path
from typing import NoReturn

import pytest

from paraglider.config.model import HttpRequest
from paraglider.health.probe_result import CannotProbe, is_reason
from paraglider.health.tls import TlsContexts

# Of two authorities, made for these tests alone.
ONE = """\
-----BEGIN CERTIFICATE-----
MIIBcDCCARegAwIBAgIUO+IoTi/8crVWUkrlgOFPZrFo3OowCgYIKoZIzj0EAwIw
DjEMMAoGA1UEAwwDb25lMB4XDTI2MTEzMDAwMTAxN1oXDTM2MTEyNzAwMTAxN1ow
DjEMMAoGA1UEAwwDb25lMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEh7/Mk/Lo
05GfYB+vYU9hS5SIx5y6mSrQSB20jE3ztIPCk+6+gOs/Yhv80gXSbomtylRsFMT0
Jx42aqGF3ThayaNTMFEwHQYDVR0OBBYEFPAn7lNSh+hdkNyqJmpwtFsNmIZ3MB8G
A1UdIwQYMBaAFPAn7lNSh+hdkNyqJmpwtFsNmIZ3MA8GA1UdEwEB/wQFMAMBAf8w
CgYIKoZIzj0EAwIDRwAwRAIgcUZAKUzl54unQb6xaxNn63gJF1sb3Kp6bKrzOb3T
iMMCIFN48CAhfpiK9FE9ukuMgc0bphDXxuyb5/KLZp1yDXYV
-----END CERTIFICATE-----
"""
TWO = """\
-----BEGIN CERTIFICATE-----
MIIBcTCCARegAwIBAgIUNEPU6QILAoNDbk3x+E5/qvH1nWAwCgYIKoZIzj0EAwIw
DjEMMAoGA1UEAwwDdHdvMB4XDTI2MTEzMDAwMTAxN1oXDTM2MTEyNzAwMTAxN1ow
DjEMMAoGA1UEAwwDdHdvMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEDdJWcM88
ggoFHjCoavYM3ARxGr4VE26rK0wR7RecB8/X7ndKdt1lGXIzp8+hBzmCKgXYnhsA
FleYZleMsAvCRaNTMFEwHQYDVR0OBBYEFKQQCqRvbByTZveac3ps9ocDGlruMB8G
A1UdIwQYMBaAFKQQCqRvbByTZveac3ps9ocDGlruMA8GA1UdEwEB/wQFMAMBAf8w
CgYIKoZIzj0EAwIDSAAwRQIgXdlDxBJkeYicGuVows4g8b09kEyObq4qtJjHTIpB
f2ICIQCVQX3XrjW/OUBE7i4f88wY2v89j27+g1WoX3QnsXA3RQ==
-----END CERTIFICATE-----
"""
SYSTEM = HttpRequest()


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's certificates: a file that OpenSSL is told of, and no folder."""
    path = tmp_path / "bundle.pem"
    path.write_text(ONE)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    return path


def subjects(contexts: TlsContexts, request: HttpRequest) -> list[str]:
    """Return the names of the authorities that are trusted."""
    names = {ssl.PEM_cert_to_DER_cert(pem): name for pem, name in ((ONE, "one"), (TWO, "two"))}
    return sorted(names[der] for der in contexts.find(request).get_ca_certs(binary_form=True))


def test_an_authority_that_no_check_has_any_more_is_forgotten(bundle: Path) -> None:
    """Each takes memory, and a file may name another one with each reload."""
    contexts, kept, gone = (
        TlsContexts(),
        HttpRequest(ca=str(bundle)),
        HttpRequest(is_verified=False),
    )
    first, second = contexts.find(kept), contexts.find(gone)
    contexts.keep([HttpRequest(ca=str(bundle), path="/other")])
    assert contexts.find(kept) is first
    assert contexts.find(gone) is not second


def test_files_that_stay_the_same_are_read_once(bundle: Path) -> None:
    contexts, request = TlsContexts(), HttpRequest(ca=str(bundle))
    assert contexts.find(request) is contexts.find(request)
    assert contexts.find(SYSTEM) is contexts.find(SYSTEM)
    assert contexts.find(SYSTEM) is not contexts.find(request)


def test_certificates_of_the_system_that_are_renewed_are_trusted(bundle: Path) -> None:
    """As update-ca-certificates does it: the file is replaced by another one."""
    contexts = TlsContexts()
    assert subjects(contexts, SYSTEM) == ["one"]
    other = bundle.with_name("new.pem")
    other.write_text(ONE + TWO)
    other.replace(bundle)
    assert subjects(contexts, SYSTEM) == ["one", "two"]


def test_an_authority_that_is_replaced_is_trusted(bundle: Path) -> None:
    """Written over with the same size and the same time of change, and by a link that moves."""
    link = bundle.with_name("ca.pem")
    link.symlink_to(bundle)
    contexts, request = TlsContexts(), HttpRequest(ca=str(link))
    size = max(len(ONE), len(TWO))
    bundle.write_text(ONE.ljust(size, "\n"))
    assert subjects(contexts, request) == ["one"]
    before = bundle.stat()
    bundle.write_text(TWO.ljust(size, "\n"))
    os.utime(bundle, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert subjects(contexts, request) == ["two"]
    other = bundle.with_name("other.pem")
    other.write_text(ONE)
    link.unlink()
    link.symlink_to(other)
    assert subjects(contexts, request) == ["one"]


def test_a_file_that_cannot_be_read_says_which_and_what_to_do(bundle: Path) -> None:
    """It is read again once it is there, and so is one that goes away later."""
    contexts, missing = TlsContexts(), bundle.with_name("ca.pem")
    request = HttpRequest(ca=str(missing))
    reason = f"cannot read ca {missing}: No such file or directory; correct the path, or mount"
    for _ in range(2):
        with pytest.raises(CannotProbe) as caught:
            contexts.find(request)
        assert str(caught.value).startswith(reason)
        missing.write_text(ONE)
        assert subjects(contexts, request) == ["one"]
        missing.unlink()


@pytest.mark.parametrize("text", ["", "no PEM\n", ONE.replace("MII", "???")])
def test_a_file_without_a_certificate_says_so(bundle: Path, text: str) -> None:
    bundle.write_text(text)
    with pytest.raises(CannotProbe, match=r"no certificate can be read from ca .*; put the auth"):
        TlsContexts().find(HttpRequest(ca=str(bundle)))


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe that nobody writes to, and a folder."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(CannotProbe, match="is not a regular file"):
            TlsContexts().find(HttpRequest(ca=str(path)))


def test_a_system_without_certificates_says_what_to_install(bundle: Path) -> None:
    """Else every backend would seem to have a bad one."""
    bundle.unlink()
    with pytest.raises(CannotProbe, match="install ca-certificates") as caught:
        TlsContexts().find(SYSTEM)
    assert is_reason(str(caught.value))
    assert not TlsContexts().find(HttpRequest(is_verified=False)).check_hostname


def test_certificates_in_a_folder_alone_are_enough(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL looks them up by their hashes, one by one."""
    bundle.unlink()
    monkeypatch.setenv("SSL_CERT_DIR", str(bundle.parent))
    bundle.with_name("0123abcd.0").write_text(ONE)
    assert TlsContexts().find(SYSTEM).check_hostname


def test_no_files_left_is_not_taken_for_no_certificates(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is to be installed or corrected then."""

    def fail(*_arguments: object, **_options: object) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    bundle.write_text("")
    monkeypatch.setattr(os, "listdir", fail)
    with pytest.raises(CannotProbe, match=r"Too many open files$"):
        TlsContexts().find(SYSTEM)
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", fail)
    with pytest.raises(CannotProbe, match=r"Too many open files$"):
        TlsContexts().find(HttpRequest(ca=str(bundle)))
