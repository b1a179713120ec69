"""The scripts of ``vipd userdata``: every shell takes them, and no value that is accepted becomes a command."""

from __future__ import annotations

import shlex
import shutil
import string
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from userdata_nodes import BY_IMAGE, BY_WHEEL, CA, EVERY, ON_BOTTLEROCKET, VIP, WITH_VIPD, Node, node, text
from userdata_nodes import settings as told

from vipd.config.model_userdata import UserdataSettings
from vipd.errors import ConfigError
from vipd.userdata.service import host_arguments

every = pytest.mark.parametrize("argv", EVERY.values(), ids=EVERY)


def needs(program: str, package: str = "") -> pytest.MarkDecorator:
    """Skips where a program is missing, and says what brings it."""
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"needs {program} (Debian: apt-get install {package or program})"
    )


def scripts(found: Node) -> dict[str, str]:
    """Those that run by themselves and those that are left on the node."""
    left = {Path(path).name: file.content for path, file in found.files.items() if file.content.startswith("#!")}
    return {**found.scripts, **left}


def check(command: list[str], script: str) -> None:
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs("shellcheck")
@every
def test_shellcheck_finds_nothing(argv: tuple[str, ...]) -> None:
    for script in scripts(node(told("--vip", VIP, *argv))).values():
        check(["shellcheck", "--shell=sh", "--severity=style", "-"], script)


@pytest.mark.parametrize("shell", ["bash", "dash"])
@every
def test_shells_can_read_them(argv: tuple[str, ...], shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell} (Debian: apt-get install {shell})")
    for script in scripts(node(told("--vip", VIP, *argv))).values():
        check([shell, "-n"], script)


@needs("systemd-analyze", "systemd")
@every
def test_systemd_takes_the_units(argv: tuple[str, ...], tmp_path: Path) -> None:
    found = node(told("--vip", VIP, *argv)).files
    units = {Path(path).name: file.content for path, file in found.items() if path.endswith(".service")}
    for name, unit in units.items():
        # The programs are not on this machine: verify would say so, and nothing about them is asked here.
        (tmp_path / name).write_text(unit.replace("/usr/local/sbin/vipd-", "/usr/bin/env vipd-"))
    for name in units:
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, check=False
        )
        complaints = [line for line in done.stderr.splitlines() if name in line]
        assert (done.returncode, complaints) == (0, [])


