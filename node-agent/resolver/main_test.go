package resolver

import (
	"testing"

	"github.com/ovlnet/ovl/internal/lab/nsexec"
)

func TestMain(m *testing.M) { nsexec.Main(m) }
