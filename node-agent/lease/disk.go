package lease

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

// The bucket and its keys: one record of the ownership lease, one per subnet
// (by its key in the store), one per network that may hold endpoints of ours.
var (
	bucketName   = []byte("lease")
	ownershipKey = []byte("ownership")
)

const (
	subnetPrefix  = "subnet "
	networkPrefix = "endpoints "
)

// phase says how far a subnet on the disk has come.
type phase string

const (
	// phaseIntent: about to be taken; whether it was, the store knows.
	phaseIntent phase = "intent"
	// phaseHeld: ours.
	phaseHeld phase = "held"
	// phaseReleasing: no longer used, still to be deleted from the store.
	phaseReleasing phase = "releasing"
)

// diskSubnet is a subnet as the disk holds it.
type diskSubnet struct {
	Network string       `json:"network"`
	Created int64        `json:"created"` // the network's CreateRevision
	Prefix  netip.Prefix `json:"prefix"`
	Phase   phase        `json:"phase"`
}

// diskOwnership is the ownership lease as the disk holds it. Until counts by
// Config.Elapsed and means something within one boot only; after a reboot the
// wall clock has to do.
type diskOwnership struct {
	Lease      store.LeaseID `json:"lease"`
	BootID     string        `json:"bootId"`
	Until      time.Duration `json:"until"`
	Saved      time.Time     `json:"saved"`
	Deadline   time.Time     `json:"deadline"`
	Reclaiming bool          `json:"reclaiming,omitempty"`
}

// disk is the lease bucket of the agent's database. Every write is on the disk
// when it returns.
type disk struct{ db *bbolt.DB }

// contents is all that the bucket holds.
type contents struct {
	ownership diskOwnership
	subnets   map[string]diskSubnet // by key in the store
	networks  map[string]bool
}

func (d disk) load() (contents, error) {
	c := contents{subnets: map[string]diskSubnet{}, networks: map[string]bool{}}
	err := d.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketName)
		if err != nil {
			return err
		}
		return b.ForEach(c.add)
	})
	if err != nil {
		return contents{}, fmt.Errorf("read leases from disk: %w", err)
	}
	return c, nil
}

func (c *contents) add(k, v []byte) error {
	key := string(k)
	if key == string(ownershipKey) {
		return unmarshal(key, v, &c.ownership)
	}
	if network, ok := strings.CutPrefix(key, networkPrefix); ok {
		c.networks[network] = true
		return nil
	}
	storeKey, ok := strings.CutPrefix(key, subnetPrefix)
	if !ok {
		return nil // of a newer version
	}
	var s diskSubnet
	if err := unmarshal(key, v, &s); err != nil {
		return err
	}
	if cluster.CheckName(s.Network) != nil || store.SubnetKey(s.Network, s.Prefix) != storeKey {
		return fmt.Errorf("record %q: key and value do not agree", key)
	}
	c.subnets[storeKey] = s
	return nil
}

func unmarshal(key string, b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("record %q: %w", key, err)
	}
	return nil
}

func (d disk) putOwnership(o diskOwnership) error { return d.put(string(ownershipKey), o) }

func (d disk) putSubnet(key string, s diskSubnet) error { return d.put(subnetPrefix+key, s) }

func (d disk) deleteSubnet(key string) error { return d.delete(subnetPrefix + key) }

func (d disk) putNetwork(name string) error { return d.put(networkPrefix+name, struct{}{}) }

func (d disk) deleteNetwork(name string) error { return d.delete(networkPrefix + name) }

func (d disk) put(key string, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		err = d.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketName).Put([]byte(key), b) })
	}
	if err != nil {
		return fmt.Errorf("write %q to disk: %w", key, err)
	}
	return nil
}

func (d disk) delete(key string) error {
	err := d.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketName).Delete([]byte(key)) })
	if err != nil {
		return fmt.Errorf("delete %q from disk: %w", key, err)
	}
	return nil
}