@needs("cloud-init")
@pytest.mark.parametrize("name", [name for name in EVERY if name.startswith("ubuntu")])
def test_cloud_init_takes_the_cloud_config(name: str, tmp_path: Path) -> None:
    file = tmp_path / "user-data"
    file.write_text(text(*EVERY[name]))
    done = subprocess.run(
        ["cloud-init", "schema", "--config-file", str(file)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "Valid" in done.stdout) == (0, True), done.stdout + done.stderr


def assigned(script: str, *names: str) -> list[str]:
    """What the assignments in front of a script make of these variables, and of the positional parameters.

    They end where the first part begins, with an empty line.  In an empty environment without a PATH: what became a
    command would fail, and say so.
    """
    head, _, rest = script.partition("\n\n")
    assert rest
    shown = " ".join(f'"${name}"' for name in names)
    program = f"PATH=/nonexistent\n{head}\nprintf '%s\\0' {shown} \"$@\"\n"
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run([bash, "--norc", "-c", program], capture_output=True, text=True, check=True, env={})
    assert done.stderr == ""
    return done.stdout.split("\0")[:-1]


def meant(settings: UserdataSettings) -> dict[str, tuple[list[str], list[str]]]:
    """By script: variables, and the values that they and the positional parameters are to have."""
    vips = " ".join(str(vip) for vip in settings.vips)
    interface = settings.interface or ""
    service = settings.service
    known = {
        "bootstrap": (["INTERFACE", "VIPS"], [interface, vips, "once"]),
        "vipd-address": (["INTERFACE", "VIPS"], [interface, vips]),
        "vipd-mapping": (
            ["INTERFACE", "ADDRESSES", "REGION"],
            [interface, " ".join(str(vip.address) for vip in settings.vips), settings.region or ""],
        ),
    }
    if service is not None:
        program = getattr(service.program, "text", "") or getattr(service.program, "reference", "")
        arguments = list(host_arguments(settings, service))
        path = getattr(service.kubeconfig, "path", "")
        role = [getattr(service.kubeconfig, name, "") for name in ("cluster", "role_arn")]
        known["vipd-install"] = (["WHEEL"], [program])
        known["vipd-host"] = (
            (["KUBECONFIG"], [path, *arguments]) if path else (["CLUSTER", "ROLE_ARN"], [*role, *arguments])
        )
    return known


NASTY = string.ascii_letters + string.digits + "$`'\"\\;&|<>(){}[]*?!#~^=+-_.,@ \n\t%"
words = st.text(st.sampled_from(NASTY), min_size=1, max_size=40)
interfaces = st.one_of(
    st.sampled_from(["auto", "ens5", "$(reboot)", "`id`", "a;b", "'", "-x", "a'b\"c", "$HOME", "&", "#", "\\", "!!"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=15),
)
solid = st.text(st.sampled_from([character for character in NASTY if not character.isspace()]), min_size=1, max_size=40)
plain = st.text(st.sampled_from(string.ascii_letters + string.digits + "._-"), min_size=1, max_size=40)


def possible(vip: str) -> bool:
    try:
        told("--vip", vip)
    except ConfigError:
        return False
    return True


def vips(*families: int) -> st.SearchStrategy[list[str]]:
    """Distinct addresses that an ENI can have."""
    longest = {4: 32, 6: 128}
    one = st.sampled_from(families).flatmap(
        lambda family: st.tuples(st.ip_addresses(v=family), st.integers(1, longest[family]))
    )
    return st.lists(
        one.map(lambda pair: f"{pair[0]}/{pair[1]}").filter(possible),
        min_size=1,
        max_size=4,
        unique_by=lambda vip: vip.partition("/")[0],
    )


wheels = st.one_of(
    solid.map(lambda word: f"https://example.com/{word}.whl"),
    solid.map(lambda word: f"s3://bucket/{word}.whl"),
    plain.map(lambda word: f"/opt/{word}.whl"),
    plain.map(lambda word: f"vipd==1{word}"),
    words,
)
images = st.one_of(plain.map(lambda word: f"registry.example.com/vipd:v{word}"), words)
paths = st.one_of(plain, solid).map(lambda word: f"/etc/{word}")
roles = st.one_of(plain, solid).map(lambda word: f"arn:aws:iam::111122223333:role/{word}")
joins = st.tuples(
    st.sampled_from(["prod", "a-b_c", "0"]),
    st.sampled_from(["https://example.com", "https://[fd00::1]:6443", "https://$(reboot)"]),
    st.sampled_from([CA, CA, CA, "'; reboot; '"]),
    st.sampled_from(["10.100.0.0/16", "fd00::/108"]),
).map(
    lambda j: [
        f"--cluster={j[0]}",
        f"--api-server-endpoint={j[1]}",
        f"--certificate-authority={j[2]}",
        f"--service-cidr={j[3]}",
    ]
)


@st.composite
def flags(draw: st.DrawFn) -> list[str]:
    """What somebody might say; some of it is refused."""
    kind = draw(st.sampled_from(["address", "bootstrap", "mapping", "wheel", "image"]))
    argv = [f"--vip={vip}" for vip in draw(vips(4) if kind == "mapping" else vips(4, 6))]
    argv.append(f"--interface={draw(interfaces)}")
    if kind == "bootstrap":
        argv += ON_BOTTLEROCKET
    else:
        argv.append(f"--os={draw(st.sampled_from(['al2023', 'ubuntu'] if kind == 'wheel' else ['al2', 'ubuntu']))}")
    if draw(st.booleans()):
        argv += draw(joins)
    if kind == "mapping":
        argv.append("--option=2")
    elif kind == "wheel":
        role = st.tuples(roles.map(lambda arn: f"--kubeconfig-role={arn}"), st.just("--kubeconfig-cluster=prod"))
        file = st.tuples(paths.map(lambda path: f"--kubeconfig={path}"))
        argv += [*WITH_VIPD, f"--vipd-wheel={draw(wheels)}", *draw(st.one_of(role, file))]
    elif kind == "image":
        argv += [*WITH_VIPD, f"--vipd-image={draw(images)}", f"--kubeconfig={draw(paths)}"]
    return argv


def holds(settings: UserdataSettings) -> None:
    known = meant(settings)
    found = scripts(node(settings))
    for name, script in found.items():
        check(["bash", "-n"], script)
        if name in known:
            names, values = known[name]
            assert assigned(script, *names) == values
    assert set(found) & set(known)


@settings(max_examples=150, derandomize=True, database=None)
@given(flags())
def test_whatever_is_accepted_arrives_as_it_was_told(argv: list[str]) -> None:
    try:
        accepted = told(*argv)
    except ConfigError:
        return
    holds(accepted)


@pytest.mark.parametrize("interface", ["$(reboot)", "`id`", "a;b", "'", '"', "a'b\"c", "\\", "&", "#", "!!", "-x", "*"])
@pytest.mark.parametrize("argv", [(), ("--option", "2"), ("--os", "ubuntu"), BY_WHEEL, BY_IMAGE, ON_BOTTLEROCKET])
def test_interface_names_that_a_shell_would_run_are_names(interface: str, argv: tuple[str, ...]) -> None:
    holds(told("--vip", VIP, f"--interface={interface}", *argv))


@pytest.mark.parametrize("name", [name for name in EVERY if name.startswith("al2")])
def test_what_is_installed_is_what_was_written(name: str, tmp_path: Path) -> None:
    """The installing script, run with paths of the test and a systemctl that only notes what it is told."""
    found = node(told("--vip", VIP, *EVERY[name]))
    script = found.scripts["part-1"]
    for folder in ("/usr/local/sbin", "/etc/systemd/system"):
        (tmp_path / folder[1:]).mkdir(parents=True)
        script = script.replace(f">{folder}", f">{tmp_path}{folder}").replace(
            f"chmod 0755 {folder}", f"chmod 0755 {tmp_path}{folder}"
        )
        script = script.replace(f"chmod 0644 {folder}", f"chmod 0644 {tmp_path}{folder}")
    fake = tmp_path / "systemctl"
    fake.write_text(f'#!/bin/sh\necho "$*" >>{shlex.quote(str(tmp_path / "said"))}\n')
    fake.chmod(0o755)
    for _ in range(2):
        subprocess.run(["sh", "-s"], input=script, text=True, check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    for path, file in found.files.items():
        written = tmp_path / path[1:]
        assert written.read_text() == file.content
        assert written.stat().st_mode & 0o7777 == int(file.mode, 8)
    units = [Path(path).name for path in found.files if path.endswith(".service")]
    said = (tmp_path / "said").read_text().splitlines()
    assert said[:3] == ["daemon-reload", f"enable {' '.join(units)}", f"start --no-block {' '.join(units)}"]
    assert said[3:] == said[:3]


def test_yaml_keeps_the_scripts_readable() -> None:
    document = text("--os", "ubuntu")
    assert "    #!/bin/sh\n" in document
    assert yaml.safe_load(document)["write_files"][0]["content"].startswith("#!/bin/sh\n")
