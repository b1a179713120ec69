"""Settings: what may be said, who wins, and that every mistake is one sentence which names its place."""

from __future__ import annotations

import json
import socket
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipd.config import (
    AddressMode,
    EniMode,
    FenceChoice,
    HostSettings,
    InitSettings,
    Listen,
    LogFormat,
    LogLevel,
    PodInfo,
    SidecarSettings,
    load_host,
    load_init,
    load_sidecar,
    reload,
)
from vipd.config.check import longest_interval_s
from vipd.config.checkspec import ExecSpec, HttpSpec, TcpSpec
from vipd.config.flags import Parser, add_arguments
from vipd.config.option import Option
from vipd.config.table import CONFIG, SIDECAR_OPTIONS
from vipd.config.table_host import HOST_OPTIONS
from vipd.config.table_init import INIT_OPTIONS
from vipd.core import timing
from vipd.errors import ConfigError

BASE = ("--vip=10.0.1.100", "--lease=web")
POD = {"POD_NAME": "web-0", "POD_UID": "u-1", "POD_NAMESPACE": "shop", "POD_IP": "10.0.0.7", "NODE_NAME": "n1"}


def load(*argv: str, **environ: str) -> SidecarSettings:
    return load_sidecar([*BASE, *argv], environ, namespace_file=Path("/nonexistent/namespace"))


