#!/bin/sh
# What some tests take from the system, beside Python: network namespaces (iproute2), for tests/cluster/test_partition.py.
# Without root, or without a package source, nothing is done, and those tests skip and say so.
set -u
command -v ip > /dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "no iproute2, and no right to install it: the tests of a cut network link will skip"
    exit 0
fi
apt-get update -qq && apt-get install -qq --no-install-recommends -y iproute2 > /dev/null \
    || echo "iproute2 could not be installed: the tests of a cut network link will skip"
exit 0
