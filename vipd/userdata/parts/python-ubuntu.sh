
find_python() {
    PYTHON=python3
    if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "vipd-install: vipd needs Python 3.11, and this is $("$PYTHON" --version): use Ubuntu 24.04 or newer" >&2
        exit 1
    fi
    if ! "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
        apt-get update
        DEBIAN_FRONTEND=noninteractive apt-get install -y python3-venv
    fi
}