def refusal(*argv: str, base: tuple[str, ...] = BASE, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_sidecar([*base, *argv], environ, namespace_file=Path("/nonexistent/namespace"))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "vipd.yaml"


# ------------------------------------------------------------------------------------------- values


def test_two_flags_are_enough_and_the_rest_has_defaults() -> None:
    settings = load()
    assert [str(vip) for vip in settings.vips] == ["10.0.1.100/32%net1"]
    assert (settings.lease, settings.namespace, settings.interface) == ("web", "default", "net1")
    assert (settings.lease_duration_s, settings.renew_interval_s, settings.priority) == (3, 1.0, 100)
    assert (settings.fence, settings.eni_mode, settings.eni_ids) == (FenceChoice.AUTO, EniMode.AUTO, {})
    assert (settings.region, settings.subnet_cidrs) == (None, ())
    assert settings.listen == Listen("0.0.0.0", 9808)
    assert (settings.grace_s, settings.interface_timeout_s) == (30.0, 60.0)
    assert (settings.log_format, settings.log_level) == (LogFormat.AUTO, LogLevel.INFO)
    assert (settings.preempt, settings.checks) == (False, ())
    assert (settings.check_interval_s, settings.check_timeout_s) == (1.0, 1.0)
    assert (settings.check_rise, settings.check_fall) == (2, 3)
    assert settings.pod == PodInfo()
    assert settings.notes() == ()


@pytest.mark.parametrize(
    ("flags", "vips"),
    [
        (["--vip=10.0.1.100/24"], ["10.0.1.100/24%net1"]),
        (["--vip=10.0.1.100%ens6"], ["10.0.1.100/32%ens6"]),
        (["--vip=fd00:10:0:1::100/64%net2"], ["fd00:10:0:1::100/64%net2"]),
        (["--vip=fd00::1"], ["fd00::1/128%net1"]),
        (["--vip=10.0.1.1", "--vip=10.0.1.2"], ["10.0.1.1/32%net1", "10.0.1.2/32%net1"]),
        (["--vip=10.0.1.1, 10.0.1.2 fd00::1"], ["10.0.1.1/32%net1", "10.0.1.2/32%net1", "fd00::1/128%net1"]),
        (["--vip=10.0.1.1", "--interface=eth1"], ["10.0.1.1/32%eth1"]),
        (["--vip=10.0.1.1%fifteen-letters"], ["10.0.1.1/32%fifteen-letters"]),
    ],
)
def test_a_vip_may_name_its_prefix_and_interface(flags: list[str], vips: list[str]) -> None:
    settings = load_sidecar([*flags, "--lease=web"], {})
    assert [str(vip) for vip in settings.vips] == vips


@pytest.mark.parametrize(
    ("vip", "why"),
    [
        ("web", "not an IP address"),
        ("10.0.1.300", "not an IP address"),
        ("10.0.1.1/", "prefix that does not fit"),
        ("10.0.1.1/0", "IPv4 takes 1 to 32"),
        ("10.0.1.1/33", "IPv4 takes 1 to 32"),
        ("fd00::1/129", "IPv6 takes 1 to 128"),
        ("10.0.1.1/255.255.255.0", "prefix that does not fit"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("224.0.0.18", "multicast"),
        ("ff02::1", "multicast"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%net1", "link-local"),
        ("255.255.255.255", "broadcast"),
        ("0.1.2.3", "this-network (0.0.0.0/8)"),
        ("240.0.0.1", "reserved (240.0.0.0/4)"),
        ("::ffff:10.0.0.1", "IPv4-mapped"),
        ("10.0.1.1%", "interface name"),
        ("10.0.1.1%sixteen-letters-", "more than 15"),
        ("10.0.1.1%a/b", "interface name"),
        ("10.0.1.1%a:1", "interface name"),
        ("10.0.1.1%..", "interface name"),
        ("fd00::1%net1/64", "interface name"),
        ("10.0.1.1,10.0.1.1", "twice"),
        ("10.0.1.1%a,10.0.1.1%b", "twice"),
        ("fd00::1,fd00:0:0::1", "twice"),
        (" , ", "no value"),
    ],
)
def test_a_vip_that_no_eni_can_have_is_refused(vip: str, why: str) -> None:
    told = refusal(f"--vip={vip}", base=("--lease=web",))
    assert told.startswith("flag --vip: ")
    assert "allowed: " in told
    assert why in told


@pytest.mark.parametrize(
    ("text", "seconds"), [("3", 3), ("3s", 3), ("3000ms", 3), ("1m", 60), ("1h", 3600), ("2.0s", 2), ("0.05m", 3)]
)
def test_a_lease_duration_is_whole_seconds_in_any_unit(text: str, seconds: int) -> None:
    duration_s = load(f"--lease-duration={text}").lease_duration_s
    assert duration_s == seconds
    assert type(duration_s) is int


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("lease-duration", "0", "out of range"),
        ("lease-duration", "500ms", "whole seconds"),
        ("lease-duration", "2.5s", "whole seconds"),
        ("lease-duration", "61m", "out of range"),
        ("lease-duration", "-3s", "not possible"),
        ("lease-duration", "3 s", "not possible"),
        ("lease-duration", "٣", "not possible"),
        ("lease-duration", "1e3", "not possible"),
        ("lease-duration", "9" * 5000, "not possible"),
        ("renew-interval", "50ms", "out of range"),
        ("renew-interval", "3s", "too long for lease-duration 3s"),
        ("renew-interval", "2.4s", "allowed: 0.1s to 2.25s"),
        ("priority", "256", "out of range"),
        ("priority", "-1", "not possible"),
        ("priority", "1_0", "not possible"),
        ("priority", "high", "from 0 to 255"),
        ("preempt", "yes", "true or false"),
        ("preempt", "True", "true or false"),
        ("fence", "ENI", "auto, eni or lease"),
        ("lease", "Web", "RFC 1123"),
        ("lease", "web_1", "RFC 1123"),
        ("lease", "a..b", "RFC 1123"),
        ("lease", "a" * 254, "RFC 1123"),
        ("lease", "", "no value"),
        ("namespace", "a.b", "RFC 1123"),
        ("namespace", "a" * 64, "RFC 1123"),
        ("identity", "two words", "visible ASCII"),
        ("identity", "ä", "visible ASCII"),
        ("interface", "a b", "cannot have"),
        ("eni", "eni-123", "no ENI id"),
        ("eni", "auto,none", "stands alone"),
        ("eni", "auto,eni-0000000000000000a", "stands alone"),
        ("eni", "eni-0000000000000000a,eni-0000000000000000b", "second ENI of interface net1"),
        ("eni", "eni-0000000000000000a%eth9", "no ENI for interface net1"),
        ("region", "Ohio", "no Region"),
        ("subnet-cidr", "10.0.1.0", "CIDR block"),
        ("subnet-cidr", "10.0.1.0/33", "CIDR block"),
        ("subnet-cidr", "fe80::%1/64", "CIDR block"),
        ("check", "127.0.0.1:80", "no known scheme"),
        ("check", "udp://127.0.0.1:80", "no known scheme"),
        ("check", "HTTP://127.0.0.1:80", "no known scheme"),
        ("check", "http:127.0.0.1:80", "no known scheme"),
        ("check", "tcp://127.0.0.1", "has no port"),
        ("check", "http://localhost/ready", "has no port"),
        ("check", "http://[::1]/ready", "has no port"),
        ("check", "tcp://:80", "has no host"),
        ("check", "tcp://::1:80", "stands in brackets"),
        ("check", "tcp://[10.0.0.1]:80", "no IPv6 address"),
        ("check", "tcp://[fe80::1%net1]:80", "zone"),
        ("check", "tcp://10.0.1.300:80", "neither a name nor an IP address"),
        ("check", "tcp://web service:80", "neither a name nor an IP address"),
        ("check", "tcp://web:0", "1 to 65535"),
        ("check", "tcp://web:65536", "1 to 65535"),
        ("check", "tcp://web:http", "1 to 65535"),
        ("check", "tcp://web:80/", "1 to 65535"),
        ("check", "http://me:secret@web:80/", "user name"),
        ("check", "http://web:80/a b", "percent-encoded"),
        ("check", "http://web:80/ä", "percent-encoded"),
        ("check", "http://web:80/#top", "percent-encoded"),
        ("check", "exec:", "names no command"),
        ("check", "exec: ''", "names no command"),
        ("check", "exec:sh -c 'true", "quotes"),
        ("check", "exec:there-is-no-such-command --now", "not on PATH"),
        ("check", "exec:/nonexistent/check", "does not exist"),
        ("check", "exec:/etc/passwd", "not executable"),
        ("check", "tcp://web:80\ntcp://web:80", "twice"),
        ("check-interval", "0", "out of range"),
        ("check-interval", "61s", "0.1s to 60s"),
        ("check-timeout", "99ms", "out of range"),
        ("check-timeout", "2m", "0.1s to 60s"),
        ("check-rise", "0", "out of range"),
        ("check-fall", "101", "out of range"),
        ("listen", "9808", "ADDR:PORT"),
        ("listen", ":9808", "ADDR:PORT"),
        ("listen", "localhost:9808", "ADDR:PORT"),
        ("listen", "::1:9808", "ADDR:PORT"),
        ("listen", "[10.0.0.1:80", "ADDR:PORT"),
        ("listen", "0.0.0.0:0", "1 to 65535"),
        ("listen", "0.0.0.0:65536", "1 to 65535"),
        ("grace", "2s", "3s to 3600s"),
        ("interface-timeout", "2h", "3600s"),
        ("log-format", "xml", "auto, json or text"),
        ("log-level", "trace", "debug, info, warning or error"),
    ],
)
def test_an_impossible_value_is_refused_wherever_it_comes_from(file: Path, option: str, value: str, why: str) -> None:
    base = tuple(flag for flag in BASE if not flag.startswith(f"--{option}="))
    variable = "VIPD_" + option.upper().replace("-", "_")
    file.write_text(f"{option}: {json.dumps(value)}\n")
    told = {"flag --" + option: refusal(f"--{option}={value}", base=base)}
    told[f"file {file} key {option}"] = refusal(f"--config={file}", base=base)
    if value:
        told[f"variable {variable}"] = refusal(base=base, **{variable: value})
    for origin, sentence in told.items():
        assert sentence.startswith(origin + ": ")
        assert why in sentence
        assert "allowed: " in sentence
        assert len(sentence) < 500


def test_subnets_bound_the_vips_of_their_family() -> None:
    told = refusal("--subnet-cidr=10.0.2.0/24")
    assert told == "flag --vip: 10.0.1.100 is outside flag --subnet-cidr; allowed: in 10.0.2.0/24"
    assert load("--subnet-cidr=10.0.1.7/24").subnet_cidrs[0].with_prefixlen == "10.0.1.0/24"
    assert load("--subnet-cidr=fd00::/64").vips


def test_enis_are_told_by_interface() -> None:
    settings = load("--vip=fd00::1%eth1", "--eni=eni-0000000000000000a", "--eni=eni-0123abcd%eth1")
    assert settings.eni_mode is EniMode.GIVEN
    assert settings.eni_ids == {"net1": "eni-0000000000000000a", "eth1": "eni-0123abcd"}
    assert load("--eni=none").eni_mode is EniMode.NONE
    assert load("--eni=auto").eni_mode is EniMode.AUTO


@pytest.mark.parametrize("flags", [["--fence=lease"], ["--eni=none"]])
def test_a_lease_that_fences_by_itself_needs_two_seconds(flags: list[str]) -> None:
    assert "2s or more" in refusal("--lease-duration=1s", *flags)
    assert load("--lease-duration=2s", *flags).lease_duration_s == 2
    assert load("--lease-duration=1s").lease_duration_s == 1


def test_the_mapping_fences_nothing_where_no_eni_is_managed() -> None:
    assert refusal("--fence=eni", "--eni=none").startswith("flag --fence: 'eni' needs an ENI")


@pytest.mark.parametrize("duration_s", [1, 2, 3, 10, 60, 3600])
def test_the_longest_interval_leaves_room_for_one_attempt_within_the_right(duration_s: int) -> None:
    most = longest_interval_s(duration_s)
    assert most + timing.attempt_timeout_s(duration_s) <= duration_s - timing.margin_s(duration_s)
    assert load(f"--lease-duration={duration_s}s").renew_interval_s < most
    assert load(f"--lease-duration={duration_s}s", f"--renew-interval={most}").renew_interval_s == most
    assert "too long" in refusal(f"--lease-duration={duration_s}s", f"--renew-interval={most + 0.01:.3f}")


def test_poor_values_are_possible_and_noted() -> None:
    poor = load("--renew-interval=2s", "--grace=3s", POD_NAME="web-0").notes()
    assert [any(word in note for note in poor) for word in ("renew-interval", "grace", "POD_UID")] == [True] * 3
    assert any("lost node" in note for note in load("--lease-duration=60s").notes())


@pytest.mark.parametrize(
    ("text", "listen"),
    [("off", None), ("127.0.0.1:80", Listen("127.0.0.1", 80)), ("[::]:9808", Listen("::", 9808))],
)
def test_listen_may_be_off_or_either_family(text: str, listen: Listen | None) -> None:
    assert load(f"--listen={text}").listen == listen
    assert listen is None or str(listen) == text


@pytest.mark.parametrize(("missing", "base"), [("--vip", BASE[1:]), ("--lease", BASE[:1])])
def test_what_is_missing_is_named(missing: str, base: tuple[str, ...]) -> None:
    assert f"{missing}: not given" in refusal(base=base)


# ---------------------------------------------------------------------------------------- following


def test_without_vips_addresses_are_followed() -> None:
    settings = load_sidecar([], {})
    assert (settings.vips, settings.lease, settings.follow) == ((), "", True)


def test_following_is_off_where_no_eni_is_managed() -> None:
    assert not load("--eni=none").follow
    assert "flag --eni says none" in refusal("--eni=none", "--follow")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--no-follow"], "nothing is followed"),
        (["--check=tcp://127.0.0.1:1"], "checks gate VIPs"),
        (["--no-follow", "--release", *BASE], "does nothing without following"),
        (["--ignore=10.0.0.300/8"], "is no CIDR block"),
        (["--release-after=0s"], "out of range"),
        (
            ["--release-after=10s"],
            "flag --release-after: '10s' does nothing without releasing; allowed: with --release",
        ),
        (
            ["--no-follow", "--follow-interface=net2", *BASE],
            "flag --follow-interface: 'net2' does nothing without following; allowed: with --follow",
        ),
    ],
)
def test_what_following_cannot_be_told_is_one_sentence(argv: list[str], said: str) -> None:
    assert said in refusal(*argv, base=())


