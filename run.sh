#!/bin/sh
# The two commands of the README, for a machine that has only Python:
#   sh run.sh demo    set everything up and classify a photo with trained weights
#   sh run.sh test    set everything up and run every check
set -eu
cd "$(dirname "$0")"

usage() {
    sed -n '2,4s/^# //p' run.sh
    exit 2
}

# need PROBE PACKAGE...: unless the shell line PROBE succeeds, install these Debian packages
need() {
    probe=$1
    shift
    sh -c "$probe" >/dev/null 2>&1 && return
    if [ "$(id -u)" = 0 ]; then
        sudo=
    elif command -v sudo >/dev/null; then
        sudo=sudo
    else
        echo "something is missing: run as root: apt-get install $*" >&2
        exit 1
    fi
    echo "installing $*" >&2
    $sudo apt-get update -q && $sudo apt-get install -qy --no-install-recommends "$@"
}

need_venv() { # Debian keeps venv's bootstrap in a package of its own
    need 'python3 -c "import ensurepip, venv"' python3-venv
}

need_compiler() { # for the kernels; without it the package installs without them
    need 'command -v c++' g++
}

# environment FOLDER PIP_ARGUMENTS...: a virtual environment with these packages
environment() {
    folder=$1
    shift
    [ -x "$folder/bin/python" ] || python3 -m venv "$folder"
    "$folder/bin/pip" install -q --disable-pip-version-check "$@"
}

demo() {
    need_venv
    need_compiler
    environment .venv '.[demo]'
    .venv/bin/effnet-edge demo
    echo
    echo "Now try: .venv/bin/effnet-edge predict YOUR_PHOTO.jpg"
}

tests() {
    need_venv
    need_compiler
    # From here on it is an error, and no reason to skip tests, if there are no kernels.
    export EFFNET_EDGE_REQUIRE_KERNELS=1
    fast='not (oracle or sanitizers or arm or wheels)'
    echo "== lint, types, fast tests =="
    environment .venv-test '.[test,lint]'
    .venv-test/bin/ruff check .
    .venv-test/bin/ruff format --check .
    .venv-test/bin/mypy
    .venv-test/bin/pytest -n 2 -m "$fast"

    echo "== the kernels' own tests under sanitizers =="
    .venv-test/bin/pytest -n 2 -m sanitizers

    echo "== fast tests on the oldest versions that pyproject.toml allows =="
    environment .venv-floor packaging
    environment .venv-floor --no-deps .
    .venv-floor/bin/python tests/floors.py > .venv-floor/constraints.txt
    environment .venv-floor -c .venv-floor/constraints.txt '.[test]'
    # The one engine that needs an old numpy; there are no wheels of it for Python 3.12 and later.
    environment .venv-floor -c .venv-floor/constraints.txt "tflite-runtime; python_version < '3.12'"
    .venv-floor/bin/pytest -n 2 -m "$fast"

    echo "== against the oracles: torch, timm, torchvision, efficientnet-pytorch, Keras =="
    environment .venv-test -r tests/oracle/requirements.txt
    environment .venv-test --no-deps -r tests/oracle/requirements-no-deps.txt
    # MediaPipe draws, and so wants a desktop's libraries.
    need '.venv-test/bin/python -c "import mediapipe.tasks.python.vision"' \
        libgl1 libegl1 libgles2 libglib2.0-0
    .venv-test/bin/pytest -n 2 -m oracle

    echo "== ARM: wheels, and the laboratory =="
    need 'for tool in arm-linux-gnueabihf-g++ aarch64-linux-gnu-g++ qemu-arm mmdebstrap llvm-mca-19
        do command -v $tool || exit; done' \
        $(.venv-test/bin/python tests/arm/lab.py --packages)
    environment .venv-test '.[wheels]'
    .venv-test/bin/pytest -n 2 -m 'wheels or arm'
}

case "${1-}" in
    demo) demo ;;
    test) tests ;;
    *) usage ;;
esac
