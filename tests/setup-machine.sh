#!/bin/sh
# What some tests take from the system, beside Python: network namespaces (iproute2) for tests/end_to_end/test_partition.py
# and tests/clusters;
# Slurm, munge, Grid Engine, an SSH server and sshfs for tests/clusters, which start and stop servers of their own;
# Chromium for the live page and the report; an emulator of aarch64 for `make test-processors`.
# Without root, or without a package source, nothing is done, and those tests skip and say so.
set -u
missing=
need() { command -v "$1" > /dev/null || [ -x "/usr/sbin/$1" ] || missing="$missing $2"; }
need ip iproute2
need slurmctld slurm-wlm
need munged munge
need sshd openssh-server
need ssh openssh-client
need sshfs sshfs
need chromium chromium
need qemu-aarch64-static qemu-user-static
[ -x /usr/lib/gridengine/sge_qmaster ] || missing="$missing gridengine-master gridengine-exec gridengine-client"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "missing, and no right to install:$missing; the tests that need them will skip"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt="apt-get -qq -o DPkg::Lock::Timeout=240"
# shellcheck disable=SC2086 # these are lists of words
$apt update && $apt install --no-install-recommends -y $missing > /dev/null \
    || echo "could not be installed:$missing; the tests that need them will skip"
exit 0