def test_how_long_to_wait_before_releasing_may_be_told_where_it_is_as_usual_or_where_there_is_releasing() -> None:
    assert load("--release-after=30s").release_after_s == 30.0
    assert load("--release", "--release-after=10s").release_after_s == 10.0


def init(*argv: str, **environ: str) -> InitSettings:
    parser = Parser(prog="vipd init", add_help=False)
    add_arguments(parser, (*INIT_OPTIONS, CONFIG))
    return load_init(parser.parse_args(list(argv)), environ)


def test_init_takes_several_interfaces_and_the_pods_own_addresses() -> None:
    settings = init("--interface=net1", "--interface=net2,net3", POD_IP="10.0.0.7", POD_IPS="10.0.0.7,fd00::7")
    assert settings.interfaces == ("net1", "net2", "net3")
    assert {str(ip) for ip in settings.pod.ips} == {"10.0.0.7", "fd00::7"}
    assert (settings.timeout_s, settings.allow_none, settings.network_status) == (60.0, False, None)


def test_init_leaves_vips_alone_and_passes_over_what_is_the_sidecars(file: Path) -> None:
    """The containers of a pod may share variables and the file."""
    file.write_text("lease: web\npriority: 7\nvip: 10.0.1.100\n")
    settings = init(f"--config={file}", VIPD_LEASE_DURATION="3s", VIPD_TIMEOUT="5s")
    assert {str(a) for a in settings.skip} == {"10.0.1.100"}
    assert settings.timeout_s == 5.0
    assert load_sidecar([f"--config={file}"], {"VIPD_TIMEOUT": "5s", "VIPD_ALLOW_NONE": "true"}).priority == 7


