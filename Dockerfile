# The appliance. The first stage installs Debian's packages and picks out what runs; the second
# holds that and nothing else. Nothing here needs BuildKit: small devices build with old engines.
ARG BASE=debian:stable-slim

# hadolint ignore=DL3006
FROM ${BASE} AS build

# By this image/build finds the leftovers of earlier builds.
LABEL paraglider.stage=build

# Versions are those of the Debian release in BASE: pinning them here would miss security updates.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
      busybox ca-certificates conntrack ipset iptables nftables python3 python3-pip python3-yaml \
 && rm -rf /var/lib/apt/lists/*

# A private certificate authority, where the build has to pass one; it stays in this stage.
COPY image/ca/ /usr/local/share/ca-certificates/
COPY image/requirements.lock /tmp/requirements.lock
RUN update-ca-certificates 2>/dev/null \
 && PIP_CERT=/etc/ssl/certs/ca-certificates.crt pip install --no-cache-dir --no-compile --no-deps \
      --require-hashes --target /opt/site --requirement /tmp/requirements.lock

COPY image/ /opt/image/
COPY paraglider/ /opt/site/paraglider/
RUN python3 /opt/image/rootfs.py /rootfs

FROM scratch

ARG BASE=debian:stable-slim
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Paraglider" \
      org.opencontainers.image.description="A TCP load balancer made of iptables rules, for one host" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"

COPY --from=build /rootfs/ /

# The root file system may be read-only, and its byte code is complete: Python writes nothing.
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    container=oci

STOPSIGNAL SIGTERM
# The check itself waits half a minute while all is well: so a container is healthy within a second or
# two, also where the engine has no interval of its own for the start (before 25.0).
HEALTHCHECK --interval=1s --timeout=40s --retries=10 CMD ["healthcheck"]
# The kernel throws away what process 1 has no answer to yet, such as SIGTERM while Python starts:
# held back from the first instant, signals wait until entrypoint.py takes them.
ENTRYPOINT ["env", "--block-signal=HUP,INT,QUIT,TERM", "entrypoint"]
