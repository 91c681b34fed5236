"""The PEM file of `ca-certificates`, and where its certificates go in an image."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_maker import AMD64

from hatch_docker.base.trust import trust_entries, trusted_files
from hatch_docker.errors import ConfigError, ImageError
from hatch_docker.oci.config import ImageConfig
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import Entry, Layer, write_layer
from hatch_docker.support.certificates import Certificates, normalized, read_certificates

DATA = Path(__file__).parent / "data" / "certificates"
ONE, TWO = ((DATA / name).read_text() for name in ("one.pem", "two.pem"))
DER = ssl.PEM_cert_to_DER_cert(ONE)
BUNDLE = "etc/ssl/certs/ca-certificates.crt"


def read(tmp_path: Path, data: bytes | str, name: str = "company.pem") -> Certificates:
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_certificates(path, "ca-certificates")


class TestReading:
    def test_several_are_read_once_each(self, tmp_path: Path) -> None:
        found = read(tmp_path, f"subject=CN = One\n{ONE}\n{TWO}{ONE}")
        assert found == Certificates(name="company", texts=(ONE, TWO))

    @pytest.mark.parametrize(
        "text",
        [
            ONE.replace("\n", "\r\n"),
            "\ufeff" + ONE,
            ONE.rstrip(),
            ONE.replace("CERTIFICATE", "X509 CERTIFICATE"),
            "-----BEGIN CERTIFICATE-----\n" + "".join(ONE.splitlines()[1:-1]) + "\n-----END CERTIFICATE-----",
        ],
    )
    def test_the_form_of_the_file_does_not_matter(self, tmp_path: Path, text: str) -> None:
        assert read(tmp_path, text).texts == (ONE,)

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"", "is empty"),
            (b" \n", "is empty"),
            (b"hello", "has no certificate in PEM"),
            (f"{ONE}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "has a private key"),
            (f"-----BEGIN RSA PRIVATE KEY-----\n{ONE}", "has a private key"),
            (DER, "is DER, not PEM; convert it: openssl x509 -inform der -in company.pem"),
            (b"\x30\x82\x09\x00\x02\x01\x03\x30", "openssl pkcs12 -nokeys"),
            (b"\x30\x82\x09\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02", "openssl pkcs7 -inform der"),
            ("-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n", "openssl pkcs7 -print_certs"),
            ("-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n-----END TRUSTED CERTIFICATE-----\n", "openssl x509 -in"),
            (f"{ONE}{TWO.replace('MII', 'XII', 1)}", "certificate 2 is damaged"),
            ("-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n", "certificate 1 is damaged"),
            ("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "certificate 1 is damaged"),
            (ONE.replace("-----END", "-----"), "has no certificate in PEM"),
            (b"x" * (5 << 20), "is larger than 4 MiB"),
        ],
    )
    def test_refuses_other_files_with_what_to_do(self, tmp_path: Path, data: bytes | str, said: str) -> None:
        with pytest.raises(ConfigError) as error:
            read(tmp_path, data)
        assert said in str(error.value)
        assert str(error.value).startswith("ca-certificates: ")
        assert "company.pem" in str(error.value)

    def test_refuses_a_directory_and_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="is a directory"):
            read_certificates(tmp_path, "ca-certificates")
        with pytest.raises(ConfigError, match=r"No such file.*relative to the project"):
            read_certificates(tmp_path / "none.pem", "ca-certificates")

    @pytest.mark.parametrize(
        ("name", "expected"), [("Ärger & Co.pem", "_rger___Co"), ("..pem", "certificates"), ("a.b.pem", "a.b")]
    )
    def test_names_are_safe_in_an_image(self, tmp_path: Path, name: str, expected: str) -> None:
        assert read(tmp_path, ONE, name).name == expected

    def test_the_digest_depends_on_name_and_content(self, tmp_path: Path) -> None:
        files = [("a.pem", ONE), ("b.pem", ONE), ("a.pem", TWO), ("a.pem", ONE + TWO)]
        assert len({read(tmp_path, text, name).digest for name, text in files}) == 4

    def test_many_beginnings_without_an_end_take_no_more_time_than_others(self, tmp_path: Path) -> None:
        hostile = b"-----BEGIN CERTIFICATE-----\n" * ((1 << 20) // 28)
        assert normalized(hostile) == frozenset()
        assert normalized(ONE.encode() + hostile) == {ONE}
        with pytest.raises(ConfigError, match="has no certificate in PEM"):
            read(tmp_path, hostile)

    @given(st.binary(max_size=200))
    def test_no_file_is_a_failure(self, data: bytes) -> None:
        begin, end = (f"-----{each} CERTIFICATE-----\n".encode() for each in ("BEGIN", "END"))
        assert normalized(begin + data + end) is not None


Files = Mapping[str, bytes | str | None]
CERTIFICATES = Certificates(name="company", texts=(ONE, TWO))


def image(tmp_path: Path, files: Files) -> Image:
    """An image of one layer: bytes are contents, text is the target of a link, None is a directory."""
    entries = [
        Entry(path=path, content=what, mode=0o640)
        if isinstance(what, bytes)
        else Entry(path=path, mode=0o755)
        if what is None
        else Entry(path=path, link=what)
        for path, what in files.items()
    ]
    path = tmp_path / "layer"
    with path.open("wb") as out:
        written = write_layer(entries, out)
    layer = Layer.of_file(path, written.descriptor, written.diff_id)
    return Image(config=ImageConfig(platform=AMD64), layers=(layer,))


def added(tmp_path: Path, files: Files, certificates: Certificates = CERTIFICATES) -> dict[str, Entry]:
    found = image(tmp_path, files)
    entries = trust_entries(found, trusted_files(found, threads=1), certificates)
    assert len({entry.path for entry in entries}) == len(entries)
    return {entry.path: entry for entry in entries}


class TestImages:
    def test_the_bundle_gets_those_that_it_lacks(self, tmp_path: Path) -> None:
        found = added(tmp_path, {BUNDLE: ONE.strip().encode()})
        assert found[BUNDLE].read().decode() == ONE + TWO
        assert found[BUNDLE].mode == 0o640
        assert added(tmp_path, {BUNDLE: (TWO + ONE).encode()}).keys().isdisjoint({BUNDLE})

    def test_links_to_bundles_stay(self, tmp_path: Path) -> None:
        files: Files = {
            BUNDLE: b"",
            "etc/ssl/cert.pem": "certs/ca-certificates.crt",
            "usr/lib/ssl/cert.pem": f"/{BUNDLE}",
        }
        found = added(tmp_path, files)
        assert [path for path in found if path.startswith(("etc", "usr/lib"))] == [BUNDLE]

    def test_every_bundle_is_extended(self, tmp_path: Path) -> None:
        tls = "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"
        files: Files = {
            tls: b"# red hat\n",
            "etc/pki/tls/certs/ca-bundle.crt": f"/{tls}",
            "etc/ssl/cert.pem": ONE.encode(),
        }
        found = added(tmp_path, files)
        assert found[tls].read().decode() == f"# red hat\n{ONE}{TWO}"
        assert found["etc/ssl/cert.pem"].read().decode() == ONE + TWO
        assert found["etc/pki/tls/cert.pem"].link == f"/{tls}"
        assert found["etc/pki/ca-trust/source/anchors/company-2.pem"].read().decode() == TWO

    def test_a_bundle_elsewhere_is_read_where_its_link_leads(self, tmp_path: Path) -> None:
        found = added(tmp_path, {BUNDLE: "/opt/trust/all.pem", "opt/trust/all.pem": b"before\n"})
        assert found["opt/trust/all.pem"].read().decode() == f"before\n{ONE}{TWO}"
        assert BUNDLE not in found

    def test_a_link_that_leads_nowhere_leads_to_a_new_bundle(self, tmp_path: Path) -> None:
        found = added(tmp_path, {"usr/lib/ssl/cert.pem": f"/{BUNDLE}"})
        assert found[BUNDLE].read().decode() == ONE + TWO
        assert found[BUNDLE].mode == 0o644

    def test_an_image_without_a_bundle_trusts_only_these(self, tmp_path: Path) -> None:
        found = added(tmp_path, {"usr/lib/ssl": None})
        assert found[BUNDLE].read().decode() == ONE + TWO
        assert {path: entry.link for path, entry in found.items() if entry.link} == {
            "etc/ssl/cert.pem": f"/{BUNDLE}",
            "usr/lib/ssl/cert.pem": f"/{BUNDLE}",
        }

    def test_links_of_directories_are_followed(self, tmp_path: Path) -> None:
        found = added(tmp_path, {"etc/ssl": "/opt/ssl", "opt/ssl/openssl.cnf": b"", "usr/local/share": "/opt/share"})
        assert {path for path in found if path.startswith("etc/ssl")} == set()
        assert found["opt/ssl/certs/ca-certificates.crt"].content
        assert "opt/share/ca-certificates/company-1.crt" in found

    def test_update_ca_certificates_finds_one_certificate_in_each_file(self, tmp_path: Path) -> None:
        mine = "usr/local/share/ca-certificates"
        files = {BUNDLE: b"", f"{mine}/company-1.crt": b"another"}
        found = added(tmp_path, files)
        assert {path: entry.read().decode() for path, entry in found.items() if path.startswith(mine)} == {
            f"{mine}/company-1-added.crt": ONE,
            f"{mine}/company-2.crt": TWO,
        }
        single = added(tmp_path, {BUNDLE: b""}, Certificates(name="company", texts=(ONE,)))
        assert f"{mine}/company.crt" in single

    def test_a_bundle_that_cannot_be_read_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="too large"):
            added(tmp_path, {BUNDLE: b"x" * (65 << 20)})

    def test_directories_and_loops_are_no_bundles(self, tmp_path: Path) -> None:
        found = added(tmp_path, {"etc/ssl/cert.pem": "cert.pem", "etc/pki/tls/certs/ca-bundle.crt/x": b""})
        assert found[BUNDLE].read().decode() == ONE + TWO
