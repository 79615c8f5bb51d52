package agent

import "github.com/ovlnet/ovl/internal/dataplane"

// keepUnproven returns want with the rows of have that only an old snapshot
// says are not wanted. Until this process has seen the cluster whole, its
// snapshot is the one on disk, and peers may have joined after that was
// written: their rows are in the kernel and carry traffic. So nothing that
// belongs to the host's side of a network is deleted, only changed; containers'
// own rows are known from this host's journal and come and go as ever.
func keepUnproven(want, have dataplane.State) dataplane.State {
	out := want.Clone()
	for _, row := range have.Rows() {
		if row.Key().Namespace() != dataplane.Host {
			continue
		}
		switch r := row.(type) {
		case dataplane.Flow:
			continue // of the kernel's making, and never wanted
		case dataplane.Link:
			if r.Kind == dataplane.Veth {
				continue
			}
		case dataplane.Element:
			if r.Set.Kind == dataplane.Sources || r.Set.Kind == dataplane.Owners {
				continue
			}
		case dataplane.FDB:
			if !r.Dst.IsValid() { // of a container's port
				continue
			}
		}
		if _, ok := want.Get(row.Key()); !ok {
			out.Add(row)
		}
	}
	return out
}
