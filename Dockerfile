# syntax=docker/dockerfile:1
# Go's patch version is that of go.mod's toolchain line.
FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
# With .git, from which Go takes the version that it stamps into the binary.
COPY . .
ARG TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -tags=grpcnotrace -ldflags='-s -w' -o /akv-csi-provider ./cmd/akv-csi-provider

# Nothing but the binary and the roots of public CAs: no shell, no package manager.
# It runs as root, because the node's folder of provider sockets belongs to root,
# and needs no capability.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /akv-csi-provider /akv-csi-provider
ENTRYPOINT ["/akv-csi-provider"]
