"""Whatever flags, variables and files say: settings, or one line that names what, where and what is allowed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from fuzzing import fuzz
from hostile import repeated, texts
from hypothesis import given
from hypothesis import strategies as st

from vipd.config import SidecarSettings, load_sidecar, reload
from vipd.config.check import longest_interval_s
from vipd.config.table import SIDECAR_OPTIONS
from vipd.errors import ConfigError

BASE = ("--vip=10.0.1.100", "--lease=web")
NOWHERE = Path("/nonexistent/namespace")
NAMES = [option.name for option in SIDECAR_OPTIONS]

plausible = st.sampled_from(
    [
        "10.0.1.100",
        "10.0.1.100/24%net1",
        "fd00::1/64",
        "10.0.1.0/24",
        "::/0",
        "0.0.0.0",
        "fe80::1%net1",
        "web",
        "WEB",
        "3",
        "3s",
        "0.5",
        "1h",
        "3600s",
        "1000000000s",
        "-1",
        "1e3",
        "٣",
        "²",
        "255",
        "true",
        "False",
        "auto",
        "none",
        "eni",
        "lease",
        "eni-0000000000000000a",
        "eni-0000000000000000b%net2",
        "us-east-2",
        "off",
        "0.0.0.0:9808",
        "[::]:0",
        ":1",
        "json",
        "debug",
        "tcp://127.0.0.1:1",
        "http://[::1",
        "http://a:1/\u2603",
        "exec:'",
        "exec:/bin/true",
        "exec:\x00",
        "/dev/null",
        "/",
        "a" * 300,
    ]
)
said = plausible | texts | st.lists(plausible, max_size=3).map(",".join) | repeated(("9", 5000), ("x", 100_000))
flags = st.lists(
    st.tuples(st.sampled_from([*NAMES, "no-preempt", "config"]), said).map(lambda told: f"--{told[0]}={told[1]}")
    | st.sampled_from(["--preempt", "--no-preempt", "--vip", "--", "-x", "--lease", "--nonsense=1"])
    | texts,
    max_size=4,
)
variables = st.dictionaries(
    st.sampled_from(["VIPD_" + name.upper().replace("-", "_") for name in NAMES])
    | st.sampled_from(["VIPD_NONSENSE", "VIPD_", "POD_NAME", "POD_UID", "POD_NAMESPACE", "POD_IP", "VIPD_PORT"])
    | texts.map("VIPD_".__add__),
    said,
    max_size=4,
)
yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | plausible,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | plausible, inner, max_size=3),
    max_leaves=5,
)
files = (
    st.dictionaries(st.sampled_from(NAMES) | texts, yaml_values, max_size=4).map(
        lambda said: yaml.safe_dump(said, allow_unicode=True).encode("utf-8", "surrogatepass")
    )
    | st.tuples(st.sampled_from(NAMES), texts | plausible).map(
        lambda told: f'{told[0]}: "{told[1]}"\n'.encode("utf-8", "surrogatepass")
    )
    | st.binary(max_size=60)
    | st.text(alphabet="{}[]&*!|>'\"%@`#,?:-\n\t\\xuU0aF ~.<=", max_size=25).map(str.encode)
    | repeated(("[", 400), ("{a: ", 300), ("- ", 300), ("x", 2**20 + 1)).map(str.encode)
    | st.sampled_from(
        [
            rb'lease: "\UFFFFFFFF"',
            rb'lease: "\ud800"',
            b"%YAML 1." + b"9" * 5000 + b"\n---\nlease: web\n",
            b"&a [*a]",
            b"&a {*a : b}",
            b"? [a]\n: b\n",
            b"!!map [a]",
            b"!!python/object/apply:os.system ['true']",
            b"<<: {lease: web}",
            b"lease: web\nlease: web2\n",
            b"lease: web\n---\nlease: web\n",
            b"lease: *nowhere",
            b"\xff\xfel\x00",
            b"a: &a [x]\nb: &b [*a,*a]\nlease: [*b,*b]",
        ]
    )
)


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "vipd.yaml"
        path.write_bytes(content)
        yield str(path)


def _load(argv: Sequence[str], environ: dict[str, str]) -> SidecarSettings | ConfigError:
    try:
        return load_sidecar(list(argv), environ, namespace_file=NOWHERE)
    except ConfigError as error:
        return error


def _is_right(told: SidecarSettings | ConfigError) -> None:
    """Complete and within its bounds, or one line that says what is allowed."""
    if isinstance(told, ConfigError):
        text = str(told)
        assert text.isprintable() or all(c.isprintable() or c == "\ufffd" for c in text), repr(text)
        assert len(text) < 2000
        assert told.exit_code == 2
        return
    assert told.vips or told.follow
    assert bool(told.lease) is bool(told.vips)
    assert 1 <= told.lease_duration_s <= 3600
    assert 0.1 <= told.renew_interval_s <= longest_interval_s(told.lease_duration_s)
    assert 0 <= told.priority <= 255
    assert 3 <= told.grace_s <= 3600
    assert told.identity.isascii()
    told.notes()


@fuzz(200)
@given(argv=flags, environ=variables)
def test_any_flags_and_variables_are_settings_or_one_line(argv: list[str], environ: dict[str, str]) -> None:
    before = dict(os.environ)
    _is_right(_load([*BASE, *argv], environ))
    _is_right(_load(argv, environ))
    assert dict(os.environ) == before


@fuzz(150)
@given(content=files)
def test_any_file_is_settings_or_one_line(content: bytes) -> None:
    with _file(content) as path:
        _is_right(_load([*BASE, f"--config={path}"], {}))
        _is_right(_load([], {"VIPD_CONFIG": path}))
        assert Path(path).read_bytes() == content


@fuzz(60)
@given(content=files, environ=variables)
def test_a_reload_takes_all_of_it_or_nothing(content: bytes, environ: dict[str, str]) -> None:
    previous = load_sidecar(BASE, {}, namespace_file=NOWHERE)
    with _file(content) as path:
        argv = [*BASE, f"--config={path}"]
        told = _load(argv, environ)
        if isinstance(told, ConfigError):
            with pytest.raises(ConfigError) as caught:
                reload(previous, argv, environ, namespace_file=NOWHERE)
            assert str(caught.value) == str(told)
        else:
            assert reload(previous, argv, environ, namespace_file=NOWHERE).settings == told
    assert previous == load_sidecar(BASE, {}, namespace_file=NOWHERE)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (rb'lease: "\UFFFFFFFF"', "not valid"),
        (b"%YAML 1." + b"9" * 5000 + b"\n---\nlease: web\n", "not valid"),
        (b"[" * 400, "not valid"),
        (b"lease: web\nlease: web2\n", "key lease is there twice"),
    ],
)
def test_what_broke_the_reader_once_is_one_line_that_names_the_file(content: bytes, told: str) -> None:
    with _file(content) as path:
        error = _load([*BASE, f"--config={path}"], {})
    assert isinstance(error, ConfigError)
    assert str(error).startswith(f"file {path}: ")
    assert told in str(error)
    assert "allowed: " in str(error)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    before = len(os.listdir("/proc/self/fd"))
    for path in (pipe, tmp_path, Path("/dev/zero"), Path("/nonexistent"), Path("/proc/self/mem")):
        error = _load([*BASE, f"--config={path}"], {})
        assert isinstance(error, ConfigError)
        assert "allowed: " in str(error)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_name_with_a_line_end_does_not_break_the_one_line(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines.yaml"
    path.write_text("nonsense: 1\n")
    _is_right(_load([*BASE, f"--config={path}"], {}))
    path.write_text("[")
    _is_right(_load([*BASE, f"--config={path}"], {}))
