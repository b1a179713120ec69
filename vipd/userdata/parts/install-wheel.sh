
# Each boot comes through here; installed once.
if [ "$(cat /opt/vipd/.installed 2>/dev/null)" = "$WHEEL" ]; then exit 0; fi
find_python
"$PYTHON" -m venv --clear /opt/vipd
from=$WHEEL
case $WHEEL in
s3://*)
    from=/opt/vipd/${WHEEL##*/}
    aws s3 cp --no-progress "$WHEEL" "$from"
    ;;
esac
/opt/vipd/bin/pip install --no-input --disable-pip-version-check --quiet "$from"
printf '%s\n' "$WHEEL" >/opt/vipd/.installed
