"""Assemble the root file system of the image out of the Debian packages of the build stage.

Runs in the build stage only. Owns what goes into the image: the files of a few packages, the shared
libraries that they load, and a record of every package for scanners. It never changes a file that
it copies, and leaves out documentation, tests and what needs a terminal or a screen.

    python3 rootfs.py /rootfs
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

IMAGE = Path("/opt/image")
SITE = Path("/opt/site")
PYTHON = f"python{sysconfig.get_python_version()}"
LIB = Path("/usr/lib") / PYTHON

# Whole packages; the libraries that their programs load come by themselves.
PACKAGES = (
    f"{PYTHON}-minimal",
    f"lib{PYTHON}-minimal",
    f"lib{PYTHON}-stdlib",
    "python3-yaml",
    "iptables",
    "nftables",
    "conntrack",
    "ipset",
    "busybox",
    "base-files",
)

# Of a package that is large, one program. busybox has an env that cannot hold signals back, and a
# setpriv that cannot change the user.
SINGLE = (Path("/usr/bin/env"), Path("/usr/bin/setpriv"))

# Only what is under these is taken from a package: programs, libraries, modules and settings.
KEPT = (
    "/usr/bin/*",
    "/usr/sbin/*",
    "/usr/lib/*",
    "/bin/*",
    "/sbin/*",
    "/lib/*",
    "/etc/debian_version",
)

# Not needed to run, and large: what tests, draws, installs or asks a person.
LEFT_OUT = (
    "*/__pycache__/*",
    "*.pyc",
    "/usr/lib/systemd/*",
    *(
        f"{LIB}/{name}"
        for name in (
            "_pyrepl/*",
            "_sysconfigdata*",
            "config-*/*",
            "curses/*",
            "dbm/*",
            "ensurepip/*",
            "idlelib/*",
            "lib2to3/*",
            "pydoc_data/*",
            "sitecustomize.py",
            "sqlite3/*",
            "test/*",
            "tkinter/*",
            "turtle*",
            "unittest/*",
            "venv/*",
            "wsgiref/*",
            "lib-dynload/_ctypes_test*",
            "lib-dynload/_curses*",
            "lib-dynload/_dbm*",
            "lib-dynload/_sqlite3*",
            "lib-dynload/_test*",
            "lib-dynload/_xx*",
            "lib-dynload/readline*",
            "lib-dynload/xx*",
        )
    ),
)

# The authorities that https checks trust, and which of their files Debian has chosen.
AUTHORITIES = "ca-certificates"
AUTHORITY_FILES = Path("/usr/share/ca-certificates")
CHOSEN_AUTHORITIES = Path("/etc/ca-certificates.conf")
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

# Debian keeps both variants and lets its alternatives choose; in here the plain name is nft's.
PLAIN_NAMES = ("iptables", "iptables-save", "iptables-restore")

# The agent's user is in root's group (image/agent_user.py says why).
ACCOUNTS = """\
root:x:0:0:root:/root:/bin/sh
paraglider:x:65532:0:paraglider:/nonexistent:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
GROUPS = "root:x:0:\nnogroup:x:65534:\n"
NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"


