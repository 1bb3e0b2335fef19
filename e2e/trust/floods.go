package main

import (
	"crypto/tls"
	"io"
	"net"

	"golang.org/x/net/http2"
)

// flood serves HTTP/2 until the client's first request, and then writes frames without an
// end.
func (f *front) flood(frame func(*http2.Framer, uint32) error) host {
	config := f.config("h2")
	return func(c net.Conn) {
		secure := tls.Server(c, config)
		if _, err := io.ReadFull(secure, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		framer := http2.NewFramer(secure, secure)
		if framer.WriteSettings() != nil {
			return
		}
		stream := uint32(0)
		for stream == 0 {
			got, err := framer.ReadFrame()
			if err != nil {
				return
			}
			if headers, ok := got.(*http2.HeadersFrame); ok {
				stream = headers.StreamID
			}
		}
		go func() { _, _ = io.Copy(io.Discard, secure) }() // ends with the connection
		for frame(framer, stream) == nil {
		}
	}
}

func pings(f *http2.Framer, _ uint32) error { return f.WritePing(false, [8]byte{1}) }

func settings(f *http2.Framer, _ uint32) error {
	return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535})
}

// hints are answers 103, each a HEADERS frame: the status is a header whose name is that with the
// index 8 of HPACK's static table (RFC 7541, appendix A), without its own index.
func hints(f *http2.Framer, stream uint32) error {
	return f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte{0x08, 3, '1', '0', '3'}, EndHeaders: true})
}

// continuations begins headers and never ends them. The first byte of the fragment is a
// header without an index, with a name of one byte and an empty value.
func continuations(f *http2.Framer, stream uint32) error {
	fragment := []byte{0x00, 0x01, 'x', 0x00}
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: fragment}); err != nil {
		return err
	}
	for {
		if err := f.WriteContinuation(stream, false, fragment); err != nil {
			return err
		}
	}
}
