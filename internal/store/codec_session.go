package store

import (
	"fmt"
	"strings"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
)

type sessionRecord struct {
	Host            cluster.HostID    `json:"host"`
	BootID          string            `json:"bootId,omitempty"`
	Instance        string            `json:"instance"`
	Started         time.Time         `json:"started,omitzero"`
	AppliedRevision int64             `json:"appliedRevision,omitempty"`
	Problems        []cluster.Problem `json:"problems,omitempty"`
}

// EncodeSession returns the value of a session's record, or why it cannot be
// one. Problems are a report, not a fact: those beyond the bounds are clipped
// (see [ClipProblems]) rather than refused, since an agent in trouble must not
// fail to say so.
func EncodeSession(s cluster.Session) ([]byte, error) {
	s.Problems = ClipProblems(s.Problems)
	if err := checkSession(s); err != nil {
		return nil, fmt.Errorf("encode session of %q: %w", clip(string(s.Host)), err)
	}
	return encode("session of "+string(s.Host), sessionRecord{
		Host: s.Host, BootID: s.BootID, Instance: s.Instance, Started: s.Started.UTC(),
		AppliedRevision: s.AppliedRevision, Problems: s.Problems,
	})
}

// DecodeSession returns the session in a record, with its revision.
func DecodeSession(r Record) (cluster.Session, error) {
	host, err := ParseSessionKey(r.Key)
	if err != nil {
		return cluster.Session{}, err
	}
	return decodeSession(r, func(s cluster.Session) bool { return s.Host == host })
}

// DecodeClone returns the session in a record at [CloneKey]: that of an agent
// which found its host's session taken.
func DecodeClone(r Record) (cluster.Session, error) {
	host, instance, err := ParseCloneKey(r.Key)
	if err != nil {
		return cluster.Session{}, err
	}
	return decodeSession(r, func(s cluster.Session) bool { return s.Host == host && s.Instance == instance })
}

func decodeSession(r Record, agree func(cluster.Session) bool) (cluster.Session, error) {
	var rec sessionRecord
	if err := decode(r, &rec); err != nil {
		return cluster.Session{}, err
	}
	s := cluster.Session{
		Host: rec.Host, BootID: rec.BootID, Instance: rec.Instance, Started: rec.Started.UTC(),
		AppliedRevision: rec.AppliedRevision, Problems: some(rec.Problems), Revision: r.ModRev,
	}
	return checked(r, s, agree(s), checkSession)
}

func checkSession(s cluster.Session) error {
	if _, err := cluster.ParseHostID(string(s.Host)); err != nil {
		return err
	}
	if err := CheckID(s.Instance); err != nil {
		return fmt.Errorf("instance: %w", err)
	}
	if err := checkText("boot ID", s.BootID, maxShort); err != nil {
		return err
	}
	if err := checkTime(s.Started); err != nil {
		return err
	}
	if s.AppliedRevision < 0 {
		return fmt.Errorf("applied revision %d: want 0 or more", s.AppliedRevision)
	}
	if len(s.Problems) > cluster.MaxProblems {
		return fmt.Errorf("%d problems: want at most %d", len(s.Problems), cluster.MaxProblems)
	}
	for _, p := range s.Problems {
		if err := checkProblem(p); err != nil {
			return err
		}
	}
	return nil
}

func checkProblem(p cluster.Problem) error {
	if p.Severity != cluster.SeverityError && p.Severity != cluster.SeverityWarning {
		return fmt.Errorf("severity %q: unknown to this version", clip(string(p.Severity)))
	}
	for _, text := range []string{p.Subject, p.What, p.Hint} {
		if err := checkText("problem", text, maxText); err != nil {
			return err
		}
	}
	return nil
}

// ClipProblems returns the problems as a session can hold them: at most
// [cluster.MaxProblems], the first ones, with texts that are printable and
// bounded.
func ClipProblems(ps []cluster.Problem) []cluster.Problem {
	ps = ps[:min(len(ps), cluster.MaxProblems)]
	clipped := make([]cluster.Problem, 0, len(ps))
	for _, p := range ps {
		if p.Severity != cluster.SeverityError {
			p.Severity = cluster.SeverityWarning
		}
		p.Subject, p.What, p.Hint = clipText(p.Subject), clipText(p.What), clipText(p.Hint)
		clipped = append(clipped, p)
	}
	return some(clipped)
}

func clipText(s string) string {
	s = strings.Map(func(r rune) rune {
		if unprintable(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText-len("…")], "") + "…"
	}
	return s
}