@pytest.mark.parametrize(
    ("argv", "environ", "said"),
    [
        (["--eni=none"], {}, "leaves nothing to do"),
        ([], {"VIPD_TIMOUT": "5s"}, "did you mean VIPD_TIMEOUT"),
        ([], {"POD_IPS": "10.0.0.7;x"}, "variable POD_IPS"),
        (["--timeout=0s"], {}, "out of range"),
        (["--interface=a/b"], {}, "cannot have"),
    ],
)
def test_what_init_cannot_be_told_is_one_sentence(argv: list[str], environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        init(*argv, **environ)


def test_every_field_of_inits_settings_is_decided_by_one_row_of_its_table() -> None:
    decided = sorted(field for option in INIT_OPTIONS for field in option.fields)
    assert decided == sorted({*InitSettings.__slots__, "eni_mode"} - {"pod"})


# ------------------------------------------------------------------------------------ health checks


def test_a_check_names_what_it_asks_and_is_shown_as_it_was_given() -> None:
    specs = ("http://10.0.0.1:80/ready?deep=1", "https://[fd00::1]:8443", "tcp://[::1]:5432", "exec:test -d '/a, b'")
    http, https, tcp, command = load(*(f"--check={spec}" for spec in specs)).checks
    assert isinstance(http, HttpSpec)
    assert isinstance(https, HttpSpec)
    assert (http.host, https.host) == ("10.0.0.1", "fd00::1")
    assert tcp == TcpSpec("::1", 5432)
    assert command == ExecSpec(specs[3], ("test", "-d", "/a, b"))
    assert tuple(map(str, (http, https, tcp, command))) == specs


def test_a_variable_and_a_file_hold_one_check_a_line(file: Path) -> None:
    specs = ["exec:test a, b", "tcp://localhost:80"]
    file.write_text(f"check:\n- {specs[0]}\n- {specs[1]}\n")
    assert list(map(str, load(f"--config={file}").checks)) == specs
    file.write_text(f"check: |\n  {specs[0]}\n\n  {specs[1]}\n")
    assert list(map(str, load(f"--config={file}").checks)) == specs
    assert list(map(str, load(VIPD_CHECK="\n".join(["", *specs, ""])).checks)) == specs


def test_a_command_is_looked_for_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ready").write_text("#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "not on PATH" in refusal("--check=exec:ready")
    (tmp_path / "ready").chmod(0o755)
    assert load("--check=exec:ready now").checks == (ExecSpec("exec:ready now", ("ready", "now")),)
    assert load(f"--check=exec:{tmp_path}/ready").checks


# ----------------------------------------------------------------------------------------- booleans


@pytest.mark.parametrize(
    ("flags", "preempt"),
    [
        ((), False),
        (("--preempt",), True),
        (("--no-preempt",), False),
        (("--preempt=true",), True),
        (("--preempt=false",), False),
        (("--preempt", "--priority=7"), True),
    ],
)
def test_a_boolean_flag_stands_alone_or_with_a_value(flags: tuple[str, ...], preempt: bool) -> None:
    assert load(*flags).preempt is preempt


def test_a_boolean_may_come_from_everywhere_and_flags_win(file: Path) -> None:
    file.write_text("preempt: true\n")
    assert load(f"--config={file}").preempt is True
    assert load(f"--config={file}", VIPD_PREEMPT="false").preempt is False
    assert load(f"--config={file}", "--no-preempt", VIPD_PREEMPT="true").preempt is False
    assert refusal("--preempt", "--no-preempt").startswith("flag --preempt: given 2 times")
    assert "did you mean --no-preempt?" in refusal("--no-prempt")


# ------------------------------------------------------------------------------------------ sources


def test_flag_beats_variable_beats_file(file: Path) -> None:
    file.write_text("priority: 1\ngrace: 10s\nlease-duration: 9s\n")
    settings = load("--priority=3", VIPD_PRIORITY="2", VIPD_GRACE="20s", VIPD_CONFIG=str(file))
    assert (settings.priority, settings.grace_s, settings.lease_duration_s) == (3, 20.0, 9)


@pytest.mark.parametrize("option", ["vip", "check"])
def test_an_empty_value_beside_others_is_no_value(file: Path, option: str) -> None:
    value = {"vip": "10.0.1.101", "check": "tcp://127.0.0.1:1"}[option]
    assert f"flag --{option}: no value; allowed: " in refusal(f"--{option}={value}", f"--{option}=")
    file.write_text(f"{option}: ['{value}', '']")
    base = tuple(word for word in BASE if not word.startswith(f"--{option}="))
    assert f"key {option}: no value; allowed: " in refusal(f"--config={file}", base=base)


def test_a_file_alone_is_enough(file: Path) -> None:
    file.write_text(
        "# all of it\nvip:\n  - 10.0.1.100/24\n  - fd00:10:0:1::100\nlease: web\nlisten: off\nlease-duration: 6\n"
        "priority: 0\nsubnet-cidr: 10.0.1.0/24 fd00:10:0:1::/64\n"
    )
    settings = load_sidecar([f"--config={file}"], {})
    assert [str(vip) for vip in settings.vips] == ["10.0.1.100/24%net1", "fd00:10:0:1::100/128%net1"]
    assert settings.listen is None
    assert (settings.lease_duration_s, settings.renew_interval_s, settings.priority) == (6, 2.0, 0)
    assert len(settings.subnet_cidrs) == 2


def test_an_empty_variable_says_nothing() -> None:
    assert load(VIPD_PRIORITY="", VIPD_CONFIG=" ").priority == 100


@pytest.mark.parametrize(
    ("environ", "hint"),
    [
        ({"VIPD_LEAS": "x"}, "variable 'VIPD_LEAS': unknown; did you mean VIPD_LEASE?"),
        ({"VIPD_RENEW": "x"}, "did you mean VIPD_"),
        ({"VIPD_ZZZZZZZ": "x"}, "variable 'VIPD_ZZZZZZZ': unknown; known: VIPD_CHECK"),
        ({"VIPD_HOME": "x"}, "variable 'VIPD_HOME': unknown; known: VIPD_CHECK"),
    ],
)
def test_an_unknown_variable_is_refused_with_a_hint(environ: dict[str, str], hint: str) -> None:
    assert hint in refusal(**environ)


@pytest.mark.parametrize(
    "variable",
    [
        "VIPD_SERVICE_HOST",
        "VIPD_SERVICE_PORT",
        "VIPD_SERVICE_PORT_HTTP_METRICS",
        "VIPD_PORT",
        "VIPD_PORT_9808_TCP",
        "VIPD_PORT_9808_TCP_ADDR",
        "VIPD_METRICS_SERVICE_HOST",
        "VIPD_METRICS_PORT_9808_TCP_PROTO",
    ],
)
def test_the_variables_of_a_service_named_vipd_are_not_ours(variable: str) -> None:
    assert load(**{variable: "tcp://172.20.0.1:9808"}) == load()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("leas: x", "key 'leas': unknown; did you mean lease?"),
        ("lease_duration: 3", "key 'lease_duration': unknown; did you mean lease-duration?"),
        ("config: other", "key 'config': unknown"),
        ("lease: a\nlease: b", "'key lease is there twice' in line 2"),
        ("priority: [1]", "key priority: must be one value"),
        ("vip: {a: b}", "key vip: must be one value or a plain list"),
        ("vip: [[10.0.1.1]]", "key vip: must be one value or a plain list"),
        ("subnet-cidr: []", "key subnet-cidr: no value"),
        ("priority:", "key priority: no value"),
        ("? [a]\n: b", "not valid"),
        ("- a", "not a mapping"),
        ("just text", "not a mapping"),
        ("a: b: c", "not valid"),
        ("a: 1\n---\na: 2", "not valid"),
        ("vip: &a [*a]", "not valid"),
        ("[" * 20000, "not valid"),
        ("\x00", "not valid"),
        ("x" * ((1 << 20) + 1), "too large"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    sentence = refusal(f"--config={file}")
    assert told in sentence
    assert str(file) in sentence


def test_a_file_that_cannot_be_read_names_who_asked_for_it(tmp_path: Path) -> None:
    assert refusal(VIPD_CONFIG=str(tmp_path)).startswith("variable VIPD_CONFIG: cannot read")
    assert "No such file" in refusal(f"--config={tmp_path}/none")
    (tmp_path / "latin").write_bytes(b"lease: \xe4")
    assert "not valid" in refusal(f"--config={tmp_path}/latin")


def test_an_empty_file_says_nothing(file: Path) -> None:
    file.write_text("# nothing\n")
    assert load(f"--config={file}") == load()


def test_a_flag_is_given_once_and_in_full() -> None:
    assert refusal("--priority=1", "--priority=2").startswith("flag --priority: given 2 times")
    assert "did you mean --priority?" in refusal("--prio=1")
    assert refusal("--priority").startswith("flag --priority: expected one argument")
    assert refusal("more").startswith("argument 'more': unknown")


# ---------------------------------------------------------------------------------------------- pod


def test_a_pod_names_itself() -> None:
    settings = load(**POD)
    assert (settings.identity, settings.namespace, settings.pod.node) == ("web-0_u-1", "shop", "n1")
    assert str(settings.pod.ip) == "10.0.0.7"
    assert load("--identity=me", "--namespace=other", **POD).identity == "me"
    assert load("--namespace=other", **POD).namespace == "other"


def test_without_the_downward_api_host_and_service_account_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "node-7")
    (tmp_path / "namespace").write_text("from-account\n")
    settings = load_sidecar(BASE, {}, namespace_file=tmp_path / "namespace")
    assert (settings.identity, settings.namespace) == ("node-7", "from-account")


def test_a_wrong_downward_api_is_named() -> None:
    assert refusal(POD_IP="x").startswith("variable POD_IP: 'x' is not an IP address")
    assert refusal(POD_IPS="10.0.0.1,x") == (
        "variable POD_IPS: '10.0.0.1,x' has a part that is no IP address; allowed: status.podIPs of the Downward API"
    )
    assert refusal(POD_NAMESPACE="A B").startswith("variable POD_NAMESPACE: ")
    assert refusal(NODE_NAME="A_B") == (
        "variable NODE_NAME: 'A_B' is no RFC 1123 name; allowed: spec.nodeName of the Downward API"
    )
    assert refusal(POD_NAME="a b").startswith("variables POD_NAME and POD_UID: ")


# ------------------------------------------------------------------------------------------- reload


def test_reload_tells_which_keys_have_another_value(file: Path) -> None:
    file.write_text("priority: 1\nlease-duration: 3s\n")
    argv = [*BASE, f"--config={file}", "--grace=9s"]
    before = load_sidecar(argv, {})
    assert reload(before, argv, {}) == (before, ())
    file.write_text("priority: 2\nlease-duration: 6s\ngrace: 60s\neni: none\n")
    after, changed = reload(before, argv, {})
    assert changed == ("lease-duration", "renew-interval", "priority", "eni", "follow")
    assert (after.priority, after.lease_duration_s, after.grace_s) == (2, 6, 9.0)
    file.write_text("priority: 999\n")
    with pytest.raises(ConfigError, match="priority"):
        reload(before, argv, {})


# ------------------------------------------------------------------------------------------- vipd host


HOST = ["--vip=10.0.1.100", "--lease=nodeport"]


def host(*argv: str, **environ: str) -> HostSettings:
    return load_host([*HOST, *argv], environ, namespace_file=Path("/nonexistent/namespace"))


def test_a_host_finds_its_interface_and_is_gated_by_its_node_and_kube_proxy() -> None:
    settings = host(NODE_NAME="ip-10-0-1-11.ec2.internal")
    assert [str(vip) for vip in settings.vips] == ["10.0.1.100/32%auto"]
    assert settings.address_mode is AddressMode.MANAGED
    assert settings.node == "ip-10-0-1-11.ec2.internal"
    assert settings.identity == socket.gethostname()
    assert settings.node_gate
    assert settings.announce
    assert str(settings.kube_proxy) == "http://127.0.0.1:10256/healthz"


def test_the_pod_of_a_daemonset_is_called_as_the_pod_and_the_node_by_the_downward_api() -> None:
    settings = host(POD_NAME="vipd-x", POD_UID="u1", NODE_NAME="n1", POD_NAMESPACE="kube-system")
    assert (settings.identity, settings.node, settings.namespace) == ("vipd-x_u1", "n1", "kube-system")
    assert host("--node=n2", NODE_NAME="n1").node == "n2"


def test_without_a_pod_the_node_is_called_as_the_host() -> None:
    assert host().node == host().pod.node == socket.gethostname().lower()


def test_in_static_mode_nothing_is_announced_unless_told() -> None:
    assert not host("--address-mode=static").announce
    assert host("--address-mode=static", "--announce").announce
    assert not host("--no-announce").announce


def test_kube_proxy_may_be_elsewhere_or_not_there() -> None:
    assert host("--kube-proxy=off").kube_proxy is None
    assert str(host("--kube-proxy=http://[::1]:10256/livez").kube_proxy) == "http://[::1]:10256/livez"


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--address-mode=none"], "flag --address-mode: 'none' is not possible; allowed: managed or static"),
        (
            ["--address-mode=static", "--eni=none", "--interface=ens5"],
            "flag --eni: 'none' does not go with flag --address-mode static",
        ),
        (
            ["--address-mode=static", "--fence=lease"],
            "flag --fence: 'lease' does not go with flag --address-mode static",
        ),
        (["--eni=none"], "--interface (by default): 'auto' asks IMDS for an ENI, but flag --eni says none"),
        (
            ["--eni=eni-12345678%ens6"],
            "flag --eni: names the ENI of ens6, but --interface (by default) is auto; allowed: --interface with that "
            "name, or eni-... without %IF",
        ),
        (
            ["--kube-proxy=tcp://127.0.0.1:10256"],
            "flag --kube-proxy: 'tcp://127.0.0.1:10256' is no URL of http or https",
        ),
        (["--kube-proxy=127.0.0.1:10256"], "flag --kube-proxy:"),
        (["--check=http://127.0.0.1:10256/healthz"], "is what --kube-proxy asks already"),
        (["--node=A_B"], "flag --node: 'A_B' is no RFC 1123 name"),
        (["--interface=eth0/1"], "flag --interface: 'eth0/1'"),
        (["--follow"], "flag '--follow': unknown"),
        (["--vip=10.0.1.100"], "10.0.1.100 is there twice"),
    ],
)
def test_what_a_host_cannot_be_told_is_one_error(argv: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        host(*argv)
    assert told in str(refused.value)


def test_a_host_whose_vips_name_their_interfaces_needs_no_imds() -> None:
    argv = ["--vip=10.0.1.100%eth0", "--lease=w", "--eni=none"]
    assert load_host(argv, {}).vips[0].interface == "eth0"
    assert load_host(["--vip=10.0.1.100", "--lease=w", "--interface=ens6", "--eni=eni-12345678%ens6"], {}).eni_ids == {
        "ens6": "eni-12345678"
    }


def test_a_host_needs_a_vip_and_a_lease() -> None:
    with pytest.raises(ConfigError, match="--vip: not given"):
        load_host(["--lease=x"], {}, namespace_file=Path("/nonexistent/namespace"))
    with pytest.raises(ConfigError, match="--lease: not given"):
        load_host(["--vip=10.0.1.100"], {}, namespace_file=Path("/nonexistent/namespace"))


def test_a_host_reloads_by_its_own_table(file: Path) -> None:
    file.write_text("priority: 1\n")
    argv = [*HOST, f"--config={file}"]
    before = load_host(argv, {})
    file.write_text("priority: 2\nkube-proxy: 'off'\naddress-mode: static\n")
    after, changed = reload(before, argv, {})
    assert isinstance(after, HostSettings)
    assert changed == ("address-mode", "announce", "priority", "kube-proxy")


# ---------------------------------------------------------------------------------------- the table


def test_every_field_of_the_settings_is_decided_by_one_row_of_the_table() -> None:
    decided = sorted(field for option in SIDECAR_OPTIONS for field in option.fields)
    assert decided == sorted({field.name for field in fields(SidecarSettings)} - {"pod"})
    decided = sorted(field for option in HOST_OPTIONS for field in option.fields)
    assert decided == sorted({field.name for field in fields(HostSettings)} - {"pod"})


def without(option: Option[Any]) -> list[str]:
    return [flag for flag in BASE if not flag.startswith(f"{option.flag}=")]


options = st.sampled_from([*SIDECAR_OPTIONS, CONFIG])
texts = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="0123456789.:/%[]-, smhen", max_size=24),
    st.text(alphabet="tesh/1. '\\\n", max_size=24).map("exec:{}".format),
    st.text(alphabet="a1:/[].@#?% ", max_size=16).flatmap(
        lambda tail: st.sampled_from([f"http://{tail}", f"https://[::1]:{tail}", f"tcp://{tail}:80"])
    ),
    st.sampled_from(["3s", "auto", "none", "off", "10.0.1.5", "fd00::5/64%net1", "eni-0123abcd", "us-east-2", "lease"]),
)


