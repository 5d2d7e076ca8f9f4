# The program `virtuozo` on a small Debian, for an unprivileged user. VMware's library is not in it: it may
# not be passed on, so workers get it from a directory of the host (docs/guide/deploy.md).
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release -p virtuozo \
    && cp target/release/virtuozo /usr/local/bin/virtuozo

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates tini \
    && rm -rf /var/lib/apt/lists/*
# Fixed, so that files of the host can be given to it. A volume takes over the owner of the directory that
# it first stands for.
RUN groupadd --gid 10001 virtuozo \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/virtuozo --create-home virtuozo \
    && install -d -o virtuozo -g virtuozo /srv/backup
COPY --from=build /usr/local/bin/virtuozo /usr/local/bin/virtuozo
USER 10001:10001
WORKDIR /var/lib/virtuozo
# Passes signals on, and takes leave of what the VIX library started and left.
ENTRYPOINT ["tini", "--", "virtuozo"]
CMD ["--help"]
