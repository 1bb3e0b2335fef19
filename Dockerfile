# syntax=docker/dockerfile:1
# Go's patch version is that of go.mod's toolchain line. A tag can be moved. To pin the image, append the
# digest (docker buildx imagetools inspect golang:1.26.8-bookworm prints it), as in
# golang:1.26.8-bookworm@sha256:...
FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
# With .git, from which Go derives the version in the binary.
COPY . .
ARG TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -tags=grpcnotrace -ldflags='-s -w' -o /akv-csi-provider ./cmd/akv-csi-provider
# The licenses of linked modules require their text with each copy. make image checks them, too.
RUN mkdir -p /licenses/akv-csi-provider /licenses/go && cp LICENSE /licenses/akv-csi-provider/ && cp "$(go env GOROOT)/LICENSE" /licenses/go/ && \
    go list -deps -tags=grpcnotrace -f '{{with .Module}}{{if .Version}}{{.Path}}@{{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/akv-csi-provider | sort -u | \
    while read -r module folder; do \
      mkdir -p "/licenses/$module" && find "$folder" -maxdepth 1 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'patents*' \) -exec cp {} "/licenses/$module/" \; ; \
    done

# Nothing but the binary, the roots of public CAs and the licenses: no shell, no package manager.
# It runs as root, because the node's folder of provider sockets belongs to root,
# and needs no capability.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /akv-csi-provider /akv-csi-provider
COPY --from=build /licenses /licenses
ENTRYPOINT ["/akv-csi-provider"]
