# Sluice as an image: one static binary on a base without a shell.
#
#   docker build -t sluice .
#   docker run -p 5000:5000 -v sluice-data:/data sluice
#
# Both bases are arguments, so that a mirror or, as CI does without any registry, local images can take their place:
#   --build-arg GOLANG=...   needs a shell and Go 1.26
#   --build-arg BASE=scratch works; then mount CA certificates at /etc/ssl/certs for upstreams with https
ARG GOLANG=docker.io/library/golang:1.26-bookworm
ARG BASE=gcr.io/distroless/static-debian12:nonroot

FROM ${GOLANG} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /out/sluice ./cmd/sluice && mkdir /out/data

FROM ${BASE}
ARG VERSION=devel
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sluice" \
      org.opencontainers.image.description="Registry-side scanning proxy: nothing runs that the gate has not judged" \
      org.opencontainers.image.source="https://github.com/sluiceproxy/sluice" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/sluice /usr/bin/sluice
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
# 5000: registry. 5001: operations; it listens on loopback until a token is configured, so publish it only then.
EXPOSE 5000 5001
VOLUME /data
ENTRYPOINT ["/usr/bin/sluice"]
CMD ["serve", "--data", "/data"]
