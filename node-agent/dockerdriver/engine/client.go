package engine

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Socket is where engines listen unless told otherwise.
const Socket = "/var/run/docker.sock"

const (
	// The versions of the API that are spoken: the oldest is that of engine 20.10;
	// the newest is the last whose fields were looked at. An engine is spoken to in
	// its own version, or the newest.
	oldest, newest = 41, 52
	// callLimit bounds one call: an engine that starts may take its time.
	callLimit = 30 * time.Second
	maxAnswer = 64 << 20 // bytes: some ten thousand containers
	maxError  = 1 << 10
)

// Client asks one engine. It is safe for concurrent use.
type Client struct {
	http    *http.Client
	version atomic.Int32 // the minor one; 0 = not agreed on yet
}

// New returns a client of the engine at a unix socket. Nothing is asked yet.
func New(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", cmp.Or(socket, Socket))
	}
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true, MaxIdleConns: 4, IdleConnTimeout: time.Minute}}}
}

// Error is what the engine answers if it does not do as asked.
type Error struct {
	Status int // of HTTP
	Text   string
}

// Error implements [error].
func (e *Error) Error() string { return e.Text }

// Is tells the refusals apart that callers deal with.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Status == http.StatusNotFound
	case ErrInUse:
		// 20.10 says 403 of a network with endpoints, and so does 29 (libnetwork's
		// ActiveEndpointsError is a Forbidden).
		return e.Status == http.StatusForbidden && strings.Contains(e.Text, "active endpoints")
	case ErrExists:
		return e.Status == http.StatusConflict
	}
	return false
}

// The refusals that callers deal with.
var (
	ErrNotFound = errors.New("no such object")
	ErrInUse    = errors.New("the network is in use")
	ErrExists   = errors.New("the name is in use")
	// ErrTooOld is an engine whose API is not spoken here.
	ErrTooOld = errors.New("the engine is too old")
)

// Hello agrees with the engine on a version of the API. It is to be called first,
// and again after the engine was away: it may be another.
func (c *Client) Hello(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", nil)
	if err != nil {
		return fmt.Errorf("ask the engine: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the engine: %w", plain(err))
	}
	defer resp.Body.Close() // only read
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxError)); err != nil {
		return fmt.Errorf("ask the engine: %w", err)
	}
	theirs := resp.Header.Get("Api-Version")
	minor, err := minorOf(theirs)
	if err != nil {
		return fmt.Errorf("ask the engine: %w", err)
	}
	if minor < oldest {
		return fmt.Errorf("%w: it speaks version %s of the API, and 1.%d is the oldest known here: upgrade to engine 20.10 or later", ErrTooOld, theirs, oldest)
	}
	c.version.Store(int32(min(minor, newest)))
	return nil
}

func minorOf(version string) (int, error) {
	digits, ok := strings.CutPrefix(version, "1.")
	minor, err := strconv.ParseUint(digits, 10, 16)
	if !ok || err != nil {
		return 0, fmt.Errorf("%.40q is no version of Docker's API", version)
	}
	return int(minor), nil
}

// AtLeast reports whether the API that was agreed on is 1.minor or newer.
func (c *Client) AtLeast(minor int) bool { return int(c.version.Load()) >= minor }

// call makes one call and decodes the answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	resp, err := c.send(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // only read
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("decode the engine's answer: %w", err)
	}
	return nil
}

// send sends a request and returns the answer, if the engine did as asked.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode: %w", err)
		}
		body = bytes.NewReader(raw)
	}
	u := url.URL{Scheme: "http", Host: "docker", Path: fmt.Sprintf("/v1.%d%s", max(c.version.Load(), oldest), path), RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, plain(err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close() // only read
	return nil, refusal(resp)
}

// refusal returns what the engine says is wrong.
func refusal(resp *http.Response) error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxError))
	if err != nil {
		return err
	}
	var m struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(raw, &m) != nil || m.Message == "" {
		m.Message = resp.Status
	}
	return &Error{Status: resp.StatusCode, Text: strings.Join(strings.Fields(m.Message), " ")}
}

// plain takes the URL off an error: it is of no host, and says nothing.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
