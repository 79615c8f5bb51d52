package engine

import (
	"encoding/json"
	"net"
	"testing"
)

func decode[M any](raw []byte) (m M, err error) {
	err = json.Unmarshal(raw, &m)
	return m, err
}

func listenUnix(t *testing.T, path string) (net.Listener, error) {
	t.Helper()
	return new(net.ListenConfig).Listen(t.Context(), "unix", path)
}
