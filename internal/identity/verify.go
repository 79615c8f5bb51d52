package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Fault is a kind of what can be wrong with a certificate.
type Fault string

// The faults.
const (
	Missing     Fault = "missing"
	Expired     Fault = "expired"
	NotYetValid Fault = "not yet valid"
	WrongCA     Fault = "of another CA"
	WrongRole   Fault = "of another role"
	Malformed   Fault = "malformed"
	Removed     Fault = "removed" // no longer a member; never of Verify
)

// RefusalError says why a certificate is not accepted.
type RefusalError struct {
	Fault Fault
	Who   Who    // what it says, as far as that can be read
	Text  string // for people: a whole line
}

func (r *RefusalError) Error() string { return r.Text }

// FaultOf returns the fault of a refused certificate, or "".
func FaultOf(err error) Fault {
	if r, ok := errors.AsType[*RefusalError](err); ok {
		return r.Fault
	}
	return ""
}

// Verify returns what a chain of certificates says: it leads to one of roots and
// holds now, and its holder has one of the wanted roles (none: any). The
// holder's certificate comes first. The error is a [*RefusalError].
func Verify(chain, roots []*x509.Certificate, now time.Time, want ...Role) (Who, error) {
	if len(chain) == 0 {
		return Who{}, &RefusalError{Fault: Missing, Text: "no certificate was shown"}
	}
	leaf := chain[0]
	who, err := whoIs(leaf)
	said := "certificate of " + who.String()
	if err != nil {
		said = fmt.Sprintf("certificate of %q", clip(leaf.Subject.CommonName))
	}
	refuse := func(f Fault, format string, args ...any) (Who, error) {
		return Who{}, &RefusalError{Fault: f, Who: who, Text: said + " " + fmt.Sprintf(format, args...)}
	}
	if len(chain) > maxCerts {
		return refuse(Malformed, "comes with %d others, want at most %d", len(chain)-1, maxCerts-1)
	}
	if cause := leads(chain, roots, now); cause != nil {
		switch f, at := faultOf(cause, leaf, now); f {
		case Expired:
			return refuse(f, "expired at %s, and it is %s", instant(at), instant(now))
		case NotYetValid:
			return refuse(f, "begins at %s, and it is %s: compare the clocks", instant(at), instant(now))
		case WrongCA:
			return refuse(f, "is of another cluster's CA, not of the one with fingerprint %s", printOf(roots))
		default:
			return refuse(f, "is refused: %v", cause)
		}
	}
	switch {
	case err != nil:
		return refuse(Malformed, "is refused: %v", err)
	case len(want) > 0 && !slices.Contains(want, who.Role):
		return refuse(WrongRole, "is of another role: want %s", list(want))
	}
	return who, nil
}

// leads reports whether the chain leads to one of roots and holds now.
func leads(chain, roots []*x509.Certificate, now time.Time) error {
	usage := x509.ExtKeyUsageClientAuth // every certificate of ours has it
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: pool(roots), Intermediates: pool(chain[1:]), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	return err
}

// faultOf classes an error of crypto/x509, with the end that was passed or the
// beginning that was not reached.
func faultOf(err error, leaf *x509.Certificate, now time.Time) (Fault, time.Time) {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return WrongCA, time.Time{}
	}
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	if !ok || invalid.Reason != x509.Expired {
		return Malformed, time.Time{}
	}
	c := invalid.Cert
	if c == nil {
		c = leaf
	}
	if now.Before(c.NotBefore) {
		return NotYetValid, c.NotBefore
	}
	return Expired, c.NotAfter
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

func printOf(roots []*x509.Certificate) string {
	if len(roots) == 0 {
		return "of none"
	}
	return strings.Join(FormatPrints(Prints(roots)), " or ")
}

func list(roles []Role) string {
	var names []string
	for _, r := range roles {
		names = append(names, string(r))
	}
	return strings.Join(names, " or ")
}
