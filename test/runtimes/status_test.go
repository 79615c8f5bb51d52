//go:build runtimes

package runtimes

import (
	"errors"
	"testing"
)

// networkReady returns what the CRI says of the network to the kubelet, which makes the
// node ready of it or not.
func (c cri) networkReady(t *testing.T) error {
	t.Helper()
	var answer struct {
		Status struct {
			Conditions []struct {
				Type, Message string
				Status        bool
			}
		}
	}
	c.call(t, "Status", object{}, &answer)
	for _, cond := range answer.Status.Conditions {
		if cond.Type == "NetworkReady" && !cond.Status {
			return errors.New(cond.Message)
		}
	}
	return nil
}

// lastLoad returns what containerd says of the configuration that it read last.
func (c cri) lastLoad(t *testing.T) string {
	t.Helper()
	var answer struct {
		Info struct{ LastCNILoadStatus string }
	}
	c.call(t, "Status", object{"verbose": true}, &answer)
	return answer.Info.LastCNILoadStatus
}