def outcome(argv: list[str], environ: dict[str, str]) -> str:
    """Empty where there are settings, else the error's sentence; any other exception fails the test."""
    try:
        load_sidecar(argv, environ)
    except ConfigError as error:
        return str(error)
    return ""


@given(option=options, text=texts)
def test_any_text_for_a_flag_gives_settings_or_an_error_that_names_it(option: Option[Any], text: str) -> None:
    told = outcome([*without(option), f"{option.flag}={text}"], {})
    assert not told or f"flag {option.flag}" in told
    assert told.isprintable()


@given(option=options, text=texts)
def test_any_text_for_a_variable_gives_settings_or_an_error_that_names_it(option: Option[Any], text: str) -> None:
    told = outcome(without(option), {option.variable: text})
    said_nothing = not text.strip() and f"{option.flag}: not given" in told
    assert not told or f"variable {option.variable}" in told or said_nothing
    assert told.isprintable()


@given(option=options, text=texts)
def test_any_text_in_a_file_gives_settings_or_an_error_that_names_it(
    tmp_path_factory: pytest.TempPathFactory, option: Option[Any], text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(f"{option.name}: {text}\n".encode(errors="surrogatepass"))
    told = outcome([*without(option), f"--config={file}"], {})
    assert not told or f"file {file}" in told
    assert told.isprintable()


@given(data=st.binary(max_size=60))
def test_any_bytes_as_a_file_give_settings_or_an_error_that_names_it(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "bytes.yaml"
    file.write_bytes(data)
    told = outcome([*BASE, f"--config={file}"], {})
    assert not told or f"file {file}" in told or "key" in told
