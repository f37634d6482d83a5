#!/bin/sh
# As process 1 of namespaces of its own: becomes systemd with the units of a folder ($1), in a control group ($2).
# It has /run and the control groups for itself, and may change no setting of the kernel's (/proc/sys).
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
cp "$1"/* /run/systemd/system
echo 0 > "$2/cgroup.procs"
# shellcheck disable=SC2016
exec unshare --cgroup sh -c '
    mount -t tmpfs tmpfs /sys/fs/cgroup
    mkdir /sys/fs/cgroup/own
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/own
    mount --move /sys/fs/cgroup/own /sys/fs/cgroup
    exec env -i container=tests PATH="$PATH" "$0" --system --unit=tried.service --show-status=false
' "$3"
