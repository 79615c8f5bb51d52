package kernel_test

import (
	"testing"

	"github.com/ovlnet/ovl/internal/kernel/kerneltest"
	"github.com/ovlnet/ovl/internal/lab/nsexec"
)

func TestMain(m *testing.M) { nsexec.Main(m) }

func TestKernel(t *testing.T) {
	kerneltest.Run(t, func(t *testing.T) kerneltest.Harness { return newHost(t) })
}
