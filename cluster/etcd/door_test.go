package etcd

import (
	"crypto/tls"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// An agent asks whether a member is there that it asks for nothing else: it has a watch
// with one of three. Such connections stay.
func TestPingsWithoutACall(t *testing.T) {
	config := shared.tls(t, "node:idle")
	config.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", shared.config.Client.String(), config)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = conn.Write([]byte(http2.ClientPreface))
	must(t, err)
	f := http2.NewFramer(conn, conn)
	must(t, f.WriteSettings())
	for n := range byte(5) { // gRPC forgives two
		must(t, f.WritePing(false, [8]byte{n}))
		for answered := false; !answered; {
			frame, err := f.ReadFrame()
			must(t, err)
			switch frame := frame.(type) {
			case *http2.GoAwayFrame:
				t.Fatalf("after %d the member says %q", n+1, frame.DebugData())
			case *http2.PingFrame:
				answered = frame.IsAck() && frame.Data == [8]byte{n}
			}
		}
		time.Sleep(pingsApart + pingsApart/20) // as agents do, but for the pace
	}
}
