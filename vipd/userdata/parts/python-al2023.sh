
# python3 of Amazon Linux 2023 is 3.9.
find_python() {
    PYTHON=python3.11
    command -v "$PYTHON" >/dev/null || dnf install -y python3.11
}
