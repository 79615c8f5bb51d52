package cluster

import "fmt"

// Bandwidth limits what an interface carries, as the container sees it.
type Bandwidth struct {
	Ingress, Egress Rate
}

// Rate limits one direction. The zero Rate limits nothing.
type Rate struct {
	Bits  uint64 // per second
	Burst uint64 // bits that may go at once
}

// The bounds of a rate, in bits per second. Below, a frame would take longer than the
// kernel's shaper counts; above, it counts in another field.
const (
	MinRate = 64_000
	MaxRate = 32_000_000_000
)

// Check returns why b cannot be, naming the direction.
func (b Bandwidth) Check() error {
	if err := b.Ingress.check(); err != nil {
		return fmt.Errorf("ingress: %w", err)
	}
	if err := b.Egress.check(); err != nil {
		return fmt.Errorf("egress: %w", err)
	}
	return nil
}

func (r Rate) check() error {
	switch {
	case r == Rate{}:
		return nil
	case r.Bits < MinRate || r.Bits > MaxRate:
		return fmt.Errorf("rate %d: want %d to %d bits per second, or no burst either", r.Bits, MinRate, uint64(MaxRate))
	case r.Burst == 0:
		return fmt.Errorf("burst 0: a rate needs a burst, in bits, such as that of a tenth of a second: %d", r.Bits/10)
	}
	return nil
}
