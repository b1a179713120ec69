
exec /opt/vipd/bin/vipd "$@"
