#!/bin/sh
# Installs what labs need and this machine lacks: system packages through apt (with sudo where needed), Python packages
# into .venv. With everything in place it does nothing and takes a few milliseconds. "dev" adds what the tests need,
# "fuzz" what `make fuzz` needs, "images" what container images can be made with where no registry is in reach, "bench"
# what the measurements need; Mininet among it, which only root can run. The engine is never started here: a Docker
# daemon changes the machine's packet filter, so whoever wants one starts it.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
export PATH

say() { printf '%s\n' "setup: $*" >&2; }

missing=
need() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need ip iproute2
need ping iputils-ping
need curl curl
need dig bind9-dnsutils
need iptables-restore iptables
need nft nftables
need conntrack conntrack
need dnsmasq dnsmasq-base
need unbound unbound
need unbound-control unbound
need nsd nsd
need ldns-keygen ldnsutils
need ldns-signzone ldnsutils
need openssl openssl
need socat socat
need busybox busybox
need udhcpc udhcpc
need dhclient isc-dhcp-client
need unshare util-linux
need sysctl procps
need tcpdump tcpdump
case ${1-} in dev | images)
    need debootstrap debootstrap
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing="$missing debian-archive-keyring"
    ;;
esac
if [ "${1-}" = dev ]; then
    need dockerd docker.io
    need docker-compose docker-compose
    need tshark tshark
    command -v chromium-browser >/dev/null 2>&1 || need chromium chromium
fi

if [ "${1-}" = bench ]; then
    need cc gcc
    [ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"
    [ -e /usr/include/linux/rtnetlink.h ] || missing="$missing linux-libc-dev"
    need iperf3 iperf3
    if [ "$(id -u)" = 0 ]; then
        need mnexec mininet
        need brctl bridge-utils
    fi
fi

python=
for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || missing="$missing python3"
if [ ! -x .venv/bin/python ] && { [ -z "$python" ] || ! "$python" -c 'import ensurepip' 2>/dev/null; }; then
    missing="$missing python3-venv"
fi

if [ -n "$missing" ]; then
    missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
    if ! command -v apt-get >/dev/null 2>&1; then
        say "this machine lacks (names of Debian's packages): $missing"
        exit 3
    fi
    sudo=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 || { say "as root: apt-get install $missing"; exit 3; }
        sudo=sudo
    fi
    say "installing $missing"
    # Labs start these daemons themselves, in their own namespaces: the packages must not start them on the machine.
    policy=/usr/sbin/policy-rc.d
    made=
    if [ ! -e "$policy" ]; then
        made=yes
        printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
        $sudo chmod 755 "$policy"
        trap '$sudo rm -f "$policy"' EXIT INT TERM
    fi
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get update -qq || say "apt-get update failed; trying with what is known"
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    if [ -n "$made" ]; then
        $sudo rm -f "$policy"
        trap - EXIT INT TERM
        if [ -d /run/systemd/system ]; then
            for package in unbound nsd docker.io; do
                units=$package
                [ "$package" != docker.io ] || units="docker.service docker.socket containerd.service"
                case " $missing " in
                *" $package "*) $sudo systemctl disable --quiet $units 2>/dev/null || : ;;
                esac
            done
        fi
    fi
    for candidate in /usr/bin/python3 "$python" python3; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
fi

install() { # REQUIREMENTS STAMP
    if ! cmp -s "$1" "$2" 2>/dev/null; then
        say "installing the Python packages of $1"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$1"
        cp "$1" "$2"
    fi
}

home=$(sed 's/ [0-9]* [0-9]*$//' .venv/installed-here 2>/dev/null || :)
if ! .venv/bin/python -c '' 2>/dev/null || [ "${home:-$PWD}" != "$PWD" ]; then
    say "making .venv with $python"
    rm -rf .venv
    "$python" -m venv .venv
fi
install requirements.txt .venv/installed.txt
case ${1-} in dev | fuzz) install requirements-dev.txt .venv/installed-dev.txt ;; esac
if [ "${1-}" = fuzz ]; then
    install requirements-fuzz.txt .venv/installed-fuzz.txt
fi

# The package runs from this folder (an editable installation); again only when the folder moved or its metadata changed.
stamp=.venv/installed-here
wanted="$PWD $(cksum <pyproject.toml)"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || [ ! -x .venv/bin/wirelab ]; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
        --config-settings editable_mode=compat -e .
    printf '%s\n' "$wanted" >"$stamp"
fi