def output(*command: str | Path) -> str:
    """Return what a command prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def merged(path: Path) -> Path:
    """Return the path below /usr of a file that an older package has outside of it."""
    top = path.parts[1]
    return Path("/usr", *path.parts[1:]) if top in {"bin", "sbin", "lib", "lib64"} else path


def is_wanted(name: str) -> bool:
    """Tell whether a file of a package belongs in the image."""
    return any(fnmatch(name, kept) for kept in KEPT) and not any(
        fnmatch(name, left_out) for left_out in LEFT_OUT
    )


def copy(source: Path, root: Path) -> None:
    """Copy a file or a symbolic link to the same place below root."""
    target = root / merged(source).relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists() and not target.is_symlink():
        shutil.copy2(source, target, follow_symlinks=False)


def copy_package(package: str, root: Path) -> None:
    """Copy the wanted files of an installed package."""
    for name in output("dpkg-query", "--listfiles", package).splitlines():
        path = Path(name)
        if is_wanted(name) and (path.is_symlink() or path.is_file()):
            copy(path, root)


def programs(root: Path) -> Iterator[Path]:
    """Yield every ELF file below root."""
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def libraries(root: Path) -> set[Path]:
    """Return the shared libraries, and the loader, that the programs below root load.

    ldd(1) prints `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)`, and the loader as
    `/lib64/ld-linux-x86-64.so.2 (0x…)`.
    """
    found: set[Path] = set()
    for program in programs(root):
        printed = output("ldd", program)
        if "not found" in printed:
            sys.exit(f"{program} loads a library that is not installed:\n{printed}")
        words = printed.split()
        found.update(Path(word) for word in words if word.startswith("/") and ".so" in word)
    return found


def copy_libraries(root: Path) -> set[str]:
    """Copy the libraries that the programs below root load; return their packages."""
    packages = set()
    for library in libraries(root):
        real = library.resolve()
        copy(real, root)
        link = root / merged(library).relative_to("/")
        if not link.is_symlink() and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(merged(real))
        packages.add(owner(real))
    return packages


def owner(path: Path) -> str:
    """Return the package of a file.

    dpkg-query(1) prints `libc6:amd64: /usr/lib/x86_64-linux-gnu/libc.so.6`, and knows a file of an
    older package by its path outside /usr: the pattern finds both.
    """
    pattern = "*" + str(path).removeprefix("/usr")
    return output("dpkg-query", "--search", pattern).split(":")[0]


def record(package: str, root: Path) -> None:
    """Note a package where scanners of images without dpkg look, and its licence."""
    status = root / "var/lib/dpkg/status.d" / package
    status.parent.mkdir(parents=True, exist_ok=True)
    status.write_text(output("dpkg-query", "--status", package))
    licence = Path("/usr/share/doc", package, "copyright")
    target = root / licence.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(licence, target)


def lay_out(root: Path) -> None:
    """Make the folders, links and small files that no package brings."""
    for name in ("dev", "etc/paraglider", "proc", "root", "run", "sys", "tmp", "usr/local/bin"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    (root / "var").mkdir(exist_ok=True)
    (root / "var/run").symlink_to("/run")
    # Under a read-only root, /dev/shm is the one place in every container that can be written.
    (root / "run/paraglider").symlink_to("/dev/shm/paraglider")  # noqa: S108 - the container's own
    (root / "etc/passwd").write_text(ACCOUNTS)
    (root / "etc/group").write_text(GROUPS)
    (root / "etc/nsswitch.conf").write_text(NSSWITCH)
    (root / "etc/os-release").symlink_to("../usr/lib/os-release")


def link_names(root: Path) -> None:
    """Give the programs the names that people type."""
    for applet in output("busybox", "--list").split():
        if not (root / "usr/bin" / applet).exists():
            (root / "usr/bin" / applet).symlink_to("busybox")
    (root / "usr/bin/python3").symlink_to(PYTHON)
    for name in PLAIN_NAMES:
        for plain in (name, name.replace("ip", "ip6", 1)):
            (root / "usr/sbin" / plain).symlink_to("xtables-nft-multi")


def copy_site(root: Path) -> None:
    """Copy the program itself, supervisor, and the files of image/ that are used at run time."""
    site = root / "usr/local/lib" / PYTHON / "dist-packages"
    ignored = shutil.ignore_patterns("__pycache__", "tests", "bin")
    shutil.copytree(SITE, site, ignore=ignored)
    for name in ("entrypoint.py", "paraglider.py", "healthcheck"):
        target = root / "usr/local/bin" / name.removesuffix(".py")
        shutil.copyfile(IMAGE / name, target)
        target.chmod(0o755)
    (site / "image").mkdir()
    shutil.copyfile(IMAGE / "agent_user.py", site / "image/agent_user.py")
    # Not in /etc/paraglider: a folder mounted over that one would hide it.
    shutil.copyfile(IMAGE / "supervisord.conf", root / "etc/supervisord.conf")


def copy_authorities(root: Path) -> None:
    """Put the package's certificates into one file, where OpenSSL looks for it.

    The build stage's own bundle may have a private authority in it (Dockerfile), and is not copied.
    Lines of the list are file names; `#` and `!` stand before what is not chosen.
    """
    lines = CHOSEN_AUTHORITIES.read_text().splitlines()
    chosen = [line for line in lines if line and line[0] not in "#!"]
    bundle = root / BUNDLE.lstrip("/")
    bundle.parent.mkdir(parents=True)
    bundle.write_text("".join((AUTHORITY_FILES / name).read_text() for name in chosen))
    asked = ssl.get_default_verify_paths().openssl_cafile
    link = root / asked.lstrip("/")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(BUNDLE)


def compile_all(root: Path) -> None:
    """Compile every module; unchecked, so that the dates of files, which COPY changes, are moot."""
    for folder in ("usr/lib", "usr/local/lib"):
        compileall.compile_dir(
            root / folder,
            maxlevels=20,
            quiet=1,
            stripdir=str(root),
            prependdir="/",
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def main() -> None:
    """Assemble everything below the folder named on the command line."""
    root = Path(sys.argv[1])
    lay_out(root)
    for package in PACKAGES:
        copy_package(package, root)
    for program in SINGLE:
        copy(program, root)
    link_names(root)
    copy_site(root)
    copy_authorities(root)
    for package in {*PACKAGES, AUTHORITIES, *map(owner, SINGLE), *copy_libraries(root)}:
        record(package, root)
    compile_all(root)


if __name__ == "__main__":
    main()
